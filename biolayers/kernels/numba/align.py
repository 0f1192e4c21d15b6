"""Local alignment of pairs of sequences within a band of diagonals (Smith & Waterman 1981).

A match is worth `MATCH`, a mismatch and a letter in a gap cost; letters at or above `letters` (ambiguous
ones, gaps) match nothing. Along with the score each cell carries what the report needs of the path that leads
to it, so that no path is traced back.
"""

import numpy as np
from numba import njit

MATCH, MISMATCH, GAP = 1, -1, -2
COLUMNS = 7  # score, matches, columns, first and last place in the query, in the target
_CARRIED = 5  # score, matches, columns, first place in the query, in the target


@njit(nogil=True, cache=True)
def align(first, last, pairs, query, target, partner, letters, band, out):
    """Fill rows `first` to `last` of `out`.

    Args:
        first: Where this share of the pairs begins.
        last: And ends.
        pairs: (n, 4) int64: query row, target row, 1 where the query is read on the other strand, diagonal.
        query: (values (N,) uint8, edges (rows + 1,) int64) of the queries.
        target: The same of the targets.
        partner: (256,) uint8: the token of the other strand.
        letters: How many plain letters there are.
        band: (n,) int64: how many diagonals on each side of a pair's.
        out: (n, COLUMNS) int64; places are half-open, those of the query on the strand that was read.
    """
    for pair in range(first, last):
        row, target_row = pairs[pair, 0], pairs[pair, 1]
        a = query[0][query[1][row] : query[1][row + 1]]
        if pairs[pair, 2]:
            a = _other_strand(a, partner)
        b = target[0][target[1][target_row] : target[1][target_row + 1]]
        _local(a, b, pairs[pair, 3], band[pair], letters, out[pair])


@njit(nogil=True, cache=True)
def _other_strand(sequence, partner):
    length = sequence.shape[0]
    turned = np.empty(length, np.uint8)
    for i in range(length):
        turned[i] = partner[sequence[length - 1 - i]]
    return turned


@njit(nogil=True, cache=True)
def _local(a, b, diagonal, band, letters, out):
    """The best alignment of `a` and `b`; of equally good ones the first that ends."""
    width = 2 * band + 1
    # Cell c of row i is column j = i - diagonal - band + c; cell `width` is outside of the band.
    above = np.zeros((width + 1, _CARRIED), np.int32)
    here = np.zeros((width + 1, _CARRIED), np.int32)
    out[:] = 0
    for i in range(max(0, diagonal - band), min(a.shape[0], b.shape[0] + diagonal + band)):
        here[:] = 0
        shift = i - diagonal - band
        for c in range(max(0, -shift), min(width, b.shape[0] - shift)):
            j = shift + c
            same = a[i] == b[j] and a[i] < letters
            step = MATCH if same else MISMATCH
            diagonally, from_above = above[c, 0] + step, above[c + 1, 0] + GAP
            beside = here[c - 1, 0] + GAP if c else 0
            score = max(diagonally, from_above, beside)
            if score <= 0:
                continue
            if score == diagonally:
                fresh = above[c, 0] == 0
                here[c, 1] = above[c, 1] + same
                here[c, 2] = above[c, 2] + 1
                here[c, 3] = i if fresh else above[c, 3]
                here[c, 4] = j if fresh else above[c, 4]
            else:
                for n in range(1, _CARRIED):
                    here[c, n] = above[c + 1, n] if score == from_above else here[c - 1, n]
                here[c, 2] += 1
            here[c, 0] = score
            if score > out[0]:
                out[0], out[1], out[2] = score, here[c, 1], here[c, 2]
                out[3], out[4], out[5], out[6] = here[c, 3], i + 1, here[c, 4], j + 1
        above, here = here, above
