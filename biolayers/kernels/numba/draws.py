"""Random numbers by counter: the n-th number of a key needs no other, so results know no threads or order.

The mixing function is SplitMix64's (Steele, Lea & Flood, OOPSLA 2014, doi:10.1145/2660193.2660195); whole
numbers below a bound are drawn without bias by Lemire's method (ACM TOMACS 29, 2019, doi:10.1145/3230636).
`biolayers.euler` has the same numbers in plain Python.
"""

import numpy as np
from numba import njit

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # the odd number next to 2**64 / golden ratio
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ONE, _LOW = np.uint64(1), np.uint64(0xFFFFFFFF)
_27, _30, _31, _32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@njit(nogil=True, inline="always")
def mix(value):
    """A bijection of 64-bit numbers that leaves no pattern."""
    value = (value ^ (value >> _30)) * _FIRST
    value = (value ^ (value >> _27)) * _SECOND
    return value ^ (value >> _31)


@njit(nogil=True, inline="always")
def key_of(seed, row, copy, start):
    """The key of the stretch that begins at `start` in a copy of a row; all uint64."""
    key = mix(seed + GAMMA) + row * GAMMA
    key = mix(key) + copy * GAMMA
    return mix(mix(key) + start * GAMMA)


@njit(nogil=True, inline="always")
def below(bound, key, count):
    """A number from 0 to `bound` - 1 (1 <= bound < 2**32) and how many numbers of the key are used now."""
    bound = np.uint64(bound)
    count += _ONE
    product = (mix(key + count * GAMMA) >> _32) * bound
    if (product & _LOW) < bound:
        threshold = (_LOW - bound + _ONE) % bound
        while (product & _LOW) < threshold:
            count += _ONE
            product = (mix(key + count * GAMMA) >> _32) * bound
    return np.int64(product >> _32), count
