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
from qlayers.kernels.numba.passes import (
    lane_backward,
    lane_forward,
    overlaps,
    pair_backward,
    pair_forward,
    phase_table,
    phase_words,
    scale_rows,
    triple_backward,
    triple_backward_crossed,
    triple_forward,
    triple_forward_crossed,
    zero_rows,
)
from qlayers.kernels.numba.program import DIAGONAL, LANE, PAIR, unpacked
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
    lane_mask = (1 << low_bits) - 1
    one = splat(state.dtype.type(1))
    scale = one
    for p in range(len(program.passes) - 1, -1, -1):
        kind, first, middle, last, number = program.passes[p]
        if kind == DIAGONAL:
            if first < last:
                diagonal_slopes(program, half, low_bits, first, last, scale, work)
            scale = grown(work, middle if len(shared.tables) else first, last, scale)
            diagonal_pass(program, p, half, low_bits, shared, work, state, scale, 1)
            diagonal_pass(program, p, half, low_bits, shared, work, costate, scale, 1)
            scale = one
            continue
        x, z, mixed = turns[first, 0], turns[first, 1] >> low_bits, turns[first, 2] & 1 == 0
        if kind == LANE:
            slope = lane_backward(state, costate, half, x, z, mixed, first, tau, sgn)
            record_turn(program, first, slope, scale, work)
        elif kind == PAIR:
            slope = pair_backward(
                state, costate, half, x >> low_bits, x & lane_mask, z, mixed, first, tau, sgn
            )
            record_turn(program, first, slope, scale, work)
        else:
            high = (z, turns[first + 1, 1] >> low_bits, turns[first + 2, 1] >> low_bits)
            info = program.triples[number]
            if (x | turns[first + 1, 0] | turns[first + 2, 0]) & lane_mask:
                s0, s1, s2 = triple_backward_crossed(state, costate, half, info, high, first, tau, sgn)
            else:
                s0, s1, s2 = triple_backward(state, costate, half, info, high, first, tau, sgn)
            record_turn(program, first + 2, s2, scale, work)
            later = grown(work, first + 2, first + 3, scale)
            record_turn(program, first + 1, s1, later, work)
            later = grown(work, first + 1, first + 2, later)
            record_turn(program, first, s0, later, work)
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
