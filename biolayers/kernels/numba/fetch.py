"""Gather many intervals of a mapped FASTA file into one matrix of tokens.

Each row is gathered in two steps that stay in the first cache: its letters are copied line by line into a
scratch row, 64 bytes at a time (what is copied too far is overwritten by the next line), then encoded in
blocks of 64. A byte table cannot be looked up in vectors without instructions of one kind of processor;
comparing with each letter of the alphabet can be done everywhere, and takes a fifth of the time of look-ups.
Indices are trusted: `biolayers.fasta` checks them.
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
    partner = alphabet.complement_table if alphabet.stranded else np.arange(256)
    tokens = np.stack([table[letters], partner[table[letters]]]).astype(np.uint8)
    return Recipe(fold, letters.astype(np.uint8), tokens, np.array([default, partner[default]], np.uint8))


@njit(nogil=True, cache=True)
def fetch(first, last, data, records, ids, starts, stops, minus, recipe, out, refused):
    """Fill rows `first` to `last` of `out`.

    Args:
        first: Where this share of the rows begins.
        last: And ends.
        data: (bytes,) uint8: the file.
        records: (3, contigs) int64: offset, letters and bytes of a full line.
        ids: (n,) int64: contig of each row.
        starts: (n,) int64: 0-based.
        stops: (n,) int64: half-open.
        minus: (n,) bool: rows to reverse and complement.
        recipe: The alphabet's `Recipe`.
        out: (n, width) uint8; what lies beyond an interval becomes `PAD`.
        refused: (n,) int64: where the first refused letter of a row lies in its interval (forward), or -1.
    """
    scratch = np.empty(out.shape[1] + 2 * BLOCK, np.uint8)
    for i in range(first, last):
        if i + 1 < last:
            _announce(data, records[:, ids[i + 1]], starts[i + 1], stops[i + 1])
        count = stops[i] - starts[i]
        _copy_lines(data, records[:, ids[i]], starts[i], count, scratch)
        row = out[i]
        refused[i] = _encode(scratch, count, row, minus[i], recipe)
        row[count:] = PAD


@njit(nogil=True, cache=True)
def _announce(data, record, start, stop):
    """Ask for the cache lines of the next interval while this one is worked on."""
    at = record[0] + start // record[1] * record[2] + start % record[1]
    ahead = min((stop - start) // record[1] * record[2] + record[1], 2048)
    for k in range(at, min(at + ahead, data.shape[0]), 64):
        b.prefetch(data, k)


@njit(nogil=True, cache=True)
def _copy_lines(data, record, start, count, scratch):
    """The letters of an interval without line endings; up to a block beyond `count` is garbage."""
    bases = record[1]
    ending = record[2] - bases
    column = start % bases
    at = record[0] + start // bases * record[2] + column
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
        at += m + ending
        column = 0


@njit(nogil=True, cache=True)
def _encode(scratch, count, row, minus, recipe):
    """Encode any row; returns where the first refused letter is, or -1."""
    strand = 1 if minus else 0
    refused = b.splat(np.uint8(0))
    for k in range(count, (count + BLOCK - 1) // BLOCK * BLOCK):
        scratch[k] = recipe.letters[0]
    for k in range(0, count, BLOCK):
        letters = b.load(scratch, k)
        if recipe.fold:
            letters = b.capitals(letters)
        tokens = b.splat(recipe.default[strand])
        for j in range(recipe.letters.shape[0]):
            tokens = b.replace(tokens, letters, recipe.letters[j], recipe.tokens[strand, j])
        refused = b.either(refused, b.equal(tokens, np.uint8(ILLEGAL)))
        _put(scratch, row, k, count, tokens, minus)
    if b.any_set(refused):
        for k in range(count):
            if row[count - 1 - k if minus else k] == ILLEGAL:
                return k
    return -1


@njit(nogil=True, cache=True)
def _put(scratch, row, k, count, tokens, minus):
    """Write the tokens of letters `k` to `k + 64`, as far as there are, in the row's direction."""
    if minus:
        tokens = b.backwards(tokens)
    if k + BLOCK <= count:
        b.store(row, count - k - BLOCK if minus else k, tokens)
        return
    b.store(scratch, k, tokens)  # its letters are read already
    m = count - k
    shift = BLOCK - m if minus else 0
    to = 0 if minus else k
    for j in range(m):
        row[to + j] = scratch[k + shift + j]
