"""One bigWig file, readable from any thread and process."""

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from biolayers.intervals.errors import IntervalError
from biolayers.intervals.genome import unknown_contig

Path = str | os.PathLike[str]

_MAGIC = (b"\x26\xfc\x8f\x88", b"\x88\x8f\xfc\x26")  # either order of bytes


class BigWig:
    """One bigWig file, opened once by every thread of every process that reads it."""

    def __init__(self, path: Path):
        self.path = os.fspath(path)
        self._absolute = os.path.abspath(self.path)
        self._identity = self._found()
        self._local = threading.local()
        self.contigs: dict[str, int] = dict(self._handle.chroms())

    def _found(self) -> tuple[int, int]:
        try:
            status = os.stat(self._absolute)
        except OSError as error:
            raise IntervalError(
                f"{self.path}: expected a bigWig file, but it cannot be read: {error.strerror}"
            ) from error
        return status.st_size, status.st_mtime_ns

    @property
    def _handle(self) -> Any:
        """The file as this thread of this process opened it: a handle does not survive a fork."""
        process, handle = getattr(self._local, "opened", (None, None))
        if process != os.getpid():
            handle = self._open()
            self._local.opened = os.getpid(), handle
        return handle

    def _open(self) -> Any:
        try:
            import pyBigWig
        except ImportError as error:
            raise IntervalError(
                "Tracks: expected pyBigWig to read bigWig files, but it is not installed; "
                "pip install 'qbio[tracks]'"
            ) from error
        if self._found() != self._identity:
            raise IntervalError(f"{self.path}: the file changed after it was opened; make new Tracks of it")
        with open(self._absolute, "rb") as file:  # the library prints to the console about other files
            magic = file.read(4)
        if magic not in _MAGIC:
            raise IntervalError(
                f"{self.path}: expected a bigWig file, received one that starts with {magic!r}"
            )
        return pyBigWig.open(self._absolute)

    def fill(self, out: np.ndarray, contig: str, start: int, *, absent: str) -> None:
        """Write the values of `len(out)` letters from `start` on, nan where there is none."""
        size = self.contigs.get(contig)
        if size is None and absent == "error":
            raise IntervalError(unknown_contig(self.path, contig, self.contigs))
        low, high = max(start, 0), min(start + len(out), size or 0)
        out[:] = np.nan
        if low < high:
            values = self._handle.values(contig, low, high, numpy=True)
            out[low - start : high - start] = values

    def resolution(self, places: Sequence[tuple[str, int, int]]) -> int:
        """The greatest common divisor of the places where values change; 0 if they never do."""
        step = 0
        for contig, start, end in places:
            size = self.contigs.get(contig, 0)
            low, high = max(start, 0), min(end, size)
            found = (self._handle.intervals(contig, low, high) if low < high else None) or ()
            edges = [edge for first, last, _ in found for edge in (first, last) if edge != size]
            step = int(np.gcd.reduce([step, *edges]))
        return step

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _local=threading.local())
