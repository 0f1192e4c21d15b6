"""Expected counts of a profile HMM: the gradient of its forward score."""

import numpy as np
from numba import njit

from biolayers.kernels.numba.profiles.backward import (
    BACK_I,
    BACK_M,
    BACK_ROWS,
    NEXT_D,
    OUTER_B,
    OUTER_C,
    OUTER_E,
    OUTER_J,
    OUTER_N,
    STEP_I,
    STEP_M,
    add_product,
    add_sum,
    finish,
    retreat,
    settle,
)
from biolayers.kernels.numba.profiles.forward import (
    COLUMN_B,
    COLUMN_C,
    COLUMN_E,
    COLUMN_J,
    COLUMN_N,
    COLUMNS,
    FACTOR,
    FIT,
    UNFIT,
    advance,
    forward,
    room,
)
from biolayers.kernels.numba.profiles.lanes import down
from biolayers.kernels.numba.profiles.tables import RUN
from shared.simd import fma, load, splat

BLOCK = 64  # columns between two that are kept: those between are computed again when they are wanted
# rows of sums, in the order of the op's transitions; after them one for each symbol of match, then of insert
SUM_MM, SUM_MI, SUM_MD, SUM_IM, SUM_II, SUM_DM, SUM_DD, SUM_ENTRY, SUM_EXIT, SUM_SYMBOLS = range(10)


@njit(nogil=True, cache=True)
def refill(model, tokens, flank, rows, columns, kept, block, stop):
    """The rows of the columns from a kept one up to `stop`, one after the other, as the first time."""
    weights, scan, matches, inserts, lanes, width = model
    row = 3 * width + lanes
    none = len(matches) // width - 1
    rows[:row] = kept[block]
    first = block * BLOCK
    for t in range(first, stop):
        at = (t - first) * row
        factor, e, j = columns[t + 1, FACTOR], columns[t + 1, COLUMN_E], columns[t + 1, COLUMN_J]
        n, b, c = columns[t + 1, COLUMN_N], columns[t + 1, COLUMN_B], columns[t + 1, COLUMN_C]
        symbol = min(tokens[t], none)
        advance(weights, scan, matches, inserts, lanes, width, rows, at, at + row, columns, t, symbol, flank)
        if factor != 1.0:
            for place in range(at + row, at + 2 * row):
                rows[place] *= factor
        columns[t + 1, FACTOR], columns[t + 1, COLUMN_E], columns[t + 1, COLUMN_J] = factor, e, j
        columns[t + 1, COLUMN_N], columns[t + 1, COLUMN_B], columns[t + 1, COLUMN_C] = n, b, c


@njit(nogil=True, cache=True)
def tally(weights, lanes, width, rows, at, back, outer, begin, sums, match_row, insert_row):
    """Add what a column uses: its emissions, and the steps from it."""
    received = load(rows, at + 3 * width)
    leave = splat(weights.dtype.type(outer[OUTER_E]))
    begins = splat(weights.dtype.type(begin))
    ahead = down(load(back, STEP_M * width))
    for p in range(0, width, lanes):
        q = width - lanes - p
        m, i = load(rows, at + q), load(rows, at + width + q)
        d = fma(load(weights, RUN * width + q), received, load(rows, at + 2 * width + q))
        step, next_d = load(back, STEP_I * width + q), load(back, NEXT_D * width + q)
        add_product(sums, SUM_MI * width + q, m, step)
        add_product(sums, SUM_II * width + q, i, step)
        add_product(sums, SUM_MD * width + q, m, next_d)
        add_product(sums, SUM_DD * width + q, d, next_d)
        add_sum(sums, SUM_EXIT * width + q, m, d, leave)
        add_product(sums, SUM_MM * width + q, m, ahead)
        add_product(sums, SUM_IM * width + q, i, ahead)
        add_product(sums, SUM_DM * width + q, d, ahead)
        add_product(sums, match_row * width + q, m, load(back, BACK_M * width + q))
        add_product(sums, insert_row * width + q, i, load(back, BACK_I * width + q))
        ahead = load(back, STEP_M * width + q)
        add_product(sums, SUM_ENTRY * width + q, begins, ahead)


@njit(nogil=True, cache=True)
def tally_outside(columns, t, length, before, outer, flank, used):
    """Add the steps of column t outside of the nodes, where `before` is `outer` of column t + 1."""
    factor = columns[t + 1, FACTOR] if t < length else 0.0  # beyond the last column nothing is written
    used[0, 0] += columns[t, COLUMN_N] * flank[0, 0] * before[OUTER_N] * factor
    used[0, 1] += columns[t, COLUMN_N] * flank[0, 1] * outer[OUTER_B]
    used[1, 0] += columns[t, COLUMN_E] * flank[1, 0] * outer[OUTER_J]
    used[1, 1] += columns[t, COLUMN_E] * flank[1, 1] * outer[OUTER_C]
    used[2, 0] += columns[t, COLUMN_J] * flank[2, 0] * before[OUTER_J] * factor
    used[2, 1] += columns[t, COLUMN_J] * flank[2, 1] * outer[OUTER_B]
    used[3, 0] += columns[t, COLUMN_C] * flank[3, 0] * before[OUTER_C] * factor


@njit(nogil=True, cache=True)
def count(model, tokens, length, flank, limits, rows, columns, kept, back, sums, used):
    """The sums of one sequence, without the weights of its steps; whether they are to be trusted."""
    weights, scan, matches, inserts, lanes, width = model
    symbols = len(matches) // width
    row = 3 * width + lanes
    score, mark = forward(
        weights,
        scan,
        matches,
        inserts,
        lanes,
        width,
        tokens,
        length,
        flank,
        limits,
        rows,
        columns,
        kept,
        BLOCK,
    )
    sums[:] = 0
    used[:] = 0
    if mark != FIT or score == -np.inf:
        return mark
    outer, before = np.zeros(5), np.zeros(5)
    finish(back, outer, columns, length, flank)
    used[3, 1] = 1.0
    for t in range(length, -1, -1):
        block = min(t, length - 1) // BLOCK
        if t == length or t % BLOCK == BLOCK - 1:
            refill(model, tokens, flank, rows, columns, kept, block, max(t, min(t + 1, length)))
        if t < length:
            before[:] = outer
            symbol = min(tokens[t], symbols - 1)
            retreat(weights, matches, inserts, lanes, width, back, outer, columns, t, symbol, flank)
        settle(weights, scan, lanes, width, back, outer)
        symbol = min(tokens[t - 1], symbols - 1) if t > 0 else symbols - 1
        at = (t - block * BLOCK) * row
        match_row, insert_row = SUM_SYMBOLS + symbol, SUM_SYMBOLS + symbols + symbol
        tally(weights, lanes, width, rows, at, back, outer, columns[t, COLUMN_B], sums, match_row, insert_row)
        tally_outside(columns, t, length, before, outer, flank, used)
    return FIT if np.isfinite(sums.sum() + used.sum()) else UNFIT


@njit(nogil=True, cache=True)
def count_rows(
    first,
    stop,
    weights,
    scan,
    matches,
    inserts,
    lanes,
    width,
    tokens,
    lengths,
    flanks,
    limits,
    grads,
    shares,
    special,
    marks,
):
    """Sums over the sequences of each share, float64: shares (n, rows of sums, W); special (b, 4, 2)."""
    model = (weights, scan, matches, inserts, lanes, width)
    longest, row = tokens.shape[1], 3 * width + lanes
    rows = room((BLOCK + 1) * row, lanes, weights)
    back, sums = room(BACK_ROWS * width, lanes, weights), room(shares.shape[1] * width, lanes, weights)
    columns, kept = np.empty((longest + 1, COLUMNS)), np.empty((longest // BLOCK + 1, row), weights.dtype)
    used = np.zeros((4, 2))
    for share in range(first, stop):
        totals = shares[share].reshape(-1)
        totals[:] = 0
        for b in range(len(tokens) * share // len(shares), len(tokens) * (share + 1) // len(shares)):
            marks[b] = count(
                model, tokens[b], lengths[b], flanks[b], limits, rows, columns, kept, back, sums, used
            )
            special[b] = used * grads[b]
            if marks[b] == FIT:
                for place in range(len(sums)):
                    totals[place] += grads[b] * sums[place]
