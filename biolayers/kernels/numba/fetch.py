"""Gather many intervals of a text into tokens.

Blocks of 64 bytes are read along the lines, encoded, and written where their letters belong; what a block has
beyond its line (the line ending, the next letters) is overwritten by the next one. The last 64 letters of an
interval are joined in a scratch block before, so that nothing beyond it is written. Nothing beyond the text
is read either: more than 64 letters of the interval follow where any other block begins.

A byte table cannot be looked up in vectors without instructions of one kind of processor; comparing with each
letter of the alphabet can be done everywhere, and takes a fifth of the time of look-ups.

Functions that run for every interval take addresses, not arrays: Numba counts the references of each array
that it hands to a function, in memory that the threads share, and that took most of the time.
Indices are trusted: `biolayers.reading.requests` checks them.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from biolayers.alphabet import ILLEGAL, PAD, Alphabet
from biolayers.kernels.numba import bytes as b
from biolayers.kernels.numba.bytes import BLOCK

_AHEAD = 2  # how many intervals ahead memory is asked for
_FAR = 2048  # bytes of an interval that are asked for; what follows the processor foresees
_NONE, _ALL = np.uint64(0), np.uint64(2**64 - 1)
_PHRED = 33  # the byte of quality 0


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
    scratch = np.empty(2 * BLOCK, np.uint8)
    text = (b.address(data), data.shape[0], b.address(scratch))
    forward, backward = _way(recipe, 0), _way(recipe, 1)
    for i in range(first, last):
        j = min(i + _AHEAD, last - 1)
        _announce(text, (records[0, ids[j]], records[1, ids[j]], records[2, ids[j]]), starts[j], stops[j])
        layout = (records[0, ids[i]], records[1, ids[i]], records[2, ids[i]])
        place, way = b.address(out) + places[i], backward if minus[i] else forward
        odd = True
        if recipe.four:
            odd = _encode_four(text, layout, starts[i], stops[i], place, minus[i], way)
        if odd:
            odd = _encode_any(text, layout, starts[i], stops[i], place, minus[i], way)
        count = stops[i] - starts[i]
        refused[i] = _first_refused(place, count, minus[i]) if odd else -1
        for k in range(places[i] + count, places[i] + rooms[i]):
            out[k] = PAD


@njit(nogil=True, cache=True)
def fetch_qualities(
    first, last, data, records, ids, starts, stops, minus, recipe, out, places, rooms, refused
):
    """As `fetch`, for the qualities of FASTQ: each byte less 33, of which none is refused."""
    scratch = np.empty(2 * BLOCK, np.uint8)
    text = (b.address(data), data.shape[0], b.address(scratch))
    for i in range(first, last):
        layout = (records[0, ids[i]], records[1, ids[i]], records[2, ids[i]])
        place = b.address(out) + places[i]
        _encode_qualities(text, layout, starts[i], stops[i], place, minus[i], 0)
        refused[i] = -1
        for k in range(places[i] + stops[i] - starts[i], places[i] + rooms[i]):
            out[k] = PAD


@njit(nogil=True, inline="always")
def _line(layout, letter):
    """The line of a letter: its byte, and how many letters there are from it to the line's end."""
    offset, bases, width = layout
    line = letter // bases
    column = letter - line * bases
    return offset + line * width + column, bases - column


@njit(nogil=True, inline="always")
def _announce(text, layout, start, stop):
    """Ask for the cache lines of an interval."""
    _, bases, width = layout
    at, _ = _line(layout, start)
    ahead = min(stop - start + (width - bases) * 32, _FAR)
    for k in range(at, at + ahead, 64):
        b.prefetch_at(text[0] + k)


def _encoder(tokens_of: Any) -> Any:
    """The kernel that writes one interval; returns whether a letter of it calls for another look.

    `tokens_of(letters, way)` gives the tokens of a block, and a bit for each such letter.
    """

    @njit(nogil=True, inline="always")
    def encode(text, layout, start, stop, place, minus, way):
        count = stop - start
        last = count - BLOCK
        if last < 0:
            if count == 0:
                return False
            tokens, found = tokens_of(_joined(text, layout, start, count), way)
            _put_short(place, count, tokens, minus, text[2])
            return found & (_ALL >> np.uint64(-last)) != _NONE
        _, bases, width = layout
        at, left = _line(layout, start)
        at += text[0]
        done, found = 0, _NONE
        while done < last:
            m = min(left, BLOCK)
            tokens, odd = tokens_of(b.load_at(at), way)
            found |= odd & (_ALL >> np.uint64(BLOCK - m))
            _put(place, last, done, tokens, minus)
            done += m
            at += m
            left -= m
            if left == 0:
                at += width - bases
                left = bases
        tokens, odd = tokens_of(_joined(text, layout, start + last, BLOCK), way)
        _put(place, last, last, tokens, minus)
        return (found | odd) != _NONE

    return encode


@njit(nogil=True, inline="always")
def _put(place, last, done, tokens, minus):
    """Write the block that begins with letter `done`; the last one begins with letter `last`."""
    if minus:
        b.store_at(place + last - done, b.backwards(tokens))
    else:
        b.store_at(place + done, tokens)


@njit(nogil=True, inline="always")
def _put_short(place, count, tokens, minus, scratch):
    """Write the first `count` of a block."""
    b.store_at(scratch, b.backwards(tokens) if minus else tokens)
    source = scratch + (BLOCK - count if minus else 0)
    for k in range(count):
        b.put_at(place + k, b.byte_at(source + k))


@njit(nogil=True, inline="always")
def _joined(text, layout, start, count):
    """A block of the `count` letters from `start` on, then garbage."""
    address, size, scratch = text
    _, bases, width = layout
    at, left = _line(layout, start)
    if left >= count and at + BLOCK <= size:
        return b.load_at(address + at)
    done = 0
    while done < count:
        if at + BLOCK <= size:
            b.store_at(scratch + done, b.load_at(address + at))
        else:
            for k in range(min(left, count - done)):
                b.put_at(scratch + done + k, b.byte_at(address + at + k))
        done += left
        at += left + width - bases
        left = bases
    return b.load_at(scratch)


@njit(nogil=True, cache=True)
def _first_refused(place, count, minus):
    """The first refused letter of an interval that has one."""
    k = 0
    while b.byte_at(place + (count - 1 - k if minus else k)) != ILLEGAL:
        k += 1
    return k


@njit(nogil=True, inline="always")
def _way(recipe, strand):
    """A recipe for one strand, without arrays: the first four letters, and where all of them are."""
    letters, tokens, most = recipe.letters, recipe.tokens, recipe.letters.shape[0] - 1
    default = recipe.default[strand]
    i, j, k = min(1, most), min(2, most), min(3, most)
    mask = b.splat(np.uint8(0xDF if recipe.fold else 0xFF))  # a..z differ from A..Z by the bit 0x20
    return (
        (mask, b.splat(letters[0]), b.splat(letters[i]), b.splat(letters[j]), b.splat(letters[k])),
        (b.splat(tokens[strand, 0]), b.splat(tokens[strand, i]), b.splat(tokens[strand, j]),
         b.splat(tokens[strand, k]), b.splat(default)),
        (b.address(letters), b.address(tokens) + strand * (most + 1), recipe.plain, most + 1, recipe.fold),
        default,
    )  # fmt: skip


@njit(nogil=True, inline="always")
def _four(letters, way):
    """By four plain letters alone: any other becomes the default, and calls for another look."""
    (mask, a, c, g, t), (to_a, to_c, to_g, to_t, default), _, stray = way
    letters = b.masked(letters, mask)
    tokens = b.pick(b.pick(default, letters, a, to_a), letters, c, to_c)
    tokens = b.pick(b.pick(tokens, letters, g, to_g), letters, t, to_t)
    return tokens, b.where(tokens, stray)


@njit(nogil=True, cache=True)
def _any(letters, way):
    """By all letters; those that are refused call for another look."""
    _, _, (sources, targets, plain, count, fold), default = way
    if fold:
        letters = b.capitals(letters)
    tokens = b.splat(default)
    for j in range(plain):
        tokens = b.replace(tokens, letters, b.byte_at(sources + j), b.byte_at(targets + j))
    if b.where(tokens, default):
        for j in range(plain, count):
            tokens = b.replace(tokens, letters, b.byte_at(sources + j), b.byte_at(targets + j))
    return tokens, b.where(tokens, np.uint8(ILLEGAL))


@njit(nogil=True, inline="always")
def _phred(letters, way):
    """Qualities: the bytes less 33, of which none calls for another look."""
    return b.add(letters, b.splat(np.uint8(256 - _PHRED))), _NONE


_encode_four, _encode_any, _encode_qualities = _encoder(_four), _encoder(_any), _encoder(_phred)
