"""The jet kernel: the sweep of `evolve_passes.py` over blocks of samples, with jets for numbers.

A block's state is an array of vectors `[amplitude][row of the jet][re, im]`, one sample per lane. A pass is
the product of its matrix and the state in the arithmetic of jets, in place, from the fullest subset of the
directions to the empty one. Most passes turn by angles that no direction touches: these (`moving` is 0) have
a plain matrix, and every row of the state is turned by itself.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from qlayers.kernels.numba.jet_simd import (
    add_scaled,
    conjugate,
    density,
    load_amplitude,
    load_jet,
    load_matrix,
    moments,
    phased,
    rotate_rows,
    scaled,
    slope_of,
    spread,
    store_rows,
    turn,
    turned_density,
    turned_spread,
)
from qlayers.kernels.numba.simd import load, odd, store
from shared.simd import address, splat, total

_INNER = {"nogil": True}
_KERNEL = {"nogil": True, "cache": True}  # a change of `jet_simd.py` alone does not renew the cache
_VALUE = (0,)  # a jet without directions


class Job(NamedTuple):
    """What the kernel reads."""

    shared: np.ndarray  # (Ks, c, 2): cosine and sine of half of the angles
    batched: np.ndarray  # (c, b, Kb): the angles themselves
    moving: np.ndarray  # (G,) bool: whether a direction touches an angle of the pass
    longest: int  # the most steps of a pass
    amplitudes: int
    lanes: int


class Room(NamedTuple):
    """Memory of one thread, rows of vectors."""

    psi: np.ndarray  # [amplitude][row][re, im]
    co: np.ndarray
    trig: np.ndarray  # [batched angle][row][cos, sin]: of half of the angles of this block
    turns: np.ndarray  # [step of the pass][row][cos, sin]
    small: np.ndarray  # [row][4]: a matrix or moments; [step][row]: slopes; [row]: a value
    slopes: np.ndarray  # [batched angle][row]


@njit(**_INNER)
def vectors(count, job):
    """Room for `count` vectors that start on a 64-byte boundary."""
    room = np.empty((count + 1) * job.lanes, job.shared.dtype)
    skip = (-address(room) % 64) // room.itemsize
    return room[skip : skip + count * job.lanes]


@njit(**_INNER)
def make_room(job, jet, costates):
    """The memory of one thread, with or without (0) what costates need."""
    size, columns = len(jet), job.batched.shape[2]
    return Room(
        vectors(2 * size * job.amplitudes, job),
        vectors(2 * size * job.amplitudes * costates, job),
        vectors(2 * size * columns, job),
        vectors(2 * size * job.longest, job),
        vectors(size * max(4, job.longest), job),
        vectors(size * columns * costates, job),
    )


@njit(**_INNER)
def half_turn(angle, out, at, stride):
    """Cosine and sine of half of a jet, in turns, to every stride-th place of `out` from `at` on."""
    out[at], out[at + stride] = math.cos(angle[0] / 2), math.sin(angle[0] / 2)
    size = 1
    while size < len(angle):  # the rows of one more direction
        for subset in range(size):
            c, s = 0.0, 0.0
            for part in range(subset + 1):
                if part & subset == part:
                    slope, other = angle[size + part] / 2, at + 2 * (subset ^ part) * stride
                    c -= slope * out[other + stride]
                    s += slope * out[other]
            place = at + 2 * (size + subset) * stride
            out[place], out[place + stride] = c, s
        size *= 2


@njit(**_KERNEL)
def shared_turns(angles, out):
    """`Job.shared` of the angles (c, Ks)."""
    for column in range(angles.shape[1]):
        half_turn(angles[:, column], out, 2 * column * len(angles), 1)


@njit(**_KERNEL)
def moving_passes(plan, shared, batched, moving):
    """`Job.moving`: whether the angles (c, Ks) and (c, b, Kb) of a pass have infinitesimal parts at all."""
    of_shared, of_batched = np.zeros(shared.shape[1], np.bool_), np.zeros(batched.shape[2], np.bool_)
    for row in range(1, len(shared)):
        for column in range(shared.shape[1]):
            of_shared[column] |= shared[row, column] != 0
        for sample in range(batched.shape[1]):
            for column in range(batched.shape[2]):
                of_batched[column] |= batched[row, sample, column] != 0
    for g in range(len(plan.passes)):
        moving[g] = False
        for k in range(plan.passes[g, 7], plan.passes[g, 8]):
            source, column = plan.steps[k, 0], plan.steps[k, 1]
            moving[g] |= of_shared[column] if source == 0 else of_batched[column]


@njit(**_INNER)
def enter_block(room, block, job, jet):
    """Cosine and sine of half of the batched angles; samples that do not exist have angle zero."""
    size, lanes = len(jet), job.lanes
    angle = np.zeros(size, job.batched.dtype)
    for column in range(job.batched.shape[2]):
        for lane in range(lanes):
            sample = block * lanes + lane
            for row in range(size):
                angle[row] = job.batched[row, sample, column] if sample < job.batched.shape[1] else 0
            half_turn(angle, room.trig, 2 * size * column * lanes + lane, lanes)


@njit(**_INNER)
def number(value, like):
    """A vector of `value` in the dtype of an array."""
    return splat(like.dtype.type(value))


@njit(**_INNER)
def clear(rows, count):
    """Zero the first rows."""
    zero = number(0, rows)
    for row in range(count):
        store(rows, row, zero)


@njit(**_INNER)
def fetch(room, first, last, steps, job, jet):
    """Cosine and sine of half the angles of a pass."""
    width = 2 * len(jet)
    for k in range(first, last):
        source, at = steps[k, 1] * width, (k - first) * width
        for row in range(width):
            if steps[k, 0] == 0:
                store(room.turns, at + row, splat(job.shared[source + row]))
            else:
                store(room.turns, at + row, load(room.trig, source + row))


@njit(**_INNER)
def fuse(room, first, last, coset, steps, jet, moving):
    """The matrix of a pair pass, rows [row of the jet][q0, q1, q2, q3] of `room.small`."""
    matrix = room.small
    clear(matrix, 4 * len(moving))
    store(matrix, 0, number(1, matrix))
    for k in range(first, last):
        at = (k - first) * 2 * len(jet)
        letter, sign = steps[k, 2], number(steps[k, 3 + coset], matrix)
        # (c - i s P) times q0 - i (q1 X + q2 Y + q3 Z): two rotations of the quaternion's parts
        rotate_rows(matrix, 0, 1 + letter, moving, room.turns, at, moving, sign)
        rotate_rows(matrix, 1 + (letter + 1) % 3, 1 + (letter + 2) % 3, moving, room.turns, at, moving, sign)


@njit(**_INNER)
def turn_pairs(state, m, offset, low, high, jet, matrix):
    """A pair pass over one coset."""
    for h in high:
        for l in low:
            j = h ^ l ^ offset
            turn(state, j, j ^ m, jet, matrix)


@njit(**_INNER)
def turn_diagonal(state, room, first, last, steps, low, high, jet, moving, direction):
    """A diagonal pass, forward (direction 1) or undone (-1)."""
    width = 2 * len(jet)
    for h in high:
        for l in low:
            j = h ^ l
            amplitude = load_amplitude(state, j * width, jet)
            for k in range(first, last):
                sign = number(direction - 2 * direction * odd(steps[k, 5] & j), state)
                amplitude = phased(amplitude, room.turns, (k - first) * width, moving, sign)
            store_rows(state, j * width, amplitude)


@njit(**_INNER)
def forward_pass(room, g, plan, job, jet, moving):
    """Apply pass g to the state."""
    m, cosets, shift, low0, low1, high0, high1, first, last = plan.passes[g]
    low, high = plan.tables[low0:low1], plan.tables[high0:high1]
    fetch(room, first, last, plan.steps, job, jet)
    if m == 0:
        turn_diagonal(room.psi, room, first, last, plan.steps, low, high, jet, moving, 1)
        return
    for coset in range(cosets):
        fuse(room, first, last, coset, plan.steps, jet, moving)
        turn_pairs(room.psi, m, coset * shift, low, high, jet, load_matrix(room.small, 0, moving))


@njit(**_INNER)
def run_forward(room, plan, block, job, jet):
    """All passes on |0...0>, for the samples of a block."""
    enter_block(room, block, job, jet)
    clear(room.psi, 2 * len(jet) * job.amplitudes)
    store(room.psi, 0, number(1, room.psi))
    for g in range(len(plan.passes)):
        if job.moving[g]:
            forward_pass(room, g, plan, job, jet, jet)
        else:
            forward_pass(room, g, plan, job, jet, _VALUE)


@njit(**_INNER)
def word_value(room, amplitudes, word, signs, jet):
    """<psi|P|psi>, into the first rows of `room.small`."""
    x, _, power = word
    clear(room.small, len(jet))
    for j in range(amplitudes):
        sign = number(signs[j] if power < 2 else -signs[j], room.psi)
        if power % 2 == 0:
            add_scaled(room.small, 0, density(room.psi, j, j ^ x, jet), sign)
        else:
            add_scaled(room.small, 0, turned_density(room.psi, j, j ^ x, jet), sign)


@njit(**_INNER)
def add_word(room, amplitudes, word, signs, weight):
    """Add weight P|psi> to the costate."""
    x, _, power = word
    for j in range(amplitudes):
        sign = number(signs[j] if power < 2 else -signs[j], room.psi)
        if power % 2 == 0:
            spread(room.psi, room.co, j, j ^ x, scaled(weight, sign))
        else:
            turned_spread(room.psi, room.co, j, j ^ x, scaled(weight, sign))


@njit(**_INNER)
def undo_pairs(room, m, offset, low, high, jet, matrix):
    """Undo a pair pass on state and costate; Im <co|X, Y, Z|psi> after it goes to `small`, [row][4]."""
    psi, co = room.psi, room.co
    size = len(jet)
    clear(room.small, 4 * size)
    # three vectors per row of the jet, all zero
    found = load_jet(room.small, 0, jet) + load_jet(room.small, 0, jet) + load_jet(room.small, 0, jet)
    undo = conjugate(matrix)
    for h in high:
        for l in low:
            j = h ^ l ^ offset
            found = moments(psi, co, j, j ^ m, jet, found)
            turn(psi, j, j ^ m, jet, undo)
            turn(co, j, j ^ m, jet, undo)
    for subset in range(size):
        for letter in range(3):
            store(room.small, 4 * subset + letter, found[3 * subset + letter])


@njit(**_INNER)
def pair_slopes(room, first, last, coset, steps, jet, moving, sums):
    """The slope of every angle in a pair pass: turn the moments back through its steps."""
    found = room.small
    for k in range(last - 1, first - 1, -1):
        at, letter = (k - first) * 2 * len(jet), steps[k, 2]
        sign = number(steps[k, 3 + coset], found)
        for subset in range(len(jet)):
            record(room, steps[k], subset, load(found, 4 * subset + letter), sign, jet, sums)
        p, q = (letter + 2) % 3, (letter + 1) % 3
        for _ in range(2):  # by half of the angle twice
            rotate_rows(found, p, q, jet, room.turns, at, moving, sign)


@njit(**_INNER)
def record(room, step, subset, slope, sign, jet, sums):
    """Add sign times a slope to the gradient of its angle; the slope of row B stands at B's complement."""
    row = len(jet) - 1 - subset
    if step[0] == 0:
        sums[row, step[1]] += total(scaled((slope,), sign)[0])
    else:
        add_scaled(room.slopes, step[1] * len(jet) + row, (slope,), sign)


@njit(**_INNER)
def diagonal_slopes(room, first, last, steps, low, high, jet, sums):
    """The slope of every angle in a diagonal pass: Im <co|P|psi> does not change inside it."""
    size = len(jet)
    clear(room.small, size * (last - first))
    for h in high:
        for l in low:
            j = h ^ l
            slope = slope_of(room.psi, room.co, j, jet)
            for k in range(first, last):
                sign = number(1 - 2 * odd(steps[k, 5] & j), room.psi)
                add_scaled(room.small, (k - first) * size, slope, sign)
    one = number(1, room.psi)
    for k in range(first, last):
        for subset in range(size):
            slope = load(room.small, (k - first) * size + subset)
            record(room, steps[k], subset, slope, one, jet, sums)


@njit(**_INNER)
def backward_pass(room, g, plan, job, jet, moving, sums):
    """Undo pass g on state and costate and record the slopes of its angles."""
    m, cosets, shift, low0, low1, high0, high1, first, last = plan.passes[g]
    low, high = plan.tables[low0:low1], plan.tables[high0:high1]
    fetch(room, first, last, plan.steps, job, jet)
    if m == 0:
        diagonal_slopes(room, first, last, plan.steps, low, high, jet, sums)
        turn_diagonal(room.psi, room, first, last, plan.steps, low, high, jet, moving, -1)
        turn_diagonal(room.co, room, first, last, plan.steps, low, high, jet, moving, -1)
        return
    for coset in range(cosets):
        fuse(room, first, last, coset, plan.steps, jet, moving)
        undo_pairs(room, m, coset * shift, low, high, jet, load_matrix(room.small, 0, moving))
        pair_slopes(room, first, last, coset, plan.steps, jet, moving, sums)


@njit(**_INNER)
def leave_block(rows, column, out, block, lanes):
    """Write a jet, the first `rows`, to the samples of a block of a column of `out` (c, b, columns)."""
    for row in range(len(out)):
        for lane in range(min(lanes, out.shape[1] - block * lanes)):
            out[row, block * lanes + lane, column] = rows[row * lanes + lane]


@njit(**_KERNEL)
def forward_blocks(start, stop, plan, job, jet, values):
    """Expectation values (c, b, T) of the blocks start..stop."""
    room = make_room(job, jet, 0)
    for block in range(start, stop):
        run_forward(room, plan, block, job, jet)
        for t in range(len(plan.words)):
            word_value(room, job.amplitudes, plan.words[t], plan.signs[t], jet)
            leave_block(room.small, t, values, block, job.lanes)


@njit(**_INNER)
def weight_of(room, grad, t, block, lanes, jet):
    """The gradient of a word's value in the lanes of a block; that of row B stands at B's complement."""
    for row in range(len(jet)):
        for lane in range(lanes):
            sample = block * lanes + lane
            weight = grad[len(jet) - 1 - row, sample, t] if sample < grad.shape[1] else 0
            room.small[row * lanes + lane] = weight
    return load_jet(room.small, 0, jet)


@njit(**_KERNEL)
def backward_blocks(start, stop, plan, job, jet, grad, slopes, sums):
    """Gradients of the angles for the blocks start..stop, given those of the values, `grad` (c, b, T).

    `slopes` (c, b, Kb) are those of the batched angles; `sums` (blocks, c, Ks), of the shared ones, come in
    as zeros.
    """
    room = make_room(job, jet, 1)
    size = len(jet)
    for block in range(start, stop):
        run_forward(room, plan, block, job, jet)
        clear(room.co, 2 * size * job.amplitudes)
        clear(room.slopes, size * slopes.shape[2])
        for t in range(len(plan.words)):
            weight = weight_of(room, grad, t, block, job.lanes, jet)
            add_word(room, job.amplitudes, plan.words[t], plan.signs[t], weight)
        for g in range(len(plan.passes) - 1, -1, -1):
            if job.moving[g]:
                backward_pass(room, g, plan, job, jet, jet, sums[block])
            else:
                backward_pass(room, g, plan, job, jet, _VALUE, sums[block])
        for column in range(slopes.shape[2]):
            leave_block(room.slopes[column * size * job.lanes :], column, slopes, block, job.lanes)
