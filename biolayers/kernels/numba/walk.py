"""Check the headers that stand between the records of a stored index, and find the empty ones among them."""

import numpy as np
from numba import njit

from biolayers.kernels.numba.lines import NEWLINE, is_blank
from biolayers.kernels.numba.scan import FINE, HEADER, _grown, _read_header


@njit(nogil=True, cache=True)
def walk(text, places, starts, stops, names, edges, mark):
    """Step from header to header.

    Args:
        text: (bytes,) uint8: holds the gaps between the letters of records.
        places: (n + 1,) int64: where in `text` each gap begins.
        starts: (n + 1,) int64: where in the file: the end of the record before.
        stops: (n + 1,) int64: where the letters of record i begin; the last: the end of the file.
        names: The stored names, one after the other.
        edges: (n + 1,) int64: of the names.
        mark: `>` or `@`.

    Returns:
        Headers (4, records) as of `scan.scan`, the stored row of each, -1 for empty records that samtools
        leaves out: (records,) int64, and whether all agrees.
    """
    headers = np.empty((HEADER, starts.shape[0] + 16), np.int64)
    owners = np.empty(headers.shape[1], np.int64)
    n = 0
    for i in range(starts.shape[0]):
        at, stop = places[i], places[i] + stops[i] - starts[i]
        line_start = i == 0
        before = n
        while True:
            while at < stop and is_blank(text[at]):
                line_start = text[at] == NEWLINE
                at += 1
            if at == stop:
                break
            if n == headers.shape[1]:
                headers = _grown(headers, n)
                owners = np.concatenate((owners, owners))
            if text[at] != mark or not line_start:
                return headers, owners, False
            code, at = _read_header(text, at, stop, starts[i] - places[i], headers, n)
            if code != FINE:
                return headers, owners, False
            line_start = True
            owners[n] = -1
            n += 1
        if i == edges.shape[0] - 1:
            break
        if n == before or headers[3, n - 1] != stops[i] or text[stop - 1] != NEWLINE:
            return headers, owners, False
        first, last = headers[1, n - 1] - starts[i] + places[i], headers[2, n - 1] - starts[i] + places[i]
        if not _same(text[first:last], names[edges[i] : edges[i + 1]]):
            return headers, owners, False
        owners[n - 1] = i
    return headers[:, :n].copy(), owners[:n].copy(), True


@njit(nogil=True, cache=True)
def _same(left, right):
    same = left.shape[0] == right.shape[0]
    if same:
        for k in range(left.shape[0]):
            same &= left[k] == right[k]
    return same
