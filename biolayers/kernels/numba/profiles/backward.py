"""The backward recursion of profile HMMs, and what a column of it says together with the forward one.

It is scaled by the factors of the forward recursion and starts from one over the sum of all paths, so that
the product of a forward and a backward number is the probability of that state.
"""

from numba import njit

from biolayers.kernels.numba.profiles.forward import COLUMN_C, FACTOR
from biolayers.kernels.numba.profiles.lanes import down, scan_down
from biolayers.kernels.numba.profiles.tables import DD, DM, ENTRY, EXIT, II, IM, MD, MI, MM, REST
from shared.simd import add, fma, load, mul, splat, store, total

# rows of `back`: of the states themselves; of a step into M or I with its residue; of the next node's D
BACK_M, BACK_I, BACK_D, STEP_M, STEP_I, NEXT_D = range(6)
BACK_ROWS = 6
OUTER_N, OUTER_B, OUTER_E, OUTER_J, OUTER_C = range(5)  # of the states outside of the nodes


@njit(nogil=True, cache=True)
def finish(back, outer, columns, length, flank):
    """The last column: only C is left, and what leads there."""
    back[:] = 0
    outer[:] = 0
    outer[OUTER_C] = 1.0 / columns[length, COLUMN_C]
    outer[OUTER_E] = flank[1, 1] * outer[OUTER_C]


@njit(nogil=True, cache=True)
def retreat(weights, matches, inserts, lanes, width, back, outer, columns, t, symbol, flank):
    """The steps from column t to t + 1, whose residue is `symbol`: STEP_M, STEP_I and `outer` of column t."""
    factor = columns[t + 1, FACTOR]
    scale = splat(weights.dtype.type(factor))
    begin = splat(weights.dtype.type(0))
    for q in range(0, width, lanes):
        step = mul(mul(load(back, BACK_M * width + q), scale), load(matches, symbol * width + q))
        store(back, STEP_M * width + q, step)
        begin = fma(load(weights, ENTRY * width + q), step, begin)
        step = mul(mul(load(back, BACK_I * width + q), scale), load(inserts, symbol * width + q))
        store(back, STEP_I * width + q, step)
    outer[OUTER_B] = total(begin)
    outer[OUTER_C] *= flank[3, 0] * factor
    outer[OUTER_J] = outer[OUTER_J] * flank[2, 0] * factor + flank[2, 1] * outer[OUTER_B]
    outer[OUTER_N] = outer[OUTER_N] * flank[0, 0] * factor + flank[0, 1] * outer[OUTER_B]
    outer[OUTER_E] = flank[1, 1] * outer[OUTER_C] + flank[1, 0] * outer[OUTER_J]


@njit(nogil=True, cache=True)
def settle(weights, scan, lanes, width, back, outer):
    """The nodes of a column from STEP_M, STEP_I and E: BACK_M, BACK_I, and NEXT_D, the true D of the next."""
    leave = splat(weights.dtype.type(outer[OUTER_E]))
    last = width - lanes
    ahead = down(load(back, STEP_M * width))
    d = splat(weights.dtype.type(0))
    for p in range(0, width, lanes):
        q = last - p
        d = fma(load(weights, DD * width + q), d, mul(load(weights, EXIT * width + q), leave))
        d = fma(load(weights, DM * width + q), ahead, d)
        store(back, BACK_D * width + q, d)
        ahead = load(back, STEP_M * width + q)
    received = scan_down(scan, len(scan) - (len(scan) - lanes) // 2, down(d))
    ahead = down(load(back, STEP_M * width))
    d = received
    for p in range(0, width, lanes):
        q = last - p
        step = load(back, STEP_I * width + q)
        m = fma(load(weights, MI * width + q), step, mul(load(weights, EXIT * width + q), leave))
        m = fma(load(weights, MD * width + q), d, fma(load(weights, MM * width + q), ahead, m))
        store(back, BACK_M * width + q, m)
        i = fma(load(weights, IM * width + q), ahead, mul(load(weights, II * width + q), step))
        store(back, BACK_I * width + q, i)
        store(back, NEXT_D * width + q, d)
        d = fma(load(weights, REST * width + q), received, load(back, BACK_D * width + q))
        ahead = load(back, STEP_M * width + q)


@njit(nogil=True, cache=True)
def add_product(sums, at, a, b):
    """Add `a b` to the vector of sums at element `at`."""
    store(sums, at, fma(a, b, load(sums, at)))


@njit(nogil=True, cache=True)
def add_sum(sums, at, a, b, c):
    """Add `(a + b) c` to the vector of sums at element `at`."""
    store(sums, at, fma(add(a, b), c, load(sums, at)))
