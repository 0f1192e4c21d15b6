"""Where intervals lie in a text, cut where the lines of a ragged record change their length."""

from dataclasses import dataclass

import numpy as np

from biolayers.reading.fai import Index
from biolayers.reading.source import Source


@dataclass(frozen=True, eq=False)
class Pieces:
    """Parts of intervals that are arithmetic: `table[:, ids]` says how, as `kernels.numba.fetch` wants it."""

    table: np.ndarray  # (3, k) int64: offset, letters and bytes of a full line
    ids: np.ndarray  # (p,) int64
    starts: np.ndarray  # (p,) int64: letters of the segment
    stops: np.ndarray  # (p,) int64
    owners: np.ndarray | None  # (p,) int64: which interval; None: each is one piece
    before: np.ndarray  # (p,) int64, or one 0: letters of the interval that precede the piece

    def bytes(self) -> tuple[np.ndarray, np.ndarray]:
        """The first byte of each piece, and the one after its last: (p,) int64 each."""
        offset, bases, width = self.table[:, self.ids]
        last = self.stops - 1
        firsts = offset + self.starts // bases * width + self.starts % bases
        return firsts, np.where(
            last >= self.starts, offset + last // bases * width + last % bases + 1, firsts
        )


def pieces(index: Index, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Pieces:
    """Cut intervals of records, which are checked, into pieces."""
    if index.regular:
        return Pieces(index.table, ids, starts, ends, None, np.zeros(1, np.int64))
    edges = np.append(index.firsts, index.lengths.sum())
    low, high = index.starts[ids] + starts, index.starts[ids] + ends  # letters of the whole file
    first = np.searchsorted(index.firsts, low, side="right") - 1
    counts = np.where(high > low, np.searchsorted(index.firsts, high, side="left") - first, 0)
    owners = np.repeat(np.arange(len(ids)), counts)
    nth = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    segments = first[owners] + nth
    begin = np.maximum(low[owners], edges[segments])
    end = np.minimum(high[owners], edges[segments + 1])
    table = np.maximum(index.segments, 1)
    return Pieces(
        table, segments, begin - edges[segments], end - edges[segments], owners, begin - low[owners]
    )


def staged(source: Source, found: Pieces) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bytes that hold the pieces, and the table and ids by which a kernel finds them there."""
    if hasattr(source, "data"):
        return source.data, found.table, found.ids
    first, last = found.bytes()
    text, places = source.spans(first, last)
    table = found.table[:, found.ids]
    table[0] += places - first
    return text, table, np.arange(len(found.ids))
