"""Exact p-values of motif scores: the chance that a random site scores at least as much.

A random site is a word of independent letters with the shares of a background (order 0). Scores lie on a grid
(`Motif.log_odds`), so the chances are those of whole numbers, and equal to what adding up the chances of all
4^w words gives. On the minus strand a site is read as its reverse complement, whose letters have the
complement's shares: where the background differs between the strands, so do the p-values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from biolayers.motifs.errors import MotifError
from biolayers.motifs.motif import RESOLUTION, Motif
from shared.threads import parallel

_FIRST = 4096  # deficits that are looked at first; twice as many while they do not suffice
_MOST = 1 << 22  # numbers of a table that is made in one go


@dataclass(frozen=True)
class Tails:
    """For each of several score tables, the chances of its highest scores.

    Args:
        best: (s,) float64: the highest scores.
        edges: (s + 1,) int64: where the chances of each lie in `chances`.
        chances: (n,) float64: entry k of a table is the chance of a score of at least best - k * resolution.
        resolution: of the grid.
    """

    best: np.ndarray
    edges: np.ndarray
    chances: np.ndarray
    resolution: float

    def repeated(self, times: int) -> "Tails":
        """Each table several times in a row."""
        rows = [self.chances[a:b] for a, b in zip(self.edges[:-1], self.edges[1:], strict=True)]
        sizes = np.repeat(np.diff(self.edges), times)
        chances = np.concatenate([row for row in rows for _ in range(times)])
        return Tails(
            np.repeat(self.best, times), np.concatenate([[0], np.cumsum(sizes)]), chances, self.resolution
        )

    def thresholds(self, p_value: float) -> np.ndarray:
        """The lowest scores with a chance of at most `p_value`, (s,); infinite where there is none."""
        found = np.full(len(self.best), np.inf)
        for s, (start, stop) in enumerate(zip(self.edges[:-1], self.edges[1:], strict=True)):
            count = np.searchsorted(self.chances[start:stop], p_value, "right")
            if count:
                found[s] = self.best[s] - (count - 1) * self.resolution
        return found

    def p_values(self, tables: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The chance of at least these scores, (n,), of score table `tables[i]` each."""
        deficits = np.floor((self.best[tables] - scores) / self.resolution + 1e-6)
        deficits = np.maximum(deficits, -1).astype(np.int64)
        sizes = np.diff(self.edges)[tables]
        return np.where(deficits < 0, 0.0, self.chances[self.edges[tables] + np.clip(deficits, 0, sizes - 1)])


def tails(
    weights: Sequence[np.ndarray], backgrounds: np.ndarray, *, p_value: float, resolution: float = RESOLUTION
) -> Tails:
    """The chances of the scores of each table, at least down to the first with more than `p_value`.

    Args:
        weights: For each table (4, w) float64, multiples of `resolution`.
        backgrounds: (s, 4) float64: shares of the letters.
        p_value: 1 or more for all scores.
        resolution: Of the grid.
    """
    grid = [np.round(each / resolution).astype(np.int64) for each in weights]
    deficits = [each.max(0) - each for each in grid]
    whole = np.array([each.max(0).sum() for each in deficits])  # the deficit of the worst word
    best = np.array([each.max(0).sum() for each in grid]) * resolution
    found: list[np.ndarray] = [np.zeros(0)] * len(grid)
    left, limit = np.arange(len(grid)), _FIRST
    while len(left):
        step = max(1, _MOST // (limit + 1))
        for first in range(0, len(left), step):
            some = left[first : first + step]
            for s, row in zip(some, _rows(deficits, backgrounds, some, limit), strict=True):
                found[s] = row[: min(limit, whole[s]) + 1]
        left = np.array([s for s in left if limit < whole[s] and found[s][-1] <= p_value], np.int64)
        limit *= 2
    cut = [row[: np.searchsorted(row, p_value, "right") + 1] for row in found]
    edges = np.concatenate([[0], np.cumsum([len(row) for row in cut])])
    return Tails(best, edges, np.minimum(np.concatenate(cut), 1.0), resolution)


def _rows(deficits: list[np.ndarray], backgrounds: np.ndarray, some: np.ndarray, limit: int) -> np.ndarray:
    from biolayers.kernels.numba.motif_scores import tails

    widths = np.array([deficits[s].shape[1] for s in some])
    padded = np.zeros((len(some), 4, widths.max()), np.int64)
    for i, s in enumerate(some):
        padded[i, :, : widths[i]] = deficits[s]
    out = np.empty((len(some), limit + 1))
    parallel(tails, len(some), padded, widths, np.ascontiguousarray(backgrounds[some]), out, grain=8)
    return out


def p_value_of(motif: Motif, scores: float | np.ndarray, *, strand: str = "+") -> np.ndarray:
    """The chance that a random site of the motif's background scores at least as much, same shape.

    Args:
        motif: Whose scores.
        scores: In bits, any shape.
        strand: "+", or "-" for sites that are read as their reverse complement.

    Example:
        >>> float(p_value_of(Motif("AC"), Motif("AC").log_odds().max(0).sum()))
        0.0625
    """
    table = _whole(motif, strand)
    flat = np.atleast_1d(np.asarray(scores, np.float64)).ravel()
    return table.p_values(np.zeros(len(flat), np.int64), flat).reshape(np.shape(scores))


def score_of(motif: Motif, p_value: float, *, strand: str = "+") -> float:
    """The lowest score, in bits, whose p-value is at most `p_value`; infinite where there is none.

    Example:
        >>> score_of(Motif("ACGT"), 1e-4), round(score_of(Motif("ACGTACGT"), 1e-4), 2)
        (inf, 6.32)
    """
    check_p_value(p_value)
    return float(_whole(motif, strand).thresholds(p_value)[0])


def check_p_value(p_value: float) -> None:
    """Refuse what is no chance."""
    if not 0 < p_value <= 1:
        raise MotifError(f"p_value: expected a number above 0 and up to 1, received {p_value!r}")


def _whole(motif: Motif, strand: str) -> Tails:
    if strand not in ("+", "-"):
        raise MotifError(f"strand: expected '+' or '-', received {strand!r}")
    background = np.array([motif.background[:: 1 if strand == "+" else -1]])
    return tails([motif.log_odds()], background, p_value=2.0)
