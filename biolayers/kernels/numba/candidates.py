"""Pairs of sequences that share words in one place: what is worth an alignment.

A shared word says on which diagonal (position in the query less position in the target) the two sequences may
be alike, the query read on the strand on which it reads as the target does. A pair is a candidate if enough
words agree about the diagonal and the letters along it do so as well.
"""

import numpy as np
from numba import njit

from biolayers.kernels.numba.sketch import hash_of

BUCKET = 256  # of a word that very many sequences have, this many of them are looked at
_ZERO = np.int64(1) << 31  # added to diagonals, which may be negative


@njit(nogil=True, cache=True)
def candidates(first, last, query, target, table, own, k, need, most, base, counts, out):
    """For each query row up to `most` candidates, those with most shared words first.

    Args:
        first: Where this share of the rows begins.
        last: And ends.
        query: (values, edges, word, place, starts, partner) of the queries: letters, sketches, and the
            token of the other strand (256,) uint8.
        target: The same of the targets.
        table: (edges, order, rows) of the targets' index.
        own: Whether queries and targets are the same sequences; then only earlier rows are looked at.
        k: The length of a word.
        need: (least number of words on a diagonal, least score along it).
        most: How many candidates of a row are kept.
        base: The row that the first row of the results belongs to.
        counts: (n,) int64: how many each row has.
        out: (n, most, 4) int64: target row, 1 for the other strand, diagonal, words that agree.
    """
    hits = np.empty(1024, np.int64)
    for row in range(first, last):
        hits, n = _look_up(hits, row, query, target, table, own, k)
        found = np.sort(hits[:n])
        counts[row - base] = _groups(found, row, query, target, need, most, out[row - base])


@njit(nogil=True, cache=True)
def _look_up(hits, row, query, target, table, own, k):
    """A hit for each sequence with a word of the row: its row, the strand and the diagonal, in one number.

    Returns the array of hits, or a larger one, and how many there are.
    """
    _, edges, word, place, starts, _ = query
    _, _, words, places, _, _ = target
    bucket_edges, order, rows = table
    width = (np.int64(1) << 32) // (bucket_edges.shape[0] - 1)
    length = edges[row + 1] - edges[row]
    n = 0
    for entry in range(starts[row], starts[row + 1]):
        bucket = hash_of(word[entry]) // width
        start, stop = bucket_edges[bucket], bucket_edges[bucket + 1]
        if own and stop - start > BUCKET:  # rows ascend within a bucket: look at those just before
            low, high = start, stop
            while low < high:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if rows[middle] < row else (low, middle)
            start = max(start, low - BUCKET)
        for b in range(start, min(stop, start + BUCKET)):
            if own and rows[b] >= row:
                break
            e = order[b]
            if words[e] != word[entry]:
                continue
            if n == hits.shape[0]:
                hits = _wider(hits)
            other = (place[entry] ^ places[e]) & 1
            at = place[entry] >> 1
            diagonal = (length - k - at if other else at) - (places[e] >> 1)
            hits[n] = (((np.int64(rows[b]) << 1) | other) << 32) | (diagonal + _ZERO)
            n += 1
    return hits, n


@njit(nogil=True, cache=True)
def _wider(hits):
    wider = np.empty(2 * hits.shape[0], np.int64)
    wider[: hits.shape[0]] = hits
    return wider


@njit(nogil=True, cache=True)
def _groups(hits, row, query, target, need, most, out):
    """Go through the sorted hits pair by pair and strand by strand; returns how many candidates there are."""
    kept = 0
    a = 0
    while a < hits.shape[0]:
        b = a
        while b < hits.shape[0] and hits[b] >> 32 == hits[a] >> 32:
            b += 1
        if b - a >= need[0]:
            other, target_row = (hits[a] >> 32) & 1, hits[a] >> 33
            length = query[1][row + 1] - query[1][row]
            agreeing, diagonal = _densest(hits[a:b], 1 + length // 16)
            if agreeing >= need[0] and _along(row, target_row, other, diagonal, query, target) >= need[1]:
                kept = _insert(out, kept, most, target_row, other, diagonal, agreeing)
        a = b
    return kept


@njit(nogil=True, cache=True)
def _densest(hits, width):
    """How many hits lie within `width` diagonals at most, and the most frequent diagonal among these."""
    best = 0
    at = 0
    low = 0
    for high in range(hits.shape[0]):
        while hits[high] - hits[low] > width:
            low += 1
        if high - low + 1 > best:
            best = high - low + 1
            at = low
    common = 0
    diagonal = np.int64(0)
    run = 0
    for i in range(at, at + best):
        run = run + 1 if i > at and hits[i] == hits[i - 1] else 1
        if run > common:
            common = run
            diagonal = (hits[i] & ((np.int64(1) << 32) - 1)) - _ZERO
    return best, diagonal


@njit(nogil=True, cache=True)
def _along(row, target_row, other, diagonal, query, target):
    """The best score of a stretch on a diagonal without gaps: 1 for a match, -1 for a mismatch."""
    q, t = query[0], target[0]
    start, length = query[1][row], query[1][row + 1] - query[1][row]
    begin, size = target[1][target_row], target[1][target_row + 1] - target[1][target_row]
    best = 0
    score = 0
    for i in range(max(0, diagonal), min(length, size + diagonal)):
        letter = query[5][q[start + length - 1 - i]] if other else q[start + i]
        score += 1 if letter == t[begin + i - diagonal] else -1
        score = max(score, 0)
        best = max(best, score)
    return best


@njit(nogil=True, cache=True)
def _insert(out, kept, most, row, other, diagonal, agreeing):
    """Put a candidate where it belongs by the number of words; the last falls off when there are too many."""
    if kept == most:
        if out[most - 1, 3] >= agreeing:
            return kept
        kept -= 1
    i = kept
    while i > 0 and out[i - 1, 3] < agreeing:
        out[i] = out[i - 1]
        i -= 1
    out[i, 0] = row
    out[i, 1] = other
    out[i, 2] = diagonal
    out[i, 3] = agreeing
    return kept + 1
