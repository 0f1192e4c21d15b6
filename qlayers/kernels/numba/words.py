"""Expectation values of words, and the costate that their gradients make."""

import numpy as np
from numba import njit

from qlayers.kernels.numba.block import CHUNK, frame_signs
from qlayers.kernels.numba.passes import add_word, probabilities, transform, word_value, zero_rows
from qlayers.kernels.numba.simd import load, odd, store
from shared.simd import add, mul, neg, splat, total

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only: compiles faster


@njit(**_INNER)
def measure(program, half, low_bits, scale, work, block, values):
    """The expectation value of each word."""
    lane_mask = (1 << low_bits) - 1
    factor = mul(scale, scale)
    words = len(program.words)
    zero_rows(work.sums, 0, words)
    count = min(half, CHUNK)
    if has_diagonal(program.words):
        for chunk in range(0, half, count):
            probabilities(work.state, half, chunk, chunk + count, work.rows)
            add_transformed(program.words, 0, words, low_bits, chunk, count, work)
    for t in range(words):
        x, z, power = program.words[t]
        pattern = load(work.patterns, z & lane_mask)
        if x == 0:
            value = mul(pattern, load(work.sums, t))
        else:
            value = word_value(work.state, half, x >> low_bits, x & lane_mask, z >> low_bits, power, pattern)
        put_values(values, t, block, low_bits, mul(value, mul(factor, frame_signs(work, x, z))))


@njit(**_INNER)
def has_diagonal(words):
    """Whether any word has no X part."""
    for t in range(len(words)):  # noqa: SIM110  (a generator is no kernel code)
        if words[t, 0] == 0:
            return True
    return False


@njit(**_INNER)
def add_transformed(masks, first, last, low_bits, chunk, count, work):
    """Transform a chunk of rows; add to the sum of each word without an X part what it holds for that."""
    transform(work.rows, count)
    for k in range(first, last):
        if masks[k, 0] == 0:
            z = masks[k, 1] >> low_bits
            part = load(work.rows, z & (count - 1))
            part = neg(part) if odd(z & chunk) else part
            store(work.sums, k - first, add(load(work.sums, k - first), part))


@njit(**_INNER)
def put_values(values, t, block, low_bits, value):
    """Write the value of word t, found lane by lane, for the samples of a block."""
    if low_bits:
        values[block, t] = total(value)
        return
    lanes = 64 // values.itemsize
    room = np.empty(lanes, values.dtype)
    store(room, 0, value)
    first = block * lanes
    for lane in range(min(lanes, len(values) - first)):
        values[first + lane, t] = room[lane]


@njit(**_INNER)
def begin_costate(program, half, low_bits, work, block, weights):
    """Sum of weight P|state>, the state being normalised."""
    lane_mask = (1 << low_bits) - 1
    words = len(program.words)
    for t in range(words):
        x, z, _ = program.words[t]
        weight = mul(word_weight(weights, t, block, low_bits, work), load(work.patterns, z & lane_mask))
        store(work.sums, t, mul(weight, frame_signs(work, x, z)))
    if has_diagonal(program.words):
        count = min(half, CHUNK)
        for chunk in range(0, half, count):
            costate_chunk(program.words, half, low_bits, chunk, count, work)
    else:
        zero_rows(work.costate, 0, 2 * half)
    for t in range(len(program.words)):
        x, z, power = program.words[t]
        if x != 0:
            weight = load(work.sums, t)
            add_word(
                work.state, work.costate, half, x >> low_bits, x & lane_mask, z >> low_bits, power, weight
            )


@njit(**_INNER)
def costate_chunk(words, half, low_bits, chunk, count, work):
    """The part of the costate that comes from words without an X part: a factor for each amplitude."""
    zero_rows(work.rows, 0, count)
    for t in range(len(words)):
        if words[t, 0] == 0:
            z = words[t, 1] >> low_bits
            at = z & (count - 1)
            weight = load(work.sums, t)
            store(work.rows, at, add(load(work.rows, at), neg(weight) if odd(z & chunk) else weight))
    transform(work.rows, count)
    for row in range(chunk, chunk + count):
        weight = load(work.rows, row - chunk)
        store(work.costate, row, mul(weight, load(work.state, row)))
        store(work.costate, half + row, mul(weight, load(work.state, half + row)))


@njit(**_INNER)
def word_weight(weights, t, block, low_bits, work):
    """The weight of word t for each lane; 0 beyond the batch."""
    if low_bits:
        return splat(weights[block, t])
    lanes = work.frame.shape[1]
    first = block * lanes
    count = min(lanes, len(weights) - first)
    for lane in range(lanes):
        work.lane[lane] = weights[first + lane, t] if lane < count else 0
    return load(work.lane, 0)
