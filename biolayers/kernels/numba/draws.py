"""Random numbers by counter: the n-th number of a key needs no other, so results know no threads or order.

They are SplitMix64's (`shared.splitmix`); whole numbers below a bound are drawn without bias by Lemire's
method (ACM TOMACS 29, 2019, doi:10.1145/3230636).
`biolayers.euler` has the same numbers in plain Python.
"""

import numpy as np
from numba import njit

from shared import splitmix
from shared.splitmix import GAMMA

_ONE, _LOW, _32 = np.uint64(1), np.uint64(0xFFFFFFFF), np.uint64(32)

mix = njit(nogil=True, inline="always")(splitmix.mix)


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
