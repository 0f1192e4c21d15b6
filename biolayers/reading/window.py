"""A part of a text that moves from its start to its end, so that files may be larger than memory."""

import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np

STEP = 1 << 25  # bytes: enough work for several threads, and still close to the caches


class Window(ABC):
    """`data` are the bytes of the text from `base` on, and `final` says that it ends with them.

    Each subclass makes `data` an (m,) uint8 array, and gives the whole of `advance`.
    """

    data: np.ndarray
    base: int
    final: bool

    @abstractmethod
    def advance(self, used: int) -> None:
        """Let go of the first `used` bytes, and take in more; with 0 the window grows."""

    @abstractmethod
    def check(self) -> None:
        """Raise `FastaError` if `data` may no longer be what the file holds, or held."""


class MappedWindow(Window):
    """A view of a mapped file; what it leaves behind no longer counts as memory of the process."""

    def __init__(self, mapped: mmap.mmap, check: Callable[[], None]) -> None:
        self._map, self._step, self._size = mapped, STEP, STEP
        self._check = check
        self.base = 0
        self._look()

    def check(self) -> None:
        self._check()

    def _look(self) -> None:
        self.check()
        size = max(0, min(self._size, len(self._map) - self.base))
        self.data = np.frombuffer(self._map, np.uint8, size, self.base)
        self.final = self.base + size == len(self._map)

    def advance(self, used: int) -> None:
        self._size = max(self._step, len(self.data) - used + self._step) if used else 2 * self._size
        forget(self._map, self.base, self.base + used)
        self.base += used
        self._look()


def forget(mapped: mmap.mmap, start: int, stop: int) -> None:
    """The pages between two bytes no longer count as memory of the process; reading brings them back."""
    page = mmap.PAGESIZE
    first, last = -(-start // page) * page, stop // page * page
    if last > first and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)


class StreamWindow(Window):
    """Pieces of a stream, put one after the other."""

    def __init__(self, pieces: Iterator[bytes | bytearray | memoryview | np.ndarray]) -> None:
        self._pieces = pieces
        self.base, self.final = 0, False
        self.data = np.empty(0, np.uint8)
        self.advance(0)

    def check(self) -> None:
        """What has come out of a stream is ours, and stays as it is."""

    def advance(self, used: int) -> None:
        kept = [self.data[used:]]
        self.base += used
        size = 0
        while size < max(STEP // 4, len(kept[0]) if used == 0 else 0):
            piece = next(self._pieces, None)
            if piece is None:
                self.final = True
                break
            kept.append(np.frombuffer(piece, np.uint8))
            size += len(kept[-1])
        self.data = np.concatenate(kept)
        self.data.flags.writeable = False
