"""Shots drawn from exact probabilities, for all samples of a batch at once."""

from typing import NamedTuple

import numpy as np


class Shots(NamedTuple):
    """What was drawn for a basis in `count` shots.

    `counts` (b, 2, ..., 2) has the outcomes of the basis' wires, `bits` (b, count, wires) the single shots,
    if they were asked for.
    """

    wires: tuple
    count: int
    counts: np.ndarray
    bits: np.ndarray | None

    def seen(self, wires: tuple) -> np.ndarray:
        """(b, 2^k): how often each outcome of these wires was seen."""
        axes = [1 + self.wires.index(wire) for wire in wires]
        others = tuple(i for i in range(1, self.counts.ndim) if i not in axes)
        order = sorted(range(len(axes)), key=lambda i: axes[i])
        summed = self.counts.sum(axis=others)
        moved = summed.transpose(0, *(1 + order.index(i) for i in range(len(axes))))
        return moved.reshape(len(moved), -1)

    def mean(self, wires: tuple, values: np.ndarray) -> np.ndarray:
        """(b,): the mean of the values of outcomes; nan without a shot."""
        with np.errstate(invalid="ignore"):
            return self.seen(wires) @ values / np.float64(self.count)


def draw(wires: tuple, probabilities: np.ndarray, count: int, rng, *, single: bool) -> Shots:
    """Draws for one basis; `single`: also the single shots, in random order."""
    p = np.clip(np.nan_to_num(probabilities), 0.0, None)  # (b, 2^k), nan where nothing survives postselection
    p = p / np.maximum(p.sum(-1, keepdims=True), np.finfo(float).tiny)
    rows, size = p.shape
    bits = None
    if single or size > count:
        numbers = _numbers(p, count, rng)  # (b, count)
        offsets = size * np.arange(rows)[:, None]
        counts = np.bincount((numbers + offsets).ravel(), minlength=rows * size).reshape(rows, size)
        if single:
            bits = numbers[..., None] >> np.arange(len(wires))[::-1] & 1
    else:
        counts = rng.multinomial(count, p)
    return Shots(wires, count, counts.reshape(rows, *(2,) * len(wires)), bits)


def _numbers(p: np.ndarray, count: int, rng) -> np.ndarray:
    """(b, count) outcomes, by inverting the distribution function of all rows at once."""
    rows, size = p.shape
    reached = np.cumsum(p, -1)
    reached[:, -1] = 1.0
    at = np.arange(rows)[:, None]
    found = np.searchsorted((reached + at).ravel(), (rng.random((rows, count)) + at).ravel(), side="right")
    found = found.reshape(rows, count) - at * size
    return np.minimum(found, size - 1)
