"""The product state that a program begins with, made and undone group by group."""

from numba import njit

from qlayers.kernels.numba.code import group, step
from qlayers.kernels.numba.corners import NEAR
from qlayers.kernels.numba.passes import zero_rows
from qlayers.kernels.numba.schedule import LETTER_X, LETTER_Y
from qlayers.kernels.numba.simd import lanes_in, load, spread, store
from shared.simd import add, fma, fnma, mul, neg

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only: compiles faster


@njit(**_INNER)
def group_matrix(code, g, work):
    """The first column (a, b) of a group's SU(2) matrix, into `work.matrix`."""
    zero = spread(work.state, 0)
    ar, ai, br, bi = spread(work.state, 1), zero, zero, zero
    first, last = group(code, g)
    for k in range(first, last):
        _, _, letter, sign = step(code, k)
        c, s = load(work.begin_cos, k), load(work.begin_sin, k)
        if sign < 0:
            s = neg(s)
        if letter == LETTER_X:
            ar, bi = fma(s, bi, mul(c, ar)), fnma(s, ar, mul(c, bi))
            ai, br = fnma(s, br, mul(c, ai)), fma(s, ai, mul(c, br))
        elif letter == LETTER_Y:
            ar, br = fnma(s, br, mul(c, ar)), fma(s, ar, mul(c, br))
            ai, bi = fnma(s, bi, mul(c, ai)), fma(s, ai, mul(c, bi))
        else:
            ar, ai = fma(s, ai, mul(c, ar)), fnma(s, ar, mul(c, ai))
            br, bi = fnma(s, bi, mul(c, br)), fma(s, br, mul(c, bi))
    store(work.matrix, 0, ar)
    store(work.matrix, 1, ai)
    store(work.matrix, 2, br)
    store(work.matrix, 3, bi)


@njit(**_INNER)
def begin(code, work):
    """The product state: each group doubles it."""
    state, matrix, half, low_bits = work.state, work.matrix, code.half, code.low_bits
    lanes, groups = lanes_in(state), code.group_count
    filled = max(1, 1 << groups >> low_bits)  # rows that will hold anything
    for part in range(0, 2 * half, half):
        zero_rows(state, part, part + 1)
        zero_rows(state, part + filled, part + half)
    if low_bits:
        state[0] = 1
    else:
        store(state, 0, spread(state, 1))
    imaginary = half * lanes
    for g in range(groups):
        group_matrix(code, g, work)
        if g < low_bits:
            size = 1 << g
            ar, ai, br, bi = matrix[0], matrix[lanes], matrix[2 * lanes], matrix[3 * lanes]
            for c in range(size):
                re, im = state[c], state[imaginary + c]
                state[c], state[imaginary + c] = ar * re - ai * im, ar * im + ai * re
                state[size + c], state[imaginary + size + c] = br * re - bi * im, br * im + bi * re
        else:
            a, ia, b, ib = load(matrix, 0), load(matrix, 1), load(matrix, 2), load(matrix, 3)
            rows = 1 << (g - low_bits)
            for row in range(rows):
                re, im = load(state, row), load(state, half + row)
                store(state, row, fnma(ia, im, mul(a, re)))
                store(state, half + row, fma(ia, re, mul(a, im)))
                store(state, rows + row, fnma(ib, im, mul(b, re)))
                store(state, half + rows + row, fma(ib, re, mul(b, im)))


@njit(**_INNER)
def undo_beginning(code, scale, work):
    """Undo the product state group by group, and find the slopes of its angles.

    With the state (a f, b f) before a group doubled f, all slopes follow from <costate|f> of both halves.
    """
    factor = mul(scale, scale)
    half, low_bits, lanes = code.half, code.low_bits, lanes_in(work.state)
    for g in range(code.group_count - 1, -1, -1):
        group_matrix(code, g, work)
        if g < low_bits:
            ur, ui, vr, vi = undo_lanes(work.state, work.costate, half * lanes, 1 << g, lanes, work.matrix)
        else:
            ur, ui, vr, vi = undo_rows(work.state, work.costate, half, 1 << (g - low_bits), work.matrix)
        ar, ai, br, bi = (
            load(work.matrix, 0),
            load(work.matrix, 1),
            load(work.matrix, 2),
            load(work.matrix, 3),
        )
        # Im <costate|X|state>, Im <costate|Y|state>, Im <costate|Z|state>
        gx = mul(factor, fma(br, ui, fma(bi, ur, fma(ar, vi, mul(ai, vr)))))
        gy = mul(factor, fma(ar, vr, fnma(ai, vi, fma(bi, ui, neg(mul(br, ur))))))
        gz = mul(factor, fma(ar, ui, fma(ai, ur, neg(fma(br, vi, mul(bi, vr))))))
        first, last = group(code, g)
        for k in range(last - 1, first - 1, -1):
            source, column, letter, sign = step(code, k)
            c, s = load(work.begin_cos, k), load(work.begin_sin, k)
            flipped = sign < 0
            cosine, sine = fnma(s, s, mul(c, c)), mul(add(c, c), neg(s) if flipped else s)
            if letter == LETTER_X:
                slope = gx
                gy, gz = fma(sine, gz, mul(cosine, gy)), fnma(sine, gy, mul(cosine, gz))
            elif letter == LETTER_Y:
                slope = gy
                gz, gx = fma(sine, gx, mul(cosine, gz)), fnma(sine, gz, mul(cosine, gx))
            else:
                slope = gz
                gx, gy = fma(sine, gy, mul(cosine, gx)), fnma(sine, gx, mul(cosine, gy))
            record(source, column, neg(slope) if flipped else slope, work)


@njit(**_INNER)
def undo_lanes(state, costate, imaginary, size, lanes, matrix):
    """One group within the first row: <costate|f> of both halves as re and im, shared out over the lanes."""
    ar, ai, br, bi = matrix[0], matrix[lanes], matrix[2 * lanes], matrix[3 * lanes]
    ur, ui, vr, vi = 0.0, 0.0, 0.0, 0.0
    for c in range(size):
        i, d, e = imaginary + c, size + c, imaginary + size + c
        re = ar * state[c] + ai * state[i] + br * state[d] + bi * state[e]
        im = ar * state[i] - ai * state[c] + br * state[e] - bi * state[d]
        ur += costate[c] * re + costate[i] * im
        ui += costate[c] * im - costate[i] * re
        vr += costate[d] * re + costate[e] * im
        vi += costate[d] * im - costate[e] * re
        cre = ar * costate[c] + ai * costate[i] + br * costate[d] + bi * costate[e]
        cim = ar * costate[i] - ai * costate[c] + br * costate[e] - bi * costate[d]
        state[c], state[i], costate[c], costate[i] = re, im, cre, cim
    ur, ui, vr, vi = ur / lanes, ui / lanes, vr / lanes, vi / lanes
    return spread(state, ur), spread(state, ui), spread(state, vr), spread(state, vi)


@njit(**_INNER)
def undo_rows(state, costate, half, rows, matrix):
    """One group of whole rows: <costate|f> of both halves as re and im, lane by lane."""
    zero = spread(state, 0)
    ur, ui, vr, vi = zero, zero, zero, zero
    far_ur, far_ui, far_vr, far_vi = zero, zero, zero, zero
    a, ia, b, ib = load(matrix, 0), load(matrix, 1), load(matrix, 2), load(matrix, 3)
    for row in range(rows):
        r0, i0 = load(state, row), load(state, half + row)
        r1, i1 = load(state, rows + row), load(state, half + rows + row)
        p0, q0 = load(costate, row), load(costate, half + row)
        p1, q1 = load(costate, rows + row), load(costate, half + rows + row)
        re = fma(a, r0, fma(ia, i0, fma(b, r1, mul(ib, i1))))
        im = fnma(ia, r0, fma(a, i0, fnma(ib, r1, mul(b, i1))))
        ur, vr = fma(p0, re, fma(q0, im, ur)), fma(p1, re, fma(q1, im, vr))
        ui, vi = fma(p0, im, fnma(q0, re, ui)), fma(p1, im, fnma(q1, re, vi))
        store(state, row, re)
        store(state, half + row, im)
        store(costate, row, fma(a, p0, fma(ia, q0, fma(b, p1, mul(ib, q1)))))
        store(costate, half + row, fnma(ia, p0, fma(a, q0, fnma(ib, p1, mul(b, q1)))))
        if row & NEAR == NEAR:
            far_ur, far_ui, far_vr, far_vi = (
                add(far_ur, ur),
                add(far_ui, ui),
                add(far_vr, vr),
                add(far_vi, vi),
            )
            ur, ui, vr, vi = zero, zero, zero, zero
    return add(far_ur, ur), add(far_ui, ui), add(far_vr, vr), add(far_vi, vi)


@njit(**_INNER)
def record(source, column, slope, work):
    """Add a slope to the gradient of an angle, lane by lane."""
    into = work.common if source == 0 else work.slopes
    store(into, column, add(load(into, column), slope))
