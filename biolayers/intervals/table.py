"""The noun of this package: genomic intervals as columns, and what can be done to them."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from biolayers.intervals import genome as genomes
from biolayers.intervals import sweep
from biolayers.intervals.errors import IntervalError
from biolayers.intervals.genome import Genome

log = logging.getLogger("biolayers")

STRANDS = {"+": 1, "-": -1, ".": 0}
_SIGNS = {number: sign for sign, number in STRANDS.items()}
_FAR = 1 << 40  # letters; sums over many contigs must fit 64 bits


class Interval(NamedTuple):
    """One row of `Intervals`, as `Fasta.fetch` takes it."""

    contig: str
    start: int
    end: int
    strand: str


@dataclass(frozen=True)
class Change:
    """What an operation did to how many intervals."""

    operation: str
    touched: int
    total: int

    def __str__(self) -> str:
        return f"{self.operation}: {self.touched:,} of {self.total:,} intervals"


@dataclass(frozen=True, eq=False, repr=False)
class Intervals:
    """Genomic intervals as columns: 0-based, half-open, each on a strand or on none.

    Make them with `Intervals.read` (BED, narrowPeak, broadPeak), `Intervals.of` (tuples, a pandas frame) or
    `Intervals.whole` (the contigs of a genome). An object is never changed: operations return another, which
    remembers in `changes` how many intervals were clipped, dropped or moved on the way.

    Args:
        contig_names: The names of contigs.
        contig_ids: (n,) int64: the place in `contig_names` of each interval's contig.
        starts: (n,) int64: 0-based.
        ends: (n,) int64: half-open.
        strands: (n,) int8: 1, -1, or 0 where there is none.
        columns: Further columns by name, each (n,): "name" and "score" (nan where there is none) are BED's.
        lines: (n,) int64: the line of each in its file, for messages.
        source: The file, or where else the intervals are from, for messages.
        changes: What was done so far.

    Raises:
        IntervalError: Columns differ in length, or an interval ends before its start.

    Example:
        >>> peaks = Intervals.of([("chr1", 10, 20), ("chr1", 15, 30, "-"), ("chr2", 5, 8)])
        >>> peaks
        Intervals(3 on 2 contigs, 28 letters)
        >>> [tuple(union) for union in peaks.merge()]
        [('chr1', 10, 30, '.'), ('chr2', 5, 8, '.')]
        >>> narrow = peaks.resize(4).fit({"chr1": 100, "chr2": 7}, beyond="clip")
        >>> narrow[2], str(narrow.changes[0])
        (Interval(contig='chr2', start=4, end=7, strand='.'), 'clipped to the contig: 1 of 3 intervals')
    """

    contig_names: tuple[str, ...]
    contig_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    strands: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    lines: np.ndarray | None = None
    source: str = "intervals"
    changes: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        columns = {"contig_ids": self.contig_ids, "ends": self.ends, "strands": self.strands, **self.columns}
        if self.lines is not None:
            columns["lines"] = self.lines
        for name, column in columns.items():
            if column.shape != self.starts.shape or column.ndim != 1:
                raise IntervalError(
                    f"{self.source}: expected columns of one length, received starts {self.starts.shape} "
                    f"and {name} {column.shape}"
                )
        far = (self.ends < self.starts) | (self.starts <= -_FAR) | (self.ends >= _FAR)
        if far.any():
            i = int(far.argmax())
            raise IntervalError(
                f"{self.where(i)}: expected start <= end < {_FAR:,}, "
                f"received {self.starts[i]:,} to {self.ends[i]:,}"
            )

    # -- in and out

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,
        standard: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> "Intervals":
        """Read a BED file, plain or gzip: see `biolayers.intervals.bed.read`."""
        from biolayers.intervals import bed

        return bed.read(path, format=format, standard=standard, columns=columns)

    @classmethod
    def of(cls, given: Any) -> "Intervals":
        """Intervals from what a user has: see `biolayers.intervals.given.of`."""
        from biolayers.intervals import given as sources

        return sources.of(given)

    @classmethod
    def whole(cls, genome: Genome) -> "Intervals":
        """Every contig of a genome (a `Fasta`, or a mapping from name to length) from end to end."""
        lengths = genomes.lengths_of(genome)
        ends = np.fromiter(lengths.values(), np.int64, len(lengths))
        zeros = np.zeros_like(ends)
        return cls(tuple(lengths), np.arange(len(ends)), zeros, ends, zeros.astype(np.int8))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a BED file, gzip if its name ends so: see `biolayers.intervals.bed.write`."""
        from biolayers.intervals import bed

        bed.write(self, path)

    # -- rows and columns

    def __len__(self) -> int:
        """How many intervals."""
        return len(self.starts)

    def __iter__(self) -> Iterator[Interval]:
        names = self.contig_names
        columns = (self.contig_ids, self.starts, self.ends, self.strands)
        for contig, start, end, strand in zip(*(column.tolist() for column in columns), strict=True):
            yield Interval(names[contig], start, end, _SIGNS[strand])

    def __getitem__(self, key: Any) -> "Interval | Intervals":
        """One interval by number, or some by slice, mask or numbers."""
        if isinstance(key, (int, np.integer)):
            return next(iter(self.take(np.array([range(len(self))[key]]))))
        return self.take(key)

    def take(self, chosen: Any) -> "Intervals":
        """Some of the intervals, in the given order: a slice, (n,) bool, or (k,) integers."""
        key = chosen if isinstance(chosen, slice) else np.asarray(chosen)
        if isinstance(key, np.ndarray) and key.size == 0:
            key = key.astype(bool if key.shape == self.starts.shape else np.int64)
        return replace(
            self,
            contig_ids=self.contig_ids[key],
            starts=self.starts[key],
            ends=self.ends[key],
            strands=self.strands[key],
            columns={name: column[key] for name, column in self.columns.items()},
            lines=None if self.lines is None else self.lines[key],
        )

    @property
    def lengths(self) -> np.ndarray:
        """The letters of each: (n,) int64."""
        return self.ends - self.starts

    @property
    def contigs(self) -> np.ndarray:
        """The contig of each by name: (n,) of str."""
        return np.array([*self.contig_names, None], object)[self.contig_ids]

    def column(self, name: str) -> np.ndarray:
        """A further column: (n,)."""
        if name not in self.columns:
            raise IntervalError(
                f"{self.source}: expected a column {name!r}, received "
                f"{', '.join(map(repr, self.columns)) or 'none but the places'}"
            )
        return self.columns[name]

    def numbers(self, name: str) -> np.ndarray:
        """A further column as numbers, nan where it holds "." or nothing: (n,) float64.

        Raises:
            IntervalError: There is no such column, or it holds something else (file and line).
        """
        from biolayers.intervals.bed import numbers

        column = self.column(name)
        if column.dtype.kind in "iufb":
            return column.astype(np.float64)
        return numbers(list(column), lambda i: f"{self.where(i)}, column {name!r}")

    def with_columns(self, **columns: Any) -> "Intervals":
        """The same with columns added or replaced; one value stands for all rows."""
        full = {name: np.asarray(value) for name, value in columns.items()}
        full = {name: np.full(len(self), value) if value.ndim == 0 else value for name, value in full.items()}
        return replace(self, columns={**self.columns, **full})

    def where(self, index: int) -> str:
        """File and line of an interval, or its number, for messages."""
        if self.lines is None:
            return f"{self.source}, interval {index}"
        return f"{self.source}, line {self.lines[index]}"

    def __repr__(self) -> str:
        contigs, letters = len(np.unique(self.contig_ids)), int(self.lengths.sum())
        name = f"{self.source!r}: " if self.lines is not None else ""
        done = "".join(f"; {change}" for change in self.changes)
        return f"Intervals({name}{len(self):,} on {contigs:,} contigs, {letters:,} letters{done})"

    # -- contigs

    def on(self, genome: Genome, *, unknown: str = "error") -> "Intervals":
        """The same with `contig_ids` counting the records of a genome, as `Fasta.fetch_arrays` wants them.

        Args:
            genome: A `Fasta`, or a mapping from contig to length.
            unknown: Whether intervals on contigs that the genome lacks are an "error" or "drop" out, counted.
        """
        genomes.check_choice("unknown", unknown, ("error", "drop"))
        known = {name: i for i, name in enumerate(genomes.lengths_of(genome))}
        table = np.array([known.get(name, -1) for name in self.contig_names] + [-1], np.int64)
        ids = table[self.contig_ids]
        lost = ids < 0
        if lost.any() and unknown == "error":
            i = int(lost.argmax())
            raise IntervalError(genomes.unknown_contig(self.where(i), self[i].contig, genome))
        there = replace(self, contig_names=tuple(known), contig_ids=ids)
        return there._left_out("dropped, as the genome lacks their contig", lost)

    def rename(self, names: Mapping[str, str] | Callable[[str], str]) -> "Intervals":
        """Other names for contigs, from a mapping (others stay) or a function.

        Example:
            >>> Intervals.of([("1", 0, 5)]).rename(lambda name: f"chr{name}")[0].contig
            'chr1'
        """
        new = [names.get(old, old) if isinstance(names, Mapping) else names(old) for old in self.contig_names]
        known = {name: i for i, name in enumerate(dict.fromkeys(new))}
        table = np.array([known[name] for name in new], np.int64)
        return replace(self, contig_names=tuple(known), contig_ids=table[self.contig_ids])

    def only(self, *contigs: str) -> "Intervals":
        """Those on the given contigs."""
        missing = [name for name in contigs if name not in self.contig_names]
        if missing:
            raise IntervalError(genomes.unknown_contig(self.source, missing[0], self.contig_names))
        return self.take(np.isin(self.contig_ids, [self.contig_names.index(name) for name in contigs]))

    def sort(self, genome: Iterable[str] | None = None) -> "Intervals":
        """By contig, start and end; contigs as in a genome (or list of names), else by name."""
        names = list(genome) if genome is not None else sorted(self.contig_names)
        rank = {name: i for i, name in enumerate(names)}
        for name in set(self.contigs) - set(names):
            raise IntervalError(genomes.unknown_contig(self.source, name, names))
        ranks = np.array([rank.get(name, -1) for name in self.contig_names] + [-1], np.int64)
        return self.take(np.lexsort((self.ends, self.starts, ranks[self.contig_ids])))

    # -- one by one

    def resize(self, length: int, around: str = "centre") -> "Intervals":
        """Every interval with `length` letters; it may then leave its contig: see `fit`.

        Args:
            length: In letters, at least 1.
            around: What stays: "centre", "start", "end", "five_prime", "three_prime" (of the strand; the
                forward strand where there is none), or "summit" (of narrowPeak's column, which must be set).
        """
        from biolayers.intervals import shape

        return shape.resize(self, length, around)

    def fit(self, genome: Genome, *, beyond: str = "error", margin: int = 0) -> "Intervals":
        """Make every interval lie within its contig; the ids then count the genome's records (`on`).

        Args:
            genome: A `Fasta`, or a mapping from contig to length.
            beyond: What to do with intervals that leave their contig: "error", "clip" to the contig, "drop",
                or "shift" inwards with their length kept (an error where the contig is shorter).
            margin: Letters that must be there on both sides as well, such as those of a jitter.
        """
        from biolayers.intervals import shape

        return shape.fit(self.on(genome), genome, beyond, margin)

    def tiles(self, length: int, step: int | None = None, *, last: str = "drop") -> "Intervals":
        """Windows of one length along every interval, in order; further columns are repeated.

        Args:
            length: Of a window, at least 1.
            step: From start to start; by default `length`, so that windows touch.
            last: What to do with a rest that no window covers: "drop", "clip" (a shorter window) or "shift"
                (a window of full length that ends with the interval; none where the interval is shorter).

        Example:
            >>> [tile[1:3] for tile in Intervals.whole({"chr1": 10}).tiles(4, last="shift")]
            [(0, 4), (4, 8), (6, 10)]
        """
        from biolayers.intervals import shape

        return shape.tiles(self, length, length if step is None else step, last)

    def bins(self, count: int) -> "Intervals":
        """Every interval cut into `count` equal parts, from left to right; further columns are repeated."""
        from biolayers.intervals import shape

        return shape.bins(self, count)

    # -- against each other

    def merge(self, *, gap: int = 0, stranded: bool = False) -> "Intervals":
        """The unions of intervals that touch, or are at most `gap` letters apart; without columns."""
        spans, _ = sweep.merged(self._spans(stranded), gap)
        strands = (spans.lanes % 3 - 1 if stranded else np.zeros(len(spans.lanes))).astype(np.int8)
        ids = spans.lanes // 3 if stranded else spans.lanes
        return Intervals(self.contig_names, ids, spans.starts, spans.ends, strands, changes=self.changes)

    def clusters(self, *, gap: int = 0, stranded: bool = False) -> np.ndarray:
        """The number of its union in `merge` for each interval, as groups that a split keeps whole: (n,)."""
        return sweep.merged(self._spans(stranded), gap)[1]

    def overlaps(self, others: "Intervals", *, stranded: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """All pairs that share a letter: two columns of indices, (pairs,) int64."""
        return sweep.overlap_pairs(self._spans(stranded), self._beside(others)._spans(stranded))

    def overlap_counts(self, others: "Intervals", *, stranded: bool = False) -> np.ndarray:
        """How many of `others` share a letter with each: (n,) int64."""
        return sweep.overlap_counts(self._spans(stranded), self._beside(others)._spans(stranded))

    def exclude(self, others: "Intervals", *, stranded: bool = False) -> "Intervals":
        """Without the intervals that share a letter with one of `others`, such as a blacklist; counted."""
        hit = self.overlap_counts(others, stranded=stranded) > 0
        return self._left_out(f"excluded by {others.source}", hit)

    def subtract(self, others: "Intervals", *, stranded: bool = False) -> "Intervals":
        """The pieces that `others` leave; each keeps the columns of its interval."""
        owner, starts, ends = sweep.remainders(self._spans(stranded), self._beside(others)._spans(stranded))
        return replace(self.take(owner), starts=starts, ends=ends)

    def __add__(self, others: "Intervals") -> "Intervals":
        """These and then the others; a column that one side lacks is nan or "." there."""
        from biolayers.intervals import given as sources

        return sources.joined(self, others)

    # -- helpers of the modules of this package

    def _spans(self, stranded: bool) -> sweep.Spans:
        lanes = self.contig_ids * 3 + self.strands + 1 if stranded else self.contig_ids
        return sweep.Spans(lanes, self.starts, self.ends)

    def _beside(self, others: "Intervals") -> "Intervals":
        """`others` with ids for which equal numbers mean equal contigs."""
        if others.contig_names == self.contig_names:
            return others
        genomes.check_shared(self, others)
        names = tuple(dict.fromkeys((*self.contig_names, *others.contig_names)))
        return others.on(dict.fromkeys(names, 0))

    def _left_out(self, operation: str, lost: np.ndarray) -> "Intervals":
        return self.take(~lost)._changed(operation, lost) if lost.any() else self

    def _changed(self, operation: str, touched: np.ndarray) -> "Intervals":
        """The same with a note in `changes` and in the log, if any interval was touched."""
        if not touched.any():
            return self
        change = Change(operation, int(touched.sum()), len(touched))
        log.info("%s: %s", self.source, change)
        return replace(self, changes=(*self.changes, change))
