"""Find the ends of lines and the bytes that are no letters, 64 bytes at a time.

Bytes: 10 newline, 13 carriage return, 32 space, 62 `>`, 64 `@`; letters are the printable bytes 33..126.
"""

import numpy as np
from numba import njit

from biolayers.kernels.numba import bytes as b
from biolayers.kernels.numba.bytes import BLOCK

NEWLINE, RETURN, GREATER = np.uint8(10), np.uint8(13), np.uint8(62)


@njit(nogil=True, cache=True)
def is_blank(byte):
    """Whether a byte is white space."""
    return byte == 32 or (byte >= 9 and byte <= 13)


@njit(nogil=True, cache=True)
def first_stray(data, at, stop):
    """The first byte from `at` on that is no letter, or `stop`."""
    while at + BLOCK <= stop:
        found = b.strays(b.load(data, at))
        if found:
            return at + b.lowest(found)
        at += BLOCK
    while at < stop and np.uint8(data[at] - np.uint8(33)) <= 93:
        at += 1
    return at


@njit(nogil=True, cache=True)
def line_end(data, at, stop):
    """The first newline from `at` on, or `stop`."""
    while at + BLOCK <= stop:
        found = b.where(b.load(data, at), NEWLINE)
        if found:
            return at + b.lowest(found)
        at += BLOCK
    while at < stop and data[at] != NEWLINE:
        at += 1
    return at


@njit(nogil=True, cache=True)
def next_header(data, at, stop):
    """The first `>` from `at` on that begins a line, or `stop`."""
    if at == 0 and stop > 0 and data[0] == GREATER:
        return 0
    newline = line_end(data, max(at - 1, 0), stop)
    while newline + 1 < stop:
        if data[newline + 1] == GREATER:
            return newline + 1
        newline = line_end(data, newline + 1, stop)
    return stop


@njit(nogil=True, cache=True)
def last_after(data, first, byte):
    """The place after the last newline that is followed by `byte` (0: by anything), or `first` if none is."""
    for at in range(data.shape[0] - 1, first - 1, -1):
        if data[at] == NEWLINE and (byte == 0 or (at + 1 < data.shape[0] and data[at + 1] == byte)):
            return at + 1
    return first
