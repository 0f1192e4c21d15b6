"""The kernel: whole programs of `program.py` on blocks of samples, forward and by the adjoint method back.

With `low_bits` = 0 a block is one sample for each lane; otherwise one sample, 2^low_bits of its amplitudes in
the lanes. Backward undoes a block pass by pass on state and costate, from the state at the end: that which
forward has kept, or else it runs the block forward again. So memory grows neither with batch nor with depth.
"""

import functools

import numpy as np
from numba import cfunc, njit
from numba.core.ccallback import CFunc

from qlayers.kernels.numba.beginning import begin, record, undo_beginning
from qlayers.kernels.numba.block import (
    CHUNK,
    prepare_beginning,
    prepare_turns,
    take_own,
    take_shared,
    work_in,
)
from qlayers.kernels.numba.code import decoded, passed, turn
from qlayers.kernels.numba.corners import (
    backward_1,
    backward_2,
    backward_3,
    crossed_1,
    crossed_2,
    crossed_3,
    forward_1,
    forward_2,
    forward_3,
    uncrossed_1,
    uncrossed_2,
    uncrossed_3,
)
from qlayers.kernels.numba.passes import (
    lane_backward,
    lane_forward,
    overlaps,
    phase_table,
    phase_words,
    transform,
    undo_table,
    zero_rows,
)
from qlayers.kernels.numba.program import CORNER_COLUMNS, CORNERS, CROSSED, DIAGONAL, LANE
from qlayers.kernels.numba.simd import align_stack, beyond, lanes_in, load, place_at, spread, store
from qlayers.kernels.numba.tables import fill_tables, table_of
from qlayers.kernels.numba.words import add_found, begin_costate, measure
from shared.simd import mul, total

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only: compiles faster
_PART = {"inline": "always", **_INNER}  # LLVM optimises each function once more in each that calls it
BACKWARD, SHARED, KNOWN = 1, 2, 4  # tasks
_ONE_32, _ONE_64 = np.float32(1), np.float64(1)
# as NumPy's numbers, since Numba compiles a function again for each literal
_OF_ALL, _OF_SAMPLES = np.int64(0), np.int64(1)
_ALONG, _BACK = np.int64(0), np.int64(1)


@njit(**_INNER)
def grown(work, first, last, scale):
    """The factor that takes back by how much the turns first..last made the state grow."""
    for k in range(first, last):
        scale = mul(scale, load(work.growth, k))
    return scale


@njit(**_INNER)
def diagonal_pass(code, p, work, state, scale, backward):
    """One diagonal pass on a state or costate, with everything that this state still lacks as a factor."""
    _, first, middle, last, number = passed(code, p)
    words = middle if code.tables else first
    if words > first:
        direct = words < last
        table, factor = table_of(code, work, number), spread(state, 1) if direct else scale
        phase_table(state, code.half, table, code.low_bits, work.shifts[p], factor, backward)
    if words < last or first == last:
        phase_words(state, code.half, code, words, last, work.tau, scale, backward)


@njit(**_INNER)
def forward_passes(code, work):
    """All turns; returns the factor that the state at the end still lacks."""
    state, tau, half = work.state, work.tau, code.half
    one = spread(state, 1)
    scale = one
    for p in range(code.pass_count):
        kind, first, middle, last, number = passed(code, p)
        if kind == DIAGONAL:
            scale = grown(work, middle if code.tables else first, last, scale)
            diagonal_pass(code, p, work, state, scale, _ALONG)
            scale = one
            continue
        scale = grown(work, first, last, scale)
        info = beyond(code.corners, CORNER_COLUMNS * number)
        if kind == LANE:
            x, z, power, _, _ = turn(code, first)
            lane_forward(state, half, x, z >> code.low_bits, power & 1 == 0, first, tau)
        elif kind == CORNERS:
            forward_1(state, half, info, first, tau)
        elif kind == CORNERS + 1:
            forward_2(state, half, info, first, tau)
        elif kind == CORNERS + 2:
            forward_3(state, half, info, first, tau)
        elif kind == CROSSED:
            crossed_1(state, half, info, first, tau)
        elif kind == CROSSED + 1:
            crossed_2(state, half, info, first, tau)
        else:
            crossed_3(state, half, info, first, tau)
    return scale


@njit(**_INNER)
def record_turn(code, k, slope, factor, work):
    """Add the slope of turn k, found on states that lack a factor."""
    _, _, _, source, column = turn(code, k)
    record(source, column, mul(slope, mul(factor, factor)), work)


@njit(**_INNER)
def undo_diagonal(code, p, work, scale):
    """Undo a diagonal pass on state and costate, and find the slopes of its turns, which stay the same."""
    _, first, middle, last, number = passed(code, p)
    half, count = code.half, min(code.half, CHUNK)
    tabled = code.tables and first < middle == last
    zero_rows(work.sums, 0, last - first)
    for chunk in range(0, half if first < last else 0, count):
        if tabled:
            table, shift = table_of(code, work, number), work.shifts[p]
            rows = chunk, chunk + count
            undo_table(work.state, work.costate, half, *rows, table, code.low_bits, shift, scale, work.rows)
        else:
            overlaps(work.state, work.costate, half, chunk, chunk + count, work.rows)
        transform(work.rows, count)
        for k in range(first, last):
            add_found(k - first, turn(code, k)[1] >> code.low_bits, chunk, count, work)
    for k in range(first, last):
        record_turn(code, k, mul(load(work.sgn, 2 * k), load(work.sums, k - first)), scale, work)
    if not tabled:
        scale = grown(work, middle if code.tables else first, last, scale)
        diagonal_pass(code, p, work, work.state, scale, _BACK)
        diagonal_pass(code, p, work, work.costate, scale, _BACK)


@njit(**_INNER)
def backward_passes(code, work):
    """Undo all turns on state and costate; returns the factor that both still lack at the end."""
    state, costate, tau, sgn, half = work.state, work.costate, work.tau, work.sgn, code.half
    one, zero = spread(state, 1), spread(state, 0)
    nothing = zero, zero, zero
    scale = one
    for p in range(code.pass_count - 1, -1, -1):
        kind, first, _, last, number = passed(code, p)
        if kind == DIAGONAL:
            undo_diagonal(code, p, work, scale)
            scale = one
            continue
        info = beyond(code.corners, CORNER_COLUMNS * number)
        s0, s1, s2 = nothing
        if kind == LANE:
            x, z, power, _, _ = turn(code, first)
            s0 = lane_backward(state, costate, half, x, z >> code.low_bits, power & 1 == 0, first, tau, sgn)
        elif kind == CORNERS:
            (s0,) = backward_1(state, costate, half, info, first, tau, sgn, nothing[:1], nothing[:1])
        elif kind == CORNERS + 1:
            s0, s1 = backward_2(state, costate, half, info, first, tau, sgn, nothing[:2], nothing[:2])
        elif kind == CORNERS + 2:
            s0, s1, s2 = backward_3(state, costate, half, info, first, tau, sgn, nothing, nothing)
        elif kind == CROSSED:
            (s0,) = uncrossed_1(state, costate, half, info, first, tau, sgn, nothing[:1], nothing[:1])
        elif kind == CROSSED + 1:
            s0, s1 = uncrossed_2(state, costate, half, info, first, tau, sgn, nothing[:2], nothing[:2])
        else:
            s0, s1, s2 = uncrossed_3(state, costate, half, info, first, tau, sgn, nothing, nothing)
        later = scale
        for k in range(last - 1, first - 1, -1):
            record_turn(code, k, s0 if k == first else s1 if k == first + 1 else s2, later, work)
            later = mul(later, load(work.growth, k))
        scale = later
    return scale


@njit(**_INNER)
def put_slopes(code, work, block, slopes):
    """Write the gradients of the numbers (b, F) that the block's own angles are made of."""
    features, width, first = code.features, work.width, block * work.width
    count = min(width, code.batch - first)
    for i in range(first * features, (first + count) * features):
        slopes[i] = 0
    for column in range(code.columns):
        index, scale = code.own_index[column], code.own_scale[column]
        if scale == 0.0:
            continue
        if code.low_bits:
            slopes[block * features + index] += scale * total(load(work.slopes, column))
        else:
            for lane in range(count):
                slopes[(first + lane) * features + index] += scale * work.slopes[column * width + lane]


@njit(**_INNER)
def copy_rows(into, rows, factor, array):
    """Write rows, multiplied by a vector."""
    for row in range(rows):
        store(into, row, mul(factor, load(array, row)))


@njit(**_INNER)
def sum_parts(code, parts, sums):
    """The gradients of the numbers (S,) that the shared angles are made of, from those of all parts."""
    for i in range(code.sources):
        sums[i] = 0
    for column in range(code.angles):
        scale = code.shared_scale[column]
        if scale != 0.0:
            found = 0.0
            for part in range(code.parts):
                found += parts[part * code.angles + column]
            sums[code.shared_index[column]] += scale * found


@njit(**_PART)
def forward_block(code, block, values, kept, keep, work):
    """Run a block forward: its expectation values, and its state at the end if that is kept."""
    begin(code, work)
    scale = forward_passes(code, work)
    measure(code, scale, work, block, values)
    if keep:
        rows = 2 * code.half
        copy_rows(beyond(kept, block * rows * lanes_in(kept)), rows, scale, work.state)


@njit(**_PART)
def backward_block(code, block, weights, slopes, kept, keep, work):
    """The gradients of a block, from the weights (b, T) of its words."""
    found, factor = work.state, spread(kept, 1)
    if keep:
        found = beyond(kept, block * 2 * code.half * lanes_in(kept))
    else:
        begin(code, work)
        factor = forward_passes(code, work)
    begin_costate(code, work, block, weights, found, factor)
    zero_rows(work.slopes, 0, code.columns)
    scale = backward_passes(code, work)
    undo_beginning(code, scale, work)
    put_slopes(code, work, block, slopes)


@njit(**_PART)
def run(start, stop, room, numbers, like):
    """Run the parts start..stop of the blocks of a call.

    Args:
        start: the first part.
        stop: the one after the last.
        room: the address of memory to work in, see `block.room_for`.
        numbers: a place of the following int64, addresses but for the first; 0 where there is nothing.
        like: a number in the dtype of the call.

    The numbers:
        task: a sum of BACKWARD, else forward; SHARED: other parts may run elsewhere, and what is to be done
            before and after all of them is done where `start` = `stop`; KNOWN: the tables are there already.
        code: sizes and program, see `code.coded`.
        shared: the numbers (S,) of the shared angles.
        own: (b, F) numbers of the samples' angles.
        values: (b, T) expectation values, or for backward their gradients.
        parts: (parts, Ks) gradients of the shared angles, found by each part; 0 if all run in this call.
        sums: (S,) gradients of the numbers that they are made of.
        slopes: (b, F) those of the samples' numbers.
        kept: the states of all blocks at the end: forward writes them, backward then need not run forward.
        tables: (D, 2, 2^n) of diagonal passes.
    """
    align_stack()
    task, code = numbers[0], decoded(place_at(numbers[1], 0))
    backward, alone = task & BACKWARD, not task & SHARED
    given, values = place_at(numbers[3], like), place_at(numbers[4], like)
    slopes, kept, keep = place_at(numbers[7], like), place_at(numbers[8], like), numbers[8] != 0
    work = work_in(room, code, like, place_at(numbers[9], like))
    take_shared(code, place_at(numbers[2], like), work)
    if code.tables and not task & KNOWN and (alone or stop == 0):
        fill_tables(code, work)
    if start < stop:
        prepare_beginning(code, _OF_ALL, work)
        if code.uniform:
            prepare_turns(code, work)
    parts = place_at(numbers[5], like) if numbers[5] else work.parts
    for part in range(start, stop):
        if backward:
            zero_rows(work.common, 0, code.angles)
        for block in range(code.blocks * part // code.parts, code.blocks * (part + 1) // code.parts):
            take_own(code, given, block, work)
            prepare_beginning(code, _OF_SAMPLES, work)
            if not code.uniform:
                prepare_turns(code, work)
            if backward:
                backward_block(code, block, values, slopes, kept, keep, work)
            else:
                forward_block(code, block, values, kept, keep, work)
        if backward:
            for column in range(code.angles):
                parts[part * code.angles + column] = total(load(work.common, column))
    if backward and (alone or start == code.parts):
        sum_parts(code, parts, place_at(numbers[6], like))


def run_float32(start, stop, room, numbers):
    """`run` on float32."""
    run(start, stop, room, numbers, _ONE_32)


def run_float64(start, stop, room, numbers):
    """`run` on float64."""
    run(start, stop, room, numbers, _ONE_64)


@functools.cache
def compiled(itemsize: int) -> CFunc:
    """The kernel for floats of so many bytes, for `shared.relay`; compiled when first wanted."""
    function = {4: run_float32, 8: run_float64}[itemsize]
    return cfunc("void(int64, int64, int64, CPointer(int64))", cache=True)(function)
