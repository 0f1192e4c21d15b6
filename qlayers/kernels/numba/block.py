"""What the kernel knows of a block: its angles, the signs that turns get, room for its states.

A rotation by angle b + k pi is one by b, which tan(b/2) in [-1, 1] describes well, and k times the word
itself, up to a phase. These words need not be applied: they are carried along as a frame (masks x and z), and
turn the sign of every later rotation, and measured word, that anticommutes with it.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from qlayers.kernels.numba.angles import full_half, half_angles
from qlayers.kernels.numba.passes import aligned, fill_patterns
from qlayers.kernels.numba.simd import load, odd, store
from shared.simd import mul, neg, splat

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only: compiles faster
CHUNK = 256  # rows that are transformed at a time: they stay in the nearest cache


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
    rows: np.ndarray  # (chunk rows) what is being transformed
    sums: np.ndarray  # (a row for each word or turn) sums over the chunks
    tau: np.ndarray  # (2K rows) tangents with signs, and negated
    sgn: np.ndarray  # (2K rows) the signs alone
    growth: np.ndarray  # (K rows) cosines of half the reduced angles
    patterns: np.ndarray  # (2^low_bits rows) signs of words in the lanes
    begin_cos: np.ndarray  # (S rows) cosine and sine of half of each angle in the beginning
    begin_sin: np.ndarray
    matrix: np.ndarray  # (4 rows) re a, im a, re b, im b
    slopes: np.ndarray  # (Kb rows) gradients of the block's own angles
    common: np.ndarray  # (Ks rows) gradients of the shared angles, summed over blocks
    lane: np.ndarray  # (3 rows) one vector being put together
    own: np.ndarray  # (Kb * width,) the block's own angles, float64
    cosines: np.ndarray  # (Kb * width,) as in `Shared`, of the block's own angles
    sines: np.ndarray
    counts: np.ndarray
    shifts: np.ndarray  # (P,) the frame's mask x at each pass
    frame: np.ndarray  # (2, width) masks x and z of the frame at the end


@njit(**_INNER)
def work_for(program, half, low_bits, angles, columns, like, backward):
    """Room for the blocks of one call."""
    lanes = 64 // like.itemsize
    width = 1 if low_bits else lanes
    turns, steps = len(program.turns), len(program.steps)
    chunk, both = min(half, CHUNK), 2 * half if backward else 0
    most = max(turns, len(program.words))
    own, common = (columns, angles) if backward else (0, 0)
    sizes = (
        2 * half,
        both,
        chunk,
        most,
        2 * turns,
        2 * turns,
        turns,
        1 << low_bits,
        steps,
        steps,
        4,
        own,
        common,
        3,
    )
    ends = np.empty(len(sizes), np.int64)
    end = 0
    for i, size in enumerate(sizes):
        end += size
        ends[i] = end
    rows = aligned(ends[-1], lanes, like)  # one allocation for all rows, as it takes its time
    ends *= lanes
    floats, counts = np.zeros((3, columns * width)), np.empty(columns * width, np.int64)
    fill_patterns(low_bits, lanes, rows[ends[6] : ends[7]])
    return Work(
        rows[: ends[0]],
        rows[ends[0] : ends[1]],
        rows[ends[1] : ends[2]],
        rows[ends[2] : ends[3]],
        rows[ends[3] : ends[4]],
        rows[ends[4] : ends[5]],
        rows[ends[5] : ends[6]],
        rows[ends[6] : ends[7]],
        rows[ends[7] : ends[8]],
        rows[ends[8] : ends[9]],
        rows[ends[9] : ends[10]],
        rows[ends[10] : ends[11]],
        rows[ends[11] : ends[12]],
        rows[ends[12] : ends[13]],
        floats[0],
        floats[1],
        floats[2],
        counts,
        np.empty(len(program.passes), np.int64),
        np.zeros((2, width), np.int64),
    )


@njit(**_INNER)
def shared_by_all(angles, tables, uniform):
    """What all samples have in common."""
    cosines, sines = np.empty(len(angles)), np.empty(len(angles))
    counts = np.empty(len(angles), np.int64)
    half_angles(angles, cosines, sines, counts)
    return Shared(cosines, sines, counts, tables, uniform)


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
    """Cos and sin for the product state."""
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
