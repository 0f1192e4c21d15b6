"""Tables of what the diagonal passes multiply amplitudes by, where all samples share the angles."""

from numba import njit

from qlayers.kernels.numba.angles import full_half
from qlayers.kernels.numba.code import passed, turn
from qlayers.kernels.numba.program import DIAGONAL
from qlayers.kernels.numba.simd import beyond, lanes_in, load, odd, spread, store
from shared.simd import fma, fnma, mul, neg

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only: compiles faster


@njit(**_INNER)
def fill_tables(code, work):
    """The tables (D, 2, 2^n) of diagonal passes with shared angles: cosines and sines."""
    for p in range(code.pass_count):
        kind, first, middle, _, number = passed(code, p)
        if kind == DIAGONAL and number >= 0:
            fill_table(code, first, middle, table_of(code, work, number), work)


@njit(**_INNER)
def table_of(code, work, number):
    """Where a table begins."""
    return beyond(work.tables, number * 2 * (code.half << code.low_bits))


@njit(**_INNER)
def fill_table(code, first, last, cosines, work):
    """exp(-i/2 sum of +-angle) over turns with shared angles, signs as without a frame."""
    size = code.half << code.low_bits
    lanes, sines = lanes_in(cosines), beyond(cosines, size)
    for j in range(size):
        cosines[j], sines[j] = 1, 0
    for k in range(first, last):
        _, z, _, _, column = turn(code, k)
        c, s = full_half(work.cosines[column], work.sines[column], work.counts[column])
        if size < lanes:
            for j in range(size):
                sign = 1 - 2 * odd(z & j)
                re, im = cosines[j], sines[j]
                cosines[j], sines[j] = re * c - im * s * sign, im * c + re * s * sign
            continue
        for lane in range(lanes):
            work.lane[lane] = s * (1 - 2 * odd(z & lane))
        cosine, plus = spread(cosines, c), load(work.lane, 0)
        high = z // lanes
        for row in range(size // lanes):
            sine = neg(plus) if odd(high & row) else plus
            re, im = load(cosines, row), load(sines, row)
            store(cosines, row, fnma(sine, im, mul(cosine, re)))
            store(sines, row, fma(sine, re, mul(cosine, im)))
