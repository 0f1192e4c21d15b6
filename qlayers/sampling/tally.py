"""Single shots counted, as dicts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

_DIGITS = 12  # to which values of an observable are told apart


def tally(shots: Tensor, values: Sequence[float] | None = None, *, all_outcomes: bool = False) -> list[dict]:
    """How often each outcome was seen.

    Args:
        shots: (b, count, k) bits, or (b, count) values of an observable.
        values: all values that the observable has; None for bits.
        all_outcomes: whether outcomes that were not seen are listed, too.

    Returns:
        For each row a dict from outcomes, texts of k bits or floats, to ints; smallest first.

    Example:
        >>> import torch
        >>> tally(torch.tensor([[[0, 1], [1, 1], [0, 1]]]))
        [{'01': 2, '11': 1}]
        >>> tally(torch.tensor([[1.0, 1.0]]), (-1.0, 1.0), all_outcomes=True)
        [{-1.0: 0, 1.0: 2}]
    """
    numbers = shots.detach().cpu().numpy()
    if values is None:
        width = numbers.shape[-1]
        numbers = numbers.astype(np.int64) @ (1 << np.arange(width, dtype=np.int64)[::-1])
        names = [format(number, f"0{width}b") for number in range(2**width)] if all_outcomes else []
        return [_counted(row, names, lambda number: format(int(number), f"0{width}b")) for row in numbers]
    names = sorted({_rounded(value) for value in values}) if all_outcomes else []
    return [_counted(row, names, _rounded) for row in np.vectorize(_rounded, otypes=[float])(numbers)]


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _counted(row: np.ndarray, names: Sequence, name) -> dict:
    found = dict.fromkeys(names, 0)
    for value, count in zip(*np.unique(row, return_counts=True), strict=True):
        found[name(value)] = int(count)
    return found


def nested(items: Sequence[Any], shape: Sequence[int]) -> Any:
    """A flat sequence as lists within lists of this shape; the one item itself for the shape ().

    Example:
        >>> nested("abcdef", (2, 3))
        [['a', 'b', 'c'], ['d', 'e', 'f']]
    """
    if not shape:
        return items[0]
    size = len(items) // shape[0] if shape[0] else 0
    return [nested(items[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]
