"""The sums over all paths of a batch of pairs: scores, and averages over the paths.

What the way back needs of each cell is kept for a segment of rows, as many as fit into the processor's cache
and at least the square root of all; from the segments before the last one their first rows alone are kept,
and the rest is computed again. So memory grows as the square root of one length times the other, and a pair
of two thousand letters stays in cache.
"""

import math

import numpy as np
from numba import njit

from biolayers.kernels.numba.alignment.lines import (
    exponent_of,
    power_of_two,
    powers,
    ramp,
    ramp_down,
    read_some,
    total,
)
from biolayers.kernels.numba.alignment.sweeps import KEPT, first_row, last_row, next_rows, rows_before
from biolayers.kernels.numba.simd import read

CACHED = 1 << 18  # bytes of a segment


@njit(nogil=True, cache=True)
def score_pairs(start, stop, similarity, lengths, gaps, temperature, lanes, local, scores, trouble):
    """Fill elements `start` to `stop` of `scores` (b,); `trouble` (b,) marks those that a line cannot hold.

    Args:
        start: See above.
        stop: See above.
        similarity: (b, n, m).
        lengths: (b, 2) int64.
        gaps: (b, 2) float64: what first and further letters are worth.
        temperature: T.
        lanes: Of a line.
        local: Whether the mode is local.
        scores: See above.
        trouble: See above.
    """
    kept = np.empty((0, KEPT, 1), similarity.dtype)
    places = np.empty((1, -(-similarity.shape[2] // lanes) + 1), np.int64)
    for pair in range(start, stop):
        rows, columns = lengths[pair]
        if rows == 0 or columns == 0:
            letters = rows + columns
            gap = letters > 0 and not local
            scores[pair] = gaps[pair, 0] + (letters - 1) * gaps[pair, 1] if gap else 0.0
            continue
        logs, row, bad = _weights(gaps[pair], temperature, similarity)
        state, sums = _state(columns, lanes, similarity), np.zeros(lanes + 1, similarity.dtype)
        edge = _edge(row, rows, similarity)
        cells = similarity.reshape(-1), pair * similarity.shape[1] * similarity.shape[2], similarity.shape[2]
        bad |= _forward(
            cells, 0, rows, columns, temperature, logs, row, edge, state, kept, places, local, sums
        )
        value, exponent = _partition(state, sums, columns, local)
        scores[pair] = temperature * (math.log(value) + exponent * math.log(2.0)) if value > 0 else np.nan
        trouble[pair] = bad or not math.isfinite(scores[pair])


@njit(nogil=True, cache=True)
def average_pairs(
    start, stop, similarity, lengths, gaps, grad, temperature, lanes, local, out, counts, trouble
):
    """Fill rows `start` to `stop` of `out` (b, n, m) and of `counts` (b, 2) float64, times `grad` (b,).

    The other arguments are those of `score_pairs`.
    """
    for pair in range(start, stop):
        rows, columns = lengths[pair]
        out[pair, rows:] = 0
        out[pair, :rows, columns:] = 0
        counts[pair] = 0
        if rows > 0 and columns > 0:
            trouble[pair] = _average(
                similarity, pair, rows, columns, gaps[pair], grad[pair], temperature, lanes, local, out,
                counts[pair],
            )  # fmt: skip
        elif rows + columns > 0 and not local:
            counts[pair, 0], counts[pair, 1] = grad[pair], grad[pair] * (rows + columns - 1)


@njit(nogil=True, cache=True)
def _average(similarity, pair, rows, columns, gaps, grad, temperature, lanes, local, out, counts):
    """One pair of `average_pairs`; returns whether there was trouble."""
    logs, row, bad = _weights(gaps, temperature, similarity)
    state, sums = _state(columns, lanes, similarity), np.zeros(lanes + 1, similarity.dtype)
    width, blocks = state[0].shape[0], state[2].shape[0]
    edge = _edge(row, rows, similarity)
    begin = pair * similarity.shape[1] * similarity.shape[2]
    cells = similarity.reshape(-1), begin, similarity.shape[2]
    size = max(int(math.sqrt(rows)) + 1, CACHED // (KEPT * width * similarity.itemsize))
    size = min(rows, size)
    segments = -(-rows // size)
    kept = np.empty((size + 1, KEPT, width), similarity.dtype)
    places = np.empty((size + 1, blocks), np.int64)
    saved, saved_places = (
        np.empty((segments, 2, width), similarity.dtype),
        np.empty((segments, blocks), np.int64),
    )
    for segment in range(segments):
        saved[segment, 0], saved[segment, 1], saved_places[segment] = state
        bad |= _forward(
            cells, segment * size, min(rows, (segment + 1) * size), columns, temperature, logs, row, edge,
            state, kept, places, local, sums,
        )  # fmt: skip
    value, exponent = _partition(state, sums, columns, local)
    if bad or not value > 0 or not math.isfinite(value):
        return True
    factor = similarity.dtype.type(grad / value), -exponent
    behind = _state(columns, lanes, similarity)
    enters = last_row(behind, logs, columns, local)
    beyond = read_some(
        np.zeros(lanes, similarity.dtype), 0, columns - width + lanes, similarity.dtype.type(1)
    )
    lines = powers(row[1]), ramp_down(row[1]), beyond
    margin, target = np.zeros(2), (out.reshape(-1), begin, similarity.shape[2])
    margin[1] = behind[2][0]
    for segment in range(segments - 1, -1, -1):
        top, end = segment * size, min(rows, (segment + 1) * size)
        if segment < segments - 1:
            state[0][:], state[1][:], state[2][:] = (
                saved[segment, 0],
                saved[segment, 1],
                saved_places[segment],
            )
            _forward(cells, top, end, columns, temperature, logs, row, edge, state, kept, places, local, sums)
        bad |= rows_before(
            end, top if segment == 0 and not local else top + 1, enters, columns, row, lines, margin, edge,
            behind, kept, places, top, local, target, factor, counts,
        )  # fmt: skip
        enters = similarity.dtype.type(0)
    counts[0] *= math.exp(gaps[0] / temperature)
    counts[1] *= math.exp(gaps[1] / temperature)
    return bad or not math.isfinite(counts[0] + counts[1])


@njit(nogil=True, cache=True)
def _forward(cells, begin, end, columns, temperature, logs, row, edge, state, kept, places, local, sums):
    """Bring `state` from row `begin` to row `end`; keep row i in slot i - begin. Returns the trouble."""
    lanes = state[0].shape[0] // state[2].shape[0]
    kind = cells[0].dtype.type
    lines = powers(row[1]), ramp(row[1]), kind(2.0 ** (lanes * logs[1]))
    scale = kind(1.0 / (math.log(2.0) * temperature))
    if begin == 0:
        first_row(state, logs, row, kept, places, local)
    return next_rows(begin, end, cells, columns, scale, row, lines, edge, state, kept, places, local, sums)


@njit(nogil=True, cache=True)
def _weights(gaps, temperature, like):
    """(log2 of o and e as float64), (o, e) of the type of `like`, and whether they are out of its range."""
    scale = 1.0 / (math.log(2.0) * temperature)
    logs = gaps[0] * scale, gaps[1] * scale
    reach = 60.0 if like.itemsize == 4 else 480.0
    bad = not (abs(logs[0]) < reach and abs(logs[1]) < reach and logs[0] - logs[1] > -reach / 3)
    return logs, (like.dtype.type(2.0 ** logs[0]), like.dtype.type(2.0 ** logs[1])), bad


@njit(nogil=True, cache=True)
def _state(columns, lanes, like):
    blocks = -(-columns // lanes)
    return (
        np.zeros(blocks * lanes, like.dtype),
        np.zeros(blocks * lanes, like.dtype),
        np.zeros(blocks, np.int64),
    )


@njit(nogil=True, cache=True)
def _edge(row, rows, like):
    """The weights of column 0 of a global path, (rows + 1,), and their powers of two."""
    values, exponents = np.empty(rows + 1, like.dtype), np.empty(rows + 1, np.int64)
    values[0], exponents[0] = 1, 0
    for i in range(rows):
        value = values[i] * row[1 if i else 0]
        moved = exponent_of(value)
        values[i + 1], exponents[i + 1] = value * power_of_two(like, -moved), exponents[i] + moved
    return values, exponents


@njit(nogil=True, cache=True)
def _partition(state, sums, columns, local):
    """The sum over all paths as a float64 and a power of two."""
    if local:
        lanes = sums.shape[0] - 1
        exponent = np.int64(sums[lanes])
        return np.float64(total(read(sums, 0))) + 2.0 ** np.float64(-exponent), exponent
    return np.float64(state[0][columns - 1]), state[2][-1]
