"""Apply edits to windows of a reference: each row is put together from pieces of tokens.

A row reads the reference from `start` on and replaces what its edits replace. Letters of an insert that have
a partner in the reference (of `AC` to `GTTT`, the first two) stand at its position; letters beyond that have
no position (-1) and belong to the letter before them. Indices are trusted:
`biolayers.variants.splicing` checks.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from biolayers.kernels.numba import bytes as b
from biolayers.kernels.numba.bytes import BLOCK


class Source(NamedTuple):
    """The reference letters that rows read."""

    tokens: np.ndarray  # (windows, width) uint8
    low: np.ndarray  # (windows,) int64: the position of each window's first token


class Pool(NamedTuple):
    """Edits as `biolayers.variants.edits.Edits` has them, with tokens."""

    start: np.ndarray  # (n,) int64
    stop: np.ndarray  # (n,) int64
    tokens: np.ndarray  # (m,) uint8
    offsets: np.ndarray  # (n + 1,) int64
    applied: np.ndarray  # (k,) int64: lists of edits, each list sorted and without overlaps


class Rows(NamedTuple):
    """What each row is made of; all (rows,) but for the last two."""

    window: np.ndarray  # int64: its window of the source
    start: np.ndarray  # int64: the position where it begins to read
    stop: np.ndarray  # int64: and before which it ends; a long row ends earlier
    skip: np.ndarray  # int64: letters to leave out at the start
    lead: np.ndarray  # int64: places to fill before the first letter
    first: np.ndarray  # int64: where its edits begin in `applied`
    last: np.ndarray  # int64: and end
    minus: np.ndarray  # bool: whether to reverse and complement
    fill: np.uint8  # stands before the first letter and after the last
    turn_fill: bool  # whether what fills a row's end comes first on the other strand, or stays at the end


@njit(nogil=True, cache=True)
def splice(first, last, source, pool, rows, complement, out, positions, lengths):
    """Write rows `first` to `last`.

    Args:
        first: Where this share of the rows begins.
        last: And ends.
        source: A `Source`.
        pool: A `Pool`.
        rows: A `Rows`.
        complement: (256,) uint8: the partner of each token.
        out: (rows, width) uint8.
        positions: (rows, width) int64, or (rows, 0) where they are not wanted: the reference position of each
            token; -1 for inserts and fillings.
        lengths: (rows,) int64: how many places come before the filling at the end.
    """
    for i in range(first, last):
        row, places = out[i], positions[i]
        count = _row(i, source, pool, rows, row, places)
        row[count:] = rows.fill
        places[count:] = -1
        if rows.minus[i]:
            _turn(row, places, row.shape[0] if rows.turn_fill else count, complement)
        lengths[i] = count


@njit(nogil=True, cache=True)
def _row(i, source, pool, rows, row, places):
    """Write one row in forward direction; returns how many places it has."""
    at, stop, skip = rows.start[i], rows.stop[i], rows.skip[i]
    window, low = source.tokens[rows.window[i]], source.low[rows.window[i]]
    done = max(0, min(rows.lead[i] - skip, row.shape[0]))
    skip = max(0, skip - rows.lead[i])
    row[:done] = rows.fill
    places[:done] = -1
    for k in range(rows.first[i], rows.last[i]):
        edit = pool.applied[k]
        start, end = pool.start[edit], pool.stop[edit]
        begin, size = pool.offsets[edit], size_of(pool, edit)
        if start > stop or done == row.shape[0]:
            break
        if start > at:
            done, skip = _put(window, at - low, start - at, at, row, places, done, skip)
            at = start
        placed, loose = shares(start, end, size, at, stop)
        done, skip = _put(pool.tokens, begin + at - start, placed, at, row, places, done, skip)
        done, skip = _put(pool.tokens, begin + size - loose, loose, -1, row, places, done, skip)
        at = max(at, end)
    if stop > at:
        done, skip = _put(window, at - low, stop - at, at, row, places, done, skip)
    return done


@njit(nogil=True, inline="always")
def shares(start, end, size, at, stop):
    """How many letters of an insert a row takes: of those with a position, and of those without."""
    paired = min(end - start, size)
    placed = max(0, min(paired, stop - start) - (at - start))
    return placed, size - paired if end <= stop else 0


@njit(nogil=True, inline="always")
def size_of(pool, edit):
    """How many letters an edit inserts."""
    return pool.offsets[edit + 1] - pool.offsets[edit]


@njit(nogil=True, cache=True)
def _put(letters, begin, count, position, row, places, done, skip):
    """Append letters, less those to leave out, as far as there is room; returns the new `done` and `skip`."""
    dropped = min(skip, count)
    begin += dropped
    count = min(count - dropped, row.shape[0] - done)
    whole = count - count % BLOCK
    for k in range(0, whole, BLOCK):
        b.store(row, done + k, b.load(letters, begin + k))
    for k in range(whole, count):
        row[done + k] = letters[begin + k]
    if places.shape[0]:
        for k in range(count):
            places[done + k] = position + dropped + k if position >= 0 else -1
    return done + count, skip - dropped


@njit(nogil=True, cache=True)
def _turn(row, places, count, complement):
    """Reverse and complement the first `count` tokens in place."""
    for k in range(count // 2):
        row[k], row[count - 1 - k] = complement[row[count - 1 - k]], complement[row[k]]
    if count % 2:
        row[count // 2] = complement[row[count // 2]]
    for k in range(min(count, places.shape[0]) // 2):
        places[k], places[count - 1 - k] = places[count - 1 - k], places[k]
