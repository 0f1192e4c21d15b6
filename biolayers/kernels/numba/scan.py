"""Find the records of FASTA text: their headers, and the runs of equal lines that their letters stand in.

A *segment* is a run of lines that have as many letters and bytes as its first; the last may be shorter. A
well-wrapped record is one segment, a ragged one has several. Text may come in pieces that end with a line:
`state` carries the segment that is still open from one to the next.
"""

import numpy as np
from numba import njit

from biolayers.kernels.numba.lines import GREATER, NEWLINE, RETURN, first_stray, is_blank, line_end

# Why a scan stopped; the first fault ends it, and `biolayers.reading.faults` gives it words and a line.
FINE, NO_HEADER, NO_NAME, CARRIAGE_RETURN, CONTROL_BYTE, STRAY_BYTE = range(6)

HEADER = 4  # byte of the `>`, where the name starts and ends, first byte after the line
SEGMENT = 5  # number of its record, letters, byte of the first letter, letters and bytes of a full line

# What a state holds: the number of the record, whether no line of it was seen yet, and the open segment.
RECORD, FIRST, OPEN, LETTERS, OFFSET, BASES, WIDTH = range(7)


def beginning() -> np.ndarray:
    """The state at the beginning of a file."""
    state = np.zeros(7, np.int64)
    state[RECORD] = -1
    return state


@njit(nogil=True, cache=True)
def scan(data, start, limit, stop, base, final, state):
    """Index `data[start:stop]`, whole lines, up to the first header at or after `limit`.

    Args:
        data: (bytes,) uint8: part of a file.
        start: Where a line begins.
        limit: See above.
        stop: After a newline, or the end of the file.
        base: The byte of the file that `data[0]` is.
        final: Whether a record ends at `stop`.
        state: Changed; numbers of records count on from it.

    Returns:
        Headers (4, records begun), segments (5, segments ended), a code, and the byte of `data` where it
        stopped.
    """
    headers = np.empty((HEADER, 16), np.int64)
    segments = np.empty((SEGMENT, 16), np.int64)
    n, m = 0, 0
    code, at = FINE, start
    while code == FINE and at < stop:
        if m + 2 > segments.shape[1]:
            segments = _grown(segments, m)
        if data[at] == GREATER:
            if at >= limit:
                break
            if n == headers.shape[1]:
                headers = _grown(headers, n)
            m = _end_segment(state, segments, m)
            code, at = _read_header(data, at, stop, base, headers, n)
            n += code == FINE
            state[RECORD] += 1
            state[FIRST] = 1
            continue
        if state[OPEN]:
            after = _same_lines(data, at, stop, state[BASES], state[WIDTH])
            state[LETTERS] += (after - at) // state[WIDTH] * state[BASES]
            if after > at:
                at = after
                continue
        code, at, m = _read_line(data, at, stop, base, state, segments, m)
    if code == FINE and (final or at < stop):
        m = _end_segment(state, segments, m)
    return headers[:, :n].copy(), segments[:, :m].copy(), code, at


@njit(nogil=True, cache=True)
def _grown(table, n):
    wider = np.empty((table.shape[0], 2 * table.shape[1]), np.int64)
    wider[:, :n] = table[:, :n]
    return wider


@njit(nogil=True, cache=True)
def _end_segment(state, segments, m):
    if state[OPEN] == 0:
        return m
    state[OPEN] = 0
    return _add_segment(state, segments, m)


@njit(nogil=True, cache=True)
def _add_segment(state, segments, m):
    segments[0, m] = state[RECORD]
    for k in range(4):
        segments[1 + k, m] = state[LETTERS + k]
    return m + 1


@njit(nogil=True, cache=True)
def _read_header(data, at, stop, base, headers, n):
    """From `>` to the first byte of the next line; the name ends at the first blank, as in samtools."""
    first = at + 1
    while first < stop and data[first] != NEWLINE and is_blank(data[first]):
        first += 1
    last = stray = first_stray(data, first, stop)
    while last < stop and not is_blank(data[last]):
        last = first_stray(data, last + 1, stop)
    if first == last:
        return NO_NAME, at
    end = last if last < stop and data[last] == NEWLINE else line_end(data, last, stop)
    for k in range(at + 1 if first > at + 1 else stray, end):
        byte = data[k]
        if byte == RETURN and (k + 1 != end or end == stop):
            return CARRIAGE_RETURN, k
        if byte == 127 or (byte < 32 and not is_blank(byte)):
            return CONTROL_BYTE, k
    headers[0, n], headers[1, n], headers[2, n] = base + at, base + first, base + last
    headers[3, n] = base + min(end + 1, stop)
    return FINE, min(end + 1, stop)


@njit(nogil=True, cache=True)
def _same_lines(data, at, stop, bases, width):
    """The byte after as many lines of `bases` letters in `width` bytes as follow each other from `at` on."""
    while at + width <= stop and data[at] != GREATER and first_stray(data, at, stop) == at + bases:
        same = data[at + width - 1] == NEWLINE
        for k in range(at + bases, at + width - 1):
            same &= is_blank(data[k]) and data[k] != NEWLINE
        if not same:
            break
        at += width
    return at


@njit(nogil=True, cache=True)
def _read_line(data, at, stop, base, state, segments, m):
    """Join a line of letters to the open segment, or begin another: (code, next line, segments so far)."""
    last = first_stray(data, at, stop)
    end = last
    if last < stop and data[last] != NEWLINE:
        end = line_end(data, last, stop)
        for k in range(last, end):
            if not is_blank(data[k]):
                if state[RECORD] < 0:
                    return NO_HEADER, k if last == at else at, m
                return (CARRIAGE_RETURN if data[last] == RETURN else STRAY_BYTE), last, m
    if state[RECORD] < 0 and last > at:
        return NO_HEADER, at, m
    letters, width = last - at, end - at + 1
    if state[OPEN] and 0 < letters <= state[BASES]:
        state[LETTERS] += letters
        if letters < state[BASES] or width != state[WIDTH]:
            m = _end_segment(state, segments, m)
    else:
        m = _end_segment(state, segments, m)
        state[LETTERS], state[OFFSET], state[BASES], state[WIDTH] = letters, base + at, letters, width
        if letters:
            state[OPEN] = 1
        elif state[RECORD] >= 0 and state[FIRST] and width > 1:  # samtools counts such a line
            m = _add_segment(state, segments, m)
    state[FIRST] = 0
    return FINE, min(end + 1, stop), m


@njit(nogil=True, cache=True)
def tally(data, starts, stops, counts):
    """Add to (256,) how often each byte occurs between `starts` and `stops`, line endings apart."""
    blanks = (9, 10, 11, 12, 13, 32)
    before = [counts[blank] for blank in blanks]
    for i in range(starts.shape[0]):
        for k in range(starts[i], stops[i]):
            counts[data[k]] += 1
    for i, blank in enumerate(blanks):
        counts[blank] = before[i]
