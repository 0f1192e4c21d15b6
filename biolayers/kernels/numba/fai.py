"""Read and write the text of a samtools index, and gather spans of a file, for files with very many records.

A Python loop over the records would take ten times as long as the scan of the file.
"""

import numpy as np
from numba import njit

from biolayers.kernels.numba import bytes as b
from biolayers.kernels.numba.bytes import BLOCK

TAB, NEWLINE, ZERO = 9, 10, 48
_LARGEST = 2**62  # no file is as long


@njit(nogil=True, cache=True)
def parse(text, columns):
    """The rows: numbers (columns, n) int64, names one after the other, their edges (n + 1,), and if sound."""
    rows = 0
    for k in range(text.shape[0]):
        rows += text[k] == NEWLINE
    if text.shape[0] and text[text.shape[0] - 1] != NEWLINE:
        rows += 1
    numbers = np.zeros((columns, rows), np.int64)
    edges = np.zeros(rows + 1, np.int64)
    names = np.empty(text.shape[0], np.uint8)
    at = 0
    used = 0
    for i in range(rows):
        while at < text.shape[0] and text[at] != TAB and text[at] != NEWLINE:
            names[used] = text[at]
            used += 1
            at += 1
        edges[i + 1] = used
        for j in range(columns):
            if at >= text.shape[0] or text[at] != TAB:
                return numbers, names[:used], edges, False
            at += 1
            first = at
            while at < text.shape[0] and text[at] >= ZERO and text[at] < ZERO + 10:
                if numbers[j, i] > _LARGEST // 10:
                    return numbers, names[:used], edges, False
                numbers[j, i] = 10 * numbers[j, i] + text[at] - ZERO
                at += 1
            if at == first:
                return numbers, names[:used], edges, False
        if at < text.shape[0] and text[at] == 13:
            at += 1
        if at < text.shape[0] and text[at] != NEWLINE:
            return numbers, names[:used], edges, False
        at += 1
    return numbers, names[:used], edges, True


@njit(nogil=True, cache=True)
def places(names, numbers):
    """Where some of the names begin: (n,) int64; their numbers rise, the last may be one too large."""
    found = np.zeros(numbers.shape[0], np.int64)
    at = 0
    number = 0
    for i in range(numbers.shape[0]):
        while number < numbers[i]:
            number += names[at] == NEWLINE
            at += 1
        found[i] = at
    return found


@njit(nogil=True, cache=True)
def write(names, held, columns):
    """The text of an index from names, a line each, and the numbers (columns, n) of those that are `held`."""
    count = columns.shape[0]
    widest = 0
    for j in range(count):
        widest += 1 + _digits(columns[j].max() if columns.shape[1] else 0)
    text = np.empty(names.shape[0] + columns.shape[1] * widest, np.uint8)
    at = 0
    source = 0
    row = 0
    spots = np.zeros((count, 2), np.int64)  # where the last number of each column stands: many come again
    for i in range(held.shape[0]):
        first = at
        while names[source] != NEWLINE:
            text[at] = names[source]
            at += 1
            source += 1
        source += 1
        if not held[i]:
            at = first
            continue
        for j in range(count):
            text[at] = TAB
            if row and columns[j, row] == columns[j, row - 1]:
                for k in range(spots[j, 0], spots[j, 1]):
                    at += 1
                    text[at] = text[k]
                at += 1
            else:
                spots[j, 0] = at + 1
                at = _write_number(text, at + 1, columns[j, row])
                spots[j, 1] = at
        text[at] = NEWLINE
        at += 1
        row += 1
    return text[:at]


@njit(nogil=True, cache=True)
def _write_number(text, at, number):
    end = at + _digits(number)
    rest = np.uint64(number)
    for k in range(end - 1, at - 1, -1):
        tenth = rest // np.uint64(10)
        text[k] = ZERO + rest - np.uint64(10) * tenth
        rest = tenth
    return end


@njit(nogil=True, cache=True)
def _digits(number):
    digits = 1
    limit = 10
    while number >= limit and digits < 19:
        digits += 1
        limit *= 10
    return digits


@njit(nogil=True, cache=True)
def gather(data, starts, stops):
    """The spans of `data`, each followed by a newline."""
    size = starts.shape[0]
    for i in range(starts.shape[0]):
        size += stops[i] - starts[i]
    text = np.empty(size + BLOCK, np.uint8)
    at = 0
    for i in range(starts.shape[0]):
        count = stops[i] - starts[i]
        if stops[i] + BLOCK <= data.shape[0]:  # what is copied too far is overwritten
            for k in range(0, count, BLOCK):
                b.store(text, at + k, b.load(data, starts[i] + k))
        else:
            for k in range(count):
                text[at + k] = data[starts[i] + k]
        text[at + count] = NEWLINE
        at += count + 1
    return text[:at]
