"""A column of short strings in two arrays: cheap to pickle, and shared after a fork."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Strings:
    """Strings of one byte per letter, one after the other in one array.

    Args:
        letters: (m,) uint8: the letters of all strings.
        offsets: (n + 1,) int64: string i is `letters[offsets[i]:offsets[i + 1]]`.

    Example:
        >>> column = Strings.of(["A", "", "GT"])
        >>> list(column), column[2], column.lengths
        (['A', '', 'GT'], 'GT', array([1, 0, 2]))
        >>> list(column.taken([2, 0, 2]))
        ['GT', 'A', 'GT']
    """

    letters: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Strings":
        """Store some strings."""
        rows = [text.encode("latin-1", "replace") for text in texts]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        return cls(np.frombuffer(bytearray().join(rows), np.uint8), offsets)

    @property
    def lengths(self) -> np.ndarray:
        """The number of letters of each string: (n,) int64."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        """One string."""
        index = range(len(self))[index]
        return self.letters[self.offsets[index] : self.offsets[index + 1]].tobytes().decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def taken(self, rows: Iterable[int] | np.ndarray) -> "Strings":
        """The strings of some rows, in their order."""
        chosen = np.asarray(rows, np.int64)
        return self.cut(self.offsets[chosen], self.offsets[chosen + 1])

    def cut(self, starts: np.ndarray, stops: np.ndarray) -> "Strings":
        """The strings that lie at some places of `letters`."""
        offsets = np.zeros(len(starts) + 1, np.int64)
        np.cumsum(stops - starts, out=offsets[1:])
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], stops - starts)
        return Strings(self.letters[places], offsets)

    def matrix(self, width: int) -> np.ndarray:
        """The letters as rows of one width, filled with zeros: (n, width) uint8."""
        rows = np.zeros((len(self), width), np.uint8)
        rows[np.arange(width) < self.lengths[:, None]] = self.letters
        return rows
