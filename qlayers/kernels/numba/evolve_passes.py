"""Passes over a block of states of many samples, one sample per SIMD lane.

The states of a block are an array of vectors `[amplitude][re, im]`, the samples innermost: every rotation
on every wire is then a straight vector loop, angles of samples included. Rotations that act inside the same
pairs of amplitudes make one pass as an SU(2) matrix, see `schedule.py`.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from qlayers.kernels.numba.schedule import LETTER_X, LETTER_Y
from qlayers.kernels.numba.simd import load, odd, store
from shared.simd import add, address, fma, fnma, mul, neg, splat, total

_INNER = {"nogil": True}


class Angles(NamedTuple):
    """cos and sin of half of every angle, the samples padded to whole blocks."""

    shared_cos: np.ndarray  # (Ks,)
    shared_sin: np.ndarray
    batched_cos: np.ndarray  # (Kb, blocks * lanes)
    batched_sin: np.ndarray
    blocks: int
    lanes: int


@njit(**_INNER)
def aligned(count, lanes, like):
    """Room for `count` vectors that start on a 64-byte boundary."""
    room = np.empty((count + 1) * lanes, like.dtype)
    skip = (-address(room) % 64) // room.itemsize
    return room[skip : skip + count * lanes]


@njit(**_INNER)
def constant(value, like):
    """A vector of `value` in the dtype of an array."""
    return splat(like.dtype.type(value))


@njit(**_INNER)
def half_angle(step, block, angles):
    """Cosine and sine of half a step's angle, for the lanes of a block."""
    column = step[1]
    if step[0] == 0:
        return splat(angles.shared_cos[column]), splat(angles.shared_sin[column])
    row = column * angles.blocks + block
    return load(angles.batched_cos, row), load(angles.batched_sin, row)


@njit(**_INNER)
def fused_matrix(first, last, coset, steps, block, angles):
    """The SU(2) matrix [[a, -b*], [b, a*]] of a pair pass: re a, im a, re b, im b."""
    ar, ai = constant(1, angles.shared_cos), constant(0, angles.shared_cos)
    br, bi = ai, ai
    for k in range(first, last):
        step = steps[k]
        c, s = half_angle(step, block, angles)
        if step[3 + coset] < 0:
            s = neg(s)
        # (c - i s P) times the matrix so far
        if step[2] == LETTER_X:
            ar, bi = fma(s, bi, mul(c, ar)), fnma(s, ar, mul(c, bi))
            ai, br = fnma(s, br, mul(c, ai)), fma(s, ai, mul(c, br))
        elif step[2] == LETTER_Y:
            ar, br = fnma(s, br, mul(c, ar)), fma(s, ar, mul(c, br))
            ai, bi = fnma(s, bi, mul(c, ai)), fma(s, ai, mul(c, bi))
        else:
            ar, ai = fma(s, ai, mul(c, ar)), fnma(s, ar, mul(c, ai))
            br, bi = fnma(s, bi, mul(c, br)), fma(s, br, mul(c, bi))
    return ar, ai, br, bi


@njit(**_INNER)
def turned(matrix, r0, i0, r1, i1):
    """The matrix times a pair of amplitudes."""
    ar, ai, br, bi = matrix
    return (
        fnma(bi, i1, fnma(br, r1, fnma(ai, i0, mul(ar, r0)))),
        fnma(br, i1, fma(bi, r1, fma(ai, r0, mul(ar, i0)))),
        fma(ai, i1, fma(ar, r1, fnma(bi, i0, mul(br, r0)))),
        fnma(ai, r1, fma(ar, i1, fma(bi, r0, mul(br, i0)))),
    )


@njit(**_INNER)
def load_pair(state, j, k):
    """The amplitudes at j and k: re, im, re, im."""
    return load(state, 2 * j), load(state, 2 * j + 1), load(state, 2 * k), load(state, 2 * k + 1)


@njit(**_INNER)
def store_pair(state, j, k, pair):
    """Write the amplitudes at j and k."""
    store(state, 2 * j, pair[0])
    store(state, 2 * j + 1, pair[1])
    store(state, 2 * k, pair[2])
    store(state, 2 * k + 1, pair[3])


@njit(**_INNER)
def apply_pairs(psi, m, offset, low, high, matrix):
    """A pair pass over one coset."""
    for h in high:
        for l in low:
            j = h ^ l ^ offset
            store_pair(psi, j, j ^ m, turned(matrix, *load_pair(psi, j, j ^ m)))


@njit(**_INNER)
def apply_diagonal(state, first, last, steps, low, high, direction, block, angles):
    """A diagonal pass, forward (direction 1) or undone (-1)."""
    for h in high:
        for l in low:
            j = h ^ l
            re, im = load(state, 2 * j), load(state, 2 * j + 1)
            for k in range(first, last):
                step = steps[k]
                c, s = half_angle(step, block, angles)
                s = mul(s, constant(direction - 2 * direction * odd(step[5] & j), state))
                re, im = fma(s, im, mul(c, re)), fnma(s, re, mul(c, im))
            store(state, 2 * j, re)
            store(state, 2 * j + 1, im)


@njit(**_INNER)
def undo_pairs(psi, co, m, offset, low, high, matrix):
    """Undo a pair pass on state and costate.

    Returns Im <co|X|psi>, Im <co|Y|psi> and Im <co|Z|psi> in the pairs' frame, as they were after the pass.
    """
    gx = constant(0, psi)
    gy, gz = gx, gx
    undo = (matrix[0], neg(matrix[1]), neg(matrix[2]), neg(matrix[3]))
    for h in high:
        for l in low:
            j = h ^ l ^ offset
            k = j ^ m
            r0, i0, r1, i1 = load_pair(psi, j, k)
            p0, q0, p1, q1 = load_pair(co, j, k)
            gx = fnma(q1, r0, fma(p1, i0, fnma(q0, r1, fma(p0, i1, gx))))
            gy = fma(q1, i0, fma(p1, r0, fnma(q0, i1, fnma(p0, r1, gy))))
            gz = fma(q1, r1, fnma(p1, i1, fnma(q0, r0, fma(p0, i0, gz))))
            store_pair(psi, j, k, turned(undo, r0, i0, r1, i1))
            store_pair(co, j, k, turned(undo, p0, q0, p1, q1))
    return gx, gy, gz


@njit(**_INNER)
def pair_slopes(gradient, coset, first, last, steps, block, angles, slopes, sums):
    """The slope of every angle in a pair pass: turn (gx, gy, gz) back through its steps."""
    gx, gy, gz = gradient
    for k in range(last - 1, first - 1, -1):
        step = steps[k]
        c, s = half_angle(step, block, angles)
        flipped = step[3 + coset] < 0
        cosine, sine = fnma(s, s, mul(c, c)), mul(add(c, c), neg(s) if flipped else s)
        if step[2] == LETTER_X:
            slope = gx
            gy, gz = fma(sine, gz, mul(cosine, gy)), fnma(sine, gy, mul(cosine, gz))
        elif step[2] == LETTER_Y:
            slope = gy
            gz, gx = fma(sine, gx, mul(cosine, gz)), fnma(sine, gz, mul(cosine, gx))
        else:
            slope = gz
            gx, gy = fma(sine, gy, mul(cosine, gx)), fnma(sine, gx, mul(cosine, gy))
        record(step, neg(slope) if flipped else slope, block, angles.blocks, slopes, sums)


@njit(**_INNER)
def diagonal_slopes(psi, co, first, last, steps, low, high, block, blocks, slopes, sums):
    """The slope of every angle in a diagonal pass: Im <co|P|psi> does not change inside it."""
    for k in range(first, last):
        slope = constant(0, psi)
        for h in high:
            for l in low:
                j = h ^ l
                sign = constant(1 - 2 * odd(steps[k][5] & j), psi)
                part = fnma(load(co, 2 * j + 1), load(psi, 2 * j), mul(load(co, 2 * j), load(psi, 2 * j + 1)))
                slope = fma(sign, part, slope)
        record(steps[k], slope, block, blocks, slopes, sums)


@njit(**_INNER)
def record(step, slope, block, blocks, slopes, sums):
    """Add a step's slope to the gradient of its angle."""
    if step[0] == 0:
        sums[block, step[1]] += total(slope)
    else:
        row = step[1] * blocks + block
        store(slopes, row, add(load(slopes, row), slope))
