"""The bytes of a file, at any place: of a local file, which is mapped into memory."""

import mmap
import os
import stat
import weakref
from typing import Any, Protocol, runtime_checkable

import numpy as np

from biolayers.errors import FastaError
from biolayers.reading.window import MappedWindow, Window, forget

Identity = tuple[Any, ...]  # size, time of change and the like: equal for equal content


@runtime_checkable
class Source(Protocol):
    """Text that can be read at any place; compressed or far away, it is that of the decompressed file."""

    path: str
    size: int
    identity: Identity

    def check(self) -> None:
        """Raise `FastaError` if the file is no longer the one that was opened."""
        ...

    def spans(self, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bytes that hold `starts[i]` to `stops[i]` of the text: (m,) uint8; and where each begins: (n,)."""
        ...

    def forget(self, starts: np.ndarray, stops: np.ndarray) -> None:
        """The spans will not be wanted soon: let go of memory that they take, if there is any."""
        ...

    def window(self) -> Window:
        """A window at the start, which moves to the end."""
        ...


class MappedFile:
    """A plain local file.

    The system ends a process that touches a mapped page which the file no longer has. So whoever reads calls
    `check` before and after: a file that shrinks is refused, unless it does so in the very moment between.
    """

    def __init__(self, absolute: str, path: str) -> None:
        self.path = path
        with open_local(absolute, path) as file:
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self.identity = _identity(self._descriptor)
        self.size = self.identity[0]
        self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
        self.data = np.frombuffer(self._map, np.uint8)

    def check(self) -> None:
        if _identity(self._descriptor) != self.identity:
            raise FastaError(f"{self.path}: the file changed after it was opened; open it again")

    def spans(self, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.data, starts

    def forget(self, starts: np.ndarray, stops: np.ndarray) -> None:
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            forget(self._map, start, stop)

    def window(self) -> Window:
        return MappedWindow(self._map, self.check)


def open_local(absolute: str, path: str) -> Any:
    """Open a file, which is called `path` in messages, for reading, unbuffered.

    Raises:
        FastaError: There is none, it is a folder or a device, or it may not be read.
    """
    try:
        if not stat.S_ISREG(os.stat(absolute).st_mode):
            raise FastaError(f"{path}: expected a file, received a folder or a device; give a FASTA file")
        file = open(absolute, "rb", buffering=0)  # noqa: SIM115 - whoever asks closes it
    except OSError as error:
        raise FastaError(f"{path}: expected a FASTA file, but it cannot be read: {error.strerror}") from error
    if os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise FastaError(f"{path}: expected at least one record, received an empty file")
    return file


def _identity(descriptor: int) -> Identity:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns
