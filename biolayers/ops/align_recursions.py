"""The recursions of alignment with affine gaps (Gotoh 1982), in plain PyTorch and in logarithms.

A path through a pair is a chain of states: `pair` (a letter of each sequence), `down` (a letter of the first
one facing a gap) and `right` (a letter of the second one facing a gap). Cell (i, j) is the state after i and
j letters. Within a row, a gap is a sum over where it began: a prefix sum, taken by doubling.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NOTHING = -1e30  # the logarithm of a weight that does not count; finite, so that derivatives stay numbers


class States(NamedTuple):
    """One log-weight for each state of each cell, (b, n + 1, m + 1) each."""

    pair: Tensor
    down: Tensor
    right: Tensor


class Model(NamedTuple):
    """A batch of pairs in units of the temperature."""

    scores: Tensor  # (b, n, m), `NOTHING` beyond the lengths
    opening: Tensor  # (b, 1)
    extension: Tensor  # (b, 1)
    ends: Tensor  # (b, n + 1, m + 1): 0 where a path may end, else `NOTHING`
    local: bool


def model(
    similarity: Tensor, lengths: Tensor, gap_open: Tensor, gap_extend: Tensor, temperature: float, mode: str
) -> Model:
    """The arguments of `biolayers::align` as the recursions want them."""
    rows, columns = (torch.arange(size + 1, device=lengths.device) for size in similarity.shape[1:])
    down, right = rows[:, None] - lengths[:, 0, None, None], columns - lengths[:, 1, None, None]
    inside = (down <= 0) & (right <= 0)
    ends = inside & (rows[:, None] > 0) & (columns > 0) if mode == "local" else (down == 0) & (right == 0)
    zero = similarity.new_zeros(())
    scores = torch.where(inside[:, 1:, 1:], (similarity / temperature).clamp(min=NOTHING), zero + NOTHING)
    opening, extension = gap_open[:, None] / temperature, gap_extend[:, None] / temperature
    return Model(scores, opening, extension, torch.where(ends, zero, zero + NOTHING), mode == "local")


def before(given: Model) -> States:
    """The weight of all ways to each state: M, X and Y of Gotoh."""
    scores, opening, extension, _, local = given
    b, n, m = scores.shape
    column = torch.arange(m + 1, dtype=scores.dtype, device=scores.device)
    none = scores.new_full((b, m + 1), NOTHING)

    def gaps(start: Tensor) -> Tensor:  # right[j]: the log-sum over k < j of start[k] and j - k letters
        return torch.cat([none[:, :1], runs(start, extension)[:, :-1] + opening], 1)

    pair = none if local else torch.where(column == 0, torch.zeros_like(none), none)
    rows = [(pair, none, gaps(pair))]
    for i in range(n):
        pair, down, right = rows[-1]
        ways = either(pair, down, right, torch.zeros_like(none) if local else none)
        down = either(pair + opening, right + opening, down + extension)
        pair = torch.cat([none[:, :1], scores[:, i] + ways[:, :-1]], 1)
        rows.append((pair, down, gaps(either(pair, down))))
    return States(*(torch.stack(state, 1) for state in zip(*rows, strict=True)))


def after(given: Model) -> States:
    """The weight of all ways on from each state."""
    scores, opening, extension, ends, local = given
    b, n, m = scores.shape
    none = scores.new_full((b, m + 1), NOTHING)
    pair = down = none
    rows = []
    for i in range(n, -1, -1):
        on = torch.cat([scores[:, i] + pair[:, 1:], none[:, :1]], 1) if i < n else none
        out = none if local else ends[:, i]
        right = runs(either(on, out, down + opening).flip(1), extension).flip(1)
        beside = torch.cat([right[:, 1:], none[:, :1]], 1) + opening
        pair, down = (
            either(on, ends[:, i], down + opening, beside),
            either(on, out, down + extension, beside),
        )
        rows.append((pair, down, right))
    return States(*(torch.stack(state[::-1], 1) for state in zip(*rows, strict=True)))


def total(given: Model, ways: States) -> Tensor:
    """The log-weight of all paths, (b,); in local mode the empty one counts 1."""
    empty = given.ends.new_full((given.ends.shape[0], 1), 0.0 if given.local else NOTHING)
    states = (ways.pair,) if given.local else ways
    weights = [(state + given.ends).flatten(1) for state in states]
    return log_sum(torch.cat([empty, *weights], 1), 1)


def either(*terms: Tensor) -> Tensor:
    """The log-sum of exp of these."""
    return log_sum(torch.stack(terms), 0)


def log_sum(terms: Tensor, axis: int) -> Tensor:
    """The log-sum of exp along an axis.

    `torch.logaddexp` has no second derivative where a term is `NOTHING`, and `torch.logsumexp` none through
    its forward mode.
    """
    top = terms.detach().amax(axis, keepdim=True)  # any constant gives the same value and derivatives
    return ((terms - top).exp().sum(axis, keepdim=True).log() + top).squeeze(axis)


def runs(start: Tensor, extension: Tensor) -> Tensor:
    """At j the log-sum over k <= j of start[k] + (j - k) extension, for start (b, l)."""
    by = 1
    while by < start.shape[1]:
        moved = F.pad(start[:, :-by], (by, 0), value=NOTHING) + by * extension
        start, by = either(start, moved), 2 * by
    return start
