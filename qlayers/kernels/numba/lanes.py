"""The lane kernel: a block of samples at a time, one sample per SIMD lane, the whole circuit in cache.

The state of a block is an array of vectors `[amplitude][re, im]`, the samples innermost: every rotation on every
wire is then a straight vector loop, angles of samples included. Forward keeps nothing; backward runs the block
forward again and then undoes it pass by pass on state and costate, so memory grows neither with batch nor depth.

Conventions of the arguments, W lanes, B = ceil(b / W) blocks:
    half_cos, half_sin   (Ks,) cos and sin of half the shared angles
    lane_cos, lane_sin   (Kb, B W) the same of the batched angles
    values, weights      (T, B W) expectation values and their incoming gradients
    slopes               (Kb, B W) gradient of the batched angles
    sums                 (B, Ks) gradient of the shared angles, per block
    passes, steps, tables, words, signs   see `schedule.Schedule`
"""

import numpy as np
from numba import njit

from qlayers.kernels.numba.schedule import LETTER_X, LETTER_Y
from qlayers.kernels.numba.simd import add, address, fma, fnma, load, mul, neg, odd, splat, store, sub, total

_INLINE = {"nogil": True, "inline": "always"}
_KERNEL = {"nogil": True, "cache": True}


@njit(**_INLINE)
def aligned(count, lanes, like):
    """Room for `count` vectors that start on a 64-byte boundary."""
    room = np.empty((count + 1) * lanes, like.dtype)
    skip = (-address(room) % 64) // room.itemsize
    return room[skip : skip + count * lanes]


@njit(**_INLINE)
def trigonometry(step, block, blocks, half_cos, half_sin, lane_cos, lane_sin):
    """cos and sin of half a step's angle, for the lanes of a block."""
    column = step[1]
    if step[0] == 0:
        return splat(half_cos[column]), splat(half_sin[column])
    row = column * blocks + block
    return load(lane_cos, row), load(lane_sin, row)


@njit(**_INLINE)
def fused_matrix(first, last, coset, steps, block, blocks, half_cos, half_sin, lane_cos, lane_sin):
    """The SU(2) matrix [[a, -b*], [b, a*]] of a pair pass: re a, im a, re b, im b."""
    zero = splat(half_cos.dtype.type(0))
    ar, ai, br, bi = splat(half_cos.dtype.type(1)), zero, zero, zero
    for k in range(first, last):
        step = steps[k]
        c, s = trigonometry(step, block, blocks, half_cos, half_sin, lane_cos, lane_sin)
        if step[3 + coset] < 0:
            s = neg(s)
        if step[2] == LETTER_X:
            ar, ai, br, bi = (fma(s, bi, mul(c, ar)), fnma(s, br, mul(c, ai)),
                              fma(s, ai, mul(c, br)), fnma(s, ar, mul(c, bi)))
        elif step[2] == LETTER_Y:
            ar, ai, br, bi = (fnma(s, br, mul(c, ar)), fnma(s, bi, mul(c, ai)),
                              fma(s, ar, mul(c, br)), fma(s, ai, mul(c, bi)))
        else:
            ar, ai, br, bi = (fma(s, ai, mul(c, ar)), fnma(s, ar, mul(c, ai)),
                              fnma(s, bi, mul(c, br)), fma(s, br, mul(c, bi)))
    return ar, ai, br, bi


@njit(**_INLINE)
def turned(ar, ai, br, bi, r0, i0, r1, i1):
    """The matrix times a pair."""
    return (
        fnma(bi, i1, fnma(br, r1, fnma(ai, i0, mul(ar, r0)))),
        fnma(br, i1, fma(bi, r1, fma(ai, r0, mul(ar, i0)))),
        fma(ai, i1, fma(ar, r1, fnma(bi, i0, mul(br, r0)))),
        fnma(ai, r1, fma(ar, i1, fma(bi, r0, mul(br, i0)))),
    )


@njit(**_INLINE)
def apply_pairs(psi, m, offset, low, high, ar, ai, br, bi):
    """A pair pass over one coset."""
    for h in high:
        for l in low:
            j = 2 * (h ^ l ^ offset)
            k = j ^ (2 * m)
            r0, i0, r1, i1 = turned(ar, ai, br, bi, load(psi, j), load(psi, j + 1), load(psi, k), load(psi, k + 1))
            store(psi, j, r0)
            store(psi, j + 1, i0)
            store(psi, k, r1)
            store(psi, k + 1, i1)


@njit(**_INLINE)
def apply_diagonal(psi, first, last, steps, low, high, direction, block, blocks, half_cos, half_sin, lane_cos, lane_sin):
    """A diagonal pass, forward (direction 1) or undone (-1)."""
    for h in high:
        for l in low:
            j = h ^ l
            re, im = load(psi, 2 * j), load(psi, 2 * j + 1)
            for k in range(first, last):
                step = steps[k]
                c, s = trigonometry(step, block, blocks, half_cos, half_sin, lane_cos, lane_sin)
                s = mul(s, splat(half_cos.dtype.type(direction - 2 * direction * odd(step[5] & j))))
                re, im = fma(s, im, mul(c, re)), fnma(s, re, mul(c, im))
            store(psi, 2 * j, re)
            store(psi, 2 * j + 1, im)


@njit(**_INLINE)
def run_forward(psi, amplitudes, passes, steps, tables, block, blocks, half_cos, half_sin, lane_cos, lane_sin):
    """All passes on |0...0>."""
    zero = splat(half_cos.dtype.type(0))
    for j in range(2 * amplitudes):
        store(psi, j, zero)
    store(psi, 0, splat(half_cos.dtype.type(1)))
    for g in range(len(passes)):
        m, cosets, shift, low0, low1, high0, high1, first, last = passes[g]
        low, high = tables[low0:low1], tables[high0:high1]
        if m == 0:
            apply_diagonal(psi, first, last, steps, low, high, 1, block, blocks, half_cos, half_sin, lane_cos, lane_sin)
            continue
        for coset in range(cosets):
            ar, ai, br, bi = fused_matrix(first, last, coset, steps, block, blocks, half_cos, half_sin, lane_cos, lane_sin)
            apply_pairs(psi, m, coset * shift, low, high, ar, ai, br, bi)


@njit(**_INLINE)
def word_value(psi, amplitudes, word, signs):
    """<psi|P|psi> for the lanes of a block."""
    x, _, power = word
    value = splat(psi.dtype.type(0))
    for j in range(amplitudes):
        sign = splat(psi.dtype.type(signs[j]))
        re, im = load(psi, 2 * j), load(psi, 2 * j + 1)
        if x == 0:
            value = fma(sign, fma(re, re, mul(im, im)), value)
            continue
        # conj(psi[j ^ x]) i^power sign psi[j], real part
        to_re, to_im = load(psi, 2 * (j ^ x)), load(psi, 2 * (j ^ x) + 1)
        if power % 2 == 0:
            part = fma(to_re, re, mul(to_im, im))
        else:
            part = fnma(to_re, im, mul(to_im, re))
        value = fma(sign, part, value)
    return neg(value) if power >= 2 else value


@njit(**_INLINE)
def add_word(psi, co, amplitudes, word, signs, weight):
    """costate += weight P|psi>."""
    x, _, power = word
    if power >= 2:
        weight = neg(weight)
    for j in range(amplitudes):
        scale = mul(weight, splat(psi.dtype.type(signs[j])))
        re, im = load(psi, 2 * j), load(psi, 2 * j + 1)
        k = 2 * (j ^ x)
        if power % 2 == 0:
            store(co, k, fma(scale, re, load(co, k)))
            store(co, k + 1, fma(scale, im, load(co, k + 1)))
        else:
            store(co, k, fnma(scale, im, load(co, k)))
            store(co, k + 1, fma(scale, re, load(co, k + 1)))


@njit(**_INLINE)
def undo_pairs(psi, co, m, offset, low, high, ar, ai, br, bi):
    """Undo a pair pass on state and costate; returns Im <co|X|psi>, Im <co|Y|psi>, Im <co|Z|psi> from after it."""
    gx = gy = gz = splat(psi.dtype.type(0))
    ai, br, bi = neg(ai), neg(br), neg(bi)
    for h in high:
        for l in low:
            j = 2 * (h ^ l ^ offset)
            k = j ^ (2 * m)
            r0, i0, r1, i1 = load(psi, j), load(psi, j + 1), load(psi, k), load(psi, k + 1)
            p0, q0, p1, q1 = load(co, j), load(co, j + 1), load(co, k), load(co, k + 1)
            gx = fnma(q1, r0, fma(p1, i0, fnma(q0, r1, fma(p0, i1, gx))))
            gy = fma(q1, i0, fma(p1, r0, fnma(q0, i1, fnma(p0, r1, gy))))
            gz = fma(q1, r1, fnma(p1, i1, fnma(q0, r0, fma(p0, i0, gz))))
            r0, i0, r1, i1 = turned(ar, ai, br, bi, r0, i0, r1, i1)
            store(psi, j, r0)
            store(psi, j + 1, i0)
            store(psi, k, r1)
            store(psi, k + 1, i1)
            p0, q0, p1, q1 = turned(ar, ai, br, bi, p0, q0, p1, q1)
            store(co, j, p0)
            store(co, j + 1, q0)
            store(co, k, p1)
            store(co, k + 1, q1)
    return gx, gy, gz


@njit(**_INLINE)
def record(step, slope, block, blocks, slopes, sums):
    """Add a step's slope to the gradient of its angle."""
    if step[0] == 0:
        sums[block, step[1]] += total(slope)
    else:
        row = step[1] * blocks + block
        store(slopes, row, add(load(slopes, row), slope))


@njit(**_INLINE)
def pair_slopes(gx, gy, gz, coset, first, last, steps, block, blocks, half_cos, half_sin, lane_cos, lane_sin, slopes, sums):
    """The slope of every angle in a pair pass: turn (gx, gy, gz) back through the steps."""
    for k in range(last - 1, first - 1, -1):
        step = steps[k]
        c, s = trigonometry(step, block, blocks, half_cos, half_sin, lane_cos, lane_sin)
        flipped = step[3 + coset] < 0
        cosine, sine = fnma(s, s, mul(c, c)), mul(add(c, c), s)
        if flipped:
            sine = neg(sine)
        if step[2] == LETTER_X:
            slope = gx
            gy, gz = fma(sine, gz, mul(cosine, gy)), fnma(sine, gy, mul(cosine, gz))
        elif step[2] == LETTER_Y:
            slope = gy
            gz, gx = fma(sine, gx, mul(cosine, gz)), fnma(sine, gz, mul(cosine, gx))
        else:
            slope = gz
            gx, gy = fma(sine, gy, mul(cosine, gx)), fnma(sine, gx, mul(cosine, gy))
        record(step, neg(slope) if flipped else slope, block, blocks, slopes, sums)


@njit(**_INLINE)
def diagonal_slopes(psi, co, first, last, steps, low, high, block, blocks, slopes, sums):
    """The slope of every angle in a diagonal pass: Im <co|P|psi> does not change inside it."""
    for k in range(first, last):
        step = steps[k]
        slope = splat(psi.dtype.type(0))
        for h in high:
            for l in low:
                j = h ^ l
                sign = splat(psi.dtype.type(1 - 2 * odd(step[5] & j)))
                part = fnma(load(co, 2 * j + 1), load(psi, 2 * j), mul(load(co, 2 * j), load(psi, 2 * j + 1)))
                slope = fma(sign, part, slope)
        record(step, slope, block, blocks, slopes, sums)


@njit(**_KERNEL)
def forward_blocks(start, stop, blocks, amplitudes, lanes, passes, steps, tables, words, signs,
                   half_cos, half_sin, lane_cos, lane_sin, values):
    """Expectation values of the blocks start..stop."""
    psi = aligned(2 * amplitudes, lanes, half_cos)
    for block in range(start, stop):
        run_forward(psi, amplitudes, passes, steps, tables, block, blocks, half_cos, half_sin, lane_cos, lane_sin)
        for t in range(len(words)):
            store(values, t * blocks + block, word_value(psi, amplitudes, words[t], signs[t]))


@njit(**_KERNEL)
def backward_blocks(start, stop, blocks, amplitudes, lanes, passes, steps, tables, words, signs,
                    half_cos, half_sin, lane_cos, lane_sin, weights, slopes, sums):
    """Gradients of the angles for the blocks start..stop; `slopes` and `sums` come in as zeros."""
    psi = aligned(2 * amplitudes, lanes, half_cos)
    co = aligned(2 * amplitudes, lanes, half_cos)
    zero = splat(half_cos.dtype.type(0))
    for block in range(start, stop):
        run_forward(psi, amplitudes, passes, steps, tables, block, blocks, half_cos, half_sin, lane_cos, lane_sin)
        for j in range(2 * amplitudes):
            store(co, j, zero)
        for t in range(len(words)):
            add_word(psi, co, amplitudes, words[t], signs[t], load(weights, t * blocks + block))
        for g in range(len(passes) - 1, -1, -1):
            m, cosets, shift, low0, low1, high0, high1, first, last = passes[g]
            low, high = tables[low0:low1], tables[high0:high1]
            if m == 0:
                diagonal_slopes(psi, co, first, last, steps, low, high, block, blocks, slopes, sums)
                apply_diagonal(psi, first, last, steps, low, high, -1, block, blocks, half_cos, half_sin, lane_cos, lane_sin)
                apply_diagonal(co, first, last, steps, low, high, -1, block, blocks, half_cos, half_sin, lane_cos, lane_sin)
                continue
            for coset in range(cosets):
                ar, ai, br, bi = fused_matrix(first, last, coset, steps, block, blocks, half_cos, half_sin, lane_cos, lane_sin)
                gx, gy, gz = undo_pairs(psi, co, m, coset * shift, low, high, ar, ai, br, bi)
                pair_slopes(gx, gy, gz, coset, first, last, steps, block, blocks,
                            half_cos, half_sin, lane_cos, lane_sin, slopes, sums)
