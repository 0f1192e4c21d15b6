"""Gather many intervals of a text into tokens.

Each interval is gathered in two steps that stay in the first cache: its letters are copied line by line into
a scratch row, 64 bytes at a time (what is copied too far is overwritten by the next line), then encoded in
blocks of 64; the first step is left out where they stand on one line. A byte table cannot be looked up in
vectors without instructions of one kind of processor; comparing with each letter of the alphabet can be done
everywhere, and takes a fifth of the time of look-ups.
Indices are trusted: `biolayers.reading.requests` checks them.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from biolayers.alphabet import ILLEGAL, PAD, Alphabet
from biolayers.kernels.numba import bytes as b
from biolayers.kernels.numba.bytes import BLOCK


class Recipe(NamedTuple):
    """A byte table as comparisons: every letter of `letters` has its token, every other byte the default."""

    fold: bool  # whether lower case reads as upper; letters are then compared as capitals
    four: bool  # whether four letters A..Z come first: the fastest case
    plain: int  # how many of the letters come first, since most text has no other
    letters: np.ndarray  # (k,) uint8
    tokens: np.ndarray  # (2, k) uint8: on the forward and on the reverse strand
    default: np.ndarray  # (2,) uint8


@lru_cache(maxsize=64)
def recipe(alphabet: Alphabet) -> Recipe:
    """The comparisons that say the same as the alphabet's byte table."""
    table = alphabet.byte_table
    small = np.arange(97, 123)
    fold = bool((table[small] == table[small - 32]).all())
    default = np.bincount(table).argmax()
    letters = np.flatnonzero(table != default)
    if fold:
        letters = np.setdiff1d(letters, small)
    letters = letters[np.argsort(table[letters], kind="stable")]
    plain = int((table[letters] < alphabet.channels).sum())
    four = plain == 4 and bool(((letters[:4] >= 65) & (letters[:4] <= 90)).all())
    partner = alphabet.complement_table if alphabet.stranded else np.arange(256)
    tokens = np.stack([table[letters], partner[table[letters]]]).astype(np.uint8)
    return Recipe(
        fold, four, plain, letters.astype(np.uint8), tokens, np.array([default, partner[default]], np.uint8)
    )


@njit(nogil=True, cache=True)
def fetch(first, last, data, records, ids, starts, stops, minus, recipe, out, places, rooms, refused):
    """Write intervals `first` to `last` into `out`.

    Args:
        first: Where this share of the intervals begins.
        last: And ends.
        data: (bytes,) uint8: the text.
        records: (3, contigs) int64: offset, letters and bytes of a full line.
        ids: (n,) int64: contig of each interval.
        starts: (n,) int64: 0-based.
        stops: (n,) int64: half-open.
        minus: (n,) bool: intervals to reverse and complement.
        recipe: The alphabet's `Recipe`.
        out: (bytes,) uint8.
        places: (n,) int64: where in `out` each interval goes.
        rooms: (n,) int64: how many bytes it has there; what is left becomes `PAD`.
        refused: (n,) int64: where the first refused letter lies in its interval (forward), or -1.
    """
    scratch, tail = _scratch(first, last, starts, stops), np.empty(2 * BLOCK, np.uint8)
    at, column = _announce(data, records, ids[first], starts[first], stops[first]) if first < last else (0, 0)
    for i in range(first, last):
        next_at, next_column = at, column
        if i + 1 < last:
            next_at, next_column = _announce(data, records, ids[i + 1], starts[i + 1], stops[i + 1])
        bases, width, count = records[1, ids[i]], records[2, ids[i]], stops[i] - starts[i]
        if column + count <= bases:
            found = _encode(data, at, count, out, places[i], minus[i], recipe, tail)
        else:
            _copy_lines(data, at, column, bases, width, count, scratch)
            found = _encode(scratch, 0, count, out, places[i], minus[i], recipe, tail)
        refused[i] = found
        for k in range(places[i] + count, places[i] + rooms[i]):
            out[k] = PAD
        at, column = next_at, next_column


@njit(nogil=True, cache=True)
def fetch_qualities(
    first, last, data, records, ids, starts, stops, minus, recipe, out, places, rooms, refused
):
    """As `fetch`, for the qualities of FASTQ: each byte less 33, of which none is refused."""
    scratch = _scratch(first, last, starts, stops)
    for i in range(first, last):
        offset, bases, width = records[0, ids[i]], records[1, ids[i]], records[2, ids[i]]
        count, line = stops[i] - starts[i], starts[i] // bases
        column = starts[i] - line * bases
        at = offset + line * width + column
        _copy_lines(data, at, column, bases, width, count, scratch)
        for k in range(count):
            out[places[i] + k] = scratch[count - 1 - k if minus[i] else k] - np.uint8(33)
        for k in range(places[i] + count, places[i] + rooms[i]):
            out[k] = PAD
        refused[i] = -1


@njit(nogil=True, cache=True)
def _scratch(first, last, starts, stops):
    """Room for the letters of the longest interval, and for what is copied too far."""
    longest = 0
    for i in range(first, last):
        longest = max(longest, stops[i] - starts[i])
    return np.empty(longest + 2 * BLOCK, np.uint8)


@njit(nogil=True, cache=True)
def _announce(data, records, record, start, stop):
    """Ask for the cache lines of an interval: the byte of its first letter, and its column in the line."""
    bases, width = records[1, record], records[2, record]
    line = start // bases
    column = start - line * bases
    at = records[0, record] + line * width + column
    ahead = min(stop - start + (width - bases) * 32, 2048)
    for k in range(at, min(at + ahead, data.shape[0]), 64):
        b.prefetch(data, k)
    return at, column


@njit(nogil=True, cache=True)
def _copy_lines(data, at, column, bases, width, count, scratch):
    """The letters from byte `at` on, without line endings; up to a block beyond `count` is garbage."""
    done = 0
    while done < count:
        m = min(bases - column, count - done)
        if at + m + BLOCK <= data.shape[0]:
            for k in range(0, m, BLOCK):
                b.store(scratch, done + k, b.load(data, at + k))
        else:
            for k in range(m):
                scratch[done + k] = data[at + k]
        done += m
        at += m + width - bases
        column = 0


@njit(nogil=True, cache=True)
def _encode(text, at, count, out, place, minus, recipe, tail):
    """Encode `count` letters from `at` on; returns where the first refused one is, or -1.

    The last block overlaps the one before it, so that nothing beyond the letters is read or written.
    """
    strand = 1 if minus else 0
    if count < BLOCK:
        refused = _encode_short(text, at, count, out, place, strand, recipe, tail)
    elif recipe.four:
        refused = _encode_four(text, at, count, out, place, strand, recipe)
    else:
        refused = b.splat(np.uint8(0))
        k = 0
        while True:
            tokens = _tokens(b.load(text, at + k), strand, recipe)
            refused = b.either(refused, b.equal(tokens, np.uint8(ILLEGAL)))
            _put(out, place, count, k, tokens, strand)
            if k + BLOCK == count:
                break
            k = min(k + BLOCK, count - BLOCK)
    if b.any_set(refused):
        for k in range(count):
            if out[place + (count - 1 - k if minus else k)] == ILLEGAL:
                return k
    return -1


@njit(nogil=True, cache=True)
def _encode_four(text, at, count, out, place, strand, recipe):
    """The same for four plain letters, whose comparisons stay in registers; the others are rare."""
    letters, tokens = recipe.letters, recipe.tokens[strand]
    a, c, g, t = b.splat(letters[0]), b.splat(letters[1]), b.splat(letters[2]), b.splat(letters[3])
    to_a, to_c, to_g, to_t = b.splat(tokens[0]), b.splat(tokens[1]), b.splat(tokens[2]), b.splat(tokens[3])
    mask = b.splat(np.uint8(0xDF if recipe.fold else 0xFF))  # a..z differ from A..Z by the bit 0x20
    default = b.splat(recipe.default[strand])
    refused = b.splat(np.uint8(0))
    k = 0
    while True:
        raw = b.load(text, at + k)
        block = b.masked(raw, mask)
        found = b.pick(b.pick(default, block, a, to_a), block, c, to_c)
        found = b.pick(b.pick(found, block, g, to_g), block, t, to_t)
        if b.where(found, recipe.default[strand]):
            found = _tokens(raw, strand, recipe)
            refused = b.either(refused, b.equal(found, np.uint8(ILLEGAL)))
        _put(out, place, count, k, found, strand)
        if k + BLOCK == count:
            return refused
        k = min(k + BLOCK, count - BLOCK)


@njit(nogil=True, cache=True)
def _put(out, place, count, k, tokens, strand):
    """Write the tokens of letters `k` to `k + 64` in the direction of the strand."""
    if strand:
        b.store(out, place + count - BLOCK - k, b.backwards(tokens))
    else:
        b.store(out, place + k, tokens)


@njit(nogil=True, cache=True)
def _encode_short(text, at, count, out, place, strand, recipe, tail):
    """The same for less than a block, by way of `tail`; returns 255 for each refused letter."""
    for k in range(count):
        tail[k] = text[at + k]
    for k in range(count, BLOCK):
        tail[k] = recipe.letters[0]
    tokens = _tokens(b.load(tail, 0), strand, recipe)
    b.store(tail, BLOCK, b.backwards(tokens) if strand else tokens)
    shift = BLOCK + (BLOCK - count if strand else 0)
    for k in range(count):
        out[place + k] = tail[shift + k]
    return b.equal(tokens, np.uint8(ILLEGAL))


@njit(nogil=True, cache=True)
def _tokens(letters, strand, recipe):
    if recipe.fold:
        letters = b.capitals(letters)
    default = recipe.default[strand]
    tokens = b.splat(default)
    for j in range(recipe.plain):
        tokens = b.replace(tokens, letters, recipe.letters[j], recipe.tokens[strand, j])
    if b.where(tokens, default):
        for j in range(recipe.plain, recipe.letters.shape[0]):
            tokens = b.replace(tokens, letters, recipe.letters[j], recipe.tokens[strand, j])
    return tokens
