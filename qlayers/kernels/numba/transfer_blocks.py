"""The vector of Pauli coefficients of a block of samples, one sample per SIMD lane, through a noisy circuit.

A block is `[word][lane]`: each step is a straight vector loop over cosets of words, see
`transfer_schedule.py`. Numbers of the steps are those of all samples, or a row of lanes for each block.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from qlayers.kernels.numba.evolve_passes import constant
from qlayers.kernels.numba.simd import load, store
from shared.simd import add, fma, fnma, mul, splat, total

_INNER = {"nogil": True}


class Entries(NamedTuple):
    """The numbers of the steps, and cosines and sines of those that are angles, padded to whole blocks."""

    shared: np.ndarray  # (Ks,)
    batched: np.ndarray  # (Kb, blocks * lanes)
    shared_cos: np.ndarray  # (angles,)
    shared_sin: np.ndarray
    batched_cos: np.ndarray  # (angles, blocks * lanes)
    batched_sin: np.ndarray
    blocks: int
    lanes: int


@intrinsic
def ones(typing, bits):
    """`ones(bits)`: how many bits of an int64 are set."""
    return types.int64(types.int64), lambda context, builder, signature, args: builder.ctpop(args[0])


@njit(**_INNER)
def minus(q, x, z, wires):
    """1 where QP (if the words commute) or -iQP (if not) has the sign -1, else 0."""
    qx, qz = q >> wires, q & ((1 << wires) - 1)
    differ = (qx & z) ^ (qz & x)
    against = (x & ~z & qx & qz) | (z & ~x & qx & ~qz) | (x & z & qz & ~qx)
    return ((ones(differ) >> 1) + ones(against)) & 1


@njit(**_INNER)
def sign_of(q, element, wires, like):
    """The sign of W_e Q as a word, 1 or -1 in every lane."""
    return constant(element[2] * (1 - 2 * minus(q, element[0], element[1], wires)), like)


@njit(**_INNER)
def angle_of(step, block, entries):
    """Cosine and sine of a rotation's angle."""
    row = step[3]
    if step[1] == 0:
        return splat(entries.shared_cos[row]), splat(entries.shared_sin[row])
    row = row * entries.blocks + block
    return load(entries.batched_cos, row), load(entries.batched_sin, row)


@njit(**_INNER)
def numbers_of(step, count, block, entries, found):
    """The numbers of a channel as rows of vectors."""
    for i in range(count):
        column = step[2] + i
        if step[1] == 0:
            store(found, i, splat(entries.shared[column]))
        else:
            store(found, i, load(entries.batched, column * entries.blocks + block))


@njit(**_INNER)
def turn(values, step, walks, wires, cosine, sine):
    """A rotation: r_Q = c r_Q + s r_(-iQP)."""
    low, high = walks.tables[step[4] : step[5]], walks.tables[step[5] : step[6]]
    x, z = walks.elements[step[8], 0], walks.elements[step[8], 1]
    p = x << wires | z
    for h in high:
        for l in low:
            q = h ^ l ^ step[7]
            a, b = load(values, q), load(values, q ^ p)
            s = mul(sine, constant(1 - 2 * minus(q, x, z, wires), values))
            store(values, q, fma(s, b, mul(cosine, a)))
            store(values, q ^ p, fnma(s, a, mul(cosine, b)))


@njit(**_INNER)
def turn_back(values, costate, step, walks, wires, cosine, sine):
    """Undo a rotation on state and costate; the slope of its angle."""
    low, high = walks.tables[step[4] : step[5]], walks.tables[step[5] : step[6]]
    x, z = walks.elements[step[8], 0], walks.elements[step[8], 1]
    p = x << wires | z
    slope = constant(0, values)
    for h in high:
        for l in low:
            q = h ^ l ^ step[7]
            sign = constant(1 - 2 * minus(q, x, z, wires), values)
            s = mul(sine, sign)
            a, b = load(values, q), load(values, q ^ p)
            c, d = load(costate, q), load(costate, q ^ p)
            slope = fma(sign, fnma(d, a, mul(c, b)), slope)
            store(values, q, fnma(s, b, mul(cosine, a)))
            store(values, q ^ p, fma(s, a, mul(cosine, b)))
            store(costate, q, fnma(s, d, mul(cosine, c)))
            store(costate, q ^ p, fma(s, c, mul(cosine, d)))
    return slope


@njit(**_INNER)
def scale(values, step, size, walks, wires, found):
    """A diagonal channel, which is its own transpose."""
    low, high = walks.tables[step[4] : step[5]], walks.tables[step[5] : step[6]]
    for e in range(size):
        element = walks.elements[step[8] + e]
        p, factor = element[0] << wires | element[1], load(found, e)
        for h in high:
            for l in low:
                q = h ^ l ^ p
                store(values, q, mul(factor, load(values, q)))


@njit(**_INNER)
def scale_slopes(values, costate, step, size, walks, wires, slopes):
    """The slopes of a diagonal channel's numbers."""
    low, high = walks.tables[step[4] : step[5]], walks.tables[step[5] : step[6]]
    for e in range(size):
        element = walks.elements[step[8] + e]
        p, slope = element[0] << wires | element[1], constant(0, values)
        for h in high:
            for l in low:
                q = h ^ l ^ p
                slope = fma(load(costate, q), load(values, q), slope)
        store(slopes, e, slope)


@njit(**_INNER)
def gather(values, q, step, size, walks, wires, coset):
    """The coset of q, its signs taken off."""
    for e in range(size):
        element = walks.elements[step[8] + e]
        sign = sign_of(q, element, wires, values)
        store(coset, e, mul(sign, load(values, q ^ (element[0] << wires | element[1]))))


@njit(**_INNER)
def scatter(values, q, e, value, step, walks, wires):
    """Put the word with letters e of a coset back, with its sign."""
    element = walks.elements[step[8] + e]
    store(values, q ^ (element[0] << wires | element[1]), mul(sign_of(q, element, wires, values), value))


@njit(**_INNER)
def apply_map(values, step, size, walks, wires, found, coset):
    """A channel on any number of wires."""
    low, high = walks.tables[step[4] : step[5]], walks.tables[step[5] : step[6]]
    for h in high:
        for l in low:
            gather(values, h ^ l, step, size, walks, wires, coset)
            for e in range(size):
                value = constant(0, values)
                for i in range(size):
                    value = fma(load(found, e * size + i), load(coset, i), value)
                scatter(values, h ^ l, e, value, step, walks, wires)


@njit(**_INNER)
def map_back(values, costate, step, size, walks, wires, found, coset, slopes):
    """The transposed channel on the costate; the slopes of its numbers, values being those before it."""
    low, high = walks.tables[step[4] : step[5]], walks.tables[step[5] : step[6]]
    before, after = coset[: len(coset) // 2], coset[len(coset) // 2 :]
    for i in range(size * size):
        store(slopes, i, constant(0, values))
    for h in high:
        for l in low:
            gather(values, h ^ l, step, size, walks, wires, before)
            gather(costate, h ^ l, step, size, walks, wires, after)
            for e in range(size):
                co = load(after, e)
                for i in range(size):
                    store(slopes, e * size + i, fma(co, load(before, i), load(slopes, e * size + i)))
            for i in range(size):
                value = constant(0, values)
                for e in range(size):
                    value = fma(load(found, e * size + i), load(after, e), value)
                scatter(costate, h ^ l, i, value, step, walks, wires)


@njit(**_INNER)
def row_of(found, at, a, b, c, d):
    """The product of four numbers from `at` on with a, b, c and d."""
    return fma(
        load(found, at + 3),
        d,
        fma(load(found, at + 2), c, fma(load(found, at + 1), b, mul(load(found, at), a))),
    )


@njit(**_INNER)
def column_of(found, at, a, b, c, d):
    """The product of every fourth number from `at` on with a, b, c and d."""
    return fma(
        load(found, at + 12),
        d,
        fma(load(found, at + 8), c, fma(load(found, at + 4), b, mul(load(found, at), a))),
    )


@njit(**_INNER)
def load_quad(values, q, p, signs):
    """The coset of q for a channel on one wire, its signs taken off."""
    return (
        load(values, q),
        mul(signs[0], load(values, q ^ p[0])),
        mul(signs[1], load(values, q ^ p[1])),
        mul(signs[2], load(values, q ^ p[2])),
    )


@njit(**_INNER)
def store_quad(values, q, p, signs, quad):
    """Write the coset of q with its signs."""
    store(values, q, quad[0])
    store(values, q ^ p[0], mul(signs[0], quad[1]))
    store(values, q ^ p[1], mul(signs[1], quad[2]))
    store(values, q ^ p[2], mul(signs[2], quad[3]))


@njit(**_INNER)
def quad_words(step, walks, wires):
    """The words that stand for X, Y and Z of a channel on one wire."""
    x, y, z = walks.elements[step[8] + 1], walks.elements[step[8] + 2], walks.elements[step[8] + 3]
    return x[0] << wires | x[1], y[0] << wires | y[1], z[0] << wires | z[1]


@njit(**_INNER)
def quad_signs(q, step, walks, wires, like):
    """The signs of the coset of q, but for the first one, which is 1."""
    return (
        sign_of(q, walks.elements[step[8] + 1], wires, like),
        sign_of(q, walks.elements[step[8] + 2], wires, like),
        sign_of(q, walks.elements[step[8] + 3], wires, like),
    )


@njit(**_INNER)
def apply_quads(values, step, walks, wires, found):
    """A channel on one wire."""
    low, high = walks.tables[step[4] : step[5]], walks.tables[step[5] : step[6]]
    p = quad_words(step, walks, wires)
    for h in high:
        for l in low:
            signs = quad_signs(h ^ l, step, walks, wires, values)
            a, b, c, d = load_quad(values, h ^ l, p, signs)
            out = (
                row_of(found, 0, a, b, c, d),
                row_of(found, 4, a, b, c, d),
                row_of(found, 8, a, b, c, d),
                row_of(found, 12, a, b, c, d),
            )
            store_quad(values, h ^ l, p, signs, out)


@njit(**_INNER)
def quads_back(values, costate, step, walks, wires, found, slopes):
    """As `map_back`, for a channel on one wire."""
    low, high = walks.tables[step[4] : step[5]], walks.tables[step[5] : step[6]]
    p = quad_words(step, walks, wires)
    for i in range(16):
        store(slopes, i, constant(0, values))
    for h in high:
        for l in low:
            signs = quad_signs(h ^ l, step, walks, wires, values)
            a, b, c, d = load_quad(values, h ^ l, p, signs)
            out = load_quad(costate, h ^ l, p, signs)
            add_slopes(slopes, 0, out[0], a, b, c, d)
            add_slopes(slopes, 4, out[1], a, b, c, d)
            add_slopes(slopes, 8, out[2], a, b, c, d)
            add_slopes(slopes, 12, out[3], a, b, c, d)
            into = (
                column_of(found, 0, out[0], out[1], out[2], out[3]),
                column_of(found, 1, out[0], out[1], out[2], out[3]),
                column_of(found, 2, out[0], out[1], out[2], out[3]),
                column_of(found, 3, out[0], out[1], out[2], out[3]),
            )
            store_quad(costate, h ^ l, p, signs, into)


@njit(**_INNER)
def add_slopes(slopes, at, co, a, b, c, d):
    """Add co times a, b, c and d to four slopes."""
    store(slopes, at, fma(co, a, load(slopes, at)))
    store(slopes, at + 1, fma(co, b, load(slopes, at + 1)))
    store(slopes, at + 2, fma(co, c, load(slopes, at + 2)))
    store(slopes, at + 3, fma(co, d, load(slopes, at + 3)))


@njit(**_INNER)
def record(step, number, slope, block, blocks, slopes, sums):
    """Add the slope of a step's number to its gradient."""
    column = step[2] + number
    if step[1] == 0:
        sums[block, column] += total(slope)
    else:
        row = column * blocks + block
        store(slopes, row, add(load(slopes, row), slope))
