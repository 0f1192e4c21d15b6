"""Find the records of FASTQ text, as `samtools fqidx` does: letters may be wrapped, qualities alike.

A quality line may begin with any printable byte, `@` and `+` too: only its length tells where it ends.
"""

import numpy as np
from numba import njit

from biolayers.kernels.numba.lines import NEWLINE, RETURN, first_stray, is_blank, line_end
from biolayers.kernels.numba.scan import CARRIAGE_RETURN, FINE, HEADER, STRAY_BYTE, _grown, _read_header

# More reasons to stop, beside those of `scan`.
NO_AT, NO_PLUS, UNEVEN, QUALITIES = range(6, 10)

COLUMNS = 4  # letters, letters and bytes of a full line, byte of the first quality
_AT, _PLUS = np.uint8(64), np.uint8(43)
_CUT = -1  # the record goes on after the part of the text that is at hand


@njit(nogil=True, cache=True)
def scan(data, start, stop, base, final):
    """Index whole records of `data[start:stop]`, whole lines of a file whose byte `base` is `data[0]`.

    Returns:
        Headers (4, n) as of `scan.scan`, columns (4, n), a code, and the byte of `data` where it stopped: of
        a fault, or where the first record begins that is not whole.
    """
    headers = np.empty((HEADER, 16), np.int64)
    columns = np.empty((COLUMNS, 16), np.int64)
    n, at = 0, start
    code = FINE
    while True:
        line_start = True
        while at < stop and is_blank(data[at]):
            line_start = data[at] == NEWLINE
            at += 1
        if at == stop:
            break
        if data[at] != _AT or not line_start:
            code = NO_AT
            break
        if n == headers.shape[1]:
            headers, columns = _grown(headers, n), _grown(columns, n)
        code, place = _read_record(data, at, stop, base, headers, columns, n)
        if code == _CUT and not final:
            code = FINE
            break
        if code != FINE:
            at = place
            code = NO_PLUS if code == _CUT else code
            break
        at = place
        n += 1
    return headers[:, :n].copy(), columns[:, :n].copy(), code, at


@njit(nogil=True, cache=True)
def _read_record(data, at, stop, base, headers, columns, n):
    code, at = _read_header(data, at, stop, base, headers, n)
    if code != FINE:
        return code, at
    code, at = _read_letters(data, at, stop, columns, n)
    if code != FINE:
        return code, at
    at = min(line_end(data, at, stop) + 1, stop)  # the line of `+` may repeat the name
    columns[3, n] = base + at
    return _read_qualities(data, at, stop, columns, n)


@njit(nogil=True, cache=True)
def _read_letters(data, at, stop, columns, n):
    """The lines up to that of `+`: all alike but the last, which may be shorter."""
    columns[:3, n] = 0
    ended = False
    while at < stop and data[at] != _PLUS:
        code, last, end = _line(data, at, stop)
        if code != FINE:
            return code, last
        letters, width = last - at, end - at + 1
        if (letters and ended) or letters > columns[1, n] > 0:
            return UNEVEN, at
        if columns[1, n] == 0 and letters:
            columns[1, n], columns[2, n] = letters, width
        columns[0, n] += letters
        ended = letters < columns[1, n] or width != columns[2, n]
        at = min(end + 1, stop)
    return FINE if at < stop else _CUT, at


@njit(nogil=True, cache=True)
def _read_qualities(data, at, stop, columns, n):
    """As many lines as of letters, each as long."""
    left = columns[0, n]
    while left > 0:
        if at == stop:
            return _CUT, at
        code, last, end = _line(data, at, stop)
        if code != FINE:
            return code, last
        wanted = min(left, columns[1, n])
        if last - at != wanted or (left > wanted and end - at + 1 != columns[2, n]):
            return QUALITIES, at
        left -= wanted
        at = min(end + 1, stop)
    return FINE, at


@njit(nogil=True, cache=True)
def _line(data, at, stop):
    """(code, end of the letters or the fault, end of the line)"""
    last = first_stray(data, at, stop)
    if last == stop or data[last] == NEWLINE:
        return FINE, last, last
    end = line_end(data, last, stop)
    for k in range(last, end):
        if not is_blank(data[k]):
            return (CARRIAGE_RETURN if data[last] == RETURN else STRAY_BYTE), last, end
    return FINE, last, end
