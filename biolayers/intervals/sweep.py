"""What intervals do to each other, as sweeps over sorted columns; no Python loop, no pair looked at in vain.

Intervals lie on *lanes* (contigs, or contigs and strands). Lanes are laid end to end on one line, far enough
apart that nothing touches across them, so that every question becomes a binary search in sorted numbers. All
columns are (n,) int64, starts may be negative, and an interval without letters overlaps nothing.
"""

from typing import NamedTuple

import numpy as np


class Spans(NamedTuple):
    """Intervals as three columns."""

    lanes: np.ndarray  # (n,) int64
    starts: np.ndarray  # (n,) int64
    ends: np.ndarray  # (n,) int64

    def taken(self, chosen: np.ndarray | slice) -> "Spans":
        """Some of them, by index, mask or slice."""
        return Spans(*(column[chosen] for column in self))


class Line(NamedTuple):
    """How lanes are laid end to end: a position of a lane lies at `lane * stride + position - lowest`."""

    stride: int
    lowest: int

    def starts(self, spans: Spans) -> np.ndarray:
        """Where the intervals begin on the line."""
        return spans.lanes * self.stride + (spans.starts - self.lowest)

    def ends(self, spans: Spans) -> np.ndarray:
        """Where they end."""
        return spans.lanes * self.stride + (spans.ends - self.lowest)

    def lanes(self, positions: np.ndarray) -> np.ndarray:
        """The lane of each position of the line."""
        return positions // self.stride

    def within(self, positions: np.ndarray, lanes: np.ndarray) -> np.ndarray:
        """Positions within their lanes."""
        return positions - lanes * self.stride + self.lowest


def line_of(*tables: Spans, gap: int = 0) -> Line:
    """A line on which these tables fit, with more than `gap` letters between lanes."""
    filled = [spans for spans in tables if len(spans.starts)]
    lowest = min((int(spans.starts.min()) for spans in filled), default=0)
    highest = max((int(spans.ends.max()) for spans in filled), default=0)
    return Line(highest - lowest + gap + 2, lowest)


def merged(spans: Spans, gap: int) -> tuple[Spans, np.ndarray]:
    """The unions of intervals that overlap or are at most `gap` letters apart, in order; and whose is whose.

    Returns:
        The unions, sorted by lane and start, and the number of its union for each interval: (n,) int64.
    """
    line = line_of(spans, gap=gap)
    starts, ends = line.starts(spans), line.ends(spans)
    order = np.lexsort((ends, starts))
    reach = np.maximum.accumulate(ends[order]) if len(order) else ends
    opens = np.ones(len(order), bool)  # whether an interval begins a union
    opens[1:] = starts[order][1:] > reach[:-1] + gap
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(opens) - 1
    first = np.flatnonzero(opens)
    last = np.append(first[1:], len(order))[: len(first)] - 1
    union_starts = starts[order][first]
    lanes = line.lanes(union_starts)
    return Spans(lanes, line.within(union_starts, lanes), line.within(reach[last], lanes)), number


def overlap_counts(spans: Spans, others: Spans) -> np.ndarray:
    """How many of `others` share a letter with each interval: (n,) int64."""
    line = line_of(spans, others)
    others = others.taken(others.ends > others.starts)
    begun = np.searchsorted(np.sort(line.starts(others)), line.ends(spans), "left")
    ended = np.searchsorted(np.sort(line.ends(others)), line.starts(spans), "right")
    return np.where(spans.ends > spans.starts, begun - ended, 0)


def overlap_pairs(spans: Spans, others: Spans) -> tuple[np.ndarray, np.ndarray]:
    """All pairs that share a letter, as two columns of indices, sorted by the first and then the second.

    Of two that overlap, either the second begins within the first, or the first begins within the second
    and after its start: two binary searches find each pair once.
    """
    line = line_of(spans, others)
    mine, theirs = np.flatnonzero(spans.ends > spans.starts), np.flatnonzero(others.ends > others.starts)
    spans, others = spans.taken(mine), others.taken(theirs)
    i, j = _begin_within(line, spans, others, "left")
    b, a = _begin_within(line, others, spans, "right")
    first, second = mine[np.concatenate([i, a])], theirs[np.concatenate([j, b])]
    order = np.lexsort((second, first))
    return first[order], second[order]


def _begin_within(line: Line, spans: Spans, others: Spans, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Pairs in which the second begins in the first; at its very start only if `side` is "left"."""
    starts = line.starts(others)
    order = np.argsort(starts, kind="stable")
    low = np.searchsorted(starts[order], line.starts(spans), side)
    high = np.searchsorted(starts[order], line.ends(spans), "left")
    owner, place = ragged(np.maximum(high - low, 0))
    return owner, order[low[owner] + place]


def remainders(spans: Spans, others: Spans) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `others` leave of each interval: the index of the interval, and starts and ends of its pieces.

    An interval without letters is a piece of its own where nothing covers it.
    """
    holes, _ = merged(others.taken(others.ends > others.starts), 0)
    line = line_of(spans, holes)
    hole_starts, hole_ends = line.starts(holes), line.ends(holes)
    starts, ends = line.starts(spans), line.ends(spans)
    low = np.searchsorted(hole_ends, starts, "right")
    high = np.maximum(np.searchsorted(hole_starts, ends, "left"), low)
    owner, place = ragged(high - low + 1)  # one piece before each hole and one after the last
    first, last = place == 0, place == (high - low)[owner]
    hole = low[owner] + place
    piece_starts, piece_ends = starts[owner], ends[owner]
    piece_starts[~first] = hole_ends[hole[~first] - 1]
    piece_ends[~last] = hole_starts[hole[~last]]
    kept = (piece_starts < piece_ends) | (first & last)
    owner, lanes = owner[kept], spans.lanes[owner[kept]]
    return owner, line.within(piece_starts[kept], lanes), line.within(piece_ends[kept], lanes)


def ragged(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For rows of `counts` items each, the row of every item and its place in the row.

    Example:
        >>> ragged(np.array([2, 0, 3]))
        (array([0, 0, 2, 2, 2]), array([0, 1, 0, 1, 2]))
    """
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
