import numpy as np
import torch
from numba import njit

from biolayers.kernels.numba.simd import drop_add, load, pick, pick_add, store, transpose
from shared.threads import parallel

BLOCK = 1024


@njit(nogil=True, cache=True)
def code_rows(start, stop, tokens, codes, channels, group, dilation, padding, scale):
    length = tokens.shape[1]
    count = codes.shape[1]
    base = channels + 1
    digits = np.empty(count + (group - 1) * dilation, np.uint32)
    digits[:] = channels * scale
    limit = min(length, digits.size - padding)
    for b in range(start, stop):
        for i in range(limit):
            digits[padding + i] = min(tokens[b, i], channels) * scale
        for i in range(count):
            codes[b, i] = digits[i]
        power = base
        for t in range(1, group):
            shift = t * dilation
            for i in range(count):
                codes[b, i] += np.uint32(digits[i + shift] * power)
            power *= base


@njit(nogil=True, cache=True)
def table_rows(start, stop, columns, bias, tables, group, channels):
    # columns (taps, channels, out'); tables (tiles, groups, rows*lanes)
    base = channels + 1
    lanes = tables.shape[2] // base**group
    groups = tables.shape[1]
    for row in range(start, stop):
        t = row // groups
        g = row % groups
        table = tables[t, g]
        o = t * lanes
        for c in range(lanes):
            table[c] = 0
        if g == 0:
            for c in range(lanes):
                table[c] = bias[o + c]
        size = lanes
        for tap in range(g * group, (g + 1) * group):
            for d in range(base):
                digit = channels - d
                to = digit * size
                if digit == channels:
                    for i in range(size):
                        table[to + i] = table[i]
                else:
                    for r in range(0, size, lanes):
                        for c in range(lanes):
                            table[to + r + c] = table[r + c] + columns[tap, digit, o + c]
            size *= base


@njit(nogil=True, cache=True)
def forward_rows(start, stop, codes, tables, out, stride, step, lanes, order):
    tiles, groups, size = tables.shape
    batch, channels, length = out.shape
    blocks = (length + BLOCK - 1) // BLOCK
    scratch = np.empty(lanes * (lanes + 1), tables.dtype)
    tile = (-(scratch.ctypes.data // scratch.itemsize)) % lanes
    flat = tables.reshape(-1)
    line = codes.reshape(-1)
    flat_out = out.reshape(-1)
    for row in range(start, stop):
        if order == 0:
            spot, t = divmod(row, tiles)
        else:
            t, spot = divmod(row, batch * blocks)
        b, block = divmod(spot, blocks)
        begin = block * BLOCK
        end = min(length, begin + BLOCK)
        table = t * groups * size
        width = min(lanes, channels - t * lanes)
        target = (b * channels + t * lanes) * length
        code = b * codes.shape[1]
        p = begin
        while p < end:
            if p + lanes > end and end - begin >= lanes:
                p = end - lanes
            count = min(lanes, end - p)
            square = pick(flat, table, line, code + p)
            for g in range(1, groups):
                square = pick_add(flat, table + g * size, line, code + p + g * step, square)
            square = transpose(square)
            if count == lanes and width == lanes:
                store(flat_out, target + p, length, square)
            else:
                store(scratch, tile, lanes, square)
                for c in range(width):
                    for i in range(count):
                        flat_out[target + c * length + p + i] = scratch[tile + c * lanes + i]
            p += lanes


@njit(nogil=True, cache=True)
def gather_rows(start, stop, codes, grad, partial, biases, stride, step, lanes, group, base, shares):
    # partial (shares, taps, base-1, out'), biases (shares, out')
    batch, channels, length = grad.shape
    tiles = (channels + lanes - 1) // lanes
    blocks = (length + BLOCK - 1) // BLOCK
    size = base**group * lanes
    taps = partial.shape[1]
    groups = taps // group
    scratch = np.empty(lanes * (lanes + 1), grad.dtype)
    tile = (-(scratch.ctypes.data // scratch.itemsize)) % lanes
    room = np.empty(groups * size + lanes, grad.dtype)
    skew = (-(room.ctypes.data // room.itemsize)) % lanes
    sums = room[skew : skew + groups * size]
    line = codes.reshape(-1)
    source = grad.reshape(-1)
    spots = batch * blocks
    for row in range(start, stop):
        t, share = divmod(row, shares)
        o = t * lanes
        width = min(lanes, channels - o)
        sums[:] = 0
        scratch[:] = 0
        for spot in range(spots * share // shares, spots * (share + 1) // shares):
            b, block = divmod(spot, blocks)
            end = min(length, (block + 1) * BLOCK)
            origin = (b * channels + o) * length
            code = b * codes.shape[1]
            for p in range(block * BLOCK, end, lanes):
                count = min(lanes, end - p)
                if count == lanes and width == lanes:
                    square = load(source, origin + p, length)
                else:
                    scratch[:] = 0
                    for c in range(width):
                        for i in range(count):
                            scratch[tile + c * lanes + i] = source[origin + c * length + p + i]
                    square = load(scratch, tile, lanes)
                square = transpose(square)
                for g in range(groups):
                    drop_add(sums, g * size, line, code + p + g * step, square)
        for g in range(groups):
            table = sums[g * size : (g + 1) * size]
            half = size
            for j in range(group - 1, -1, -1):
                half //= base
                weight = partial[share, g * group + j]
                for d in range(base):
                    for r in range(0, half, lanes):
                        for c in range(lanes):
                            if d < base - 1:
                                weight[d, o + c] += table[d * half + r + c]
                            if d > 0:
                                table[r + c] += table[d * half + r + c]
            if g == 0:
                for c in range(lanes):
                    biases[share, o + c] = table[c]


def out_length(length, k, stride, padding, dilation):
    return (length + 2 * padding - dilation * (k - 1) - 1) // stride + 1


def codes_of(tokens, channels, count, group, dilation, padding, lanes):
    codes = np.empty((tokens.shape[0], count), np.uint32)
    parallel(code_rows, len(codes), tokens.numpy(), codes, channels, group, dilation, padding, lanes, grain=64)
    return codes


def forward(tokens, weight, bias=None, stride=1, padding=0, dilation=1, group=3, order=0):
    out_channels, channels, k = weight.shape
    lanes = 64 // weight.element_size()
    length = out_length(tokens.shape[1], k, stride, padding, dilation)
    groups = -(-k // group)
    tiles = -(-out_channels // lanes)
    step = group * dilation
    codes = codes_of(tokens, channels, (length - 1) * stride + (groups - 1) * step + 1 + lanes, group, dilation, padding, lanes)
    columns = weight.new_zeros(groups * group, channels, tiles * lanes)
    columns[:k, :, :out_channels] = weight.detach().permute(2, 1, 0)
    b = weight.new_zeros(tiles * lanes)
    if bias is not None:
        b[:out_channels] = bias.detach()
    tables = weight.new_empty(tiles, groups, (channels + 1) ** group * lanes)
    parallel(table_rows, tiles * groups, columns.numpy(), b.numpy(), tables.numpy(), group, channels, grain=64)
    out = weight.new_empty(len(tokens), out_channels, length)
    huge(out)
    blocks = -(-length // BLOCK)
    parallel(forward_rows, tiles * blocks * len(tokens), codes, tables.numpy(), out.numpy(), stride, step, lanes, order, grain=1)
    return out


def backward(tokens, grad, channels, k, stride=1, padding=0, dilation=1, group=3):
    out_channels, length = grad.shape[1:]
    lanes = 64 // grad.element_size()
    groups = -(-k // group)
    tiles = -(-out_channels // lanes)
    step = group * dilation
    codes = codes_of(tokens, channels, (length - 1) * stride + (groups - 1) * step + 1 + lanes, group, dilation, padding, lanes)
    shares = 4
    partial = grad.new_zeros(shares, groups * group, channels, tiles * lanes)
    biases = grad.new_zeros(shares, tiles * lanes)
    parallel(gather_rows, tiles * shares, codes, grad.detach().numpy(), partial.numpy(), biases.numpy(), stride, step, lanes, group, channels + 1, shares, grain=1)
    return partial.sum(0)[:k, :, :out_channels].permute(2, 1, 0).contiguous(), biases.sum(0)[:out_channels]


import ctypes
libc = ctypes.CDLL(None)
def huge(t):
    n = t.numel() * t.element_size()
    if n < 1 << 22: return
    a = -(-t.data_ptr() // 4096) * 4096
    libc.madvise(ctypes.c_void_p(a), ctypes.c_size_t((t.data_ptr() + n - a) // 4096 * 4096), 14)
