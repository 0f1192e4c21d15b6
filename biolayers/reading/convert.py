"""Write a file anew so that it can be read at any place."""

import os
from collections.abc import Iterator
from typing import Any

from biolayers.errors import FastaError
from biolayers.reading import bgzf
from biolayers.reading.storing import temporary_name
from biolayers.reading.streams import open_window
from shared.threads import parallel

_TEXT = 65_280  # bytes of text in a block, as of bgzip
_GRAIN = 4  # blocks that are worth a thread


def convert(
    path: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    storage_options: dict[str, Any] | None = None,
) -> None:
    r"""Copy a FASTA or FASTQ file: its text stays as it is, byte for byte, and only the compression changes.

    Args:
        path: Plain, gzip or bgzip, local or remote.
        to: The new local file: bgzip if its name ends in `.gz`, `.bgz` or `.bgzf`, else plain text. It takes
            its name when it is whole.
        overwrite: Whether it may replace a file.
        storage_options: Of a remote file, for its file system.

    Raises:
        FastaError: `path` cannot be read or is damaged, or `to` is there already or cannot be written.

    Example:
        >>> import gzip, os, tempfile
        >>> from biolayers import Fasta
        >>> path = os.path.join(tempfile.mkdtemp(), "x.fa.gz")
        >>> with gzip.open(path, "wt") as file:
        ...     _ = file.write(">a\nACGT\n")
        >>> convert(path, path[:-6] + ".fa")
        >>> str(Fasta(path[:-6] + ".fa")["a"])
        'ACGT'
    """
    path, to = os.fspath(path), os.fspath(to)
    if os.path.exists(to) and not overwrite:
        raise FastaError(
            f"{to}: expected a new file, but there is one; choose another name, or overwrite=True"
        )
    parts = _texts(path, storage_options or {})
    blocked = to.endswith((".gz", ".bgz", ".bgzf"))
    temporary = temporary_name(to)
    try:
        with open(temporary, "xb") as file:
            for part in _blocks(parts) if blocked else parts:
                file.write(part)
        os.replace(temporary, to)
    except OSError as error:
        raise FastaError(f"{to}: expected a file that can be written: {error.strerror}") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _texts(path: str, options: dict[str, Any]) -> Iterator[bytes]:
    window = open_window(path, options)
    while True:
        yield window.data.tobytes()
        window.check()
        if window.final:
            return
        window.advance(len(window.data))


def _blocks(parts: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for part in parts:
        text = rest + part
        whole = len(text) // _TEXT * _TEXT
        yield from _deflated(text, whole)
        rest = text[whole:]
    yield from _deflated(rest, len(rest))
    yield bgzf.END


def _deflated(text: bytes, size: int) -> list[bytes]:
    view = memoryview(text)[:size]
    cuts = range(0, size, _TEXT)
    blocks = [b""] * len(cuts)

    def work(first: int, last: int) -> None:
        for k in range(first, last):
            blocks[k] = bgzf.deflate(view[cuts[k] : cuts[k] + _TEXT])

    parallel(work, len(cuts), grain=_GRAIN)
    return blocks
