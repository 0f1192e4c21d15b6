"""The same sums in logarithms, one cell after the other: slower, and right at any temperature.

For pairs whose neighbouring cells differ by more than a line of weights can hold (see `sweeps`).
"""

import math

import numpy as np
from numba import njit

_NONE = -np.inf


@njit(nogil=True, cache=True)
def score_in_logarithms(start, stop, similarity, lengths, gaps, temperature, local, scores):
    """`pairs.score_pairs` for float64."""
    for pair in range(start, stop):
        rows, columns = lengths[pair]
        gap_open, gap_extend = gaps[pair] / temperature
        ways = _before(similarity[pair], rows, columns, gap_open, gap_extend, temperature, local)
        scores[pair] = temperature * _total(ways, rows, columns, local)


@njit(nogil=True, cache=True)
def average_in_logarithms(start, stop, similarity, lengths, gaps, grad, temperature, local, out, counts):
    """`pairs.average_pairs` for float64; `out` and `counts` come as zeros."""
    for pair in range(start, stop):
        rows, columns = lengths[pair]
        gap_open, gap_extend = gaps[pair] / temperature
        ways = _before(similarity[pair], rows, columns, gap_open, gap_extend, temperature, local)
        whole = _total(ways, rows, columns, local)
        on = np.full((2, columns + 2, 3), _NONE)  # the row below, this row
        for i in range(rows, -1, -1):
            here = on[1]
            here[columns + 1] = _NONE
            for j in range(columns, -1, -1):
                step = _NONE
                if i < rows and j < columns:
                    step = similarity[pair, i, j] / temperature + on[0, j + 1, 0]
                end = 0.0 if not local and i == rows and j == columns else _NONE
                down, right = on[0, j, 1], here[j + 1, 2]
                here[j, 0] = _sum(_sum(step, end), _sum(down + gap_open, right + gap_open))
                here[j, 1] = _sum(_sum(step, end), _sum(down + gap_extend, right + gap_open))
                here[j, 2] = _sum(_sum(step, end), _sum(down + gap_open, right + gap_extend))
                if local and i > 0 and j > 0:
                    here[j, 0] = _sum(here[j, 0], 0.0)
                way = ways[i, j]
                counts[pair, 0] += grad[pair] * math.exp(_sum(way[0], way[2]) + gap_open + down - whole)
                counts[pair, 0] += grad[pair] * math.exp(_sum(way[0], way[1]) + gap_open + right - whole)
                counts[pair, 1] += grad[pair] * math.exp(way[1] + gap_extend + down - whole)
                counts[pair, 1] += grad[pair] * math.exp(way[2] + gap_extend + right - whole)
                if i > 0 and j > 0:
                    out[pair, i - 1, j - 1] = grad[pair] * math.exp(way[0] + here[j, 0] - whole)
            on[0] = here


@njit(nogil=True, cache=True)
def _before(similarity, rows, columns, gap_open, gap_extend, temperature, local):
    """(rows + 1, columns + 1, 3): the logarithms of pair, down and right."""
    ways = np.full((rows + 1, columns + 1, 3), _NONE)
    if not local:
        ways[0, 0, 0] = 0.0
    for i in range(rows + 1):
        for j in range(columns + 1):
            if i > 0:
                over = ways[i - 1, j]
                ways[i, j, 1] = _sum(_sum(over[0], over[2]) + gap_open, over[1] + gap_extend)
            if i > 0 and j > 0:
                from_here = ways[i - 1, j - 1]
                come = _sum(_sum(from_here[0], from_here[1]), from_here[2])
                come = _sum(come, 0.0) if local else come
                ways[i, j, 0] = similarity[i - 1, j - 1] / temperature + come
            if j > 0:
                left = ways[i, j - 1]
                ways[i, j, 2] = _sum(_sum(left[0], left[1]) + gap_open, left[2] + gap_extend)
    return ways


@njit(nogil=True, cache=True)
def _total(ways, rows, columns, local):
    if not local:
        end = ways[rows, columns]
        return _sum(_sum(end[0], end[1]), end[2])
    whole = 0.0
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            whole = _sum(whole, ways[i, j, 0])
    return whole


@njit(nogil=True, cache=True)
def _sum(a, b):
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    if b == _NONE:
        return a
    return a + math.log1p(math.exp(b - a))
