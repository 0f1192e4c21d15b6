"""Step through the blocks of a bgzip file by their headers."""

import numpy as np
from numba import njit

_LEAST = 26  # bytes of a block without content


@njit(nogil=True, cache=True)
def walk(data):
    """Where each block begins, and the file ends; how much text each has; and the byte where it stopped."""
    size = data.shape[0]
    places = np.empty(1024, np.int64)
    sizes = np.empty(1024, np.int64)
    n, at = 0, 0
    while at < size:
        end = _block_end(data, at)
        if end < 0:
            break
        if n + 1 == places.shape[0]:
            places, sizes = _grown(places), _grown(sizes)
        places[n] = at
        sizes[n] = _number(data, end - 4, 4)
        if sizes[n] > 1 << 16:
            break
        n += 1
        at = end
    places[n] = at
    return places[: n + 1].copy(), sizes[:n].copy(), at


@njit(nogil=True, cache=True)
def _block_end(data, at):
    """The byte after the block at `at`, or -1 if there is none that is whole."""
    if at + _LEAST > data.shape[0] or data[at] != 31 or data[at + 1] != 139 or data[at + 2] != 8:
        return -1
    if not data[at + 3] & 4:
        return -1
    field, fields_end = at + 12, at + 12 + _number(data, at + 10, 2)
    while field + 6 <= fields_end and field + 6 <= data.shape[0]:
        length = _number(data, field + 2, 2)
        if data[field] == 66 and data[field + 1] == 67 and length == 2:
            end = at + _number(data, field + 4, 2) + 1
            return end if fields_end + 8 <= end <= data.shape[0] else -1
        field += 4 + length
    return -1


@njit(nogil=True, cache=True)
def _number(data, at, count):
    total = np.int64(0)
    for k in range(count):
        total |= np.int64(data[at + k]) << (8 * k)
    return total


@njit(nogil=True, cache=True)
def _grown(table):
    wider = np.empty(2 * table.shape[0], np.int64)
    wider[: table.shape[0]] = table
    return wider
