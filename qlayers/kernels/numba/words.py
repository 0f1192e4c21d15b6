"""Expectation values of words, and the costate that their gradients make."""

from numba import njit

from qlayers.kernels.numba.block import CHUNK, frame_signs
from qlayers.kernels.numba.code import word
from qlayers.kernels.numba.passes import add_word, probabilities, transform, word_value, zero_rows
from qlayers.kernels.numba.simd import load, odd, spread, store
from shared.simd import add, mul, neg, total

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only: compiles faster


@njit(**_INNER)
def measure(code, scale, work, block, values):
    """The expectation value of each word, into (b, T)."""
    half, low_bits = code.half, code.low_bits
    lane_mask = (1 << low_bits) - 1
    factor = mul(scale, scale)
    zero_rows(work.sums, 0, code.word_count)
    count = min(half, CHUNK)
    if has_diagonal(code):
        for chunk in range(0, half, count):
            probabilities(work.state, half, chunk, chunk + count, work.rows)
            transform(work.rows, count)
            for t in range(code.word_count):
                x, z, _ = word(code, t)
                if x == 0:
                    add_found(t, z >> low_bits, chunk, count, work)
    for t in range(code.word_count):
        x, z, power = word(code, t)
        pattern = load(work.patterns, z & lane_mask)
        if x == 0:
            value = mul(pattern, load(work.sums, t))
        else:
            value = word_value(work.state, half, x >> low_bits, x & lane_mask, z >> low_bits, power, pattern)
        put_values(code, values, t, block, mul(value, mul(factor, frame_signs(work, x, z))), work)


@njit(**_INNER)
def has_diagonal(code):
    """Whether any word has no X part."""
    for t in range(code.word_count):  # noqa: SIM110  (a generator is no kernel code)
        if word(code, t)[0] == 0:
            return True
    return False


@njit(**_INNER)
def add_found(k, z, chunk, count, work):
    """Add to sum k what the transformed chunk of rows holds for the mask z."""
    part = load(work.rows, z & (count - 1))
    part = neg(part) if odd(z & chunk) else part
    store(work.sums, k, add(load(work.sums, k), part))


@njit(**_INNER)
def put_values(code, values, t, block, value, work):
    """Write the value of word t, found lane by lane, for the samples of a block."""
    words = code.word_count
    if code.low_bits:
        values[block * words + t] = total(value)
        return
    store(work.lane, 0, value)
    first = block * work.width
    for lane in range(min(work.width, code.batch - first)):
        values[(first + lane) * words + t] = work.lane[lane]


@njit(**_INNER)
def begin_costate(code, work, block, weights, found, factor):
    """The state is `factor` times the rows `found`, the costate sum of weight P|state>; weights (b, T)."""
    half, low_bits = code.half, code.low_bits
    lane_mask = (1 << low_bits) - 1
    for t in range(code.word_count):
        x, z, _ = word(code, t)
        weight = mul(word_weight(code, weights, t, block, work), load(work.patterns, z & lane_mask))
        store(work.sums, t, mul(weight, frame_signs(work, x, z)))
    if has_diagonal(code):
        count = min(half, CHUNK)
        for chunk in range(0, half, count):
            costate_chunk(code, chunk, count, work, found, factor)
    else:
        for row in range(2 * half):
            store(work.state, row, mul(factor, load(found, row)))
        zero_rows(work.costate, 0, 2 * half)
    for t in range(code.word_count):
        x, z, power = word(code, t)
        if x != 0:
            weight = load(work.sums, t)
            add_word(
                work.state, work.costate, half, x >> low_bits, x & lane_mask, z >> low_bits, power, weight
            )


@njit(**_INNER)
def costate_chunk(code, chunk, count, work, found, factor):
    """A chunk of the state, and the costate of words without an X part: a weight for each amplitude."""
    half = code.half
    zero_rows(work.rows, 0, count)
    for t in range(code.word_count):
        x, z, _ = word(code, t)
        if x == 0:
            z >>= code.low_bits
            at = z & (count - 1)
            weight = load(work.sums, t)
            store(work.rows, at, add(load(work.rows, at), neg(weight) if odd(z & chunk) else weight))
    transform(work.rows, count)
    for row in range(chunk, chunk + count):
        weight = load(work.rows, row - chunk)
        re, im = mul(factor, load(found, row)), mul(factor, load(found, half + row))
        store(work.state, row, re)
        store(work.state, half + row, im)
        store(work.costate, row, mul(weight, re))
        store(work.costate, half + row, mul(weight, im))


@njit(**_INNER)
def word_weight(code, weights, t, block, work):
    """The weight of word t for each lane; 0 beyond the batch."""
    words, first = code.word_count, block * work.width
    if code.low_bits:
        return spread(work.lane, weights[block * words + t])
    count = min(work.width, code.batch - first)
    for lane in range(count):
        work.lane[lane] = weights[(first + lane) * words + t]
    for lane in range(count, work.width):
        work.lane[lane] = 0
    return load(work.lane, 0)
