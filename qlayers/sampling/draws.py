"""Shots drawn from exact probabilities, for all rows of a batch at once."""

from typing import NamedTuple

import numpy as np
import torch

from shared.errors import UserError
from shared.threads import parallel

_GRAIN = 40_000  # outcomes or shots that are drawn in some 0.2 ms
_MOST = 2**63 - 1


class Shots(NamedTuple):
    """What was seen in one basis.

    `seen_at` (b, 2, ..., 2) has for each outcome of the basis' wires how often it was seen, or its exact
    probability, and `count` the sum of a row; `numbers` (b, count) has the single shots, if they were asked
    for.
    """

    wires: tuple
    count: float
    seen_at: np.ndarray
    numbers: np.ndarray | None = None

    def seen(self, wires: tuple) -> np.ndarray:
        """(b, 2^k): how often each outcome of these wires was seen."""
        axes = [1 + self.wires.index(wire) for wire in wires]
        others = tuple(i for i in range(1, self.seen_at.ndim) if i not in axes)
        order = sorted(range(len(axes)), key=lambda i: axes[i])
        summed = self.seen_at.sum(axis=others) if others else self.seen_at
        moved = summed.transpose(0, *(1 + order.index(i) for i in range(len(axes))))
        return moved.reshape(len(moved), 2 ** len(axes))

    def mean(self, wires: tuple, values: np.ndarray) -> np.ndarray:
        """(b,): the mean of the values of outcomes; nan without a shot."""
        with np.errstate(invalid="ignore"):
            return self.seen(wires) @ values / np.float64(self.count)

    def bits(self, wires: tuple) -> np.ndarray:
        """(b, count, k): the outcomes of these wires in each shot."""
        last = len(self.wires) - 1
        shifts = np.array([last - self.wires.index(wire) for wire in wires], np.int64)
        return self.numbers[..., None] >> shifts & 1

    def values(self, wires: tuple, values: np.ndarray) -> np.ndarray:
        """(b, count): the value in each shot, of values (2^k,) of the outcomes of these wires."""
        return values[self.bits(wires) @ (1 << np.arange(len(wires), dtype=np.int64)[::-1])]


def draw(
    wires: tuple, probabilities: np.ndarray, count: int, seed: "Seed", *, single: bool, first_row: int = 0
) -> Shots:
    """Draws for one basis; `single`: also the single shots, in random order.

    The other arguments and the errors are those of `counts`, for probabilities (b, 2^k) of k `wires`.
    """
    rows, size = probabilities.shape
    if not single and size <= count:
        found, numbers = counts(probabilities, count, seed, first_row=first_row), None
    else:  # fewer shots than outcomes are drawn one by one
        numbers = outcomes(probabilities, count, seed, first_row=first_row)
        offsets = size * np.arange(rows)[:, None]
        found = np.bincount((numbers + offsets).ravel(), minlength=rows * size)
    return Shots(wires, count, found.reshape(rows, *(2,) * len(wires)), numbers if single else None)


class Seed(NamedTuple):
    """128 random bits; the same seed draws the same shots, whatever the number of threads.

    Example:
        >>> seed = Seed.of(torch.Generator().manual_seed(0))
        >>> seed == Seed.of(torch.Generator().manual_seed(0))
        True
    """

    key: int
    nonce: int

    @classmethod
    def of(cls, generator: torch.Generator | None = None) -> "Seed":
        """The next bits of a generator; of torch's default one, if there is none."""
        device = "cpu" if generator is None else generator.device
        bits = torch.randint(-_MOST - 1, _MOST, (2,), generator=generator, device=device, dtype=torch.int64)
        return cls(*bits.tolist())

    @classmethod
    def of_numpy(cls, rng: np.random.Generator) -> "Seed":
        """The next bits of one of NumPy's generators."""
        return cls(*rng.integers(-_MOST - 1, _MOST, 2).tolist())

    def stream(self, number: int) -> "Seed":
        """Another seed that follows from this one: numbers from 1 on give independent shots."""
        return Seed(self.key, _signed(self.nonce ^ (number * 0x9E3779B97F4A7C15)))


def _signed(value: int) -> int:
    """The low 64 bits of a number, read as a signed one."""
    return (value + 2**63) % 2**64 - 2**63


def counts(probabilities: np.ndarray, shots: int, seed: Seed, *, first_row: int = 0) -> np.ndarray:
    """How often each outcome is seen: a multinomial draw for each row.

    Args:
        probabilities: (b, m) floating; a row need not sum to 1, and numbers below 0 count as 0.
        shots: how many shots a row gets, from 0 on.
        seed: the same seed and row give the same draw.
        first_row: the number of the first row, where a large batch is drawn in several calls.

    Returns:
        (b, m) int64, whose rows sum to `shots`.

    Raises:
        UserError: a row has nan or inf, or no probability above 0.

    Example:
        >>> counts(np.array([[0.0, 1.0], [0.5, 0.5]]), 10, Seed(0, 0)).sum(-1)
        array([10, 10])
    """
    from qlayers.kernels.numba.draws import draw_counts

    return _drawn(draw_counts, probabilities, probabilities.shape[1], shots, seed, first_row)


def outcomes(probabilities: np.ndarray, shots: int, seed: Seed, *, first_row: int = 0) -> np.ndarray:
    """Single shots: (b, shots) int64 numbers of outcomes; the arguments and errors are those of `counts`.

    Example:
        >>> outcomes(np.array([[0.0, 1.0, 0.0]]), 4, Seed(0, 0))
        array([[1, 1, 1, 1]])
    """
    from qlayers.kernels.numba.draws import draw_outcomes

    return _drawn(draw_outcomes, probabilities, shots, shots, seed, first_row)


def _drawn(kernel, probabilities: np.ndarray, width: int, shots: int, seed: Seed, first_row: int):
    rows, size = probabilities.shape
    table = np.ascontiguousarray(probabilities)
    if not size and rows and shots:
        raise UserError("Shots are drawn from probabilities of at least one outcome, there are none.")
    out = np.empty((rows, width), np.int64)
    grain = max(1, _GRAIN // max(width, size, 1))
    parallel(kernel, rows, table, shots, first_row, *seed, out, grain=grain)
    if width and (out[:, 0] < 0).any():
        row = int(np.argmax(out[:, 0] < 0))
        raise UserError(
            f"Shots cannot be drawn in row {row}: expected finite probabilities, one of them above 0, "
            f"received {_shortened(table[row])}; look for nan or inf in the inputs and weights."
        )
    return out


def _shortened(numbers: np.ndarray) -> str:
    text = ", ".join(f"{number:.3g}" for number in numbers[:4])
    return f"[{text}{', ...' if len(numbers) > 4 else ''}]"
