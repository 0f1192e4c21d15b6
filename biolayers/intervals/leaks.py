"""Leakage on the genome: windows of one part of a data set that share letters with windows of another."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Subset

from biolayers.batching.batches import Part
from biolayers.intervals.errors import IntervalError
from biolayers.intervals.table import Intervals


@dataclass(frozen=True, eq=False)
class OverlapLeakage:
    """What `overlap_leakage` found: pairs of windows that share letters of the genome; prints as one line."""

    train: np.ndarray  # (pairs,) int64: indices of windows in the first part
    test: np.ndarray  # (pairs,) int64: and in the second
    letters: np.ndarray  # (pairs,) int64: how many letters they share
    sizes: tuple[int, int]  # how many windows the parts have

    def __bool__(self) -> bool:
        return len(self.train) > 0

    def indices(self, part: int) -> list[int]:
        """Windows of a part (0: train, 1: test) that overlap the other: best left out."""
        return np.unique((self.train, self.test)[part]).tolist()

    def __str__(self) -> str:
        train, test = self.sizes
        if not self:
            return f"no window of the first part ({train:,}) overlaps one of the second ({test:,})"
        first, second, most = len(self.indices(0)), len(self.indices(1)), int(self.letters.max())
        return (
            f"{second:,} of {test:,} windows of the second part overlap {first:,} of {train:,} of the first, "
            f"by up to {most:,} letters; split by chromosome, or by groups as intervals.clusters() gives"
        )


def overlap_leakage(train: Any, test: Any, *, gap: int = 0) -> OverlapLeakage:
    """Find windows of two parts that overlap on the genome, whichever strand they are read from.

    Such windows share letters, so a model is tested on what it was trained on. Windows of an
    `IntervalDataset` count with their jitter.

    Args:
        train: `Intervals`, an `IntervalDataset`, or a `Subset` of one.
        test: The same.
        gap: Windows with at most so many letters between them count as well, in the columns as 0 letters.

    Example:
        >>> windows = Intervals.whole({"chr1": 100}).tiles(20, 10)
        >>> print(overlap_leakage(windows[:4], windows[4:]))
        1 of 5 windows of the second part overlap 1 of 4 of the first, by up to 10 letters; split by ...
    """
    if gap < 0:
        raise IntervalError(f"overlap_leakage: expected a gap from 0 on, received {gap}")
    first, second = _regions(train), _regions(test)
    near = Intervals(
        first.contig_names,
        first.contig_ids,
        first.starts - gap,
        first.ends + gap,
        first.strands,
        source=first.source,
    )
    i, j = near.overlaps(second)
    beside = first._beside(second)
    shared = np.minimum(first.ends[i], beside.ends[j]) - np.maximum(first.starts[i], beside.starts[j])
    return OverlapLeakage(i, j, np.maximum(shared, 0), (len(first), len(second)))


def _regions(part: Any) -> Intervals:
    """The letters of the genome that each window of a part may show."""
    if isinstance(part, Intervals):
        return part
    if isinstance(part, (Subset, Part)):
        return _regions(part.dataset).take(np.asarray(part.indices, np.int64))
    regions = getattr(part, "regions", None)
    if not isinstance(regions, Intervals):
        raise IntervalError(
            "overlap_leakage: expected Intervals, an IntervalDataset or a Subset of one, received "
            f"{type(part).__name__}"
        )
    return regions
