"""The text of any file from its start to its end, without random access: gzip too."""

import io
import os
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from biolayers.errors import FastaError
from biolayers.reading.formats import BGZIP, GZIP, HEAD, kind_of
from biolayers.reading.opening import local_kind
from biolayers.reading.remote import is_remote, remote_window
from biolayers.reading.source import MappedFile, open_local
from biolayers.reading.window import StreamWindow, Window

_READ = 1 << 22  # bytes of text that are taken at once


def open_window(path: str, options: Mapping[str, Any]) -> Window:
    """A window at the start of the text of a plain, bgzip or gzip file, local or remote.

    Raises:
        FastaError: It cannot be read; later, while the window moves: it is cut off or damaged.
    """
    if is_remote(path):
        window = remote_window(path, options)
        if kind_of(path, window.data[:HEAD].tobytes()) not in (BGZIP, GZIP):
            return window
        return StreamWindow(_inflated(path, _Raw(window)))
    path = path.removeprefix("file://")
    absolute = os.path.abspath(path)
    kind = local_kind(absolute, path)
    if kind == BGZIP:
        from biolayers.reading.bgzf import open_bgzip

        return open_bgzip(absolute, path, store_index=False).window()
    if kind == GZIP:
        return StreamWindow(_inflated(path, open_local(absolute, path)))
    return MappedFile(absolute, path).window()


class _Raw(io.RawIOBase):
    """What a window moves over, as a file to read from."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._at = 0  # bytes of the window that were read

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while self._at == len(self._window.data) and not self._window.final:
            self._window.advance(self._at)
            self._at = 0
        part = self._window.data[self._at : self._at + len(into)]
        into[: len(part)] = part.data
        self._at += len(part)
        return len(part)


def _inflated(path: str, file: Any) -> Iterator[bytes]:
    """The text of gzip, all its members one after the other; a helper thread decompresses ahead."""
    from isal import igzip_threaded, isal_zlib

    try:
        with file, igzip_threaded.open(file, "rb") as stream:
            while piece := stream.read(_READ):
                yield piece
    except (EOFError, OSError, zlib.error, isal_zlib.error) as error:
        raise FastaError(
            f"{path}: expected sound gzip, received a file that is cut off or damaged ({error}); copy it anew"
        ) from error
