"""Count the letters of windows over tokens: those that are G or C, and those that are plain at all."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def count(first, last, tokens, size, channels, marked, out):
    """Fill rows `first` to `last` of `out` with the counts of blocks of `size` letters.

    Args:
        first: Where this share of the blocks begins.
        last: And ends.
        tokens: (letters,) uint8.
        size: How many letters a block has.
        channels: Tokens below are plain letters.
        marked: (256,) uint8: 1 for the tokens that count as G or C.
        out: (blocks, 2) int64: G or C, and plain.
    """
    for i in range(first, last):
        strong, plain = 0, 0
        for k in range(i * size, (i + 1) * size):
            strong += marked[tokens[k]]
            plain += tokens[k] < channels
        out[i, 0] = strong
        out[i, 1] = plain


@njit(nogil=True, cache=True)
def windows(blocks, width, step, out):
    """Sums of `width` blocks, from every `step`-th block on: (blocks, 2) to (windows, 2), both int64."""
    for c in range(blocks.shape[1]):
        total = np.int64(0)
        for k in range(width):
            total += blocks[k, c]
        out[0, c] = total
        for i in range(1, out.shape[0]):
            for k in range((i - 1) * step, i * step):
                total += blocks[k + width, c] - blocks[k, c]
            out[i, c] = total
