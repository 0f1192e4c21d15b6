"""Which sequences are nearly the same: pairs by shared words and alignment, and the clusters they form."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from biolayers.comparing.sequences import Sequences
from shared.errors import UserError
from shared.progress import bar
from shared.threads import parallel

_BLOCK = 4096  # queries that are looked up at once
_SHARE = 100  # sequences, or pairs, that are worth a thread
_CANDIDATES = 16  # of one query, those with most shared words
_MOST_BITS = 24  # of the index: 16 million buckets
_CHANCE = 0.01  # pairs that random sequences may give in a whole comparison


@dataclass(frozen=True, kw_only=True)
class Near:
    """When two sequences are nearly the same.

    Pairs are found by words that they share: k-mers of both strands, of which each sequence keeps those with
    the smallest hashes (Broder, SEQUENCES 1997, doi:10.1109/SEQUEN.1997.666900). Each is then aligned locally
    (match 1, mismatch -1, gap -2) on diagonals around those words, and must score so high that random
    sequences would give less than 0.01 such pairs in the whole comparison (Karlin & Altschul, PNAS 87, 1990,
    doi:10.1073/pnas.87.6.2264). So very short sequences are only compared for being equal. A word that more
    than 256 sequences have is looked at in 256 of them.

    Args:
        identity: The least share of equal letters among the columns of the alignment, above 0 up to 1.
        coverage: The least share of the shorter sequence that the alignment covers, above 0 up to 1.
        k: Letters of a word; by default as many as make a word rare among all letters compared.
        sketch: How many words of a sequence are kept; shorter sequences keep all.
        align: Whether to align. Without it the identity is estimated from the sketches (1 less the Mash
            distance: Ondov et al., Genome Biology 17, 2016, doi:10.1186/s13059-016-0997-x), which is faster
            for long sequences, does not know coverage, and takes sequences that overlap for similar.

    Example:
        >>> Near(identity=0.9).identity
        0.9
    """

    identity: float = 0.8
    coverage: float = 0.5
    k: int | None = None
    sketch: int = 256
    align: bool = True

    def __post_init__(self) -> None:
        for name in ("identity", "coverage"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"{name}: expected a share above 0 up to 1, received {getattr(self, name)}")
        for name, value in (("k", self.k), ("sketch", self.sketch)):
            if value is not None and value < 1:
                raise UserError(f"{name}: expected a whole number from 1 on, received {value}")

    def word_length(self, letters: int, kinds: int) -> int:
        """The k for so many letters of all sequences, in an alphabet of so many kinds."""
        most = math.floor(31 / math.log2(max(2, kinds)))
        if self.k is not None:
            if self.k > most:
                raise UserError(f"k: expected at most {most} for an alphabet of {kinds}, received {self.k}")
            return self.k
        return min(most, max(3, round(math.log(8 * max(1, letters)) / math.log(max(2, kinds)))))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of sequences that are nearly the same, one column per fact."""

    query: np.ndarray  # (n,) int64
    target: np.ndarray  # (n,) int64
    reverse: np.ndarray  # (n,) bool: one is like the reverse complement of the other
    identity: np.ndarray  # (n,) float64
    coverage: np.ndarray  # (n,) float64: of the shorter sequence; nan without alignment


class Sketch:
    """The words of sequences, and their index; see `biolayers.kernels.numba.sketch`."""

    def __init__(self, sequences: Sequences, k: int, most: int, *, both_strands: bool) -> None:
        from biolayers.kernels.numba import sketch as kernel

        n, values, edges = len(sequences), sequences.values, sequences.edges
        self.sequences = sequences
        partner = sequences.partner if both_strands else np.empty(0, np.uint8)
        found = np.empty(len(values), np.int64)
        letters = sequences.alphabet.channels
        parallel(kernel.words, n, values, edges, k, letters, partner, found, grain=_SHARE)
        bound, counts = np.empty(n, np.int64), np.empty(n, np.int64)
        parallel(kernel.bounds, n, found, edges, most, bound, counts, grain=_SHARE)
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.words = np.empty(int(self.starts[-1]), np.uint32)
        self.places = np.empty(len(self.words), np.int32)
        parallel(kernel.entries, n, found, edges, bound, self.starts, self.words, self.places, grain=_SHARE)

    @cached_property
    def index(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from biolayers.kernels.numba import sketch as kernel

        bits = min(_MOST_BITS, max(1, len(self.words)).bit_length())
        return kernel.index(self.words, self.starts, bits)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """As the kernels take them."""
        sequences = self.sequences
        return (
            sequences.values, sequences.edges, self.words, self.places, self.starts, sequences.partner
        )  # fmt: skip


class Search:
    """Look for sequences that are nearly the same as some of `targets`.

    Args:
        queries: The sequences to look up.
        targets: Where to look; None is among the queries themselves, each pair once.
        near: What counts.
        reverse_complement: Whether the other strand counts.
    """

    def __init__(
        self, queries: Sequences, targets: Sequences | None, near: Near, *, reverse_complement: bool
    ) -> None:
        self.near = near
        both = reverse_complement and queries.alphabet.stranded
        letters = len(queries.values) + (0 if targets is None else len(targets.values))
        self.k = near.word_length(letters, queries.alphabet.channels)
        self.queries = Sketch(queries, self.k, near.sketch, both_strands=both)
        self.own = targets is None
        self.least_score = _significant(queries, targets or queries)
        self.targets = (
            self.queries if targets is None else Sketch(targets, self.k, near.sketch, both_strands=both)
        )

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """Candidates of one block of queries after the other, after how many queries are done then."""
        total = len(self.queries.sequences)
        for start in range(0, total, _BLOCK):
            stop = min(start + _BLOCK, total)
            yield stop, self.candidates(start, stop)

    def candidates(self, start: int, stop: int) -> np.ndarray:
        """What may be similar to queries `start` to `stop`: (m, 4) query, target, other strand, diagonal."""
        from biolayers.kernels.numba import candidates as kernel

        counts = np.zeros(stop - start, np.int64)
        out = np.empty((stop - start, _CANDIDATES, 4), np.int64)

        def work(first: int, last: int) -> None:
            kernel.candidates(
                first + start, last + start, self.queries.arrays, self.targets.arrays, self.targets.index,
                self.own, self.k, (2, self.k + 3), _CANDIDATES, start, counts, out,
            )  # fmt: skip

        _ = self.targets.index  # made once, before the threads begin
        parallel(work, stop - start, grain=_SHARE)
        kept = np.arange(_CANDIDATES) < counts[:, None]
        rows = np.repeat(np.arange(start, stop), counts)
        return np.column_stack([rows, out[kept][:, :3]])

    def check(self, candidates: np.ndarray) -> Pairs:
        """Those candidates that are nearly the same."""
        identity, coverage = self._aligned(candidates) if self.near.align else self._estimated(candidates)
        kept = (identity >= self.near.identity) & ~(coverage < self.near.coverage)
        query, target, reverse, _ = candidates[kept].T
        return Pairs(query, target, reverse.astype(bool), identity[kept], coverage[kept])

    def _aligned(self, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from biolayers.kernels.numba import align as kernel

        queries, targets = self.queries.sequences, self.targets.sequences
        shorter = np.minimum(queries.lengths[candidates[:, 0]], targets.lengths[candidates[:, 1]])
        out = np.empty((len(candidates), kernel.COLUMNS), np.int64)
        parallel(
            kernel.align,
            len(candidates),
            np.ascontiguousarray(candidates),
            (queries.values, queries.edges),
            (targets.values, targets.edges),
            queries.partner,
            queries.alphabet.channels,
            8 + shorter // 10,
            out,
            grain=max(1, _SHARE // 10),
        )
        score, matches, columns, a, b, c, d = out.T
        identity = np.where(score < self.least_score, 0.0, matches / np.maximum(columns, 1))
        return identity, np.minimum(b - a, d - c) / np.maximum(shorter, 1)

    def _estimated(self, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """1 less the Mash distance -ln(2 j / (1 + j)) / k of the Jaccard index j of the sketches."""
        from biolayers.kernels.numba import sketch as kernel

        share = np.empty(len(candidates))
        a, b = self.queries, self.targets
        parallel(
            kernel.jaccard, len(candidates), candidates[:, 0].copy(), candidates[:, 1].copy(), a.words,
            a.starts, b.words, b.starts, self.near.sketch, share, grain=_SHARE,
        )  # fmt: skip
        with np.errstate(divide="ignore"):
            distance = -np.log(2 * share / (1 + share)) / self.k
        return np.maximum(1 - distance, 0.0), np.full(len(candidates), np.nan)


def _significant(queries: Sequences, targets: Sequences) -> float:
    """The score from which on an alignment is no chance.

    Random sequences of m and n letters give m n exp(-s log(c - 1)) alignments of a score of s or more, if
    there are c letters, all equally frequent, and a match is worth as much as a mismatch costs.
    """
    kinds = max(3, queries.alphabet.channels)
    pairs = max(1, len(queries.values)) * max(1, len(targets.values))
    return math.log(pairs / _CHANCE) / math.log(kinds - 1)


def clusters(
    sequences: Sequences, near: Near | None, *, reverse_complement: bool = True, progress: bool = False
) -> np.ndarray:
    """A number for each sequence, the same for two that a chain of similar ones connects (single linkage).

    Args:
        sequences: What is clustered.
        near: When two are similar; None is when they are equal.
        reverse_complement: Whether the other strand counts.
        progress: Whether to show a bar.

    Returns:
        (n,) int64: the place of the first sequence of each one's cluster.
    """
    from biolayers.kernels.numba.join import join

    first: dict[bytes, int] = {}
    digests = sequences.digests(reverse_complement=reverse_complement)
    equal = np.array([first.setdefault(key, i) for i, (_, key) in enumerate(digests)], np.int64)
    if near is None:
        return equal
    distinct = np.unique(equal)
    search = Search(sequences.take(distinct), None, near, reverse_complement=reverse_complement)
    parents = np.arange(len(distinct))  # the first member of each one's cluster
    with bar(len(distinct), "sequences compared", show=progress) as advance:
        done = 0
        for stop, candidates in search:
            apart = parents[candidates[:, 0]] != parents[candidates[:, 1]]
            pairs = search.check(candidates[apart])
            join(parents, pairs.query, pairs.target)
            advance(stop - done)
            done = stop
    return distinct[parents[np.searchsorted(distinct, equal)]]
