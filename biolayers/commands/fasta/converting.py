"""A file written anew."""

import tempfile
from pathlib import Path

from biolayers import Fasta
from biolayers import convert as recompress
from biolayers.commands.fasta.streams import (
    PIPE,
    Write,
    check_width,
    free,
    is_fastq,
    letters_of,
    opened,
    output,
    stored,
    write_record,
)  # fmt: skip
from shared.errors import UserError
from shared.progress import bar

COMPRESSED = (".gz", ".bgz", ".bgzf")
FASTQ = (".fq", ".fastq")


def convert(path: str, out: str, *, width: int | None, upper: bool, force: bool) -> None:
    """Copy the text, or write every record anew where the text has to change."""
    check_width(width or 0)
    stem = out.removesuffix(next((each for each in COMPRESSED if out.endswith(each)), ""))
    with stored(path) as source:
        fastq = is_fastq(source)
        if width is None and not upper and fastq == stem.endswith(FASTQ):
            _copy(source, out, force=force)
            return
        if stem.endswith(FASTQ):
            received = "FASTQ to be changed" if fastq else "FASTA"
            raise UserError(
                f"--out: expected a name in .fa for what is written, received {out} and {received}"
            )
        with opened(source) as fasta, output(out, force=force) as write:
            _rewrite(fasta, write, 60 if width is None else width, upper=upper)


def _copy(source: str, out: str, *, force: bool) -> None:
    if out != PIPE:
        recompress(source, free(out, force=force), overwrite=force)
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.fa"
        recompress(source, plain)
        with (
            output(out, force=force) as write,
            plain.open(encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            while text := file.read(1 << 22):
                write(text)


def _rewrite(fasta: Fasta, write: Write, width: int, *, upper: bool) -> None:
    headers = fasta.headers()
    with bar(len(fasta), "records", show=True) as advance:
        for i, letters in letters_of(fasta):
            write_record(write, headers[i], letters.upper() if upper else letters, width)
            advance(1)
