"""`align_path` on CPU: Gotoh's recursion, with one byte for each cell: where its states came from."""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from biolayers.ops.align import check_lengths, check_pairs
from shared.threads import parallel

_GRAIN = 1 << 16  # cells that are worth a thread
_PAIR, _DOWN, _RIGHT, _BEYOND = 0, 1, 2, 3


def path(
    similarity: Tensor, lengths: Tensor, gap_open: Tensor, gap_extend: Tensor, mode: str = "global"
) -> tuple[Tensor, Tensor]:
    """`biolayers::align_path` for float32 and float64."""
    check_pairs(similarity, lengths, gap_open, gap_extend, mode)
    b, n, m = similarity.shape
    check_lengths(lengths, n, m)
    costs = torch.stack([gap_open, gap_extend], 1).detach().numpy()
    partner, gaps = np.full((b, n), -1), np.zeros((b, 2), np.int64)
    tensors = similarity.detach().contiguous().numpy(), lengths.contiguous().numpy(), costs
    grain = max(1, _GRAIN // max(1, n * m))
    parallel(find_paths, b, *tensors, mode == "local", partner, gaps, grain=grain)
    return torch.from_numpy(partner), torch.from_numpy(gaps)


@njit(nogil=True, cache=True)
def find_paths(start, stop, similarity, lengths, costs, local, partner, gaps):
    """Fill rows `start` to `stop` of `partner` (b, n), which comes as -1, and of `gaps` (b, 2), as 0."""
    for pair in range(start, stop):
        rows, columns = lengths[pair]
        came = np.zeros((rows + 1, columns + 1), np.uint8)
        i, j, state = _fill(similarity[pair], rows, columns, costs[pair, 0], costs[pair, 1], local, came)
        while state != _BEYOND and (i > 0 or j > 0):
            before = (came[i, j] >> (2 * state)) & 3
            if state == _PAIR:
                partner[pair, i - 1] = j - 1
            else:
                gaps[pair, 1 if before == state else 0] += 1
            i, j = i - (state != _RIGHT), j - (state != _DOWN)
            state = before


@njit(nogil=True, cache=True)
def _fill(similarity, rows, columns, opening, extension, local, came):
    """Fill `came` (two bits for each state: the one before); returns where the best path ends."""
    kind = similarity.dtype.type
    none, zero = kind(-np.inf), kind(0)
    worth = np.full(
        (3, columns + 1), none, similarity.dtype
    )  # pair, down, right of the row above, then of this
    best, end = zero, (0, 0, _BEYOND)
    for i in range(rows + 1):
        across = none  # the best of cell (i - 1, j - 1)
        via, left_pair, left_down, left_right = _PAIR, none, none, none
        for j in range(columns + 1):
            over_pair, over_down, over_right = worth[0, j], worth[1, j], worth[2, j]
            pair = zero if i == 0 and j == 0 and not local else none
            if i > 0 and j > 0:
                from_pair = via
                if local and not across > zero:
                    across, from_pair = zero, _BEYOND
                pair = across + similarity[i - 1, j - 1]
                came[i, j] |= from_pair
            down, from_down = _choose(over_pair + opening, over_down + extension, over_right + opening)
            right, from_right = _choose(left_pair + opening, left_down + opening, left_right + extension)
            came[i, j] |= from_down << (2 * _DOWN) | from_right << (2 * _RIGHT)
            across, via = _choose(over_pair, over_down, over_right)
            worth[0, j], worth[1, j], worth[2, j] = pair, down, right
            left_pair, left_down, left_right = pair, down, right
            if local and pair > best:
                best, end = pair, (i, j, _PAIR)
    if local:
        return end
    _, state = _choose(worth[0, columns], worth[1, columns], worth[2, columns])
    return rows, columns, state


@njit(nogil=True, cache=True)
def _choose(pair, down, right):
    """The largest of three, and which it is; the first one of equals."""
    if pair >= down and pair >= right:
        return pair, _PAIR
    if down >= right:
        return down, _DOWN
    return right, _RIGHT
