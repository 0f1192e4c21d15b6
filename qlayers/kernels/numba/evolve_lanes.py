"""States by lanes: initial states are loaded into a block, passed through, and stored.

A block is `[amplitude][re, im][lane]`, a tensor is `[sample][re, im][amplitude]`; a few amplitudes of one
sample are moved at a time, so that both sides use whole cache lines.
"""

from numba import njit

from qlayers.kernels.numba.evolve_passes import (
    aligned,
    apply_diagonal,
    apply_pairs,
    constant,
    diagonal_slopes,
    fused_matrix,
    pair_slopes,
    undo_pairs,
)
from qlayers.kernels.numba.simd import align_stack, store

_INNER = {"nogil": True}
_KERNEL = {"nogil": True, "cache": True}
_TILE = 16  # amplitudes moved together


@njit(**_INNER)
def load_block(states, first, lanes, amplitudes, psi):
    """Samples first, first + 1, ... of (b, 2, N) into a block; lanes beyond the batch become zero."""
    for tile in range(0, amplitudes, _TILE):
        end = min(tile + _TILE, amplitudes)
        for lane in range(lanes):
            sample = first + lane
            if len(states) == 1:
                sample = 0
            if sample < len(states):
                for j in range(tile, end):
                    psi[2 * j * lanes + lane] = states[sample, 0, j]
                    psi[(2 * j + 1) * lanes + lane] = states[sample, 1, j]
            else:
                for j in range(tile, end):
                    psi[2 * j * lanes + lane] = 0
                    psi[(2 * j + 1) * lanes + lane] = 0


@njit(**_INNER)
def store_block(psi, first, lanes, amplitudes, states):
    """A block into the samples first, first + 1, ... of (b, 2, N)."""
    for tile in range(0, amplitudes, _TILE):
        end = min(tile + _TILE, amplitudes)
        for lane in range(min(lanes, len(states) - first)):
            for j in range(tile, end):
                states[first + lane, 0, j] = psi[2 * j * lanes + lane]
                states[first + lane, 1, j] = psi[(2 * j + 1) * lanes + lane]


@njit(**_INNER)
def begin_block(begin, first, lanes, amplitudes, psi):
    """The initial states of a block."""
    if len(begin):
        load_block(begin, first, lanes, amplitudes, psi)
        return
    zero = constant(0, psi)
    for row in range(2 * amplitudes):
        store(psi, row, zero)
    store(psi, 0, constant(1, psi))


@njit(**_INNER)
def run_passes(psi, plan, block, angles):
    """All passes on a block."""
    for g in range(len(plan.passes)):
        m, cosets, shift, low0, low1, high0, high1, first, last = plan.passes[g]
        low, high = plan.tables[low0:low1], plan.tables[high0:high1]
        if m == 0:
            apply_diagonal(psi, first, last, plan.steps, low, high, 1, block, angles)
            continue
        for coset in range(cosets):
            matrix = fused_matrix(first, last, coset, plan.steps, block, angles)
            apply_pairs(psi, m, coset * shift, low, high, matrix)


@njit(**_KERNEL)
def forward_blocks(start, stop, amplitudes, plan, angles, begin, out):
    """Final states (b, 2, N) of the samples in the blocks start..stop."""
    align_stack()
    lanes = angles.lanes
    psi = aligned(2 * amplitudes, lanes, angles.shared_cos)
    for block in range(start, stop):
        begin_block(begin, block * lanes, lanes, amplitudes, psi)
        run_passes(psi, plan, block, angles)
        store_block(psi, block * lanes, lanes, amplitudes, out)


@njit(**_KERNEL)
def backward_blocks(start, stop, amplitudes, plan, angles, begin, weights, of_state, slopes, sums):
    """Gradients for the blocks start..stop, given those of the final states, `weights` (b, 2, N).

    `slopes` (Kb, blocks * lanes) for the batched angles and `sums` (blocks, Ks) for the shared ones are added
    to; `of_state` (b, 2, N) is written, unless it has no rows.
    """
    align_stack()
    lanes = angles.lanes
    psi = aligned(2 * amplitudes, lanes, angles.shared_cos)
    co = aligned(2 * amplitudes, lanes, angles.shared_cos)
    half = angles.shared_cos.dtype.type(0.5)
    for block in range(start, stop):
        begin_block(begin, block * lanes, lanes, amplitudes, psi)
        run_passes(psi, plan, block, angles)
        load_costate(weights, block * lanes, lanes, amplitudes, co)
        for g in range(len(plan.passes) - 1, -1, -1):
            m, cosets, shift, low0, low1, high0, high1, first, last = plan.passes[g]
            low, high = plan.tables[low0:low1], plan.tables[high0:high1]
            if m == 0:
                diagonal_slopes(
                    psi, co, first, last, plan.steps, low, high, block, angles.blocks, slopes, sums
                )
                apply_diagonal(psi, first, last, plan.steps, low, high, -1, block, angles)
                apply_diagonal(co, first, last, plan.steps, low, high, -1, block, angles)
                continue
            for coset in range(cosets):
                matrix = fused_matrix(first, last, coset, plan.steps, block, angles)
                gradient = undo_pairs(psi, co, m, coset * shift, low, high, matrix)
                pair_slopes(gradient, coset, first, last, plan.steps, block, angles, slopes, sums)
        if len(of_state):
            store_block(co, block * lanes, lanes, amplitudes, of_state)
        # the passes give the slopes of an expectation value, Im <co|P|psi>: twice those of Re <co|psi>
        sums[block] *= half
        for column in range(slopes.shape[0]):
            slopes[column, block * lanes : (block + 1) * lanes] *= half


@njit(**_INNER)
def load_costate(weights, first, lanes, amplitudes, co):
    """As `load_block`, but a single sample stands for itself and not for all."""
    for tile in range(0, amplitudes, _TILE):
        end = min(tile + _TILE, amplitudes)
        for lane in range(lanes):
            sample = first + lane
            for j in range(tile, end):
                inside = sample < len(weights)
                co[2 * j * lanes + lane] = weights[sample, 0, j] if inside else 0
                co[(2 * j + 1) * lanes + lane] = weights[sample, 1, j] if inside else 0
