"""Posterior decoding of a profile HMM: the product of forward and backward sums at each residue."""

import numpy as np
from numba import njit

from biolayers.kernels.numba.profiles.backward import (
    BACK_I,
    BACK_M,
    BACK_ROWS,
    OUTER_C,
    OUTER_J,
    OUTER_N,
    finish,
    retreat,
    settle,
)
from biolayers.kernels.numba.profiles.counts import BLOCK, refill
from biolayers.kernels.numba.profiles.forward import (
    COLUMN_C,
    COLUMN_J,
    COLUMN_N,
    COLUMNS,
    FACTOR,
    FIT,
    UNFIT,
    forward,
    room,
)


@njit(nogil=True, cache=True)
def place_column(lanes, width, rows, at, back, out):
    """The probabilities of the nodes at one residue; out (2 m + 2,)."""
    nodes, depth = len(out) // 2 - 1, width // lanes
    for k in range(nodes):
        spot = k % depth * lanes + k // depth
        out[3 + k] = rows[at + spot] * back[BACK_M * width + spot]
        if k < nodes - 1:
            out[3 + nodes + k] = rows[at + width + spot] * back[BACK_I * width + spot]


@njit(nogil=True, cache=True)
def decode(model, tokens, length, flank, limits, rows, columns, kept, back, out):
    """The probabilities of one sequence, (l, 2 m + 2); whether they are to be trusted."""
    weights, scan, matches, inserts, lanes, width = model
    none, row = len(matches) // width - 1, 3 * width + lanes
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
    out[:] = 0
    if mark != FIT or score == -np.inf:
        return mark
    outer = np.zeros(5)
    finish(back, outer, columns, length, flank)
    everything = 0.0
    for t in range(length, 0, -1):
        block = min(t, length - 1) // BLOCK
        if t == length or t % BLOCK == BLOCK - 1:
            refill(model, tokens, flank, rows, columns, kept, block, max(t, min(t + 1, length)))
        settle(weights, scan, lanes, width, back, outer)
        place_column(lanes, width, rows, (t - block * BLOCK) * row, back, out[t - 1])
        factor = columns[t, FACTOR]
        out[t - 1, 0] = columns[t - 1, COLUMN_N] * flank[0, 0] * outer[OUTER_N] * factor
        out[t - 1, 1] = columns[t - 1, COLUMN_J] * flank[2, 0] * outer[OUTER_J] * factor
        out[t - 1, 2] = columns[t - 1, COLUMN_C] * flank[3, 0] * outer[OUTER_C] * factor
        everything += out[t - 1].sum()
        symbol = min(tokens[t - 1], none)
        retreat(weights, matches, inserts, lanes, width, back, outer, columns, t - 1, symbol, flank)
    return FIT if np.isfinite(everything) else UNFIT


@njit(nogil=True, cache=True)
def decode_rows(
    first, stop, weights, scan, matches, inserts, lanes, width, tokens, lengths, flanks, limits, out, marks
):
    """The probabilities of sequences `first` to `stop`, (b, l, 2 m + 2), and whether to trust each."""
    model = (weights, scan, matches, inserts, lanes, width)
    longest, row = tokens.shape[1], 3 * width + lanes
    rows = room((BLOCK + 1) * row, lanes, weights)
    back = room(BACK_ROWS * width, lanes, weights)
    columns, kept = np.empty((longest + 1, COLUMNS)), np.empty((longest // BLOCK + 1, row), weights.dtype)
    for b in range(first, stop):
        marks[b] = decode(model, tokens[b], lengths[b], flanks[b], limits, rows, columns, kept, back, out[b])
