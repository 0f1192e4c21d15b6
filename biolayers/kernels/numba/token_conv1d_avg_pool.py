"""`token_conv1d_avg_pool` and its gradient on CPU, a few windows at a time, everything of them in L1.

Forward, the positions that some windows cover are convolved (rows of k-mer tables, see `kmer`), activated in
place, and added up window by window. Backward, they are convolved again for their slopes, the gradient is
spread over them, and the products are added to tables of sums, as in `token_conv1d`.
"""

import math

import numpy as np
from numba import njit
from torch import Tensor

from biolayers.kernels.numba.activations import KINDS, activate, times_slope
from biolayers.kernels.numba.kmer import choose_group, words
from biolayers.kernels.numba.memory import fresh
from biolayers.kernels.numba.simd import (
    LINE_BYTES,
    add,
    drop_add,
    fill,
    lanes_of,
    load,
    pick_add,
    pick_strip,
    read,
    store,
    store_strip,
    transpose,
    write,
)
from biolayers.kernels.numba.token_conv1d import as_numpy, fold, in_order, tables_of
from biolayers.ops.token_conv1d_avg_pool import check_avg_pool, check_avg_pool_grad
from shared.simd import mul
from shared.threads import parallel

_LINES = 128  # positions that are worked on in one go, at least if there are so many
_RUN = 32  # lines that are added up before they are added to the others: long sums stay exact
_SHARES, _SHARE = 32, 1 << 16  # at least so many parts of work in backward; positions summed up in one part


def forward(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    activation: str | None = None,
    pool_size: int = 1,
    pool_stride: int = 1,
    channels_last: bool = False,
) -> Tensor:
    """`biolayers::token_conv1d_avg_pool` for float32 and float64."""
    windows = check_avg_pool(
        tokens, weight, bias, stride, padding, dilation, activation, pool_size, pool_stride
    )
    (batch, _), (out, channels, k) = tokens.shape, weight.shape
    lanes = lanes_of(weight.element_size())
    length, positions = (windows - 1) * pool_stride + pool_size, batch * windows * pool_size
    group = choose_group(k, channels, positions, line=LINE_BYTES, copies=1, spill=0.3)
    found = words(as_numpy(tokens), channels, k, length, stride, padding, dilation, group=group, lanes=lanes)
    tiles, side = -(-out // lanes), _side(windows, pool_size, pool_stride, lanes)
    tables = tables_of(weight.detach(), bias, found, tiles, lanes)
    shape = (batch, windows, out) if channels_last else (batch, out, windows)
    means = fresh(weight, *shape)
    parallel(
        mean_rows, batch * -(-windows // side) * tiles, found.codes, found.starts, tables, means.numpy(),
        (pool_size, pool_stride, side), KINDS[activation], channels_last,
        grain=max(1, (1 << 15) // (pool_size * min(side, windows))),
    )  # fmt: skip
    return means


def backward(
    tokens: Tensor,
    grad: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    activation: str | None = None,
    pool_size: int = 1,
    pool_stride: int = 1,
    channels_last: bool = False,
) -> tuple[Tensor, Tensor]:
    """`biolayers::token_conv1d_avg_pool_backward` for float32 and float64."""
    windows = check_avg_pool_grad(
        tokens, grad, weight, bias, stride, padding, dilation,
        activation, pool_size, pool_stride, channels_last,
    )  # fmt: skip
    (batch, _), (out, channels, k) = tokens.shape, weight.shape
    lanes = lanes_of(weight.element_size())
    tiles, side = -(-out // lanes), _side(windows, pool_size, pool_stride, lanes)
    length, positions = (windows - 1) * pool_stride + pool_size, batch * windows * pool_size
    blocks = -(-windows // side)
    # by shapes alone: the same sums in the same order for any number of threads
    shares = max(1, min(batch * blocks, max(-(-_SHARES // tiles), -(-positions // _SHARE))))
    group = choose_group(k, channels, positions, line=LINE_BYTES, copies=1 + 2 * shares, spill=0.25)
    found = words(as_numpy(tokens), channels, k, length, stride, padding, dilation, group=group, lanes=lanes)
    tables = tables_of(weight.detach(), bias, found, tiles, lanes)
    partial = grad.new_empty(shares, found.groups * group, channels + 1, tiles, lanes)
    biases = grad.new_empty(shares, tiles, lanes)
    given = as_numpy(grad)
    parallel(
        slope_rows, tiles * shares, found.codes, found.starts, tables, given,
        partial.numpy(), biases.numpy(), group, (pool_size, pool_stride, side), KINDS[activation],
        channels_last, grain=max(1, math.ceil((1 << 14) * shares / max(1, positions))),
    )  # fmt: skip
    grad_weight = in_order(partial).flatten(2)[:k, :channels, :out].permute(2, 1, 0)
    return grad_weight.contiguous(), in_order(biases).flatten()[:out].clone()


def _side(windows: int, size: int, step: int, lanes: int) -> int:
    """Windows in one go: whole squares, and so many that few positions are shared with the next ones."""
    squares = max(1, math.ceil(max(size, _LINES) / (lanes * step)))
    return lanes * min(squares, -(-windows // lanes))


@njit(nogil=True, cache=True)
def _convolve(lines, count, flat, table, size, line, word, starts):
    """Put what the tables say of `count` positions from `word` on into lines."""
    lanes = LINE_BYTES // lines.itemsize
    for t in range(0, count - 7, 8):
        strip = pick_strip(flat, table, line, word + t + starts[0], (0,) * 8)
        for i in range(1, len(starts)):
            strip = pick_add(flat, table + i * size, line, word + t + starts[i], strip)
        store_strip(lines, t * lanes, strip)
    for t in range(count - count % 8, count):
        one = pick_strip(flat, table, line, word + t + starts[0], (0,))
        for i in range(1, len(starts)):
            one = pick_add(flat, table + i * size, line, word + t + starts[i], one)
        store_strip(lines, t * lanes, one)


@njit(nogil=True, cache=True)
def _mean(lines, first, size):
    """The mean of `size` lines from line `first` on."""
    lanes = LINE_BYTES // lines.itemsize
    total = fill(lines, 0.0)
    for run in range(0, size, _RUN):
        part = read(lines, (first + run) * lanes)
        for t in range(run + 1, min(size, run + _RUN)):
            part = add(part, read(lines, (first + t) * lanes))
        total = add(total, part)
    return mul(total, fill(lines, 1 / size))


@njit(nogil=True, cache=True)
def mean_rows(start, stop, codes, starts, tables, means, pool, kind, last):
    """The means of all windows; rows (tile, b, block of `side` windows)."""
    _, groups, rows, lanes = tables.shape
    size, step, side = pool
    batch = means.shape[0]
    windows, channels = means.shape[1:] if last else (means.shape[2], means.shape[1])
    blocks = (windows + side - 1) // side
    flat, line, target = tables.reshape(-1), codes.reshape(-1), means.reshape(-1)
    lines = _aligned(_room(side, size, step) * lanes, tables)
    found = _aligned(lanes * lanes, tables)  # [window][o]
    for row in range(start, stop):
        tile, spot = divmod(row, batch * blocks)
        b, block = divmod(spot, blocks)
        table, first = tile * groups * rows * lanes, block * side
        count = min(side, windows - first)
        word = b * codes.shape[1] + first * step
        pace = min(step, size)
        if step <= size:  # windows that touch: all their positions in one run
            span = (count - 1) * step + size
            _convolve(lines, span, flat, table, rows * lanes, line, word, starts)
            activate(lines, span, kind)
        else:
            for q in range(count):
                own = lines[q * size * lanes : (q + 1) * size * lanes]
                _convolve(own, size, flat, table, rows * lanes, line, word + q * step, starts)
            activate(lines, count * size, kind)
        for begin in range(0, count, lanes):
            here = min(lanes, count - begin)
            for q in range(here):
                write(found, q * lanes, _mean(lines, (begin + q) * pace, size))
            _put(found, target, b, tile, first + begin, here, windows, channels, last)


@njit(nogil=True, cache=True)
def _put(found, target, b, tile, first, count, windows, channels, last):
    """Write a square of windows and channels."""
    lanes = LINE_BYTES // found.itemsize
    wide = min(lanes, channels - tile * lanes)
    if last:
        place, pace = (b * windows + first) * channels + tile * lanes, channels
    else:
        place, pace = (b * channels + tile * lanes) * windows + first, windows
    if wide == lanes and count == lanes:
        square = load(found, 0, lanes)
        store(target, place, pace, square if last else transpose(square))
    else:
        for q in range(count):
            for o in range(wide):
                target[place + (q * pace + o if last else o * pace + q)] = found[q * lanes + o]


@njit(nogil=True, cache=True)
def _take(source, found, b, tile, first, count, windows, channels, last):
    """Read a square of windows and channels, zeros where there are none."""
    lanes = LINE_BYTES // found.itemsize
    wide = min(lanes, channels - tile * lanes)
    if last:
        place, pace = (b * windows + first) * channels + tile * lanes, channels
    else:
        place, pace = (b * channels + tile * lanes) * windows + first, windows
    if wide == lanes and count == lanes:
        square = load(source, place, pace)
        store(found, 0, lanes, square if last else transpose(square))
    else:
        found[: lanes * lanes] = 0
        for q in range(count):
            for o in range(wide):
                found[q * lanes + o] = source[place + (q * pace + o if last else o * pace + q)]


@njit(nogil=True, cache=True)
def slope_rows(start, stop, codes, starts, tables, grad, partial, biases, group, pool, kind, last):
    """partial[share, tap, digit, o] = the sum, over the words with this digit, of slope and gradient.

    Rows (tile, share). partial (shares, taps, base, tiles, lanes), biases (shares, tiles, lanes).
    """
    _, groups, rows, lanes = tables.shape
    shares, taps, base, tiles, _ = partial.shape
    size, step, side = pool
    batch = grad.shape[0]
    windows, channels = grad.shape[1:] if last else (grad.shape[2], grad.shape[1])
    blocks = (windows + side - 1) // side
    flat, line, source = tables.reshape(-1), codes.reshape(-1), grad.reshape(-1)
    target, totals = partial.reshape(-1), biases.reshape(-1)
    lines, factors = (
        _aligned(_room(side, size, step) * lanes, tables),
        _aligned(_room(side, size, step) * lanes, tables),
    )
    found = _aligned(lanes * lanes, tables)
    sums = _aligned(groups * rows * lanes, tables)
    share_of_one = fill(flat, 1 / size)
    for row in range(start, stop):
        tile, share = divmod(row, shares)
        table = tile * groups * rows * lanes
        sums[:] = 0
        for spot in range(batch * blocks * share // shares, batch * blocks * (share + 1) // shares):
            b, block = divmod(spot, blocks)
            first = block * side
            count = min(side, windows - first)
            word = b * codes.shape[1] + first * step
            pace, span = min(step, size), (count - 1) * min(step, size) + size
            factors[: span * lanes] = 0
            for begin in range(0, count, lanes):
                here = min(lanes, count - begin)
                _take(source, found, b, tile, first + begin, here, windows, channels, last)
                for q in range(here):
                    value = mul(read(found, q * lanes), share_of_one)
                    place = (begin + q) * pace * lanes
                    for at in range(place, place + size * lanes, lanes):
                        write(factors, at, add(read(factors, at), value))
            runs, length = (1, span) if step <= size else (count, size)
            for q in range(runs):
                slopes = factors[q * size * lanes : (q * size + length) * lanes]
                if kind:
                    _convolve(lines, length, flat, table, rows * lanes, line, word + q * step, starts)
                    times_slope(slopes, lines, length, kind)
                _drop(sums, rows * lanes, line, word + q * step, starts, slopes, length)
        for i in range(groups):
            place = (share * taps + i * group) * base * tiles * lanes + tile * lanes
            fold(sums, i * rows * lanes, base, group, lanes, target, place, tiles * lanes)
        write(totals, (share * tiles + tile) * lanes, read(sums, 0))


@njit(nogil=True, cache=True)
def _drop(sums, size, line, word, starts, lines, count):
    """Add `count` lines to the tables of sums, each to the row of its word in every group."""
    lanes = LINE_BYTES // lines.itemsize
    for t in range(count):
        one = (read(lines, t * lanes),)
        for i in range(len(starts)):
            drop_add(sums, i * size, line, word + t + starts[i], one)


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _room(side, size, step):
    """Lines that `side` windows need."""
    return (side - 1) * min(step, size) + size


@njit(nogil=True, cache=True)
def _aligned(count, like):
    """Memory for `count` numbers that begins with a cache line."""
    lanes = LINE_BYTES // like.itemsize
    room = np.empty(count + lanes, like.dtype)
    return room[-(room.ctypes.data // room.itemsize) % lanes :][:count]
