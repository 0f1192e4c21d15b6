"""What a call is told about itself, in one array of integers: sizes, then the tables of its program."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from qlayers.kernels.numba.program import CORNER_COLUMNS, Program
from qlayers.kernels.numba.simd import beyond, place_of

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only: compiles faster


class Sizes(NamedTuple):
    """How calls of one circuit on batches of one size run."""

    parts: int  # of the blocks: each sums up its gradients by itself
    blocks: int
    half: int  # rows of the real parts of a state
    low_bits: int  # a block is one sample with 2^low_bits amplitudes in the lanes; 0: a sample in each lane
    uniform: int  # 1: no turn has angles of samples
    angles: int  # Ks, shared by the samples
    batch: int
    columns: int  # Kb, angles of each sample
    tables: int  # of diagonal passes with shared angles; 0: without


class Code(NamedTuple):
    """The same for the kernel; tables are places of int64, to be read by the functions below."""

    parts: int
    blocks: int
    half: int
    low_bits: int
    uniform: int
    angles: int
    batch: int
    columns: int
    tables: int
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


def coded(sizes: Sizes, program: Program) -> np.ndarray:
    """Sizes and program in one array."""
    counts = [len(table) for table in program]
    return np.concatenate([sizes, counts, *map(np.ravel, program)]).astype(np.int64)


@njit(**_INNER)
def decoded(code):
    """The array of `coded` as `Code`."""
    at = place_of(code)
    groups = beyond(at, 15)
    steps = beyond(groups, at[9] * 2)
    passes = beyond(steps, at[10] * 6)
    corners = beyond(passes, at[11] * 5)
    turns = beyond(corners, at[12] * CORNER_COLUMNS)
    words = beyond(turns, at[13] * 5)
    sizes = at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8]
    return Code(*sizes, at[9], at[10], at[11], at[13], at[14], groups, steps, passes, corners, turns, words)


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
