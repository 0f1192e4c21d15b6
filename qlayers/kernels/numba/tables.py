"""Tables of what the diagonal passes multiply amplitudes by, where all samples share the angles."""

from numba import njit

from qlayers.kernels.numba.angles import full_half
from qlayers.kernels.numba.block import shared_by_all
from qlayers.kernels.numba.passes import aligned, fill_patterns
from qlayers.kernels.numba.program import DIAGONAL, unpacked
from qlayers.kernels.numba.simd import load, odd, store
from shared.simd import fma, fnma, mul, neg, splat

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only: compiles faster
_KERNEL = {"nogil": True, "cache": True}


@njit(**_KERNEL)
def fill_tables(code, angles, tables, wires):
    """The tables (D, 2, 2^n) of diagonal passes with shared angles: cosines and sines."""
    program = unpacked(code)
    shared = shared_by_all(angles, tables, True)
    for p in range(len(program.passes)):
        if program.passes[p, 0] == DIAGONAL and program.passes[p, 4] >= 0:
            fill_table(program, p, shared, wires)


@njit(**_INNER)
def fill_table(program, p, shared, wires):
    """exp(-i/2 sum of +-angle) over the turns of a pass with shared angles, signs as without a frame."""
    _, first, middle, _, number = program.passes[p]
    table = shared.tables[number]
    cosines, sines = table[0], table[1]
    cosines[0], sines[0] = 1, 0
    cosines[1:] = 1
    sines[1:] = 0
    lanes = 64 // table.itemsize
    patterns = aligned(lanes, lanes, cosines)
    fill_patterns(4 if lanes == 16 else 3, lanes, patterns)
    for k in range(first, middle):
        z, column = program.turns[k, 1], program.turns[k, 4]
        c, s = full_half(shared.cosines[column], shared.sines[column], shared.counts[column])
        if len(cosines) < lanes:
            for j in range(len(cosines)):
                sign = 1 - 2 * odd(z & j)
                re, im = cosines[j], sines[j]
                cosines[j], sines[j] = re * c - im * s * sign, im * c + re * s * sign
            continue
        cosine = splat(table.dtype.type(c))
        plus = mul(splat(table.dtype.type(s)), load(patterns, z & (lanes - 1)))
        high = z // lanes
        for row in range(len(cosines) // lanes):
            sine = neg(plus) if odd(high & row) else plus
            re, im = load(cosines, row), load(sines, row)
            store(cosines, row, fnma(sine, im, mul(cosine, re)))
            store(sines, row, fma(sine, re, mul(cosine, im)))
