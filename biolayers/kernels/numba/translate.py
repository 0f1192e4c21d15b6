"""CPU kernel of `translate`: one pass over the tokens, without a branch for each word.

A word's place in the table is the sum of three numbers, one for each of its tokens and looked up by it. `PAD`
is one more digit here, so that words with it find `PAD` in the table like any other.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from biolayers.alphabet import PAD
from biolayers.ops.translate import DIGITS, check
from shared.threads import parallel

_SHARE = 100_000  # words that one thread looks up in about 0.2 ms
_BASE = DIGITS + 1
_DIGIT = np.minimum(np.arange(256), DIGITS - 1)  # of each token
_DIGIT[PAD] = DIGITS
_PLACES = np.stack([_DIGIT * _BASE**2, _DIGIT * _BASE, _DIGIT]).astype(np.uint16)  # (3, 256)


def forward(tokens: Tensor, table: Tensor, start: int = 0, reverse: bool = False) -> Tensor:
    """`biolayers::translate` on a CPU."""
    check(tokens, table, start)
    count = max(0, tokens.shape[1] - start) // 3
    out = tokens.new_empty(tokens.shape[0], count)
    rows = tokens.contiguous().numpy()
    results = torch.full((_BASE,) * 3, PAD, dtype=torch.uint8)
    results[:DIGITS, :DIGITS, :DIGITS] = table
    grain = max(1, _SHARE // max(1, count))
    parallel(
        translate_rows, len(rows), rows, results.view(-1).numpy(), _PLACES, start, reverse, out.numpy(),
        grain=grain,
    )  # fmt: skip
    return out


@njit(nogil=True, cache=True)
def translate_rows(start, stop, tokens, table, places, first, reverse, out):
    """out[b, i] = table[word i of row b]; rows b."""
    length, count = tokens.shape[1], out.shape[1]
    step = -1 if reverse else 1
    for b in range(start, stop):
        row, line = tokens[b], out[b]
        end = length
        while reverse and end > 0 and row[end - 1] == PAD:
            end -= 1
        place = end - 1 - first if reverse else first
        whole = max(0, min(count, (end - first) // 3))
        for i in range(whole):
            x, y, z = row[place], row[place + step], row[place + 2 * step]
            line[i] = table[places[0, x] + places[1, y] + places[2, z]]
            place += 3 * step
        line[whole:] = PAD
