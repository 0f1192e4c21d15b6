"""`token_pair_counts` on CPU: one table of pairs per distance between taps, moved along from tap to tap.

With stride 1 the pairs under taps j and j + d are those under taps 0 and d, but for what the window of
positions loses at its start and gains at its end. So each pair of letters is counted once per distance, not
once per pair of taps. With a longer stride the taps see different letters, and every pair of taps is counted.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from biolayers.ops.token_pair_counts import check_counts
from shared.threads import parallel

_SHARES = 16  # at most so many parts of the batch, each with counts of its own


def count(
    tokens: Tensor, channels: int, k: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> Tensor:
    """`biolayers::token_pair_counts`."""
    length = check_counts(tokens, channels, k, stride, padding, dilation)
    base = channels + 1
    shares = max(1, min(_SHARES, len(tokens) * length * k >> 16))
    counts = np.zeros((shares, k, k, base, base), np.int64)
    rows = slide_rows if stride == 1 else pair_rows
    parallel(
        rows,
        shares,
        tokens.contiguous().numpy(),
        counts,
        length,
        (stride, padding, dilation),
        grain=max(1, (1 << 17) * shares // max(1, len(tokens) * length * k)),
    )
    total = counts.sum(0)[:, :, :channels, :channels]  # (j, j + d, c, c'), the upper half
    upper = total.transpose(2, 0, 3, 1).reshape(channels * k, channels * k)
    lower = total.transpose(3, 1, 2, 0).reshape(channels * k, channels * k)
    same = np.tile(np.eye(k, dtype=bool), (channels, channels))  # both taps the same: in either half
    return torch.from_numpy(upper + np.where(same, 0, lower))


@njit(nogil=True, cache=True)
def slide_rows(start, stop, tokens, counts, length, geometry):
    """counts[share, i, j] = how often each two letters stand under taps i <= j, for stride 1; rows shares."""
    _, padding, dilation = geometry
    shares, k, _, base, _ = counts.shape
    digits = np.full(length + dilation * (k - 1), base - 1, np.int64)
    inside = max(0, min(tokens.shape[1], digits.size - padding))
    for share in range(start, stop):
        counted = counts[share]
        for b in range(len(tokens) * share // shares, len(tokens) * (share + 1) // shares):
            for p in range(inside):
                digits[padding + p] = min(tokens[b, p], base - 1)
            for p in range(length):
                for d in range(k):
                    counted[0, d, digits[p], digits[p + d * dilation]] += 1
            for j in range(1, k):  # counted[j] holds what tap j sees beyond tap j - 1
                for p in range((j - 1) * dilation, j * dilation):
                    for d in range(k - j):
                        ahead = d * dilation
                        counted[j, j + d, digits[p], digits[p + ahead]] -= 1
                        counted[j, j + d, digits[p + length], digits[p + length + ahead]] += 1
        for j in range(1, k):
            for d in range(k - j):
                counted[j, j + d] += counted[j - 1, j + d - 1]


@njit(nogil=True, cache=True)
def pair_rows(start, stop, tokens, counts, length, geometry):
    """The same for any stride."""
    stride, padding, dilation = geometry
    shares, k, _, base, _ = counts.shape
    digits = np.full((length - 1) * stride + dilation * (k - 1) + 1, base - 1, np.int64)
    inside = max(0, min(tokens.shape[1], digits.size - padding))
    for share in range(start, stop):
        for b in range(len(tokens) * share // shares, len(tokens) * (share + 1) // shares):
            for p in range(inside):
                digits[padding + p] = min(tokens[b, p], base - 1)
            for p in range(0, length * stride, stride):
                for i in range(k):
                    for j in range(i, k):
                        counts[share, i, j, digits[p + i * dilation], digits[p + j * dilation]] += 1
