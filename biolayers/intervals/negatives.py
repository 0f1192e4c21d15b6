"""Windows to compare with: drawn from the genome, with matched G and C, or the given ones shuffled."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from biolayers.fasta import Fasta
from biolayers.intervals import composition
from biolayers.intervals.errors import IntervalError
from biolayers.intervals.genome import check_choice, unknown_contig
from biolayers.intervals.given import of
from biolayers.intervals.grid import Grid
from biolayers.intervals.table import Intervals


def negatives(
    genome: Fasta | str | os.PathLike[str],
    intervals: Any,
    *,
    kind: str = "gc",
    n: int | None = None,
    length: int | None = None,
    exclude: Any = None,
    contigs: Sequence[str] | None = None,
    step: int | None = None,
    unknown: float = 0.0,
    bin_width: float = 0.02,
    k: int = 2,
    seed: int = 0,
) -> Intervals:
    r"""Make negatives for given intervals, to train or test a classifier with.

    "gc" draws windows whose share of G and C is distributed as that of the given intervals: both are counted
    in bins, and each bin gives as many windows as are wanted, or, where it has too few, its neighbours do
    (`changes` says how many). "random" draws from all windows alike. Both take windows from a grid with a
    random origin on each contig, never overlapping a given or excluded interval; with the default step they
    do not overlap each other. "shuffle" gives the intervals themselves with a column "shuffle" that makes an
    `IntervalDataset` shuffle their letters, with the counts of k-lets kept (`biolayers.shuffle`).

    Every letter of the contigs is read once, in chunks; memory grows with the genome by two bytes for each
    window of the grid only. The same seed gives the same windows.

    Args:
        genome: A `Fasta` or the path of one.
        intervals: The positives, as `Intervals.of` takes them; all of one length, unless `length` is given.
        kind: "gc", "random" or "shuffle".
        n: How many; by default as many as there are positives.
        length: Of each window; positives are then resized around their centres.
        exclude: Further intervals that negatives must not overlap, such as a blacklist.
        contigs: From which they are drawn; by default those that have positives.
        step: From window to window of the grid, by default `length`.
        unknown: The share of letters that may be N or otherwise ambiguous.
        bin_width: Of the bins of G and C content, from 0.0001 to 1.
        k: Of "shuffle": the length of the words whose counts are kept.
        seed: From 0 up to 2**64.

    Returns:
        The windows in the order of the genome, with a column "gc" (float64) of "gc" and "random". For
        "shuffle" `n` positives in their order, over again from the first.

    Raises:
        IntervalError: An argument is not as described, or the genome has too few windows.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "x.fa")
        >>> with open(path, "w") as file:
        ...     _ = file.write(">a\n" + "ACGT" * 50 + "\n")
        >>> found = negatives(path, [("a", 100, 120)], n=3)
        >>> found.lengths, found.column("gc"), found.overlap_counts(Intervals.of([("a", 100, 120)])).sum()
        (array([20, 20, 20]), array([0.5, 0.5, 0.5]), np.int64(0))
    """
    fasta = genome if isinstance(genome, Fasta) else Fasta(genome)
    positives = of(intervals).on(fasta)
    count = len(positives) if n is None else n
    _check(kind, count, unknown, bin_width, k)
    windows = _of_one_length(positives, length)
    if kind == "shuffle":
        return windows.take(np.arange(count) % len(windows)).with_columns(shuffle=k)
    width = int(windows.lengths[0])
    grid = Grid(fasta, width, width if step is None else step, bin_width, seed)
    taken = [positives] if exclude is None else [positives, Intervals.whole(fasta)._beside(of(exclude))]
    grid.fill(_numbers(fasta, positives, contigs), taken, ambiguous=int(unknown * width + 1e-9))
    return _drawn(grid, windows, kind, count)


def _check(kind: str, count: int, unknown: float, bin_width: float, k: int) -> None:
    check_choice("kind", kind, ("gc", "random", "shuffle"))
    if count < 0 or not 0 <= unknown <= 1 or not 1e-4 <= bin_width <= 1 or k < 1:
        raise IntervalError(
            "negatives: expected n from 0 on, unknown from 0 to 1, bin_width from 0.0001 to 1 and k from 1 "
            f"on, received {count}, {unknown}, {bin_width} and {k}"
        )


def _of_one_length(positives: Intervals, length: int | None) -> Intervals:
    if not len(positives):
        raise IntervalError("negatives: expected at least one interval, received none")
    if length is not None:
        return positives.resize(length)
    odd = (positives.lengths != positives.lengths[0]) | (positives.lengths == 0)
    if odd.any():
        i = int(odd.argmax())
        raise IntervalError(
            f"{positives.where(i)}: expected {max(1, positives.lengths[0]):,} letters as the first interval, "
            f"received {positives.lengths[i]:,}; give length= to use windows of one length"
        )
    return positives


def _numbers(fasta: Fasta, positives: Intervals, contigs: Sequence[str] | None) -> list[int]:
    """The records to draw from, by number."""
    if contigs is None:
        return np.unique(positives.contig_ids).tolist()
    for name in contigs:
        if name not in fasta:
            raise IntervalError(unknown_contig("negatives", name, fasta))
    return sorted(set(fasta.ids(contigs).tolist()))


def _drawn(grid: Grid, windows: Intervals, kind: str, count: int) -> Intervals:
    there = grid.counts()
    if count > there.sum():
        raise IntervalError(
            f"negatives: expected at least {count:,} windows of {grid.length:,} letters outside the given "
            f"and excluded intervals, found {there.sum():,}; choose a smaller n or step, more contigs, or a "
            "larger share of unknown letters"
        )
    moved = 0
    if kind == "random":
        table = grid.draw_any(count)
    else:
        shares = _shared_out(_wanted(grid, windows), there, count)
        given = _filled(shares, there)
        moved = int((shares - given).clip(0).sum())
        table = grid.draw(given)
    table = table.with_columns(gc=composition.of_intervals(grid.fasta, table).gc)
    return table._changed("taken from a neighbouring bin of G and C content", np.arange(count) < moved)


def _wanted(grid: Grid, windows: Intervals) -> np.ndarray:
    """How many positives fall into each bin; those without a plain letter count nowhere: (bins,) int64."""
    found = composition.of_intervals(grid.fasta, windows)
    return np.bincount(grid.bin_of(found)[found.plain > 0], minlength=grid.bins)


def _shared_out(wanted: np.ndarray, there: np.ndarray, count: int) -> np.ndarray:
    """`count` in proportion to `wanted` by largest remainder; else to what is there: (bins,)."""
    weights = wanted if wanted.sum() else there
    exact = weights * (count / max(int(weights.sum()), 1))
    shares = np.floor(exact + 1e-9).astype(np.int64)
    shares[np.argsort(shares - exact, kind="stable")[: count - shares.sum()]] += 1
    return shares


def _filled(shares: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The shares as far as there are windows; the nearest bins give what a bin lacks: (bins,)."""
    given = np.minimum(shares, there)
    places = np.arange(len(there))
    for short in np.flatnonzero(shares > there):
        lacking = int(shares[short] - there[short])
        for near in np.argsort(np.abs(places - short), kind="stable"):
            more = min(lacking, int(there[near] - given[near]))
            given[near] += more
            lacking -= more
    return given
