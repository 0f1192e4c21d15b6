"""`token_conv1d_max_pool` and its derivatives on CPU.

Forward: rows of k-mer tables are added up in registers for a strip of positions (see `kmer`), and only the
best of each window, with its winner, leaves them. Backward: each element of the gradient belongs to one
position; the one-hot bits of the word that stands there say to which sums it is added, and the sums of a
filter stay in registers. For alphabets with more letters than a line has lanes they are tables in memory.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from biolayers.kernels.numba.kmer import choose_group, masks, words
from biolayers.kernels.numba.memory import fresh, fresh_bytes
from biolayers.kernels.numba.simd import (
    LINE_BYTES,
    add_masked,
    add_strip,
    fill,
    lanes_of,
    load,
    peak,
    pick_add,
    pick_strip,
    rectify,
    store,
    store_as,
    strip_of,
    transpose,
    write,
)
from biolayers.kernels.numba.token_conv1d import as_numpy, in_order, tables_of
from biolayers.ops.token_conv1d_max_pool import token_conv1d_max_pool
from biolayers.ops.token_conv1d_pooling import check_pool
from biolayers.ops.token_conv1d_winners import check_winners, check_winners_grad, winner_dtype
from shared.threads import parallel

BLOCK = 64  # windows that are worked on in one go, for one tile of channels
_STRIPS = (1, 2, 3, 4, 5, 8, 10)  # positions that are worked on at once: each is a kernel of its own
_BLOCK = 256  # windows whose gradient is summed up in registers, in backward
_LINES = (1, 2, 3, 5, 8)  # lines of sums that stay in registers at once: each is a kernel of its own
_SHARES, _SHARE = 32, 1 << 16  # at least so many parts of work in backward; windows summed up in one part


def forward(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    relu: bool = False,
    pool_size: int = 1,
    pool_stride: int = 1,
    channels_last: bool = False,
) -> tuple[Tensor, Tensor]:
    """`biolayers::token_conv1d_max_pool` for float32 and float64."""
    windows = check_pool(tokens, weight, bias, stride, padding, dilation, pool_size, pool_stride)
    if not _finite(weight, bias):  # comparisons below would lose NaN
        return token_conv1d_max_pool.reference(
            tokens, weight, bias, stride, padding, dilation, relu, pool_size, pool_stride, channels_last
        )
    (batch, _), (out, channels, k) = tokens.shape, weight.shape
    lanes = lanes_of(weight.element_size())
    length, positions = (windows - 1) * pool_stride + pool_size, batch * windows * pool_size
    group = choose_group(k, channels, positions, line=LINE_BYTES, copies=1, spill=0.3)
    found = words(as_numpy(tokens), channels, k, length, stride, padding, dilation, group=group, lanes=lanes)
    tiles = -(-out // lanes)
    tables = tables_of(weight.detach(), bias, found, tiles, lanes)
    values, winners = _results(weight, batch, out, windows, pool_size, channels_last)
    parallel(
        max_rows,
        batch * -(-windows // BLOCK) * tiles,
        found.codes,
        found.starts,
        tables,
        values.numpy(),
        winners.numpy(),
        (pool_size, pool_stride),
        (relu, channels_last),
        (0,) * _strip(pool_size),
        grain=max(1, (1 << 15) // (pool_size * min(BLOCK, windows))),
    )
    return values, winners


def at_winners(
    tokens: Tensor,
    winners: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    pool_size: int = 1,
    pool_stride: int = 1,
    channels_last: bool = False,
) -> Tensor:
    """`biolayers::token_conv1d_winners` for float32 and float64."""
    windows = check_winners(
        tokens, winners, weight, bias, stride, padding, dilation, pool_size, pool_stride, channels_last
    )
    (batch, _), (out, channels, k) = tokens.shape, weight.shape
    length = (windows - 1) * pool_stride + pool_size
    found = words(as_numpy(tokens), channels, k, length, stride, padding, dilation, group=1, lanes=1)
    taps = weight.new_zeros(out, k, channels + 1)
    taps[:, :, :channels] = weight.detach().transpose(1, 2)
    start = weight.new_zeros(out) if bias is None else bias.detach()
    values = weight.new_empty(winners.shape)
    parallel(
        pick_rows,
        batch,
        found.codes,
        found.starts,
        taps.numpy(),
        as_numpy(start),
        as_numpy(winners),
        values.numpy(),
        (pool_size, pool_stride),
        channels_last,
        grain=max(1, (1 << 17) // max(1, out * windows * k)),
    )
    return values


def backward(
    tokens: Tensor,
    winners: Tensor,
    grad: Tensor,
    channels: int,
    k: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    pool_size: int = 1,
    pool_stride: int = 1,
    channels_last: bool = False,
) -> tuple[Tensor, Tensor]:
    """`biolayers::token_conv1d_winners_backward` for float32 and float64."""
    check_winners_grad(
        tokens, winners, grad, channels, k, stride, padding, dilation, pool_size, pool_stride, channels_last
    )
    given, chosen = as_numpy(grad), as_numpy(winners)
    if channels_last:
        given, chosen = given.transpose(0, 2, 1), chosen.transpose(0, 2, 1)
    plan = _Plan(k, stride, padding, dilation, pool_size, pool_stride)
    lanes = lanes_of(grad.element_size())
    sums = _masked_sums if channels <= lanes else _scattered_sums
    return sums(as_numpy(tokens), given, chosen, channels, plan)


@dataclass(frozen=True)
class _Plan:
    """What the adjoint needs to know of the forward call, apart from its tensors."""

    k: int
    stride: int
    padding: int
    dilation: int
    pool_size: int
    pool_stride: int

    def length(self, windows: int) -> int:
        """Positions that some window covers."""
        return (windows - 1) * self.pool_stride + self.pool_size

    @property
    def geometry(self) -> tuple[int, int, int]:
        return self.stride, self.padding, self.dilation


def _masked_sums(
    tokens: np.ndarray, grad: np.ndarray, winners: np.ndarray, channels: int, plan: _Plan
) -> tuple[Tensor, Tensor]:
    """The adjoint for few letters: a line of sums holds all letters of a few taps, chosen by one-hot bits."""
    batch, out, windows = grad.shape
    lanes = lanes_of(grad.itemsize)
    field = 1 << (channels - 1).bit_length()
    group = lanes // field
    lines = -(-plan.k // group)
    passes = -(-lines // _LINES[-1])
    width = next(n for n in _LINES if n * passes >= lines)
    found = masks(
        tokens,
        channels,
        width * passes * group,
        plan.length(windows),
        *plan.geometry,
        field=field,
        lanes=lanes,
    )
    tiles, shares = -(-out // lanes), _shares(batch, -(-out // lanes), windows)
    sums = np.empty((shares, out, width * passes, lanes), grad.dtype)
    biases = np.empty((shares, out), grad.dtype)
    parallel(
        masked_rows,
        tiles * shares,
        found.codes,
        found.starts,
        grad,
        winners,
        sums,
        biases,
        (plan.pool_size, plan.pool_stride),
        (0,) * width,
        grain=max(1, (1 << 15) * shares // max(1, batch * windows * lanes)),
    )
    taps = in_order(torch.from_numpy(sums)).view(out, -1, field)[:, : plan.k, :channels]
    return taps.transpose(1, 2).contiguous(), in_order(torch.from_numpy(biases)).clone()


def _scattered_sums(
    tokens: np.ndarray, grad: np.ndarray, winners: np.ndarray, channels: int, plan: _Plan
) -> tuple[Tensor, Tensor]:
    """The adjoint for many letters: each element goes to one place in a table of sums per group of taps."""
    batch, out, windows = grad.shape
    shares = _shares(batch, out, windows)
    positions = max(1, batch * windows // shares)
    group = choose_group(plan.k, channels, positions, line=grad.itemsize, copies=1, spill=0.3)
    found = words(tokens, channels, plan.k, plan.length(windows), *plan.geometry, group=group, lanes=1)
    partial = np.empty((shares, out, found.groups * group, channels + 1), grad.dtype)
    biases = np.empty((shares, out), grad.dtype)
    parallel(
        scatter_rows,
        out * shares,
        found.codes,
        found.starts,
        grad,
        winners,
        partial,
        biases,
        (group, plan.pool_size, plan.pool_stride),
        grain=max(1, (1 << 15) * shares // max(1, batch * windows)),
    )
    taps = in_order(torch.from_numpy(partial))[:, : plan.k, :channels]
    return taps.transpose(1, 2).contiguous(), in_order(torch.from_numpy(biases)).clone()


def _shares(batch: int, tiles: int, windows: int) -> int:
    """Into how many parts the batch is cut: by shapes alone, for the same sums whatever the threads."""
    return max(1, min(batch, max(-(-_SHARES // tiles), -(-batch * windows // _SHARE))))


def _finite(weight: Tensor, bias: Tensor | None) -> bool:
    """Whether no sum of weights can overflow, or be NaN."""
    size = weight.detach().abs().sum()
    return math.isfinite(size if bias is None else size + bias.detach().abs().sum())


def _strip(pool_size: int) -> int:
    """How many positions are worked on at once: few of them twice, each strip costs something, too."""
    fitting = [strip for strip in _STRIPS if strip <= pool_size]
    return min(fitting, key=lambda strip: -(-pool_size // strip) * (strip + 0.5))


def _results(
    like: Tensor, batch: int, out: int, windows: int, pool_size: int, channels_last: bool
) -> tuple[Tensor, Tensor]:
    shape = (batch, windows, out) if channels_last else (batch, out, windows)
    if winner_dtype(pool_size) == torch.uint8:
        return fresh(like, *shape), fresh_bytes(*shape)
    return fresh(like, *shape), like.new_empty(shape, dtype=torch.int32)


@njit(nogil=True, cache=True)
def max_rows(start, stop, codes, starts, tables, values, winners, pool, options, strip):
    """The best of each window and its winner; rows (tile, b, block of windows)."""
    _, groups, rows, lanes = tables.shape
    (size, step), (relu, last) = pool, options
    batch = values.shape[0]
    windows, channels = values.shape[1:] if last else (values.shape[2], values.shape[1])
    blocks = (windows + BLOCK - 1) // BLOCK
    flat, line, target, chosen = (
        tables.reshape(-1),
        codes.reshape(-1),
        values.reshape(-1),
        winners.reshape(-1),
    )
    bests, wins = np.empty(lanes * lanes, tables.dtype), np.empty(lanes * lanes, tables.dtype)  # [window][o]
    lowest, none, cut = fill(flat, -np.inf), fill(flat, 0.0), fill(flat, size)
    width = len(strip)
    for row in range(start, stop):
        tile, spot = divmod(row, batch * blocks)
        b, block = divmod(spot, blocks)
        side = min(lanes, channels - tile * lanes)
        stop_at = min(windows, (block + 1) * BLOCK)
        for first in range(block * BLOCK, stop_at, lanes):
            count = min(lanes, stop_at - first)
            for q in range(count):
                word = b * codes.shape[1] + (first + q) * step
                best, winner = lowest, none
                for t in range(0, size, width):
                    t = min(t, size - width)  # the last strip may repeat positions: they do not win again
                    table = tile * groups * rows * lanes
                    lines = pick_strip(flat, table, line, word + t + starts[0], strip)
                    for i in range(1, groups):
                        table += rows * lanes
                        lines = pick_add(flat, table, line, word + t + starts[i], lines)
                    best, winner = peak(lines, best, winner, fill(flat, t))
                if relu:
                    best, winner = rectify(best, winner, cut)
                write(bests, q * lanes, best)
                write(wins, q * lanes, winner)
            high, ways = load(bests, 0, lanes), load(wins, 0, lanes)
            if last:
                place, pace = (b * windows + first) * channels + tile * lanes, channels
            else:
                place, pace = (b * channels + tile * lanes) * windows + first, windows
                high, ways = transpose(high), transpose(ways)
            if side == lanes and count == lanes:
                store(target, place, pace, high)
                store_as(chosen, place, pace, ways)
            else:
                store(bests, 0, lanes, high)
                store(wins, 0, lanes, ways)
                across, down = (side, count) if last else (count, side)
                for i in range(down):
                    for j in range(across):
                        target[place + i * pace + j] = bests[i * lanes + j]
                        chosen[place + i * pace + j] = chosen.dtype.type(wins[i * lanes + j])


@njit(nogil=True, cache=True)
def pick_rows(start, stop, codes, starts, taps, bias, winners, values, pool, last):
    """The sums of taps (out, k, base) at the winners; rows b."""
    out, k, _ = taps.shape
    size, step = pool
    windows = winners.shape[1] if last else winners.shape[2]
    for b in range(start, stop):
        for o in range(out):
            for q in range(windows):
                spot = (b, q, o) if last else (b, o, q)
                total = taps.dtype.type(0)
                if 0 <= winners[spot] < size:
                    total += bias[o]
                    for j in range(k):
                        total += taps[o, j, codes[b, starts[j] + q * step + winners[spot]]]
                values[spot] = total


@njit(nogil=True, cache=True)
def masked_rows(start, stop, masks, starts, grad, winners, sums, biases, pool, strip):
    """Sums (shares, out, lines, lanes) of grad (b, out, windows) by the one-hot bits of its winners' words.

    Rows (tile of channels, share). Sums over a block stay in registers; blocks are added up in memory.
    """
    batch, channels, windows = grad.shape
    shares, _, lines, lanes = sums.shape
    size, step = pool
    width = len(strip)
    line, target = masks.reshape(-1), sums.reshape(-1)
    for row in range(start, stop):
        tile, share = divmod(row, shares)
        tile_end = min(channels, (tile + 1) * lanes)
        sums[share, tile * lanes : tile_end] = 0
        biases[share, tile * lanes : tile_end] = 0
        for b in range(batch * share // shares, batch * (share + 1) // shares):
            for first in range(0, windows, _BLOCK):
                last = min(windows, first + _BLOCK)
                for o in range(tile * lanes, tile_end):
                    for i in range(0, lines, width):
                        found, total = strip_of(target, strip), grad.dtype.type(0)
                        for q in range(first, last):
                            winner, value = np.int64(winners[b, o, q]), grad[b, o, q]
                            if not 0 <= winner < size:
                                winner, value = size, grad.dtype.type(0)
                            total += value
                            place = b * masks.shape[1] + q * step + winner
                            found = add_masked(found, line, place, starts, i, value)
                        add_strip(target, ((share * channels + o) * lines + i) * lanes, found)
                    biases[share, o] += total


@njit(nogil=True, cache=True)
def scatter_rows(start, stop, codes, starts, grad, winners, partial, biases, plan):
    """partial[share, o, tap, digit] = the sum of grad over the winners' words with this digit.

    Rows (o, share). partial (shares, out, taps, base), biases (shares, out).
    """
    batch, _, windows = grad.shape
    shares, _, taps, base = partial.shape
    group, size, step = plan
    groups, length = taps // group, base**group
    sums = np.empty(groups * length, grad.dtype)
    line = codes.reshape(-1)
    for row in range(start, stop):
        o, share = divmod(row, shares)
        sums[:] = 0
        for b in range(batch * share // shares, batch * (share + 1) // shares):
            for q in range(windows):
                winner = np.int64(winners[b, o, q])
                if 0 <= winner < size:
                    value = grad[b, o, q]
                    word = b * codes.shape[1] + q * step + winner
                    for i in range(groups):
                        sums[i * length + np.int64(line[word + starts[i]])] += value
        for i in range(groups):
            fold(sums[i * length : (i + 1) * length], base, partial[share, o, i * group : (i + 1) * group])
        biases[share, o] = sums[0]


@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz"})
def fold(sums, base, out):
    """The sums by each digit of their code, out (group, base); the sum of all is left in the first."""
    size = sums.size
    for j in range(out.shape[0] - 1, -1, -1):
        size //= base
        for digit in range(base):
            out[j, digit] = sums[digit * size : (digit + 1) * size].sum()
        for digit in range(1, base):
            for row in range(size):
                sums[row] += sums[digit * size + row]
