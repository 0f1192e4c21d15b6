"""Random numbers by counter: the mixing function of SplitMix64.

The n-th number of a key is mix(key + n GAMMA) and needs no other, so that results know no threads or order
(Steele, Lea & Flood, OOPSLA 2014, doi:10.1145/2660193.2660195). The function is plain Python: it works on
arrays of uint64 as it stands, and kernels compile it.
"""

import numpy as np

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # the odd number next to 2^64 / golden ratio
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31 = np.uint64(27), np.uint64(30), np.uint64(31)


def mix(value):
    """A bijection of 64-bit numbers that leaves no pattern: uint64, a number or an array of any shape.

    >>> mix(np.array([1], np.uint64) * GAMMA)  # the first number of SplitMix64 with the seed 0
    array([16294208416658607535], dtype=uint64)
    """
    value = (value ^ (value >> _30)) * _FIRST
    value = (value ^ (value >> _27)) * _SECOND
    return value ^ (value >> _31)
