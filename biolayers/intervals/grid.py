"""Windows at even steps along a genome, each with its bin of G and C content, to draw from."""

import numpy as np

from biolayers.batching.randomness import integers, uniform
from biolayers.fasta import Fasta
from biolayers.intervals import composition, sweep
from biolayers.intervals.errors import IntervalError
from biolayers.intervals.table import Intervals

_CLOSED = 65_535  # stands for the bin of a window that may not be drawn


class Grid:
    """The windows of some contigs, known by their numbers: two bytes for each, whatever the genome.

    Args:
        fasta: The genome.
        length: Of a window.
        step: From one to the next; each contig's first one starts at random below that.
        bin_width: Of the bins of G and C content, which are centred on its multiples.
        seed: From 0 up to 2**64.
    """

    def __init__(self, fasta: Fasta, length: int, step: int, bin_width: float, seed: int):
        if step < 1:
            raise IntervalError(f"negatives: expected a step from 1 on, received {step}")
        self.fasta, self.length, self.step, self.seed = fasta, length, step, seed
        self.bin_width = bin_width
        self.bins = round(1 / bin_width) + 1
        self._contigs: list[int] = []
        self._origins: list[int] = []
        self._parts: list[np.ndarray] = []  # for each contig (windows,) uint16: the bin, or `_CLOSED`

    def fill(self, contigs: list[int], taken: list[Intervals], *, ambiguous: int) -> None:
        """Count the letters of all windows of some contigs, by number.

        Closed are windows that overlap intervals of `taken` (whose ids count the genome's records), have more
        than so many `ambiguous` letters, or have no plain one.
        """
        lengths = self.fasta.lengths
        everything = _union(taken)
        for contig in contigs:
            spare = int(lengths[contig]) - self.length
            if spare < 0:
                continue
            origin = int(integers(self.seed, 0, [contig], "origin", 0, min(self.step, spare + 1))[0])
            low, high = np.searchsorted(everything.lanes, [contig, contig + 1])
            covered = everything.taken(slice(low, high))
            parts = []
            for starts, found in composition.along(self.fasta, contig, origin, self.length, self.step):
                few = found.plain < max(1, self.length - ambiguous)
                parts.append(np.where(few | _hit(starts, self.length, covered), _CLOSED, self.bin_of(found)))
            self._contigs.append(contig)
            self._origins.append(origin)
            self._parts.append(np.concatenate(parts))

    def bin_of(self, found: composition.Composition) -> np.ndarray:
        """The bin of each window, 0 for those without a plain letter: (n,) uint16."""
        return np.rint(np.nan_to_num(found.gc) / self.bin_width).astype(np.uint16)

    @property
    def _codes(self) -> np.ndarray:
        return np.concatenate([np.empty(0, np.uint16), *self._parts])

    def counts(self) -> np.ndarray:
        """How many windows of each bin may be drawn: (bins,) int64."""
        codes = self._codes
        return np.bincount(codes[codes != _CLOSED], minlength=self.bins)

    def draw(self, shares: np.ndarray) -> Intervals:
        """So many windows of each bin, (bins,) integers, in the order of the genome."""
        codes = self._codes
        parts = [self._first(np.flatnonzero(codes == b), int(shares[b])) for b in np.flatnonzero(shares)]
        return self._intervals(np.concatenate([np.empty(0, np.int64), *parts]))

    def draw_any(self, count: int) -> Intervals:
        """So many windows of any bins, in the order of the genome."""
        return self._intervals(self._first(np.flatnonzero(self._codes != _CLOSED), count))

    def _first(self, candidates: np.ndarray, count: int) -> np.ndarray:
        """The candidates with the smallest random numbers, which depend on the seed and the window alone."""
        draws = uniform(self.seed, 0, candidates, "negatives")
        return candidates[np.argsort(draws, kind="stable")[:count]]

    def _intervals(self, chosen: np.ndarray) -> Intervals:
        chosen = np.sort(chosen)
        firsts = np.cumsum([0, *map(len, self._parts)])
        place = np.searchsorted(firsts, chosen, "right") - 1
        starts = np.array([*self._origins, 0])[place] + (chosen - firsts[place]) * self.step
        ids = np.array([*self._contigs, 0])[place]
        strands = np.zeros(len(chosen), np.int8)
        names = tuple(self.fasta.names)
        return Intervals(names, ids, starts, starts + self.length, strands, source="negatives")


def _union(tables: list[Intervals]) -> sweep.Spans:
    """What windows must not overlap, merged and sorted by contig and start."""
    filled = [table.take(table.lengths > 0) for table in tables]
    columns = ("contig_ids", "starts", "ends")
    spans = sweep.Spans(*(np.concatenate([getattr(table, name) for table in filled]) for name in columns))
    return sweep.merged(spans, 0)[0]


def _hit(starts: np.ndarray, length: int, covered: sweep.Spans) -> np.ndarray:
    """Whether windows overlap any of some disjoint sorted intervals: (n,) bool."""
    begun = np.searchsorted(covered.starts, starts + length, "left")
    return begun > np.searchsorted(covered.ends, starts, "right")
