"""Rows of numbers to lines of channels and back: squares transposed in registers.

Number t of a signal stands at line t of `data`, so that its even numbers are the real and its odd numbers the
imaginary parts of the points that are transformed.
"""

import numpy as np
from numba import njit

from biolayers.kernels.numba.simd import LINE_BYTES, load, store, transpose


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def lanes_in(array):
    """How many numbers of the array a line holds."""
    return LINE_BYTES // array.itemsize


@njit(nogil=True, cache=True)
def take_rows(rows, stride, first, count, length, data, end):
    """Put `length` numbers of rows first .. first + count - 1 into lines, zeros behind, to line `end`.

    Row i begins at element `i * stride` of the flat array `rows`; lanes without a row get zeros.
    """
    lanes = lanes_in(rows)
    if count == lanes and length >= lanes:
        for t in range(0, length, lanes):
            at = min(t, length - lanes)  # the last square may repeat lines
            store(data, at * lanes, lanes, transpose(load(rows, first * stride + at, stride)))
    else:
        data[: length * lanes] = 0
        for i in range(count):
            for t in range(length):
                data[t * lanes + i] = rows[(first + i) * stride + t]
    data[length * lanes : end * lanes] = 0


@njit(nogil=True, cache=True)
def put_rows(data, line, rows, stride, first, count, length):
    """Write `length` lines from `line` on as the beginnings of rows first .. first + count - 1."""
    lanes = lanes_in(rows)
    if count == lanes and length >= lanes:
        for t in range(0, length, lanes):
            at = min(t, length - lanes)
            store(rows, first * stride + at, stride, transpose(load(data, (line + at) * lanes, lanes)))
    else:
        for i in range(count):
            for t in range(length):
                rows[(first + i) * stride + t] = data[(line + t) * lanes + i]


@njit(nogil=True, cache=True)
def aligned(room):
    """Memory that begins with a whole line."""
    lanes = lanes_in(room)
    return room[-(room.ctypes.data // room.itemsize) % lanes :]


def room_for(lines: int, dtype: np.dtype) -> np.ndarray:
    """Flat memory for so many lines, after `aligned`."""
    return np.empty((lines + 1) * (LINE_BYTES // dtype.itemsize), dtype)
