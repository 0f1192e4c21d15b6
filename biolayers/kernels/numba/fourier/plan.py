"""What a transform of one size needs to know: its stages, their roots of unity, which frequencies pair.

A real signal of n = 2 m numbers is transformed as m complex ones, the even and the odd numbers being the real
and the imaginary parts. m is a power of two, or three or five times one. Each stage cuts every block into
`radix` smaller ones (decimation in frequency); the frequencies then stand in the order of their reversed
digits, which the way back undoes, so nobody sorts them.
"""

import functools
from typing import NamedTuple

import numpy as np

_FACTORS = (1, 3, 5)


class Plan(NamedTuple):
    """The tables of one size, as the compiled functions take them."""

    stages: np.ndarray  # (count, 3) int64: radix, points between the inputs of a butterfly, place in `roots`
    roots: np.ndarray  # flat: re, im of the factors of each butterfly with any
    partners: np.ndarray  # (pairs, 2) int64: where frequencies k and m - k stand, the first not behind
    turns: np.ndarray  # (pairs, 2): re, im of exp(-2 pi i k / m)


def half_size(n: int) -> int:
    """The least m that there is a plan for, with 2 m >= n.

    Example:
        >>> [half_size(n) for n in (1, 7, 11, 1999, 2050)]
        [1, 4, 6, 1024, 1280]
    """
    half = -(-n // 2)
    return min(factor << (-(-half // factor) - 1).bit_length() for factor in _FACTORS)


@functools.lru_cache(maxsize=16)
def plan_of(m: int, dtype: np.dtype) -> Plan:
    """The tables for m complex points in float32 or float64."""
    stages, roots, spot, size = [], [np.empty(0)], 0, m
    for radix in _radices(m):
        step = size // radix
        stages.append((radix, step, spot))
        if not is_bare(radix, step):
            powers = np.multiply.outer(np.arange(step), np.arange(1, radix))  # (step, radix - 1)
            roots.append(_roots(powers, size).ravel())
            spot += roots[-1].size
        size = step
    order = _order(_radices(m))  # the frequency at each place
    places = np.argsort(order)[-order % m]
    first = np.flatnonzero(np.arange(m) <= places)
    return Plan(
        np.array(stages, np.int64).reshape(-1, 3),
        np.concatenate(roots).astype(dtype),
        np.stack((first, places[first]), 1),
        _roots(order[first], m).astype(dtype),
    )


def is_bare(radix: int, step: int) -> bool:
    """Whether all factors of a stage's butterflies are one: then they are left out."""
    return step == 1 and radix % 2 == 0


def _radices(m: int) -> list[int]:
    """The radix of each stage: an odd one first, then fours; at the end an eight or a two if that is left."""
    odd = m >> ((m & -m).bit_length() - 1)
    twos = (m // odd).bit_length() - 1
    last = {0: 0, 1: min(twos, 3)}[twos % 2]
    return [odd] * (odd > 1) + [4] * ((twos - last) // 2) + [1 << last] * (last > 0)


def _order(radices: list[int]) -> np.ndarray:
    """The frequency that stands at each place after all stages."""
    if not radices:
        return np.zeros(1, np.int64)
    inner = radices[0] * _order(radices[1:])
    return np.concatenate([inner + i for i in range(radices[0])])


def _roots(powers: np.ndarray, size: int) -> np.ndarray:
    """(..., 2): re, im of exp(-2 pi i p / size), exact at quarters of the circle and good to the last bit."""
    quarters = (8 * (powers % size) + size) // (2 * size)  # the nearest one
    angles = (np.pi / 2) * ((4 * (powers % size) - quarters * size) / size)
    turned = (np.cos(angles) - 1j * np.sin(angles)) * np.array([1, -1j, -1, 1j])[quarters % 4]
    return np.stack((turned.real, turned.imag), -1)
