"""Write the index of a file."""

import os

from biolayers import Fasta, Fastq
from biolayers.commands.fasta.streams import PIPE, is_fastq
from shared.errors import UserError

ENDINGS = (".fai", ".gzi")


def index(path: str, *, force: bool) -> str:
    """Make or check the index; returns what there is now, in words.

    Raises:
        UserError: There is no file, or its folder cannot be written.
    """
    if path == PIPE:
        raise UserError(
            "qbio fasta index: expected a file, received standard input; an index lies beside a file"
        )
    kept = {ending: _state(path + ending) for ending in ENDINGS}
    if force:
        for ending in ENDINGS:
            if os.path.exists(path + ending):
                os.unlink(path + ending)
    fasta = (Fastq if os.path.isfile(path) and os.path.getsize(path) and is_fastq(path) else Fasta)(path)
    there = [path + ending for ending in ENDINGS if os.path.exists(path + ending)]
    if path + ".fai" not in there:
        raise UserError(
            f"{path}: expected that {path}.fai can be written, but it cannot: the folder is read-only, or "
            "lines of a record differ in length, which samtools does not index; write it anew with "
            "`qbio fasta convert --width 60`"
        )
    fresh = any(_state(path + ending) != state for ending, state in kept.items())
    letters = int(fasta.lengths.sum())
    return (
        f"{len(fasta):,} records, {letters:,} letters: {' and '.join(there)} {'written' if fresh else 'fit'}"
    )


def _state(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
