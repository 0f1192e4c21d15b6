"""Whether names of very many records occur twice."""

import numpy as np
from numba import njit

from shared.simd import prefetch

_NEWLINE = 10
_AHEAD = 32  # names whose places in the table are asked for before they are looked at


@njit(nogil=True, cache=True)
def may_repeat(text, count):
    """Whether two of `count` names, a line each, have one hash; different names almost never do.

    The hashes are kept in a table with open addressing.
    """
    size = 16
    while size < 2 * count:
        size *= 2
    table = np.zeros(size, np.uint64)
    keys = np.empty(_AHEAD, np.uint64)
    at = 0
    for first in range(0, count, _AHEAD):
        block = min(_AHEAD, count - first)
        for k in range(block):
            keys[k], at = _hash(text, at)
            prefetch(table, _place(keys[k], size))
        for k in range(block):
            place = _place(keys[k], size)
            while table[place] != 0:
                if table[place] == keys[k]:
                    return True
                place = (place + 1) & (size - 1)
            table[place] = keys[k]
    return False


@njit(nogil=True, cache=True)
def _hash(text, at):
    """The hash of Fowler, Noll and Vo (1a, 64 bits) of a name, mixed, and where the next name begins."""
    key = np.uint64(14695981039346656037)
    while text[at] != _NEWLINE:
        key = (key ^ np.uint64(text[at])) * np.uint64(1099511628211)
        at += 1
    key = (key ^ (key >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)  # the last letters reach all bits
    return (key ^ (key >> np.uint64(29))) | np.uint64(1), at + 1  # 0 is an empty place


@njit(nogil=True, cache=True)
def _place(key, size):
    return np.int64((key >> np.uint64(1)) & np.uint64(size - 1))
