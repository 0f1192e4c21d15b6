"""`token_conv1d` and its adjoint on CPU: sums of rows of k-mer tables (see `kmer`), transposed in registers.

Forward: for a square of positions and channels, one table row per position and group of taps is added up in
registers; the square is transposed there and written channels-first. Backward: a square of the gradient is
transposed and its rows are added into tables of sums, which are folded into taps at the end. Either pass
touches the large tensor once.
"""

import math

import numpy as np
from numba import njit
from torch import Tensor

from biolayers.kernels.numba.kmer import Words, build_rows, choose_group, words
from biolayers.kernels.numba.memory import fresh
from biolayers.kernels.numba.simd import (
    LINE_BYTES,
    add,
    drop_add,
    expect_load,
    expect_store,
    lanes_of,
    load,
    pick,
    pick_add,
    read,
    store,
    transpose,
    write,
)
from biolayers.ops.token_conv1d import check, check_grad
from shared.threads import parallel

BLOCK = 1024  # positions that are worked on in one go, for one tile of channels
AHEAD = 3  # lines: how far ahead the large tensor's memory is asked for
_SHARES, _SHARE = 32, 1 << 16  # at least so many parts of work in backward; positions summed up in one part


def forward(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """`biolayers::token_conv1d` for float32 and float64."""
    length = check(tokens, weight, bias, stride, padding, dilation)
    (batch, _), (out, channels, k) = tokens.shape, weight.shape
    lanes = lanes_of(weight.element_size())
    tiles, positions = -(-out // lanes), batch * length
    group = choose_group(k, channels, positions, line=LINE_BYTES, copies=1, spill=0.3)
    found = words(as_numpy(tokens), channels, k, length, stride, padding, dilation, group=group, lanes=lanes)
    tables = tables_of(weight.detach(), bias, found, tiles, lanes)
    result = fresh(weight, batch, out, length)
    blocks = -(-length // BLOCK)
    grain = max(1, (BLOCK << 5) // min(BLOCK, length))
    parallel(
        forward_rows, batch * blocks * tiles, found.codes, found.starts, tables, result.numpy(), grain=grain
    )
    return result


def backward(
    tokens: Tensor,
    grad: Tensor,
    channels: int,
    k: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> tuple[Tensor, Tensor]:
    """`biolayers::token_conv1d_backward` for float32 and float64."""
    check_grad(tokens, grad, channels, k, stride, padding, dilation)
    (batch, out, length), base = grad.shape, channels + 1
    lanes = lanes_of(grad.element_size())
    tiles, positions = -(-out // lanes), batch * length
    blocks = -(-length // BLOCK)
    # The number of shares depends on shapes alone: the same sums in the same order for any number of threads.
    shares = max(1, min(batch * blocks, max(-(-_SHARES // tiles), -(-positions // _SHARE))))
    group = choose_group(k, channels, positions, line=LINE_BYTES, copies=2 * shares, spill=0.2)
    found = words(as_numpy(tokens), channels, k, length, stride, padding, dilation, group=group, lanes=lanes)
    taps = found.groups * group
    partial = grad.new_empty(shares, taps, base, tiles, lanes)
    biases = grad.new_empty(shares, tiles, lanes)
    grain = max(1, math.ceil((BLOCK << 4) * shares / max(1, positions)))
    parallel(
        gather_rows,
        tiles * shares,
        found.codes,
        found.starts,
        as_numpy(grad),
        partial.numpy(),
        biases.numpy(),
        group,
        grain=grain,
    )
    grad_weight = in_order(partial).flatten(2)[:k, :channels, :out].permute(2, 1, 0)
    return grad_weight.contiguous(), in_order(biases).flatten()[:out].clone()


def as_numpy(tensor: Tensor) -> np.ndarray:
    """The values of a tensor, C-contiguous."""
    return tensor.detach().contiguous().numpy()


def in_order(shares: Tensor) -> Tensor:
    """The sum over the first axis, from the first to the last."""
    total = shares[0]
    for share in shares[1:]:
        total = total + share
    return total


def tables_of(weight: Tensor, bias: Tensor | None, found: Words, tiles: int, lanes: int) -> np.ndarray:
    """(tiles, groups, rows, lanes): the row of each word of each group of taps, the bias in group 0."""
    out, channels, k = weight.shape
    columns = weight.new_zeros(found.groups * found.group, channels + 1, tiles * lanes)
    columns[:k, :channels, :out] = weight.permute(2, 1, 0)
    start = weight.new_zeros(tiles * lanes)
    if bias is not None:
        start[:out] = bias.detach()
    tables = weight.new_empty(tiles, found.groups, (channels + 1) ** found.group, lanes).numpy()
    grain = max(1, 12_000 // tables.shape[2])
    parallel(
        build_rows, tiles * found.groups, columns.numpy(), start.numpy(), tables, found.group, grain=grain
    )
    return tables


@njit(nogil=True, cache=True)
def forward_rows(start, stop, codes, starts, tables, out):
    """out[b, o, p] = sum_i tables[o // lanes, i, word i of (b, p), o % lanes]; rows (tile, b, block).

    A tile's tables stay in L1 while the whole batch passes by.
    """
    _, groups, rows, lanes = tables.shape
    _, channels, length = out.shape
    blocks = (length + BLOCK - 1) // BLOCK
    spots = out.shape[0] * blocks
    flat, line, target = tables.reshape(-1), codes.reshape(-1), out.reshape(-1)
    rest = np.empty(lanes * lanes, tables.dtype)
    for row in range(start, stop):
        tile, spot = divmod(row, spots)
        b, block = divmod(spot, blocks)
        end = min(length, (block + 1) * BLOCK)
        width = min(lanes, channels - tile * lanes)
        place = (b * channels + tile * lanes) * length
        for p in range(block * BLOCK, end, lanes):
            expect_store(target, place + p + AHEAD * lanes, length)
            table = tile * groups * rows * lanes
            word = b * codes.shape[1] + p
            square = pick(flat, table, line, word + starts[0])
            for i in range(1, groups):
                table += rows * lanes
                square = pick_add(flat, table, line, word + starts[i], square)
            square = transpose(square)
            if p + lanes <= end and width == lanes:
                store(target, place + p, length, square)
            else:
                store(rest, 0, lanes, square)
                for o in range(width):
                    for i in range(min(lanes, end - p)):
                        target[place + o * length + p + i] = rest[o * lanes + i]


@njit(nogil=True, cache=True)
def gather_rows(start, stop, codes, starts, grad, partial, biases, group):
    """partial[share, tap, digit, o] = the sum of grad over the words with this digit; rows (tile, share).

    partial (shares, taps, base, tiles, lanes), biases (shares, tiles, lanes).
    """
    batch, channels, length = grad.shape
    shares, taps, base, tiles, lanes = partial.shape
    groups = taps // group
    rows = base**group
    blocks = (length + BLOCK - 1) // BLOCK
    line, source, target, totals = (
        codes.reshape(-1),
        grad.reshape(-1),
        partial.reshape(-1),
        biases.reshape(-1),
    )
    rest = np.empty(lanes * lanes, grad.dtype)
    room = np.empty((groups * rows + 1) * lanes, grad.dtype)
    sums = room[-(room.ctypes.data // room.itemsize) % lanes :]  # rows that begin with a cache line
    for row in range(start, stop):
        tile, share = divmod(row, shares)
        width = min(lanes, channels - tile * lanes)
        sums[:] = 0
        for spot in range(batch * blocks * share // shares, batch * blocks * (share + 1) // shares):
            b, block = divmod(spot, blocks)
            end = min(length, (block + 1) * BLOCK)
            place = (b * channels + tile * lanes) * length
            for p in range(block * BLOCK, end, lanes):
                if p + lanes <= end and width == lanes:
                    expect_load(source, place + p + AHEAD * lanes, length)
                    square = load(source, place + p, length)
                else:
                    rest[:] = 0
                    for o in range(width):
                        for i in range(min(lanes, end - p)):
                            rest[o * lanes + i] = source[place + o * length + p + i]
                    square = load(rest, 0, lanes)
                square = transpose(square)
                word = b * codes.shape[1] + p
                for i in range(groups):
                    drop_add(sums, i * rows * lanes, line, word + starts[i], square)
        for i in range(groups):
            place = (share * taps + i * group) * base * tiles * lanes + tile * lanes
            fold(sums, i * rows * lanes, base, group, lanes, target, place, tiles * lanes)
        write(totals, (share * tiles + tile) * lanes, read(sums, 0))


@njit(nogil=True, cache=True)
def fold(sums, table, base, group, lanes, out, place, step):
    """The adjoint of `kmer.build_rows` on one table: its rows added up by each digit of their code.

    sums, flat, holds the table from element `table` on and is used up; the sum of digit d of tap j goes to
    out, flat, at `place + (j * base + d) * step`; the sum of all rows is left in the first.
    """
    size = base**group * lanes
    for j in range(group - 1, -1, -1):
        size //= base
        for digit in range(base):
            total = read(sums, table + digit * size)
            for row in range(lanes, size, lanes):
                total = add(total, read(sums, table + digit * size + row))
            write(out, place + (j * base + digit) * step, total)
        for digit in range(1, base):
            for row in range(0, size, lanes):
                both = add(read(sums, table + row), read(sums, table + digit * size + row))
                write(sums, table + row, both)
