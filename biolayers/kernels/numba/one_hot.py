"""Write one channel per letter. Rows are cut into parts, so that a long one is shared among threads."""

import numpy as np
from numba import njit

PART = 1 << 14  # letters of a part: its tokens stay in the first cache while the channels are written


def parts(length: int) -> int:
    """How many parts a row has."""
    return max(1, -(-length // PART))


@njit(nogil=True, cache=True)
def one_hot(first, last, tokens, one, channels, out):
    """Fill parts `first` to `last`, which count through the rows.

    Args:
        first: Where this share of the parts begins.
        last: And ends.
        tokens: (n, l) uint8.
        one: (1,): what a 1 is, as an integer of as many bytes.
        channels: How many.
        out: (n * channels * l,) of the same kind.
    """
    length = tokens.shape[1]
    count = max(1, (length + PART - 1) // PART)
    yes, no = one[0], one[0] ^ one[0]
    for i in range(first, last):
        row, begin = i // count, i % count * PART
        size = min(PART, length - begin)
        part = tokens[row, begin : begin + size]
        for channel in range(channels):
            at = (row * channels + channel) * length + begin
            into = out[at : at + size]
            token = np.uint8(channel)
            for k in range(size):
                into[k] = yes if part[k] == token else no
