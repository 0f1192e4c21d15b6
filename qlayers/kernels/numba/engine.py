"""The kernel: whole programs of `program.py` on blocks of samples, forward and by the adjoint method back.

With `low_bits` = 0 a block is one sample for each lane; otherwise one sample, 2^low_bits of its amplitudes in
the lanes. Forward keeps nothing; backward runs the block forward again and then undoes it pass by pass on state
and costate, so memory grows neither with batch nor with depth.

A rotation by angle b + k pi is one by b, which tan(b/2) in [-1, 1] describes well, and k times the word itself,
up to a phase. These words need not be applied: they are carried along as a frame (masks x and z), and turn the
sign of every later rotation, and measured word, that anticommutes with it.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from qlayers.kernels.numba.angles import full_half, half_angles
from qlayers.kernels.numba.passes import (
    NEAR,
    add_word,
    aligned,
    lane_backward,
    lane_forward,
    overlaps,
    pair_backward,
    pair_forward,
    phase_table,
    phase_words,
    probabilities,
    scale_rows,
    sign_patterns,
    transform,
    triple_backward,
    triple_backward_crossed,
    triple_forward,
    triple_forward_crossed,
    word_value,
    zero_rows,
)
from qlayers.kernels.numba.program import DIAGONAL, LANE, PAIR
from qlayers.kernels.numba.schedule import LETTER_X, LETTER_Y
from qlayers.kernels.numba.simd import align_stack, load, odd, store
from shared.simd import add, fma, fnma, mul, neg, splat, total

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only: compiles faster
_KERNEL = {"nogil": True, "cache": True}


class Shared(NamedTuple):
    """What all samples have in common."""

    cosines: np.ndarray  # (Ks,) float64 of half the reduced angles
    sines: np.ndarray
    counts: np.ndarray  # (Ks,) int64: multiples of pi taken off the angles, mod 4
    tables: np.ndarray  # (D, 2, 2^n) of the diagonal passes, or empty
    uniform: bool  # no turn has an angle of its own for each sample


class Work(NamedTuple):
    """Room for one block, all in rows of vectors but the last six."""

    state: np.ndarray
    costate: np.ndarray
    rows: np.ndarray  # half a state: probabilities, overlaps
    tau: np.ndarray  # (2K rows) tangents with signs, and negated
    sgn: np.ndarray  # (2K rows) the signs alone
    growth: np.ndarray  # (K rows) cosines of half the reduced angles
    patterns: np.ndarray  # (2^low_bits rows) signs of words in the lanes
    begin_cos: np.ndarray  # (S rows) cosine and sine of half of each angle in the beginning
    begin_sin: np.ndarray
    matrix: np.ndarray  # (4 rows) re a, im a, re b, im b
    slopes: np.ndarray  # (Kb rows) gradients of the block's own angles
    lane: np.ndarray  # (3 rows) one vector being put together
    own: np.ndarray  # (Kb * width,) the block's own angles, float64
    cosines: np.ndarray  # (Kb * width,) as in `Shared`, of the block's own angles
    sines: np.ndarray
    counts: np.ndarray
    shifts: np.ndarray  # (P,) the frame's mask x at each pass
    frame: np.ndarray  # (2, width) masks x and z of the frame at the end


@njit(**_INNER)
def work_for(program, half, low_bits, columns, like, backward):
    """Room for the blocks of one call."""
    lanes = 64 // like.itemsize
    width = 1 if low_bits else lanes
    turns, steps = len(program.turns), len(program.steps)
    return Work(
        aligned(2 * half, lanes, like),
        aligned(2 * half if backward else 0, lanes, like),
        aligned(half, lanes, like),
        aligned(2 * turns, lanes, like),
        aligned(2 * turns, lanes, like),
        aligned(turns, lanes, like),
        sign_patterns(low_bits, lanes, like),
        aligned(steps, lanes, like),
        aligned(steps, lanes, like),
        aligned(4, lanes, like),
        aligned(columns if backward else 0, lanes, like),
        aligned(3, lanes, like),
        np.zeros(columns * width),
        np.empty(columns * width),
        np.empty(columns * width),
        np.empty(columns * width, np.int64),
        np.empty(len(program.passes), np.int64),
        np.zeros((2, width), np.int64),
    )


@njit(**_INNER)
def take_angles(batched, block, low_bits, work):
    """The block's own angles; lanes beyond the batch stay 0."""
    columns = batched.shape[1]
    if low_bits:
        for column in range(columns):
            work.own[column] = batched[block, column]
    else:
        lanes = work.frame.shape[1]
        first = block * lanes
        count = min(lanes, len(batched) - first)
        for column in range(columns):
            for lane in range(lanes):
                work.own[column * lanes + lane] = batched[first + lane, column] if lane < count else 0.0
    half_angles(work.own, work.cosines, work.sines, work.counts)


@njit(**_INNER)
def prepare_beginning(program, shared, low_bits, work):
    """cos and sin for the product state."""
    width = work.frame.shape[1]
    kind = work.state.dtype.type
    for k in range(len(program.steps)):
        source, column = program.steps[k, 0], program.steps[k, 1]
        if source == 0:
            c, s = full_half(shared.cosines[column], shared.sines[column], shared.counts[column])
            store(work.begin_cos, k, splat(kind(c)))
            store(work.begin_sin, k, splat(kind(s)))
        elif low_bits:
            c, s = full_half(work.cosines[column], work.sines[column], work.counts[column])
            store(work.begin_cos, k, splat(kind(c)))
            store(work.begin_sin, k, splat(kind(s)))
        else:
            for lane in range(width):
                i = column * width + lane
                c, s = full_half(work.cosines[i], work.sines[i], work.counts[i])
                work.begin_cos[k * width + lane], work.begin_sin[k * width + lane] = c, s


@njit(**_INNER)
def prepare_turns(program, shared, low_bits, work):
    """Signed tangents and cosines of all turns, and the frame on the way."""
    width = 1 if low_bits or shared.uniform else work.frame.shape[1]
    lanes = 64 // work.state.itemsize
    kind = work.state.dtype.type
    tabled = len(shared.tables) > 0
    frame_x, frame_z = work.frame[0], work.frame[1]
    frame_x[:] = 0
    frame_z[:] = 0
    for p in range(len(program.passes)):
        work.shifts[p] = frame_x[0]
        for k in range(program.passes[p, 1], program.passes[p, 3]):
            x, z, power, source, column = program.turns[k]
            flipping = not (tabled and x == 0 and source == 0)
            for lane in range(width):
                if source == 0:
                    c, s, count = shared.cosines[column], shared.sines[column], shared.counts[column]
                else:
                    i = column * width + lane
                    c, s, count = work.cosines[i], work.sines[i], work.counts[i]
                sign = 1 - 2 * (odd((frame_x[lane] & z) ^ (frame_z[lane] & x)) ^ (power >> 1))
                work.lane[lane], work.lane[lanes + lane], work.lane[2 * lanes + lane] = sign * s / c, sign, c
                if flipping and count & 1:
                    frame_x[lane] ^= x
                    frame_z[lane] ^= z
            if width == 1:
                pattern = load(work.patterns, z & (1 << low_bits) - 1)
                t, s = mul(splat(work.lane[0]), pattern), mul(splat(work.lane[lanes]), pattern)
                c = splat(work.lane[2 * lanes])
            else:
                t, s, c = load(work.lane, 0), load(work.lane, 1), load(work.lane, 2)
            store(work.tau, 2 * k, t)
            store(work.tau, 2 * k + 1, neg(t))
            store(work.sgn, 2 * k, s)
            store(work.sgn, 2 * k + 1, neg(s))
            store(work.growth, k, c)
    if width < len(frame_x):
        frame_x[:] = frame_x[0]
        frame_z[:] = frame_z[0]


@njit(**_INNER)
def frame_signs(work, x, z):
    """The sign that the frame gives a word, for each lane."""
    width = work.frame.shape[1]
    if width == 1:
        return splat(work.lane.dtype.type(1 - 2 * odd((work.frame[0, 0] & z) ^ (work.frame[1, 0] & x))))
    for lane in range(width):
        work.lane[lane] = 1 - 2 * odd((work.frame[0, lane] & z) ^ (work.frame[1, lane] & x))
    return load(work.lane, 0)


@njit(**_INNER)
def group_matrix(program, group, work):
    """The first column (a, b) of a group's SU(2) matrix, into `work.matrix`."""
    zero = splat(work.state.dtype.type(0))
    ar, ai, br, bi = splat(work.state.dtype.type(1)), zero, zero, zero
    for k in range(program.groups[group, 0], program.groups[group, 1]):
        c, s = load(work.begin_cos, k), load(work.begin_sin, k)
        if program.steps[k, 3] < 0:
            s = neg(s)
        if program.steps[k, 2] == LETTER_X:
            ar, bi = fma(s, bi, mul(c, ar)), fnma(s, ar, mul(c, bi))
            ai, br = fnma(s, br, mul(c, ai)), fma(s, ai, mul(c, br))
        elif program.steps[k, 2] == LETTER_Y:
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
def begin(program, half, low_bits, work):
    """The product state: each group doubles it."""
    state, matrix = work.state, work.matrix
    lanes = 64 // state.itemsize
    groups = len(program.groups)
    filled = max(1, 1 << groups >> low_bits)  # rows that will hold anything
    for part in range(0, 2 * half, half):
        zero_rows(state, part, part + 1)
        zero_rows(state, part + filled, part + half)
    if low_bits:
        state[0] = 1
    else:
        store(state, 0, splat(state.dtype.type(1)))
    imaginary = half * lanes
    for g in range(groups):
        group_matrix(program, g, work)
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
def grown(work, first, last, scale):
    """The factor that takes back by how much the turns first..last made the state grow."""
    for k in range(first, last):
        scale = mul(scale, load(work.growth, k))
    return scale


@njit(**_INNER)
def diagonal_pass(program, p, half, low_bits, shared, work, state, scale, backward):
    """One diagonal pass on a state or costate, with everything that this state still lacks as a factor."""
    _, first, middle, last, number = program.passes[p]
    words = middle if len(shared.tables) else first
    one = splat(state.dtype.type(1))
    if words > first:
        direct = words < last
        table = shared.tables[number]
        phase_table(state, half, table, low_bits, work.shifts[p], one if direct else scale, backward)
    if words < last or first == last:
        phase_words(state, half, program.turns, words, last, low_bits, work.tau, scale, backward)


@njit(**_INNER)
def forward_passes(program, half, low_bits, shared, work):
    """All turns; returns the factor that the state at the end still lacks."""
    state, turns, tau = work.state, program.turns, work.tau
    lane_mask = (1 << low_bits) - 1
    one = splat(state.dtype.type(1))
    scale = one
    for p in range(len(program.passes)):
        kind, first, middle, last, number = program.passes[p]
        if kind == DIAGONAL:
            scale = grown(work, middle if len(shared.tables) else first, last, scale)
            diagonal_pass(program, p, half, low_bits, shared, work, state, scale, 0)
            scale = one
            continue
        scale = grown(work, first, last, scale)
        x, z, mixed = turns[first, 0], turns[first, 1] >> low_bits, turns[first, 2] & 1 == 0
        if kind == LANE:
            lane_forward(state, half, x, z, mixed, first, tau)
        elif kind == PAIR:
            pair_forward(state, half, x >> low_bits, x & lane_mask, z, mixed, first, tau)
        else:
            high = (z, turns[first + 1, 1] >> low_bits, turns[first + 2, 1] >> low_bits)
            info = program.triples[number]
            if (x | turns[first + 1, 0] | turns[first + 2, 0]) & lane_mask:
                triple_forward_crossed(state, half, info, high, first, tau)
            else:
                triple_forward(state, half, info, high, first, tau)
    return scale


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
def measure(program, half, low_bits, scale, work, block, values):
    """The expectation value of each word."""
    lane_mask = (1 << low_bits) - 1
    factor = mul(scale, scale)
    prepared = False
    for t in range(len(program.words)):
        x, z, power = program.words[t]
        pattern = load(work.patterns, z & lane_mask)
        if x == 0:
            if not prepared:
                probabilities(work.state, half, work.rows)
                transform(work.rows, half)
                prepared = True
            value = mul(pattern, load(work.rows, z >> low_bits))
        else:
            value = word_value(work.state, half, x >> low_bits, x & lane_mask, z >> low_bits, power, pattern)
        put_values(values, t, block, low_bits, mul(value, mul(factor, frame_signs(work, x, z))))


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


@njit(**_INNER)
def begin_costate(program, half, low_bits, work, block, weights):
    """sum of weight P|state>, the state being normalised."""
    lane_mask = (1 << low_bits) - 1
    zero_rows(work.rows, 0, half)
    diagonal = False
    for t in range(len(program.words)):
        x, z, _ = program.words[t]
        if x == 0:
            diagonal = True
            weight = mul(word_weight(weights, t, block, low_bits, work), load(work.patterns, z & lane_mask))
            at = z >> low_bits
            store(work.rows, at, fma(weight, frame_signs(work, x, z), load(work.rows, at)))
    if diagonal:
        transform(work.rows, half)
        for row in range(half):
            weight = load(work.rows, row)
            store(work.costate, row, mul(weight, load(work.state, row)))
            store(work.costate, half + row, mul(weight, load(work.state, half + row)))
    else:
        zero_rows(work.costate, 0, 2 * half)
    for t in range(len(program.words)):
        x, z, power = program.words[t]
        if x != 0:
            weight = mul(word_weight(weights, t, block, low_bits, work), load(work.patterns, z & lane_mask))
            weight = mul(weight, frame_signs(work, x, z))
            add_word(
                work.state, work.costate, half, x >> low_bits, x & lane_mask, z >> low_bits, power, weight
            )


@njit(**_INNER)
def record(source, column, slope, sums, slopes):
    """Add a slope to the gradient of an angle, lane by lane."""
    if source == 0:
        store(sums, column, add(load(sums, column), slope))
    else:
        store(slopes, column, add(load(slopes, column), slope))


@njit(**_INNER)
def record_turn(program, k, slope, factor, sums, slopes):
    """Add the slope of turn k, found on states that lack a factor."""
    record(program.turns[k, 3], program.turns[k, 4], mul(slope, mul(factor, factor)), sums, slopes)


@njit(**_INNER)
def diagonal_slopes(program, half, low_bits, first, last, scale, work, sums):
    """The slopes of the turns in a diagonal pass, which it does not change."""
    overlaps(work.state, work.costate, half, work.rows)
    transform(work.rows, half)
    for k in range(first, last):
        z = program.turns[k, 1]
        slope = mul(load(work.sgn, 2 * k), load(work.rows, z >> low_bits))
        record_turn(program, k, slope, scale, sums, work.slopes)


@njit(**_INNER)
def backward_passes(program, half, low_bits, shared, work, sums):
    """Undo all turns on state and costate; returns the factor that both still lack at the end."""
    state, costate, turns, tau, sgn = work.state, work.costate, program.turns, work.tau, work.sgn
    lane_mask = (1 << low_bits) - 1
    one = splat(state.dtype.type(1))
    scale = one
    for p in range(len(program.passes) - 1, -1, -1):
        kind, first, middle, last, number = program.passes[p]
        if kind == DIAGONAL:
            if first < last:
                diagonal_slopes(program, half, low_bits, first, last, scale, work, sums)
            scale = grown(work, middle if len(shared.tables) else first, last, scale)
            diagonal_pass(program, p, half, low_bits, shared, work, state, scale, 1)
            diagonal_pass(program, p, half, low_bits, shared, work, costate, scale, 1)
            scale = one
            continue
        x, z, mixed = turns[first, 0], turns[first, 1] >> low_bits, turns[first, 2] & 1 == 0
        if kind == LANE:
            slope = lane_backward(state, costate, half, x, z, mixed, first, tau, sgn)
            record_turn(program, first, slope, scale, sums, work.slopes)
        elif kind == PAIR:
            slope = pair_backward(
                state, costate, half, x >> low_bits, x & lane_mask, z, mixed, first, tau, sgn
            )
            record_turn(program, first, slope, scale, sums, work.slopes)
        else:
            high = (z, turns[first + 1, 1] >> low_bits, turns[first + 2, 1] >> low_bits)
            info = program.triples[number]
            if (x | turns[first + 1, 0] | turns[first + 2, 0]) & lane_mask:
                s0, s1, s2 = triple_backward_crossed(state, costate, half, info, high, first, tau, sgn)
            else:
                s0, s1, s2 = triple_backward(state, costate, half, info, high, first, tau, sgn)
            record_turn(program, first + 2, s2, scale, sums, work.slopes)
            later = grown(work, first + 2, first + 3, scale)
            record_turn(program, first + 1, s1, later, sums, work.slopes)
            later = grown(work, first + 1, first + 2, later)
            record_turn(program, first, s0, later, sums, work.slopes)
        scale = grown(work, first, last, scale)
    return scale


@njit(**_INNER)
def undo_beginning(program, half, low_bits, scale, work, sums):
    """Undo the product state group by group, and find the slopes of its angles.

    With the state (a f, b f) before a group doubled f, all slopes follow from <costate|f> of both halves.
    """
    factor = mul(scale, scale)
    lanes = 64 // work.state.itemsize
    for g in range(len(program.groups) - 1, -1, -1):
        group_matrix(program, g, work)
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
        for k in range(program.groups[g, 1] - 1, program.groups[g, 0] - 1, -1):
            c, s = load(work.begin_cos, k), load(work.begin_sin, k)
            flipped = program.steps[k, 3] < 0
            cosine, sine = fnma(s, s, mul(c, c)), mul(add(c, c), neg(s) if flipped else s)
            if program.steps[k, 2] == LETTER_X:
                slope = gx
                gy, gz = fma(sine, gz, mul(cosine, gy)), fnma(sine, gy, mul(cosine, gz))
            elif program.steps[k, 2] == LETTER_Y:
                slope = gy
                gz, gx = fma(sine, gx, mul(cosine, gz)), fnma(sine, gz, mul(cosine, gx))
            else:
                slope = gz
                gx, gy = fma(sine, gy, mul(cosine, gx)), fnma(sine, gx, mul(cosine, gy))
            record(
                program.steps[k, 0], program.steps[k, 1], neg(slope) if flipped else slope, sums, work.slopes
            )


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
    kind = state.dtype.type
    return splat(kind(ur / lanes)), splat(kind(ui / lanes)), splat(kind(vr / lanes)), splat(kind(vi / lanes))


@njit(**_INNER)
def undo_rows(state, costate, half, rows, matrix):
    """One group of whole rows: <costate|f> of both halves as re and im, lane by lane."""
    zero = splat(state.dtype.type(0))
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
def put_slopes(work, block, low_bits, slopes):
    """Write the gradients of the block's own angles."""
    columns = slopes.shape[1]
    if low_bits:
        for column in range(columns):
            slopes[block, column] = total(load(work.slopes, column))
        return
    lanes = work.frame.shape[1]
    first = block * lanes
    for lane in range(min(lanes, len(slopes) - first)):
        for column in range(columns):
            slopes[first + lane, column] = work.slopes[column * lanes + lane]


@njit(**_KERNEL)
def prepare_shared(program, tabled, uniform, angles, wires):
    """What all samples have in common; the tables of diagonal passes only if `tabled`."""
    cosines, sines = np.empty(len(angles)), np.empty(len(angles))
    counts = np.empty(len(angles), np.int64)
    half_angles(angles, cosines, sines, counts)
    wanted = 0
    if tabled:
        for p in range(len(program.passes)):
            if program.passes[p, 0] == DIAGONAL and program.passes[p, 4] >= 0:
                wanted += 1
    tables = np.empty((wanted, 2, 1 << wires), angles.dtype)
    shared = Shared(cosines, sines, counts, tables, uniform)
    if wanted:
        for p in range(len(program.passes)):
            if program.passes[p, 0] == DIAGONAL and program.passes[p, 4] >= 0:
                fill_table(program, p, shared, wires)
    return shared


@njit(**_INNER)
def fill_table(program, p, shared, wires):
    """exp(-i/2 sum of +-angle) of the diagonal turns whose angles are shared, the signs as without a frame."""
    _, first, middle, _, number = program.passes[p]
    table = shared.tables[number]
    cosines, sines = table[0], table[1]
    cosines[0], sines[0] = 1, 0
    cosines[1:] = 1
    sines[1:] = 0
    lanes = 64 // table.itemsize
    patterns = sign_patterns(4 if lanes == 16 else 3, lanes, table)
    for k in range(first, middle):
        z, column = program.turns[k, 1], program.turns[k, 4]
        c, s = full_half(shared.cosines[column], shared.sines[column], shared.counts[column])
        if len(cosines) < lanes:
            for j in range(len(cosines)):
                sign = 1 - 2 * odd(z & j)
                re, im = cosines[j], sines[j]
                cosines[j], sines[j] = re * c - im * s * sign, im * c + re * s * sign
            continue
        cosine = splat(table.dtype.type(c))
        plus = mul(splat(table.dtype.type(s)), load(patterns, z & (lanes - 1)))
        high = z // lanes
        for row in range(len(cosines) // lanes):
            sine = neg(plus) if odd(high & row) else plus
            re, im = load(cosines, row), load(sines, row)
            store(cosines, row, fnma(sine, im, mul(cosine, re)))
            store(sines, row, fma(sine, re, mul(cosine, im)))


@njit(**_KERNEL)
def run_groups(
    start, stop, groups, blocks, program, half, low_bits, shared, batched, backward, values, sums, slopes
):
    """Run the blocks, which are cut into `groups` parts, of the parts start..stop.

    Forward: expectation values (b, T) go into `values`. Backward: `values` holds their gradients; those of the
    angles go into `sums` (groups, Ks * lanes), for the shared angles lane by lane, to which they are added, and
    `slopes` (b, Kb).
    """
    align_stack()
    work = work_for(program, half, low_bits, batched.shape[1], values, backward)
    if shared.uniform:
        prepare_turns(program, shared, low_bits, work)
    for group in range(start, stop):
        for block in range(blocks * group // groups, blocks * (group + 1) // groups):
            take_angles(batched, block, low_bits, work)
            prepare_beginning(program, shared, low_bits, work)
            if not shared.uniform:
                prepare_turns(program, shared, low_bits, work)
            begin(program, half, low_bits, work)
            scale = forward_passes(program, half, low_bits, shared, work)
            if not backward:
                measure(program, half, low_bits, scale, work, block, values)
                continue
            scale_rows(work.state, 2 * half, scale)
            begin_costate(program, half, low_bits, work, block, values)
            zero_rows(work.slopes, 0, batched.shape[1])
            scale = backward_passes(program, half, low_bits, shared, work, sums[group])
            undo_beginning(program, half, low_bits, scale, work, sums[group])
            put_slopes(work, block, low_bits, slopes)
