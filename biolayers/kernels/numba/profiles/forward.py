"""The forward recursion of profile HMMs as sums of products: one column of all nodes for each residue.

A row of numbers holds a column: the match, insert and delete states in stripes (see `tables`), and what each
lane of delete states received from the lanes before it, so that the true value of a delete state is
D + RUN * received. The mute states and those outside of the model are numbers of the column: `columns`.
"""

import math

import numpy as np
from numba import njit

from biolayers.kernels.numba.profiles.lanes import bottom, larger, least, scan_up, top, up
from biolayers.kernels.numba.profiles.tables import (
    ENTRY,
    EXIT,
    II,
    INTO_DD,
    INTO_DM,
    INTO_IM,
    INTO_MD,
    INTO_MM,
    MI,
    RUN,
)
from shared.simd import add, address, fma, load, mul, splat, store, total

COLUMN_N, COLUMN_B, COLUMN_E, COLUMN_J, COLUMN_C, FACTOR = range(6)  # FACTOR: by which it was scaled at last
COLUMNS = 6
FAINT = 1e-200  # below this, N, J and C are looked at more closely
STEEPEST = -150  # the least power of two to scale by at once: a number that is not faint stays in sight
IMMATERIAL = -46.0  # nats: a share of 1e-20
FIT, UNFIT = 0, 1  # whether a sequence kept within the limits


@njit(nogil=True, cache=True)
def room(size, lanes, like):
    """Memory for `size` numbers that begins with a cache line, as vectors do not cross one then."""
    memory = np.empty(size + lanes, like.dtype)
    ahead = -(address(memory) // like.itemsize) % lanes
    return memory[ahead : ahead + size]


@njit(nogil=True, cache=True)
def start(rows, at, row, columns, flank, power):
    """The column before the first residue: everything is in N; returns the power of two it is scaled by."""
    rows[at : at + row] = 0
    columns[0, :] = 0
    columns[0, COLUMN_N] = math.ldexp(1.0, power)
    columns[0, COLUMN_B] = columns[0, COLUMN_N] * flank[0, 1]
    columns[0, FACTOR] = 1.0
    return power


@njit(nogil=True, cache=True)
def advance(weights, scan, matches, inserts, lanes, width, rows, source, target, columns, t, symbol, flank):
    """Column t + 1 (at `target`) from column t (at `source`); returns its largest and least sums.

    The least is that of the match and insert states of the new column and the delete states of the old one.
    """
    zero = splat(weights.dtype.type(0))
    received = load(rows, source + 3 * width)
    last = width - lanes
    m_before = up(load(rows, source + last))
    i_before = up(load(rows, source + width + last))
    d_before = up(fma(load(weights, RUN * width + last), received, load(rows, source + 2 * width + last)))
    begin = splat(weights.dtype.type(columns[t, COLUMN_B]))
    m, d, leaving, most = zero, zero, zero, zero
    low = splat(weights.dtype.type(1))
    for q in range(0, width, lanes):
        old_m, old_i = load(rows, source + q), load(rows, source + width + q)
        old_d = fma(load(weights, RUN * width + q), received, load(rows, source + 2 * width + q))
        if q > 0:
            d = fma(m, load(weights, INTO_MD * width + q), mul(d, load(weights, INTO_DD * width + q)))
        m = fma(m_before, load(weights, INTO_MM * width + q), mul(begin, load(weights, ENTRY * width + q)))
        m = fma(i_before, load(weights, INTO_IM * width + q), m)
        m = mul(fma(d_before, load(weights, INTO_DM * width + q), m), load(matches, symbol * width + q))
        i = fma(old_m, load(weights, MI * width + q), mul(old_i, load(weights, II * width + q)))
        i = mul(i, load(inserts, symbol * width + q))
        store(rows, target + q, m)
        store(rows, target + width + q, i)
        store(rows, target + 2 * width + q, d)
        leaving = fma(load(weights, EXIT * width + q), add(m, d), leaving)
        most = larger(most, larger(m, i))
        low = least(least(least(low, m), i), old_d)
        m_before, i_before, d_before = old_m, old_i, old_d
    given = fma(up(m), load(weights, INTO_MD * width), mul(up(d), load(weights, INTO_DD * width)))
    received = scan_up(scan, lanes, given)
    store(rows, target + 3 * width, received)
    leave(columns, t, total(fma(load(scan, 0), received, leaving)), flank)
    return max(
        top(most), columns[t + 1, COLUMN_N], columns[t + 1, COLUMN_J], columns[t + 1, COLUMN_C]
    ), bottom(low)


@njit(nogil=True, cache=True)
def leave(columns, t, e, flank):
    """The states outside of the nodes at column t + 1, from those at column t and from E."""
    n = columns[t, COLUMN_N] * flank[0, 0]
    j = columns[t, COLUMN_J] * flank[2, 0] + e * flank[1, 0]
    columns[t + 1, COLUMN_N] = n
    columns[t + 1, COLUMN_E] = e
    columns[t + 1, COLUMN_J] = j
    columns[t + 1, COLUMN_C] = columns[t, COLUMN_C] * flank[3, 0] + e * flank[1, 1]
    columns[t + 1, COLUMN_B] = n * flank[0, 1] + j * flank[2, 1]
    columns[t + 1, FACTOR] = 1.0


@njit(nogil=True, cache=True)
def rescale(rows, at, row, columns, t, most, least_power, most_power):
    """Bring the largest sum of a column back between two powers of two; returns the power it is scaled by."""
    if not most > 0 or (2.0**least_power <= most <= 2.0**most_power):
        return 0
    power = (least_power + most_power) // 2 - math.frexp(most)[1]
    factor = math.ldexp(1.0, power)
    for place in range(at, at + row):
        rows[place] *= factor
    columns[t, :] *= factor
    columns[t, FACTOR] = factor
    return power


@njit(nogil=True, cache=True)
def is_fit(columns, t, length, low, lowest, flank):
    """Whether nothing that may still matter has become too small.

    What N hands on at any later time is at most `ratio` ** (length - t) times as much, compared with what J
    does, as it is now. So a faint N is dropped where J outweighs it for good, and a faint J where N does.
    """
    if low < lowest or 0 < columns[t, COLUMN_B] < lowest or 0 < columns[t, COLUMN_C] < FAINT:
        return False
    for faint, other, i, k in ((COLUMN_N, COLUMN_J, 0, 2), (COLUMN_J, COLUMN_N, 2, 0)):
        value = columns[t, faint] * flank[i, 1]
        if 0 < value < FAINT:
            if not (columns[t, other] * flank[k, 1] * flank[k, 0] > 0):
                return False
            ratio = math.log(value) - math.log(columns[t, other] * flank[k, 1])
            growth = math.log(max(flank[i, 0], 1e-300)) - math.log(flank[k, 0])
            if ratio + max(growth, 0.0) * (length - t) > IMMATERIAL:
                return False
            columns[t, faint] = 0
    return True


@njit(nogil=True, cache=True)
def forward(
    weights, scan, matches, inserts, lanes, width, tokens, length, flank, limits, rows, columns, kept, block
):
    """All columns of one sequence: the logarithm of its sum over all paths, and whether it is to be trusted.

    The rows of two columns alternate; that of every `block`-th column is copied to `kept` (none if 0).
    """
    _, _, lowest, least_power, most_power = limits
    row = 3 * width + lanes
    none = len(matches) // width - 1
    powers = start(rows, 0, row, columns, flank, (least_power + most_power) // 2)
    for t in range(length):
        if block > 0 and t % block == 0:
            kept[t // block] = rows[(t & 1) * row : (t & 1) * row + row]
        source, target = (t & 1) * row, ((t + 1) & 1) * row
        symbol = min(tokens[t], none)
        most, low = advance(
            weights, scan, matches, inserts, lanes, width, rows, source, target, columns, t, symbol, flank
        )
        if not most < np.inf:
            return np.nan, UNFIT
        power = rescale(rows, target, row, columns, t + 1, most, least_power, most_power)
        if power < STEEPEST or not is_fit(columns, t + 1, length, math.ldexp(low, power), lowest, flank):
            return np.nan, UNFIT
        powers += power
    end = columns[length, COLUMN_C] * flank[3, 1]
    if 0 < end < FAINT:
        return np.nan, UNFIT
    return (math.log(end) - powers * math.log(2.0) if end > 0 else -np.inf), FIT


@njit(nogil=True, cache=True)
def forward_rows(
    first, stop, weights, scan, matches, inserts, lanes, width, tokens, lengths, flanks, limits, scores, marks
):
    """The scores of sequences `first` to `stop`, float64, and whether each is to be trusted."""
    rows = room(2 * (3 * width + lanes), lanes, weights)
    columns = np.empty((tokens.shape[1] + 1, COLUMNS))
    kept = np.empty((0, 0), weights.dtype)
    for b in range(first, stop):
        scores[b], marks[b] = forward(
            weights,
            scan,
            matches,
            inserts,
            lanes,
            width,
            tokens[b],
            lengths[b],
            flanks[b],
            limits,
            rows,
            columns,
            kept,
            0,
        )
