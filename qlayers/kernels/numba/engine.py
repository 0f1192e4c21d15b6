"""The kernel: whole programs of `program.py` on blocks of samples, forward and by the adjoint method back.

With `low_bits` = 0 a block is one sample for each lane; otherwise one sample, 2^low_bits of its amplitudes in
the lanes. Forward keeps nothing; backward runs the block forward again and then undoes it pass by pass on
state and costate, so memory grows neither with batch nor with depth.
"""

from numba import njit

from qlayers.kernels.numba.beginning import begin, record, undo_beginning
from qlayers.kernels.numba.block import (
    CHUNK,
    prepare_beginning,
    prepare_turns,
    shared_by_all,
    take_angles,
    work_for,
)
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
    scale_rows,
    zero_rows,
)
from qlayers.kernels.numba.program import CORNERS, DIAGONAL, LANE, unpacked
from qlayers.kernels.numba.simd import align_stack, load
from qlayers.kernels.numba.words import add_transformed, begin_costate, measure
from shared.simd import mul, splat, total

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only: compiles faster
_KERNEL = {"nogil": True, "cache": True}


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
def exchanges(turns, first, last, low_bits):
    """Whether any of the turns exchanges lanes."""
    x = 0
    for k in range(first, last):
        x |= turns[k, 0]
    return x & (1 << low_bits) - 1 != 0


@njit(**_INNER)
def forward_passes(program, half, low_bits, shared, work):
    """All turns; returns the factor that the state at the end still lacks."""
    state, turns, tau = work.state, program.turns, work.tau
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
        if kind == LANE:
            x, z, power = turns[first, 0], turns[first, 1] >> low_bits, turns[first, 2]
            lane_forward(state, half, x, z, power & 1 == 0, first, tau)
        else:
            info = program.corners[number]
            if exchanges(turns, first, last, low_bits):
                if kind == CORNERS:
                    crossed_1(state, half, info, first, tau)
                elif kind == CORNERS + 1:
                    crossed_2(state, half, info, first, tau)
                else:
                    crossed_3(state, half, info, first, tau)
            elif kind == CORNERS:
                forward_1(state, half, info, first, tau)
            elif kind == CORNERS + 1:
                forward_2(state, half, info, first, tau)
            else:
                forward_3(state, half, info, first, tau)
    return scale


@njit(**_INNER)
def record_turn(program, k, slope, factor, work):
    """Add the slope of turn k, found on states that lack a factor."""
    record(program.turns[k, 3], program.turns[k, 4], mul(slope, mul(factor, factor)), work)


@njit(**_INNER)
def diagonal_slopes(program, half, low_bits, first, last, scale, work):
    """The slopes of the turns in a diagonal pass, which it does not change."""
    zero_rows(work.sums, 0, last - first)
    count = min(half, CHUNK)
    for chunk in range(0, half, count):
        overlaps(work.state, work.costate, half, chunk, chunk + count, work.rows)
        add_transformed(program.turns, first, last, low_bits, chunk, count, work)
    for k in range(first, last):
        slope = mul(load(work.sgn, 2 * k), load(work.sums, k - first))
        record_turn(program, k, slope, scale, work)


@njit(**_INNER)
def backward_passes(program, half, low_bits, shared, work):
    """Undo all turns on state and costate; returns the factor that both still lack at the end."""
    state, costate, turns, tau, sgn = work.state, work.costate, program.turns, work.tau, work.sgn
    one, zero = splat(state.dtype.type(1)), splat(state.dtype.type(0))
    scale = one
    for p in range(len(program.passes) - 1, -1, -1):
        kind, first, middle, last, number = program.passes[p]
        if kind == DIAGONAL:
            if first < last:
                diagonal_slopes(program, half, low_bits, first, last, scale, work)
            scale = grown(work, middle if len(shared.tables) else first, last, scale)
            for array in (state, costate):
                diagonal_pass(program, p, half, low_bits, shared, work, array, scale, 1)
            scale = one
            continue
        if kind == LANE:
            x, z, power = turns[first, 0], turns[first, 1] >> low_bits, turns[first, 2]
            slope = lane_backward(state, costate, half, x, z, power & 1 == 0, first, tau, sgn)
            record_turn(program, first, slope, scale, work)
        else:
            info = program.corners[number]
            crossed = exchanges(turns, first, last, low_bits)
            s0, s1, s2 = zero, zero, zero
            if kind == CORNERS:
                one_zero = (zero,)
                if crossed:
                    (s0,) = uncrossed_1(state, costate, half, info, first, tau, sgn, one_zero, one_zero)
                else:
                    (s0,) = backward_1(state, costate, half, info, first, tau, sgn, one_zero, one_zero)
            elif kind == CORNERS + 1:
                zeros = (zero, zero)
                if crossed:
                    s0, s1 = uncrossed_2(state, costate, half, info, first, tau, sgn, zeros, zeros)
                else:
                    s0, s1 = backward_2(state, costate, half, info, first, tau, sgn, zeros, zeros)
            else:
                nothing = (zero, zero, zero)
                if crossed:
                    s0, s1, s2 = uncrossed_3(state, costate, half, info, first, tau, sgn, nothing, nothing)
                else:
                    s0, s1, s2 = backward_3(state, costate, half, info, first, tau, sgn, nothing, nothing)
            later = scale
            for k in range(last - 1, first - 1, -1):
                record_turn(program, k, s0 if k == first else s1 if k == first + 1 else s2, later, work)
                later = mul(later, load(work.growth, k))
        scale = grown(work, first, last, scale)
    return scale


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
def run_groups(
    start,
    stop,
    groups,
    blocks,
    code,
    uniform,
    half,
    low_bits,
    angles,
    tables,
    batched,
    backward,
    values,
    sums,
    slopes,
):
    """Run the blocks, which are cut into `groups` parts, of the parts start..stop.

    Forward: expectation values (b, T) go into `values`. Backward: `values` holds their gradients; those of
    the angles go into `sums` (groups, Ks), for the shared angles, and `slopes` (b, Kb).
    """
    align_stack()
    program = unpacked(code)
    shared = shared_by_all(angles, tables, uniform)
    work = work_for(program, half, low_bits, len(angles), batched.shape[1], values, backward)
    if shared.uniform:
        prepare_turns(program, shared, low_bits, work)
    for group in range(start, stop):
        zero_rows(work.common, 0, len(angles) if backward else 0)
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
            scale = backward_passes(program, half, low_bits, shared, work)
            undo_beginning(program, half, low_bits, scale, work)
            put_slopes(work, block, low_bits, slopes)
        if backward:
            for column in range(len(angles)):
                sums[group, column] = total(load(work.common, column))
