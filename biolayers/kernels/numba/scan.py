"""Find the records of a FASTA file: a full scan, and the walk that checks a stored index against the file.

Bytes: 10 newline, 13 carriage return, 32 space, 62 `>`; letters are the printable bytes 33..126.
Both kernels return one column per fact of a record (see `biolayers.fai.Index`) and where they stopped.
"""

import numpy as np
from numba import njit

# Why a scan stopped; the first fault ends it, and `biolayers.fai` turns it into a message with a line number.
FINE, NO_HEADER, NO_NAME, CARRIAGE_RETURN, CONTROL_BYTE, STRAY_BYTE, TOO_LONG, AFTER_SHORT = range(8)

COLUMNS = 7  # header, name start, name end, length, offset, line bases, line width


@njit(nogil=True, cache=True)
def scan(data):
    """Index every record: (columns (7, n) int64, code, byte where it stopped)."""
    size = data.shape[0]
    columns = np.empty((COLUMNS, 16), np.int64)
    n = 0
    code, at = _next_header(data, 0)
    if code == AFTER_SHORT:
        code = NO_HEADER
    while code == FINE and at < size:
        if n == columns.shape[1]:
            columns = _grown(columns, n)
        code, at = _read_header(data, at, columns, n)
        if code == FINE:
            code, at = _read_sequence(data, at, columns, n)
        if code == FINE:
            n += 1
            code, at = _next_header(data, at)
    return columns[:, :n].copy(), code, at


@njit(nogil=True, cache=True)
def walk(data, stored, names, name_edges):
    """Step from header to header by a stored index; the columns as `scan` gives them, and whether all agreed.

    `stored` (4, n): length, offset, line bases, line width; names one after the other, cut at `name_edges`.
    Empty records, which samtools leaves out of its index, are found on the way.
    """
    size = data.shape[0]
    columns = np.empty((COLUMNS, stored.shape[1] + 16), np.int64)
    n = 0
    used = 0
    code, at = _next_header(data, 0)
    while code == FINE and at < size:
        if n == columns.shape[1]:
            columns = _grown(columns, n)
        code, at = _read_header(data, at, columns, n)
        if code != FINE:
            break
        columns[3, n] = 0
        columns[5, n] = 0
        columns[6, n] = 0
        if used < stored.shape[1] and stored[1, used] == at:
            name = names[name_edges[used] : name_edges[used + 1]]
            if not _same(data[columns[1, n] : columns[2, n]], name) or not _plausible(data, stored[:, used]):
                return columns[:, :n].copy(), False
            columns[3, n] = stored[0, used]
            columns[5, n] = stored[2, used]
            columns[6, n] = stored[3, used]
            at = _end(stored[0, used], at, stored[2, used], stored[3, used])
            used += 1
        n += 1
        code, at = _next_header(data, at)
    return columns[:, :n].copy(), code == FINE and used == stored.shape[1]


@njit(nogil=True, cache=True)
def _grown(columns, n):
    wider = np.empty((COLUMNS, 2 * n), np.int64)
    wider[:, :n] = columns
    return wider


@njit(nogil=True, cache=True)
def _is_blank(byte):
    return byte == 32 or (byte >= 9 and byte <= 13)


@njit(nogil=True, cache=True)
def _next_header(data, at):
    """Past blank lines to the next `>` at the start of a line, or to the end of the file."""
    size = data.shape[0]
    while at < size and _is_blank(data[at]):
        at += 1
    if at == size or (data[at] == 62 and (at == 0 or data[at - 1] == 10)):
        return FINE, at
    return AFTER_SHORT, at


@njit(nogil=True, cache=True)
def _read_header(data, at, columns, n):
    """From `>` to the first byte of the next line; the name ends at the first blank, as in samtools."""
    size = data.shape[0]
    columns[0, n] = at
    at += 1
    while at < size and data[at] != 10 and _is_blank(data[at]):
        at += 1
    columns[1, n] = at
    while at < size and not _is_blank(data[at]):
        at += 1
    columns[2, n] = at
    if columns[1, n] == at:
        return NO_NAME, columns[0, n]
    while at < size and data[at] != 10:
        at += 1
    for k in range(columns[0, n], at):
        byte = data[k]
        if byte == 13 and k + 1 != at:
            return CARRIAGE_RETURN, k
        if byte == 127 or (byte < 32 and not _is_blank(byte)):
            return CONTROL_BYTE, k
    if at == size and data[size - 1] == 13:
        return CARRIAGE_RETURN, size - 1
    at = min(at + 1, size)
    columns[4, n] = at
    return FINE, at


@njit(nogil=True, cache=True)
def _read_sequence(data, at, columns, n):
    """The lines of one record: all alike but the last, which may be shorter."""
    size = data.shape[0]
    length = 0
    bases = 0
    width = 0
    while at < size and data[at] != 62 and data[at] != 10:
        if bases > 0 and at + width <= size and _like_first(data, at, columns[4, n], bases, width):
            length += bases
            at += width
            continue
        stop = _line_end(data, at)
        last = stop
        while last > at and _is_blank(data[last - 1]):
            last -= 1
        if not _all_letters(data[at:last]):
            while data[at] - np.uint8(33) <= 93:
                at += 1
            return (CARRIAGE_RETURN if data[at] == 13 else STRAY_BYTE), at
        first = width == 0
        if first:
            bases = last - at
            width = stop - at + 1
        elif last - at > bases:
            return TOO_LONG, at
        length += last - at
        whole = last - at == bases and stop - at + 1 == width
        at = min(stop + 1, size)
        if not whole or bases == 0:
            break
    columns[3, n] = length
    columns[5, n] = bases
    columns[6, n] = width
    return FINE, at


@njit(nogil=True, cache=True)
def _like_first(data, at, first, bases, width):
    """Whether the line at `at` has as many letters, and the same line ending, as the record's first."""
    if not _all_letters(data[at : at + bases]):
        return False
    same = True
    for k in range(bases, width):
        same &= data[at + k] == data[first + k]
    return same


@njit(nogil=True, cache=True)
def _all_letters(line):
    """Whether every byte is printable; without an early exit, so that it runs on vectors."""
    stray = np.uint8(0)
    for k in range(line.shape[0]):
        stray |= np.uint8(line[k] - np.uint8(33) > 93)
    return stray == 0


@njit(nogil=True, cache=True)
def _line_end(data, at):
    """Where the line's newline is, or the size of the file."""
    size = data.shape[0]
    while at + 64 <= size:
        found = np.uint8(0)
        block = data[at : at + 64]
        for k in range(64):
            found |= np.uint8(block[k] == 10)
        if found:
            break
        at += 64
    while at < size and data[at] != 10:
        at += 1
    return at


@njit(nogil=True, cache=True)
def _end(length, offset, bases, width):
    """The byte after the last letter of a record."""
    if length == 0:
        return offset
    return offset + (length - 1) // bases * width + (length - 1) % bases + 1


@njit(nogil=True, cache=True)
def _plausible(data, row):
    """Whether the first line, the last line and the end of a stored row are where they should be."""
    length, offset, bases, width = row[0], row[1], row[2], row[3]
    if length == 0:
        return bases == 0 and width >= 0
    if length < 0 or bases <= 0 or width <= bases:
        return False
    if (length - 1) // bases > (data.shape[0] - offset) // width:
        return False
    end = _end(length, offset, bases, width)
    if end > data.shape[0] or _is_blank(data[end - 1]) or (end < data.shape[0] and not _is_blank(data[end])):
        return False
    if length <= bases:
        return True
    last_line = end - ((length - 1) % bases + 1)
    return _is_blank(data[offset + bases]) and data[offset + width - 1] == 10 and data[last_line - 1] == 10


@njit(nogil=True, cache=True)
def _same(left, right):
    same = left.shape[0] == right.shape[0]
    if same:
        for k in range(left.shape[0]):
            same &= left[k] == right[k]
    return same


@njit(nogil=True, cache=True)
def tally(data, offsets, stops):
    """How often each byte occurs between `offsets` and `stops`, line endings apart: (256,) int64."""
    counts = np.zeros(256, np.int64)
    for i in range(offsets.shape[0]):
        for k in range(offsets[i], stops[i]):
            counts[data[k]] += 1
    for blank in (9, 10, 11, 12, 13, 32):
        counts[blank] = 0
    return counts
