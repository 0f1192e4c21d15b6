"""What a call is told about itself, in one array of integers: sizes, its program, how its angles are made."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from qlayers.kernels.numba.program import CORNER_COLUMNS, Program
from qlayers.kernels.numba.simd import beyond, recast

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only: compiles faster


class Sizes(NamedTuple):
    """How calls of one circuit on batches of one size run."""

    parts: int  # of the blocks: each sums up its gradients by itself
    blocks: int
    half: int  # rows of the real parts of a state
    low_bits: int  # a block is one sample with 2^low_bits amplitudes in the lanes; 0: a sample in each lane
    uniform: int  # 1: no turn has angles of samples
    tables: int  # of diagonal passes with shared angles; 0: without
    batch: int
    sources: int  # S, numbers that the shared angles are made of
    features: int  # F, numbers that the angles of a sample are made of


class Picked(NamedTuple):
    """Angles made of a row of numbers: number[index] * scale + offset, without the number if scale is 0."""

    index: np.ndarray  # int64
    scale: np.ndarray  # float64
    offset: np.ndarray  # float64


def as_they_are(count: int) -> Picked:
    """The numbers themselves."""
    return Picked(np.arange(count), np.ones(count), np.zeros(count))


class Code(NamedTuple):
    """The same for the kernel; tables are places of int64, to be read by the functions below."""

    parts: int
    blocks: int
    half: int
    low_bits: int
    uniform: int
    tables: int
    batch: int
    sources: int
    features: int
    angles: int  # Ks
    columns: int  # Kb
    group_count: int
    step_count: int
    pass_count: int
    turn_count: int
    word_count: int
    groups: Any
    steps: Any
    passes: Any
    corners: Any
    turns: Any
    words: Any
    shared_index: Any  # how angles are made, see `Picked`; scales and offsets are float64
    shared_scale: Any
    shared_offset: Any
    own_index: Any
    own_scale: Any
    own_offset: Any


def coded(sizes: Sizes, program: Program, shared: Picked, own: Picked) -> np.ndarray:
    """All in one array: how the kernel runs, and how shared angles and those of the samples are made."""
    counts = [len(shared.index), len(own.index), *(len(table) for table in program)]
    parts = [sizes, counts, *map(np.ravel, program)]
    for picked in (shared, own):
        parts += [picked.index, picked.scale.view(np.int64), picked.offset.view(np.int64)]
    return np.concatenate(parts).astype(np.int64)


@njit(**_INNER)
def decoded(at):
    """The array of `coded` that begins at a place, as `Code`."""
    angles, columns = at[9], at[10]
    groups = beyond(at, 17)
    steps = beyond(groups, at[11] * 2)
    passes = beyond(steps, at[12] * 6)
    corners = beyond(passes, at[13] * 5)
    turns = beyond(corners, at[14] * CORNER_COLUMNS)
    words = beyond(turns, at[15] * 5)
    shared = beyond(words, at[16] * 3)
    own = beyond(shared, 3 * angles)
    sizes = at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8], angles, columns
    counts = at[11], at[12], at[13], at[15], at[16]
    tables = groups, steps, passes, corners, turns, words
    of_shared = shared, recast(beyond(shared, angles), 0.0), recast(beyond(shared, 2 * angles), 0.0)
    of_own = own, recast(beyond(own, columns), 0.0), recast(beyond(own, 2 * columns), 0.0)
    return Code(*sizes, *counts, *tables, *of_shared, *of_own)


@njit(**_INNER)
def group(code, g):
    """The bounds of group g in the steps."""
    return code.groups[2 * g], code.groups[2 * g + 1]


@njit(**_INNER)
def step(code, k):
    """Step k: source, column, letter, sign."""
    at = 6 * k
    return code.steps[at], code.steps[at + 1], code.steps[at + 2], code.steps[at + 3]


@njit(**_INNER)
def passed(code, p):
    """Pass p: kind, first turn, first turn with angles of samples, end, number."""
    at, rows = 5 * p, code.passes
    return rows[at], rows[at + 1], rows[at + 2], rows[at + 3], rows[at + 4]


@njit(**_INNER)
def turn(code, k):
    """Turn k: x, z, power, source, column."""
    at, rows = 5 * k, code.turns
    return rows[at], rows[at + 1], rows[at + 2], rows[at + 3], rows[at + 4]


@njit(**_INNER)
def word(code, t):
    """Word t: x, z, power."""
    at = 3 * t
    return code.words[at], code.words[at + 1], code.words[at + 2]
