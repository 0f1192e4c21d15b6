"""Shots drawn from tables of probabilities, by random numbers that follow from a seed, a row and a count.

The n-th number of a row needs no other, so that no result depends on threads or on how rows are cut; it is
SplitMix64's (`shared.splitmix`), which costs a tenth of Philox here. Counts of outcomes are a multinomial
draw as a chain of binomial ones: small means by inversion, others by the transformed rejection BTRS
(Hoermann, 1993, doi:10.1080/00949659308811496).
"""

from math import exp, floor, lgamma, log, log1p, sqrt

import numpy as np
from numba import njit

from shared import splitmix
from shared.splitmix import GAMMA

_KERNEL = {"nogil": True, "cache": True}
_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

_11 = np.uint64(11)
_INVERTED = 10.0  # means up to which a binomial number is found by inversion

mix = njit(inline="always")(splitmix.mix)


@njit(inline="always")
def start_of(key, nonce, row):
    """Where the numbers of a row begin, from the two halves of a seed and the row as int64."""
    return mix(mix(mix(np.uint64(key) + GAMMA) ^ np.uint64(nonce)) + np.uint64(row) * GAMMA)


@njit(inline="always")
def uniform(stream):
    """The next number in [0, 1) of a stream (1,) uint64, a multiple of 2^-53."""
    stream[0] += GAMMA
    return np.float64(np.int64(mix(stream[0]) >> _11)) * 2.0**-53


@njit(**_INNER)
def binomial(n, p, stream):
    """How many of n trials succeed, 0 <= p <= 1."""
    if p > 0.5:
        return n - _rarer(n, 1.0 - p, stream)
    return _rarer(n, p, stream)


@njit(**_INNER)
def _rarer(n, p, stream):
    if n * p <= 0.0:
        return 0
    return _by_inversion(n, p, stream) if n * p < _INVERTED else _by_rejection(n, p, stream)


@njit(**_INNER)
def _by_inversion(n, p, stream):
    """Walks up the distribution function from 0 on."""
    odds = p / (1.0 - p)
    first = exp(n * log1p(-p))
    while True:
        left, term, found = uniform(stream), first, 0
        while left >= term and found < n:
            left -= term
            found += 1
            term *= odds * (n - found + 1) / found
            if term < 1e-300:  # beyond all rounding: u was next to 1
                break
        if left < term:
            return found


@njit(**_INNER)
def _by_rejection(n, p, stream):
    """Hoermann's BTRS: a hat over the histogram; the letters are those of his paper."""
    deviation = sqrt(n * p * (1.0 - p))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    centre = n * p + 0.5
    alpha = (2.83 + 5.1 / b) * deviation
    box = 0.92 - 4.2 / b
    mode = floor((n + 1) * p)
    top = lgamma(mode + 1.0) + lgamma(n - mode + 1.0)
    odds = log(p / (1.0 - p))
    while True:
        u = uniform(stream) - 0.5
        v = uniform(stream)
        us = 0.5 - abs(u)
        if us <= 0.0:
            continue
        found = floor((2.0 * a / us + b) * u + centre)
        if us >= 0.07 and v <= box:
            return np.int64(found)
        if found < 0 or found > n or v <= 0.0:
            continue
        height = log(v * alpha / (a / (us * us) + b))
        if height <= top - lgamma(found + 1.0) - lgamma(n - found + 1.0) + (found - mode) * odds:
            return np.int64(found)


@njit(**_INNER)
def _kept(probability):
    """The probability, 0 where rounding has made it negative."""
    return max(np.float64(probability), 0.0)


@njit(**_KERNEL)
def draw_counts(start, stop, probabilities, shots, first_row, key, nonce, out):
    """How often each outcome is seen in `shots` shots, into `out` (rows, outcomes).

    A row whose probabilities are not finite or all zero gets -1.
    """
    outcomes = probabilities.shape[1]
    stream, left = np.empty(1, np.uint64), np.empty(outcomes + 1)
    for row in range(start, stop):
        stream[0] = start_of(key, nonce, first_row + row)
        left[outcomes] = 0.0  # the probability of all outcomes from here on, exact at the far end
        for k in range(outcomes - 1, -1, -1):
            left[k] = left[k + 1] + _kept(probabilities[row, k])
        if not (0.0 < left[0] < np.inf):
            out[row] = -1
            continue
        trials = shots
        for k in range(outcomes):
            found = 0
            if trials and left[k] > 0.0:
                found = binomial(trials, _kept(probabilities[row, k]) / left[k], stream)
            out[row, k] = found
            trials -= found


@njit(**_KERNEL)
def draw_outcomes(start, stop, probabilities, shots, first_row, key, nonce, out):
    """The outcomes of single shots, into `out` (rows, shots): the distribution function inverted.

    A row whose probabilities are not finite or all zero gets -1.
    """
    outcomes = probabilities.shape[1]
    stream, reached = np.empty(1, np.uint64), np.empty(outcomes)
    for row in range(start, stop):
        stream[0] = start_of(key, nonce, first_row + row)
        total, last = 0.0, 0
        for k in range(outcomes):
            own = _kept(probabilities[row, k])
            total += own
            reached[k] = total
            last = k if own > 0.0 else last
        if not (0.0 < total < np.inf):
            out[row] = -1
            continue
        for shot in range(shots):
            out[row, shot] = min(_place(reached, uniform(stream) * total), last)


@njit(**_INNER)
def _place(reached, value):
    """The first place with reached[place] > value, by halving."""
    low, count = 0, reached.shape[0]
    while count > 1:  # without a branch that depends on chance
        half = count >> 1
        low += half if reached[low + half - 1] <= value else 0
        count -= half
    return low
