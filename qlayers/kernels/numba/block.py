"""What the kernel knows of a block: its angles, the signs that turns get, room for its states.

A rotation by angle b + k pi is one by b, which tan(b/2) in [-1, 1] describes well, and k times the word
itself, up to a phase. These words need not be applied: they are carried along as a frame (masks x and z), and
turn the sign of every later rotation, and measured word, that anticommutes with it.
"""

from typing import Any, NamedTuple

from numba import njit

from qlayers.kernels.numba.angles import full_half, half_angles
from qlayers.kernels.numba.code import Sizes, passed, step, turn
from qlayers.kernels.numba.passes import fill_patterns
from qlayers.kernels.numba.program import Program
from qlayers.kernels.numba.simd import beyond, lanes_in, load, odd, place_at, recast, spread, store
from shared.simd import mul, neg

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only: compiles faster
CHUNK = 256  # rows that are transformed at a time: they stay in the nearest cache


class Work(NamedTuple):
    """Places of what one call works on, and of what it is given."""

    # rows of vectors
    state: Any
    costate: Any
    rows: Any  # (chunk rows) what is being transformed
    sums: Any  # (a row for each word or turn) sums over the chunks
    tau: Any  # (2K rows) tangents with signs, and negated
    sgn: Any  # (2K rows) the signs alone
    growth: Any  # (K rows) cosines of half the reduced angles
    patterns: Any  # (2^low_bits rows) signs of words in the lanes
    begin_cos: Any  # (S rows) cosine and sine of half of each angle in the beginning
    begin_sin: Any
    matrix: Any  # (4 rows) re a, im a, re b, im b
    slopes: Any  # (Kb rows) gradients of the block's own angles
    common: Any  # (Ks rows) gradients of the shared angles, summed over blocks
    lane: Any  # (3 rows) one vector being put together
    tables: Any  # (D, 2, 2^n) of the diagonal passes, if there are any
    parts: Any  # (parts, Ks) numbers: the gradients that each part has summed up
    # float64
    shared: Any  # (Ks,) the shared angles; cosines and sines of half of each, reduced
    cosines: Any
    sines: Any
    own: Any  # (Kb * width,) the block's own angles, the same
    own_cosines: Any
    own_sines: Any
    # int64
    counts: Any  # (Ks,) multiples of pi taken off the angles, mod 4
    own_counts: Any  # (Kb * width,)
    shifts: Any  # (P,) the frame's mask x at each pass
    frame_x: Any  # (width,) masks of the frame at the end
    frame_z: Any
    width: int  # samples in the block: 1, or one for each lane


def room_for(sizes: Sizes, program: Program, angles: int, columns: int, itemsize: int) -> int:
    """Bytes of memory that `work_in` hands out: for a block of one sample, or of one for each lane."""
    turns, steps = len(program.turns), len(program.steps)
    lanes = 64 // itemsize
    width = 1 if sizes.low_bits else lanes
    rows = 4 * sizes.half + min(sizes.half, CHUNK) + max(turns, len(program.words)) + 5 * turns
    rows += (1 << sizes.low_bits) + 2 * steps + 4 + columns + angles + 3 + 1 + sizes.parts * angles // lanes
    numbers = 5 * angles + 5 * columns * width + len(program.passes) + 2 * width
    return 64 * rows + 8 * numbers


@njit(**_INNER)
def work_in(room, code, like, tables):
    """The places in memory as large as `room_for` says, from an address on that begins a cache line."""
    state = place_at(room, like)
    lanes = lanes_in(state)
    width = 1 if code.low_bits else lanes
    both = 2 * code.half
    costate = beyond(state, both * lanes)
    rows = beyond(costate, both * lanes)
    sums = beyond(rows, min(code.half, CHUNK) * lanes)
    tau = beyond(sums, max(code.turn_count, code.word_count) * lanes)
    sgn = beyond(tau, 2 * code.turn_count * lanes)
    growth = beyond(sgn, 2 * code.turn_count * lanes)
    patterns = beyond(growth, code.turn_count * lanes)
    begin_cos = beyond(patterns, lanes << code.low_bits)
    begin_sin = beyond(begin_cos, code.step_count * lanes)
    matrix = beyond(begin_sin, code.step_count * lanes)
    slopes = beyond(matrix, 4 * lanes)
    common = beyond(slopes, code.columns * lanes)
    lane = beyond(common, code.angles * lanes)
    parts = beyond(lane, 3 * lanes)
    shared = recast(beyond(parts, (1 + code.parts * code.angles // lanes) * lanes), 0.0)
    cosines = beyond(shared, code.angles)
    sines = beyond(cosines, code.angles)
    own = beyond(sines, code.angles)
    own_cosines = beyond(own, code.columns * width)
    own_sines = beyond(own_cosines, code.columns * width)
    counts = recast(beyond(own_sines, code.columns * width), 0)
    own_counts = beyond(counts, code.angles)
    shifts = beyond(own_counts, code.columns * width)
    frame_x = beyond(shifts, code.pass_count)
    frame_z = beyond(frame_x, width)
    for lane_number in range(width):
        frame_x[lane_number] = frame_z[lane_number] = 0
    fill_patterns(code.low_bits, lanes, patterns)
    rows_of = state, costate, rows, sums, tau, sgn, growth, patterns, begin_cos, begin_sin, matrix, slopes
    numbers = (
        shared,
        cosines,
        sines,
        own,
        own_cosines,
        own_sines,
        counts,
        own_counts,
        shifts,
        frame_x,
        frame_z,
    )
    return Work(*rows_of, common, lane, tables, parts, *numbers, width)


@njit(**_INNER)
def take_shared(code, given, work):
    """The shared angles, of numbers (S,)."""
    for k in range(code.angles):
        scale, value = code.shared_scale[k], code.shared_offset[k]
        if scale != 0.0:
            value += scale * given[code.shared_index[k]]
        work.shared[k] = value
    half_angles(work.shared, code.angles, work.cosines, work.sines, work.counts)


@njit(**_INNER)
def take_own(code, given, block, work):
    """The block's own angles, of numbers (b, F); lanes beyond the batch get 0."""
    width = work.width
    first = block * width
    count = min(width, code.batch - first)
    for column in range(code.columns):
        index, scale, offset = code.own_index[column], code.own_scale[column], code.own_offset[column]
        at = column * width
        for lane in range(count):
            value = offset
            if scale != 0.0:
                value += scale * given[(first + lane) * code.features + index]
            work.own[at + lane] = value
        for lane in range(count, width):
            work.own[at + lane] = 0.0
    half_angles(work.own, code.columns * width, work.own_cosines, work.own_sines, work.own_counts)


@njit(**_INNER)
def prepare_beginning(code, own, work):
    """Cosines and sines for the product state: those of the block's own angles, or those of the others."""
    width = work.width
    lanes = lanes_in(work.state)
    for k in range(code.step_count):
        source, column, _, _ = step(code, k)
        if source != own:
            continue
        if source == 0:
            c, s = full_half(work.cosines[column], work.sines[column], work.counts[column])
            store(work.begin_cos, k, spread(work.state, c))
            store(work.begin_sin, k, spread(work.state, s))
            continue
        for lane in range(width):
            i = column * width + lane
            c, s = full_half(work.own_cosines[i], work.own_sines[i], work.own_counts[i])
            work.begin_cos[k * lanes + lane], work.begin_sin[k * lanes + lane] = c, s
        if width == 1:
            store(work.begin_cos, k, spread(work.state, work.begin_cos[k * lanes]))
            store(work.begin_sin, k, spread(work.state, work.begin_sin[k * lanes]))


@njit(**_INNER)
def prepare_turns(code, work):
    """Signed tangents and cosines of all turns, and the frame on the way."""
    width = 1 if code.uniform else work.width
    lanes = lanes_in(work.state)
    frame_x, frame_z = work.frame_x, work.frame_z
    for lane in range(width):
        frame_x[lane] = frame_z[lane] = 0
    for p in range(code.pass_count):
        work.shifts[p] = frame_x[0]
        _, first, _, last, _ = passed(code, p)
        for k in range(first, last):
            x, z, power, source, column = turn(code, k)
            flipping = not (code.tables and x == 0 and source == 0)
            for lane in range(width):
                if source == 0:
                    c, s, count = work.cosines[column], work.sines[column], work.counts[column]
                else:
                    i = column * work.width + lane
                    c, s, count = work.own_cosines[i], work.own_sines[i], work.own_counts[i]
                sign = 1 - 2 * (odd((frame_x[lane] & z) ^ (frame_z[lane] & x)) ^ (power >> 1))
                work.lane[lane], work.lane[lanes + lane], work.lane[2 * lanes + lane] = sign * s / c, sign, c
                if flipping and count & 1:
                    frame_x[lane] ^= x
                    frame_z[lane] ^= z
            if width == 1:
                pattern = load(work.patterns, z & (1 << code.low_bits) - 1)
                t, s = (
                    mul(spread(work.lane, work.lane[0]), pattern),
                    mul(spread(work.lane, work.lane[lanes]), pattern),
                )
                c = spread(work.lane, work.lane[2 * lanes])
            else:
                t, s, c = load(work.lane, 0), load(work.lane, 1), load(work.lane, 2)
            store(work.tau, 2 * k, t)
            store(work.tau, 2 * k + 1, neg(t))
            store(work.sgn, 2 * k, s)
            store(work.sgn, 2 * k + 1, neg(s))
            store(work.growth, k, c)
    for lane in range(width, work.width):
        frame_x[lane], frame_z[lane] = frame_x[0], frame_z[0]


@njit(**_INNER)
def frame_signs(work, x, z):
    """The sign that the frame gives a word, for each lane."""
    if work.width == 1:
        return spread(work.lane, 1 - 2 * odd((work.frame_x[0] & z) ^ (work.frame_z[0] & x)))
    for lane in range(work.width):
        work.lane[lane] = 1 - 2 * odd((work.frame_x[lane] & z) ^ (work.frame_z[lane] & x))
    return load(work.lane, 0)
