"""Copy spans of a text out of the blocks that it is held in."""

import numpy as np
from numba import njit

from biolayers.kernels.numba import bytes as b
from biolayers.kernels.numba.bytes import BLOCK

_SLOT = 1 << 16  # bytes from one slot to the next


@njit(nogil=True, cache=True)
def union(first, last, count):
    """The blocks of all spans, rising: span i touches `first[i]` to `last[i]`, of `count` blocks."""
    touched = np.zeros(count, np.bool_)
    for i in range(first.shape[0]):
        for k in range(first[i], last[i]):
            touched[k] = True
    return np.flatnonzero(touched)


@njit(nogil=True, cache=True)
def copy(slots, slot_of, edges, starts, stops, first, last, places, out):
    """Copy what blocks `first[i]` to `last[i]` have of each span i to `places[i]` of `out`.

    Args:
        slots: (bytes,) uint8: the cache; block k begins at `slot_of[k]` times 65,536.
        slot_of: (blocks,) int64.
        edges: (blocks + 1,) int64: where each block begins in the text.
        starts: (n,) int64: of each span in the text.
        stops: (n,) int64.
        first: (n,) int64.
        last: (n,) int64.
        places: (n,) int64 or longer.
        out: (bytes,) uint8.
    """
    for i in range(starts.shape[0]):
        for k in range(first[i], last[i]):
            begin, end = max(starts[i], edges[k]), min(stops[i], edges[k + 1])
            at = slot_of[k] * _SLOT + begin - edges[k]
            to = places[i] + begin - starts[i]
            whole = (end - begin) // BLOCK * BLOCK
            for j in range(0, whole, BLOCK):
                b.store(out, to + j, b.load(slots, at + j))
            for j in range(whole, end - begin):
                out[to + j] = slots[at + j]
