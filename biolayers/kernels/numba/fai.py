"""Read and write the text of a samtools index, and gather spans of a file, for files with very many records.

A Python loop over the records would take ten times as long as the scan of the file.
"""

import numpy as np
from numba import njit

TAB, NEWLINE, ZERO = 9, 10, 48
_DIGITS = 19  # of the largest int64
_LARGEST = 2**62  # no file is as long


@njit(nogil=True, cache=True)
def parse(text):
    """The rows: numbers (4, n) int64, names one after the other, their edges (n + 1,), and if sound."""
    rows = 0
    for k in range(text.shape[0]):
        rows += text[k] == NEWLINE
    if text.shape[0] and text[text.shape[0] - 1] != NEWLINE:
        rows += 1
    numbers = np.zeros((4, rows), np.int64)
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
        for j in range(4):
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
def write(data, columns):
    """The text of an index from the columns of `scan`, without the empty records that samtools leaves out."""
    kept = 0
    size = 0
    for i in range(columns.shape[1]):
        if columns[6, i] > 0:
            kept += 1
            size += columns[2, i] - columns[1, i]
    text = np.empty(size + kept * (4 * (_DIGITS + 1) + 1), np.uint8)
    at = 0
    for i in range(columns.shape[1]):
        if columns[6, i] == 0:
            continue
        for k in range(columns[1, i], columns[2, i]):
            text[at] = data[k]
            at += 1
        for j in range(3, 7):
            text[at] = TAB
            at = _write_number(text, at + 1, columns[j, i])
        text[at] = NEWLINE
        at += 1
    return text[:at]


@njit(nogil=True, cache=True)
def _write_number(text, at, number):
    digits = 1
    rest = number // 10
    while rest:
        digits += 1
        rest //= 10
    for k in range(digits):
        text[at + digits - 1 - k] = ZERO + number % 10
        number //= 10
    return at + digits


@njit(nogil=True, cache=True)
def gather(data, starts, stops):
    """The spans of `data`, each followed by a newline."""
    size = starts.shape[0]
    for i in range(starts.shape[0]):
        size += stops[i] - starts[i]
    text = np.empty(size, np.uint8)
    at = 0
    for i in range(starts.shape[0]):
        for k in range(starts[i], stops[i]):
            text[at] = data[k]
            at += 1
        text[at] = NEWLINE
        at += 1
    return text
