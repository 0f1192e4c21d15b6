"""k-mer tables: what lets a convolution over tokens add whole rows instead of multiplying by one-hot columns.

The k taps are cut into groups of g. For each group a table holds, for every word of g tokens, the sum of the
weights that this word selects, one row of output channels per word; so g multiply-adds over all channels
become one addition. A word is a number in base `channels + 1`: the last digit stands for every token that
selects nothing (N, IUPAC letters, PAD, and the padding at both ends). Rows of words that do not occur are
never touched and stay out of the caches, so the extra digit is free.

Output channels are handled in tiles of one SIMD line. Codes are rows of a table, counted in elements.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from biolayers.kernels.numba.simd import add, read, write
from shared.threads import parallel

_L1, _L2 = 28 << 10, 768 << 10  # bytes that tables may take and still be found in a core's caches


@dataclass(frozen=True)
class Words:
    """How the taps are cut, and the codes of all words of a batch.

    Word i of output position p has the code `codes[b, starts[i] + p]`, for any stride and dilation.
    """

    group: int
    codes: np.ndarray  # (b, n) uint32
    starts: np.ndarray  # (groups,) int64

    @property
    def groups(self) -> int:
        return len(self.starts)


@functools.cache
def choose_group(k: int, channels: int, positions: int, *, line: int, copies: int, spill: float) -> int:
    """The number of taps per table that costs least: visits of rows against the handling of whole tables.

    A visit of a row is the dearer the more memory the rows in use take; the slopes are measured.

    Args:
        k: taps.
        channels: of the weight.
        positions: output positions of the whole batch.
        line: bytes of a row.
        copies: how often each table is built, emptied or folded.
        spill: what each doubling beyond L1 adds to a visit, as a share of it.
    """

    def cost(group: int) -> float:
        groups = -(-k // group)
        touched = groups * min(channels**group, positions) * line
        visit = 1.0 + spill * _doublings(touched, _L1) + 0.5 * _doublings(touched, _L2)
        return positions * groups * visit + copies * groups * (channels + 1) ** group

    return min((g for g in range(1, min(k, 8) + 1) if g == 1 or (channels + 1) ** g <= 1 << 16), key=cost)


def _doublings(size: int, room: int) -> float:
    return math.log2(max(1.0, size / room))


def words(
    tokens: np.ndarray,
    channels: int,
    k: int,
    length: int,
    stride: int,
    padding: int,
    dilation: int,
    *,
    group: int,
    lanes: int,
) -> Words:
    """Cut k taps into groups and find the code of every word that `length` output positions need."""
    digits = np.arange(channels + 1, dtype=np.uint32) * np.uint32(lanes)
    return _words(
        tokens, digits, channels + 1, k, length, stride, padding, dilation, group=group, slack=lanes
    )


def masks(
    tokens: np.ndarray,
    channels: int,
    k: int,
    length: int,
    stride: int,
    padding: int,
    dilation: int,
    *,
    field: int,
    lanes: int,
) -> Words:
    """The same words as one-hot bits: `field` of them (>= `channels`) for each of `lanes // field` taps."""
    digits = np.append(np.uint32(1) << np.arange(channels, dtype=np.uint32), np.uint32(0))
    return _words(
        tokens, digits, 1 << field, k, length, stride, padding, dilation, group=lanes // field, slack=1
    )


def _words(
    tokens: np.ndarray,
    digits: np.ndarray,
    base: int,
    k: int,
    length: int,
    stride: int,
    padding: int,
    dilation: int,
    *,
    group: int,
    slack: int,
) -> Words:
    """Words as numbers in any base, from what each token counts; the last of `digits` is of all others."""
    # Word i of position p starts at p * stride + first[i]; codes that leave the same remainder lie together.
    first = np.arange(-(-k // group), dtype=np.int64) * (group * dilation)
    remainders, rank = np.zeros(1, np.int64), 0
    if stride > 1:
        remainders, rank = np.unique(first % stride, return_inverse=True)
    columns = int(first[-1]) // stride + length + slack  # what is read may reach beyond the last position
    codes = np.empty((len(tokens), len(remainders) * columns), np.uint32)
    grain = max(1, (1 << 15) // codes.shape[1]) if codes.size else 1
    parallel(
        code_rows,
        len(tokens),
        tokens,
        codes,
        remainders,
        digits,
        base,
        group,
        stride,
        padding,
        dilation,
        grain=grain,
    )
    return Words(group, codes, rank * columns + first // stride)


@njit(nogil=True, cache=True)
def code_rows(start, stop, tokens, codes, remainders, values, base, group, stride, padding, dilation):
    """codes[b, r * columns + x] = sum_t digit[x * stride + remainders[r] + t * dilation] * base^t."""
    columns = codes.shape[1] // remainders.size
    others = values.size - 1
    reach = (columns - 1) * stride + remainders[-1] + (group - 1) * dilation + 1
    digits = np.full(reach, values[others], np.uint32)
    inside = max(0, min(tokens.shape[1], reach - padding))
    for b in range(start, stop):
        for i in range(inside):
            digits[padding + i] = values[min(np.int64(tokens[b, i]), others)]
        for r in range(remainders.size):
            line = codes[b, r * columns : (r + 1) * columns]
            line[:] = 0
            power = np.uint32(1)
            for t in range(group):
                shifted = digits[remainders[r] + t * dilation :]
                if stride == 1:  # a loop of its own, which becomes vector instructions
                    for x in range(columns):
                        line[x] += shifted[x] * power
                else:
                    for x in range(columns):
                        line[x] += shifted[x * stride] * power
                power *= np.uint32(base)


@njit(nogil=True, cache=True)
def build_rows(start, stop, columns, bias, tables, group):
    """Fill tables[t, i, code] = sum_j columns[i * group + j, digit_j(code)], the bias added in group 0.

    columns (taps, base, out) with zeros for the last digit; bias (out,); tables (tiles, groups, rows, lanes).
    """
    _, groups, rows, lanes = tables.shape
    base, width = columns.shape[1:]
    flat = tables.reshape(-1)
    weights = columns.reshape(-1)
    for unit in range(start, stop):
        t, i = divmod(unit, groups)
        table = unit * rows * lanes
        nothing = read(weights, (base - 1) * width)
        write(flat, table, read(bias, t * lanes) if i == 0 else nothing)
        size = lanes
        for tap in range(i * group, (i + 1) * group):
            for digit in range(base - 1, -1, -1):  # digit 0 last: it is added in place
                weight = read(weights, (tap * base + digit) * width + t * lanes)
                for row in range(0, size, lanes):
                    write(flat, table + digit * size + row, add(read(flat, table + row), weight))
            size *= base
