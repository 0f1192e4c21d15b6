"""Files and pipes of the commands `qbio fasta ...`: `-` is standard input or output."""

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from biolayers import DNA, PROTEIN, RNA, Alphabet, Fasta, Fastq, convert
from biolayers.reading.formats import GZIP
from biolayers.reading.opening import local_kind
from biolayers.reading.records import beginning_of
from biolayers.reading.streams import open_window
from shared.app.runs import fresh_file
from shared.errors import UserError

ALPHABETS = {"DNA": DNA, "RNA": RNA, "PROTEIN": PROTEIN}
PIPE = "-"
BYTES = "surrogateescape"  # how headers that are no UTF-8 are read and written
_PIECE = 1 << 22  # letters that are written at once

Write = Callable[[str], object]


@contextmanager
def opened(path: str, alphabet: Alphabet = DNA) -> Iterator[Fasta]:
    """A FASTA or FASTQ file for random access; of standard input and gzip, a temporary plain copy.

    Raises:
        UserError: The file is not as it must be; a message names what the user gave.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = _plain(path, folder)
        try:
            kind = Fastq if is_fastq(place) else Fasta
            yield kind(place, alphabet=alphabet, store_index=place == path)
        except UserError as error:
            raise UserError(str(error).replace(place, shown(path))) from error


@contextmanager
def stored(path: str) -> Iterator[str]:
    """The path of a file that can be read several times; of standard input, a temporary copy."""
    if path != PIPE:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = _spooled(folder)
        try:
            yield copy
        except UserError as error:
            raise UserError(str(error).replace(copy, shown(path))) from error


def _plain(path: str, folder: str) -> str:
    if path == PIPE:
        path = _spooled(folder)
    if not os.path.exists(path) or os.path.isdir(path) or os.path.getsize(path) == 0:
        return path  # opening it says what is wrong
    if local_kind(os.path.abspath(path), path) != GZIP:
        return path
    copy = os.path.join(folder, "plain.fa")
    convert(path, copy)
    return copy


def _spooled(folder: str) -> str:
    copy = os.path.join(folder, "input.fa")
    with open(copy, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return copy


def shown(path: str) -> str:
    """A path in messages."""
    return "standard input" if path == PIPE else path


def is_fastq(path: str) -> bool:
    """Whether the text of a file begins like FASTQ."""
    return beginning_of(open_window(path, {}).data[:64].tobytes())[1]


@contextmanager
def output(out: str, *, force: bool) -> Iterator[Write]:
    """The function that writes text to a file, which takes its name when it is whole, or to standard output.

    Args:
        out: The path; `-` is standard output, and what ends in .gz or .bgz is compressed with bgzip.
        force: Whether it may replace a file.

    Raises:
        UserError: There is a file and no `force`, or no folder.
    """
    if out == PIPE:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors=BYTES)
        yield sys.stdout.write
        sys.stdout.flush()
        return
    path = free(out, force=force)
    if not out.endswith((".gz", ".bgz", ".bgzf")):
        with fresh_file(path, errors=BYTES) as file:
            yield file.write
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        draft = Path(folder) / "draft.fa"
        with draft.open("w", encoding="utf-8", errors=BYTES, newline="") as file:
            yield file.write
        convert(draft, path, overwrite=True)


def free(out: str, *, force: bool) -> Path:
    """The path of a file to write.

    Raises:
        UserError: It is there already and there is no `force`, or its folder is not there.
    """
    path = Path(out)
    if path.is_dir() or (path.exists() and not force):
        way = "give the name of a file" if path.is_dir() else "give another name, or --force to replace it"
        raise UserError(f"--out: {out} is there already; {way}")
    if not path.parent.is_dir():
        raise UserError(f"--out: there is no folder {path.parent}; make it first")
    return path


def write_record(write: Write, header: str, letters: str, width: int) -> None:
    """One record, its letters on lines of `width`, or on one line if that is 0."""
    write(f">{header}\n")
    step = width or max(1, len(letters))
    for start in range(0, len(letters), step * max(1, _PIECE // step)):
        piece = letters[start : start + step * max(1, _PIECE // step)]
        write("".join(f"{piece[i : i + step]}\n" for i in range(0, len(piece), step)))


def check_width(width: int) -> None:
    """Refuse a negative length of lines."""
    if width < 0:
        raise UserError(f"--width: expected a whole number from 0 on, received {width}")


def letters_of(fasta: Fasta, chosen: np.ndarray | None = None) -> Iterator[tuple[int, str]]:
    """The number and the letters, as they stand in the file, of records."""
    from biolayers import Record

    names = fasta.names
    for i in range(len(fasta)) if chosen is None else chosen.tolist():
        yield i, str(Record(fasta, names[i], i))
