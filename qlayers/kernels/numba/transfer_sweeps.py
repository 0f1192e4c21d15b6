"""The kernels of noisy circuits: forward through the steps, and back with the costate.

Channels have no inverse, so that the way back needs the state from before each. The steps are cut into
sections: the first way keeps the state where a section begins, the way back runs each section again and keeps
the states before its channels. With about sqrt(C) channels in each, C channels take 2 sqrt(C) states and one
more way forward.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from qlayers.kernels.numba.evolve_passes import aligned, constant
from qlayers.kernels.numba.simd import align_stack, load, store
from qlayers.kernels.numba.transfer_blocks import (
    angle_of,
    apply_map,
    apply_quads,
    map_back,
    numbers_of,
    quads_back,
    record,
    scale,
    scale_slopes,
    turn,
    turn_back,
)

_INNER = {"nogil": True}
_KERNEL = {"nogil": True, "cache": True}
_TILE = 16  # words moved together


class Sections(NamedTuple):
    """Where the sections begin and end, and the most channels in one."""

    bounds: np.ndarray  # (sections + 1,) int64
    most: int


class Room(NamedTuple):
    """Scratch vectors of one thread."""

    found: np.ndarray
    slopes: np.ndarray
    coset: np.ndarray


@njit(**_INNER)
def make_room(largest, lanes, like):
    """Room for the numbers of a channel with `largest` numbers, their slopes, and two cosets."""
    side = 2 * int(np.sqrt(largest) + 0.5)
    return Room(aligned(largest, lanes, like), aligned(largest, lanes, like), aligned(side, lanes, like))


@njit(**_INNER)
def size_of(form):
    """How many words a coset of a channel has."""
    return 1 << 2 * abs(form)


@njit(**_INNER)
def run_step(values, step, walks, wires, block, entries, room):
    """One step forward."""
    form = step[0]
    if form == 0:
        cosine, sine = angle_of(step, block, entries)
        turn(values, step, walks, wires, cosine, sine)
    elif form < 0:
        numbers_of(step, size_of(form), block, entries, room.found)
        scale(values, step, size_of(form), walks, wires, room.found)
    else:
        numbers_of(step, size_of(form) ** 2, block, entries, room.found)
        if form == 1:
            apply_quads(values, step, walks, wires, room.found)
        else:
            apply_map(values, step, size_of(form), walks, wires, room.found, room.coset)


@njit(**_INNER)
def channel_back(before, costate, step, walks, wires, block, entries, room, slopes, sums):
    """The costate before a channel, and the slopes of its numbers."""
    form = step[0]
    size = size_of(form)
    count = size if form < 0 else size * size
    numbers_of(step, count, block, entries, room.found)
    if form < 0:
        scale_slopes(before, costate, step, size, walks, wires, room.slopes)
        scale(costate, step, size, walks, wires, room.found)
    elif form == 1:
        quads_back(before, costate, step, walks, wires, room.found, room.slopes)
    else:
        map_back(before, costate, step, size, walks, wires, room.found, room.coset, room.slopes)
    for i in range(count):
        record(step, i, load(room.slopes, i), block, entries.blocks, slopes, sums)


@njit(**_INNER)
def begin(state, block, lanes, words, wires, values):
    """The initial coefficients of a block."""
    zero, one = constant(0, values), constant(1, values)
    if len(state):
        load_lanes(state, block * lanes, lanes, words, values)
        return
    for q in range(words):
        store(values, q, one if q < 1 << wires else zero)


@njit(**_INNER)
def load_lanes(state, first, lanes, words, values):
    """Samples first, first + 1, ... of (b, N), or the one for all, into a block; 0 beyond the batch."""
    for tile in range(0, words, _TILE):
        for lane in range(lanes):
            sample = 0 if len(state) == 1 else first + lane
            for q in range(tile, min(tile + _TILE, words)):
                values[q * lanes + lane] = state[sample, q] if sample < len(state) else 0


@njit(**_INNER)
def copy_rows(source, count, target):
    """The first vectors of one array into another."""
    for row in range(count):
        store(target, row, load(source, row))


@njit(**_KERNEL)
def forward_blocks(start, stop, wires, largest, walks, entries, state, out):
    """Expectation values (b, T) of the samples in the blocks start..stop."""
    align_stack()
    lanes, words = entries.lanes, 4**wires
    room = make_room(largest, lanes, entries.shared)
    values = aligned(words, lanes, entries.shared)
    for block in range(start, stop):
        begin(state, block, lanes, words, wires, values)
        for step in walks.steps:
            run_step(values, step, walks, wires, block, entries, room)
        for lane in range(min(lanes, len(out) - block * lanes)):
            for t in range(len(walks.words)):
                out[block * lanes + lane, t] = values[walks.words[t] * lanes + lane]


@njit(**_KERNEL)
def backward_blocks(
    start, stop, wires, largest, walks, sections, entries, state, weights, of_state, slopes, sums
):
    """Gradients for the blocks start..stop, given those of the values, `weights` (b, T).

    `slopes` (Kb, blocks * lanes) for the batched numbers and `sums` (blocks, Ks) for the shared ones are
    added to; `of_state` (b, N) is written, unless it has no rows.
    """
    align_stack()
    lanes, words = entries.lanes, 4**wires
    row = words * lanes
    room = make_room(largest, lanes, entries.shared)
    count = len(sections.bounds) - 1
    values = aligned(words, lanes, entries.shared)
    costate = aligned(words, lanes, entries.shared)
    anchors = aligned(words * (count - 1), lanes, entries.shared)
    kept = aligned(words * sections.most, lanes, entries.shared)
    for block in range(start, stop):
        begin(state, block, lanes, words, wires, values)
        for section in range(count - 1):
            for s in range(sections.bounds[section], sections.bounds[section + 1]):
                run_step(values, walks.steps[s], walks, wires, block, entries, room)
            copy_rows(values, words, anchors[section * row : (section + 1) * row])
        begin_costate(costate, weights, block, lanes, words, walks.words)
        for section in range(count - 1, -1, -1):
            if section < count - 1:
                if section:
                    copy_rows(anchors[(section - 1) * row : section * row], words, values)
                else:
                    begin(state, block, lanes, words, wires, values)
            here, first, last = 0, sections.bounds[section], sections.bounds[section + 1]
            for s in range(first, last):
                if walks.steps[s, 0] != 0:
                    copy_rows(values, words, kept[here * row : (here + 1) * row])
                    here += 1
                run_step(values, walks.steps[s], walks, wires, block, entries, room)
            now = values
            for s in range(last - 1, first - 1, -1):
                step = walks.steps[s]
                if step[0] == 0:
                    cosine, sine = angle_of(step, block, entries)
                    slope = turn_back(now, costate, step, walks, wires, cosine, sine)
                    record(step, 0, slope, block, entries.blocks, slopes, sums)
                else:
                    here -= 1
                    now = kept[here * row : (here + 1) * row]
                    channel_back(now, costate, step, walks, wires, block, entries, room, slopes, sums)
        if len(of_state):
            store_lanes(costate, block * lanes, lanes, words, of_state)


@njit(**_INNER)
def begin_costate(costate, weights, block, lanes, words, observed):
    """The sum of the weights (b, T) at the observed words."""
    zero = constant(0, costate)
    for q in range(words):
        store(costate, q, zero)
    for lane in range(min(lanes, len(weights) - block * lanes)):
        for t in range(len(observed)):
            costate[observed[t] * lanes + lane] += weights[block * lanes + lane, t]


@njit(**_INNER)
def store_lanes(values, first, lanes, words, state):
    """A block into the samples first, first + 1, ... of (b, N)."""
    for tile in range(0, words, _TILE):
        for lane in range(min(lanes, len(state) - first)):
            for q in range(tile, min(tile + _TILE, words)):
                state[first + lane, q] = values[q * lanes + lane]
