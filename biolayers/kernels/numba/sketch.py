"""Sketches of sequences, and an index that finds the sequences with a word.

A word is a k-mer without ambiguous letters, as a number of base `letters`; where there are two strands, the
smaller of the numbers of both (canonical), with a bit that says which one it was. Of each sequence those
words are kept whose hashes are smallest (bottom sketch: Broder 1997; Ondov et al. 2016): two sequences that
share words keep the same ones of them.

All sequences lie one after the other in `values`, cut at `edges`; results of a kernel belong to its share of
the rows alone. Entries of a sketch: word uint32, place = 2 * position + strand bit int32, row int32.
"""

import numpy as np
from numba import njit

from biolayers.kernels.numba.draws import mix

_NONE = np.int64(1) << 62


@njit(nogil=True, cache=True)
def words(first, last, values, edges, k, letters, partner, out):
    """Fill `out` (N,) int64: for each place the hash << 1 | strand of the word that begins there, or none.

    `partner` (256,) uint8 has the token of the other strand; an empty array where there is none.
    """
    top = np.int64(letters) ** (k - 1)
    both = partner.shape[0] > 0
    for row in range(first, last):
        valid = 0
        forward = np.int64(0)
        backward = np.int64(0)
        for at in range(edges[row], edges[row + 1]):
            token = np.int64(values[at])
            if token < letters:
                valid += 1
                forward = (forward % top) * letters + token
                if both:
                    backward = backward // letters + np.int64(partner[token]) * top
            else:
                valid = 0
                forward = 0
                backward = 0
            place = at - k + 1
            if place >= edges[row]:
                out[place] = _NONE
                if valid >= k:
                    out[place] = (forward << 1) if not both or forward <= backward else (backward << 1) | 1
        for at in range(max(edges[row], edges[row + 1] - k + 1), edges[row + 1]):
            out[at] = _NONE


@njit(nogil=True, inline="always")
def hash_of(word):
    """A 32-bit hash of a word."""
    return np.int64(mix(np.uint64(word) + np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32))


@njit(nogil=True, cache=True)
def bounds(first, last, found, edges, most, out, counts):
    """For each row the largest hash that it keeps, so that `most` places are kept, and how many it keeps."""
    longest = 0
    for row in range(first, last):
        longest = max(longest, edges[row + 1] - edges[row])
    hashes = np.empty(longest, np.int64)
    for row in range(first, last):
        n = 0
        for at in range(edges[row], edges[row + 1]):
            if found[at] != _NONE:
                hashes[n] = hash_of(found[at] >> 1)
                n += 1
        out[row] = _NONE
        if n > most:
            out[row] = np.partition(hashes[:n], most - 1)[most - 1]
        counts[row] = min(n, most)


@njit(nogil=True, cache=True)
def entries(first, last, found, edges, bound, starts, word, place):
    """Write the entries of each row from `starts` of it on."""
    for row in range(first, last):
        n = starts[row]
        for at in range(edges[row], edges[row + 1]):
            if n < starts[row + 1] and found[at] != _NONE and hash_of(found[at] >> 1) <= bound[row]:
                word[n] = found[at] >> 1
                place[n] = ((at - edges[row]) << 1) | (found[at] & 1)
                n += 1


@njit(nogil=True, cache=True)
def index(word, starts, bits):
    """Sort entries into 2**bits buckets by hash: the buckets' edges, and entries and rows in their order."""
    shift = 32 - bits
    edges = np.zeros((1 << bits) + 1, np.int64)
    for e in range(word.shape[0]):
        edges[(hash_of(word[e]) >> shift) + 1] += 1
    for b in range(1 << bits):
        edges[b + 1] += edges[b]
    at = edges[:-1].copy()
    order = np.empty(word.shape[0], np.int32)
    rows = np.empty(word.shape[0], np.int32)
    for row in range(starts.shape[0] - 1):
        for e in range(starts[row], starts[row + 1]):
            b = hash_of(word[e]) >> shift
            order[at[b]] = e
            rows[at[b]] = row
            at[b] += 1
    return edges, order, rows


@njit(nogil=True, cache=True)
def jaccard(first, last, a, b, word_a, starts_a, word_b, starts_b, most, out):
    """The share of common words among the `most` smallest hashes of both sketches, for row pairs (a, b)."""
    for pair in range(first, last):
        left = _hashes(word_a[starts_a[a[pair]] : starts_a[a[pair] + 1]])
        right = _hashes(word_b[starts_b[b[pair]] : starts_b[b[pair] + 1]])
        i = 0
        j = 0
        both = 0
        union = 0
        while union < most and (i < left.shape[0] or j < right.shape[0]):
            union += 1
            if j == right.shape[0] or (i < left.shape[0] and left[i] < right[j]):
                i += 1
            elif i == left.shape[0] or right[j] < left[i]:
                j += 1
            else:
                both += 1
                i += 1
                j += 1
        out[pair] = both / union if union else 0.0


@njit(nogil=True, cache=True)
def _hashes(word):
    """The different hashes of a sketch, ascending."""
    hashes = np.empty(word.shape[0], np.int64)
    for e in range(word.shape[0]):
        hashes[e] = hash_of(word[e])
    return np.unique(hashes)
