"""Files that are not local, by their address (`https://`, `s3://`, ...), through fsspec.

Windows are fetched by requests for ranges of bytes, in blocks that are kept; a server that does not answer
such requests is refused, since it would send the whole file for each.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from biolayers.errors import FastaError
from biolayers.reading import bgzf
from biolayers.reading.blocks import BLOCK, BlockFile
from biolayers.reading.formats import BGZIP, GZIP, HEAD, kind_of, only_streamed
from biolayers.reading.source import Identity
from biolayers.reading.window import Window

# What file systems call the marks by which a changed file is known.
_MARKS = ("ETag", "etag", "Last-Modified", "LastModified", "last_modified", "mtime", "modified", "created")


def is_remote(path: str) -> bool:
    """Whether it is an address and not the path of a local file."""
    return "://" in path and not path.startswith("file://")


class RemoteBytes:
    """The bytes of a remote file as they are stored there.

    Args:
        path: Its address.
        options: For the file system, such as credentials; see fsspec.
    """

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        self.path, self._options = path, dict(options)
        self._process = -1
        self.identity = self._identity()
        self.size = self.identity[0]
        if self.size == 0:
            raise FastaError(f"{path}: expected at least one record, received an empty file")

    def _system(self) -> tuple[Any, str]:
        """The file system and the path in it; connections do not survive a fork."""
        if self._process != os.getpid():
            import fsspec.core

            forked = self._process >= 0
            self._opened = fsspec.core.url_to_fs(self.path, skip_instance_cache=forked, **self._options)
            self._process = os.getpid()
        return self._opened

    def _ask(self, what: str, *args: Any, **options: Any) -> Any:
        try:
            return getattr(self._system()[0], what)(*args, **options)
        except Exception as error:  # each file system raises errors of its own
            raise FastaError(
                f"{self.path}: expected a FASTA file, but it cannot be read: {error or type(error).__name__}"
            ) from error

    def _identity(self) -> Identity:
        self._ask("invalidate_cache")
        found = self._ask("info", self._system()[1])
        if not isinstance(found.get("size"), int):
            raise FastaError(
                f"{self.path}: expected a server that tells the size of the file and answers requests for "
                "ranges of bytes, received none; download the file first"
            )
        return (found["size"], *(str(found[mark]) for mark in _MARKS if mark in found))

    def check(self) -> None:
        """Raise `FastaError` if the file has changed."""
        if self._identity() != self.identity:
            raise FastaError(f"{self.path}: the file changed after it was opened; open it again")

    def ranges(self, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
        """The bytes of rising ranges; those that touch are fetched with one request."""
        cuts = [0, *(k for k in range(1, len(starts)) if starts[k] != stops[k - 1]), len(starts)]
        firsts = [starts[k] for k in cuts[:-1]]
        lasts = [stops[k - 1] for k in cuts[1:]]
        path = self._system()[1]
        found = self._ask("cat_ranges", [path] * len(firsts), firsts, lasts, on_error="raise")
        self.check()
        for first, last, text in zip(firsts, lasts, found, strict=True):
            if len(text) != last - first:
                raise FastaError(
                    f"{self.path}: expected {last - first:,} bytes from byte {first:,} on, received "
                    f"{len(text):,}; does the server answer requests for ranges? Else download the file first"
                )
        whole = {first: memoryview(text) for first, text in zip(firsts, found, strict=True)}
        parts, at = [], 0
        for start, stop in zip(starts, stops, strict=True):
            at = start if start in whole else at
            parts.append(bytes(whole[at][start - at : stop - at]))
        return parts

    def beside(self, ending: str) -> bytes | None:
        """The bytes of the file with `ending` added to the address, or None."""
        system, path = self._system()
        try:
            return system.cat_file(path + ending)
        except Exception:  # missing, forbidden, no such bucket: in every case there is none for us
            return None


def open_remote(path: str, options: Mapping[str, Any]) -> tuple[BlockFile, RemoteBytes]:
    """A remote file of plain text or of bgzip, and its bytes as stored."""
    raw = RemoteBytes(path, options)
    kind = kind_of(path, raw.ranges([0], [min(HEAD, raw.size)])[0])
    if kind == GZIP:
        raise only_streamed(path)
    stored = _blocks_of(raw)
    return (_open_bgzip(raw, stored) if kind == BGZIP else stored), raw


def _open_bgzip(raw: RemoteBytes, stored: BlockFile) -> BlockFile:
    table = bgzf.read_table(raw.beside(".gzi") or b"", raw.size)
    table = _completed(raw, table) if table is not None else None
    places, edges = _walked(raw, stored) if table is None else table

    def load(numbers: Sequence[int]) -> list[bytes]:
        blocks = raw.ranges(*_ranges(places, numbers))
        return bgzf.inflate(raw.path, [np.frombuffer(block, np.uint8) for block in blocks])

    return BlockFile(raw.path, edges, load, raw.identity, _nothing)


def _completed(
    raw: RemoteBytes, table: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """A stored table with the end of the text, which stands in the last blocks of the file."""
    from biolayers.kernels.numba import bgzf as kernel

    places, edges = table
    if raw.size - places[-2] > 2 * BLOCK + len(bgzf.END):
        return None
    tail = np.frombuffer(raw.ranges([int(places[-2])], [raw.size])[0], np.uint8)
    more, sizes, at = kernel.walk(tail)
    if at != len(tail) or tail[-len(bgzf.END) :].tobytes() != bgzf.END:
        return None
    ends = edges[-2] + np.cumsum(sizes)
    return np.concatenate([places[:-1], places[-2] + more[1:]]), np.concatenate([edges[:-1], ends])


def _walked(raw: RemoteBytes, stored: BlockFile) -> tuple[np.ndarray, np.ndarray]:
    """The table of a file without a `.gzi`: one pass over all of it."""
    from biolayers.kernels.numba import bgzf as kernel

    places, sizes = [np.zeros(1, np.int64)], []
    window = stored.window()
    while True:
        found, held, at = kernel.walk(window.data)
        places.append(window.base + found[1:])
        sizes.append(held)
        if window.final and at == len(window.data):
            break
        if window.final or (at == 0 and len(window.data) > BLOCK):
            raise FastaError(
                f"{raw.path}: expected a block of bgzip at byte {window.base + at:,}, received something "
                "else or the file's end; it is cut off or damaged: copy it anew"
            )
        window.advance(at)
    return np.concatenate(places), np.concatenate([[0], np.cumsum(np.concatenate(sizes))])


def _ranges(edges: np.ndarray, numbers: Sequence[int]) -> tuple[list[int], list[int]]:
    chosen = np.asarray(numbers, np.int64)
    return edges[chosen].tolist(), edges[chosen + 1].tolist()


def _nothing() -> None:
    """A remote file is checked after each request, not for what is in the cache."""


def remote_window(path: str, options: Mapping[str, Any]) -> Window:
    """A window over a remote file as it is stored there."""
    return _blocks_of(RemoteBytes(path, options)).window()


def _blocks_of(raw: RemoteBytes) -> BlockFile:
    edges = np.append(np.arange(0, raw.size, BLOCK), raw.size)

    def load(numbers: Sequence[int]) -> list[bytes]:
        return raw.ranges(*_ranges(edges, numbers))

    return BlockFile(raw.path, edges, load, raw.identity, _nothing)
