"""Open a file for random access, whatever it is and wherever it lies."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from biolayers.errors import FastaError
from biolayers.reading.formats import BGZIP, GZIP, HEAD, kind_of, only_streamed
from biolayers.reading.remote import is_remote, open_remote
from biolayers.reading.source import MappedFile, Source, open_local
from biolayers.reading.storing import is_fresh


@dataclass(frozen=True, eq=False)
class Opened:
    """A text and where it comes from."""

    source: Source
    absolute: str  # the address, or the absolute path of the file that is read
    remote: bool
    index: bytes | None = None  # the content of the `.fai` beside a remote file


def open_source(
    path: str,
    options: Mapping[str, Any],
    *,
    name: str | None = None,
    store_index: bool,
    convert: str | os.PathLike[str] | None = None,
) -> Opened:
    """Open `path`, which is called `name` in messages; see `Fasta` for the rest.

    Raises:
        FastaError: It cannot be read, or not at any place.
    """
    if is_remote(path):
        source, raw = open_remote(path, options)
        return Opened(source, path, True, raw.beside(".fai"))
    path = path.removeprefix("file://")
    absolute = os.path.abspath(path)
    kind = local_kind(absolute, name or path)
    if kind == GZIP:
        if convert is None:
            raise only_streamed(path)
        return open_source(_converted(path, os.fspath(convert)), options, name=name, store_index=store_index)
    if kind == BGZIP:
        from biolayers.reading.bgzf import open_bgzip

        return Opened(open_bgzip(absolute, name or path, store_index=store_index), absolute, False)
    return Opened(MappedFile(absolute, name or path), absolute, False)


def local_kind(absolute: str, name: str) -> str:
    """What kind of file it is: see `formats.kind_of`."""
    with open_local(absolute, name) as file:
        return kind_of(name, file.read(HEAD))


def _converted(path: str, copy: str) -> str:
    from biolayers.reading.convert import convert

    if os.path.abspath(path) == os.path.abspath(copy):
        raise FastaError(f"{path}: expected convert= to name another file, received the file itself")
    if not is_fresh(copy, path):
        convert(path, copy, overwrite=True)
    return copy
