"""One large state: amplitudes in the lanes, one rotation per pass over memory.

A state is `[re, im][row]`, a row being a vector of amplitudes. The partner of amplitude j is j ^ x: another
row, and another lane of it.
"""

import numpy as np
from numba import njit

from qlayers.kernels.numba.simd import align_stack, exchange, load, odd, store
from shared.simd import fma, fnma, mul, splat, total

_INNER = {"nogil": True}
_KERNEL = {"nogil": True, "cache": True}


@njit(**_INNER)
def sign_pattern(lanes, x, z, like):
    """(-1)^parity(z & (lane ^ x)) for each lane."""
    pattern = np.empty(lanes, like.dtype)
    for lane in range(lanes):
        pattern[lane] = 1 - 2 * odd(z & (lane ^ x))
    return load(pattern, 0)


@njit(**_INNER)
def turned(re, im, to_re, to_im, c, s, odd_power):
    """C (re, im) - i s (to_re, to_im) times i^power, the sign of powers 2 and 3 being in s."""
    if odd_power:
        return fma(s, to_re, mul(c, re)), fma(s, to_im, mul(c, im))
    return fma(s, to_im, mul(c, re)), fnma(s, to_re, mul(c, im))


@njit(**_INNER)
def overlap(re, im, to_re, to_im, co_re, co_im, odd_power):
    """Im of conj(co) times i^power times (to_re, to_im)."""
    if odd_power:
        return fma(co_re, to_re, mul(co_im, to_im))
    return fnma(co_im, to_re, mul(co_re, to_im))


@njit(**_KERNEL)
def apply_rotation(start, stop, psi, rows, x, z, power, c, s):
    """exp(-i angle/2 P) on the rows start..stop, and on the rows that they are paired with."""
    align_stack()
    lanes = psi.size // (2 * rows)
    low, high = x & (lanes - 1), x // lanes
    pattern = sign_pattern(lanes, low, z & (lanes - 1), psi)
    above = z // lanes
    cosine = splat(psi.dtype.type(c))
    signed = mul(pattern, splat(psi.dtype.type(-s if power >= 2 else s)))
    flipped = mul(pattern, splat(psi.dtype.type(s if power >= 2 else -s)))
    odd_power = power % 2 == 1
    for row in range(start, stop):
        pair = row ^ high
        if pair < row:
            continue
        re, im = load(psi, row), load(psi, rows + row)
        to_re, to_im = load(psi, pair), load(psi, rows + pair)
        sine = flipped if odd(above & pair) else signed
        new_re, new_im = turned(re, im, exchange(to_re, low), exchange(to_im, low), cosine, sine, odd_power)
        if high:
            sine = flipped if odd(above & row) else signed
            to_re, to_im = turned(to_re, to_im, exchange(re, low), exchange(im, low), cosine, sine, odd_power)
            store(psi, pair, to_re)
            store(psi, rows + pair, to_im)
        store(psi, row, new_re)
        store(psi, rows + row, new_im)


@njit(**_KERNEL)
def undo_rotation(start, stop, psi, co, rows, chunk, x, z, power, c, s, parts):
    """Undo a rotation on state and costate, in chunks of rows.

    `parts[k]` becomes Im <co|P|psi> / 2 as it was before, over the rows of chunk k and their partners.
    """
    align_stack()
    lanes = psi.size // (2 * rows)
    low, high = x & (lanes - 1), x // lanes
    pattern = sign_pattern(lanes, low, z & (lanes - 1), psi)
    above = z // lanes
    cosine, one = splat(psi.dtype.type(c)), splat(psi.dtype.type(1))
    signed = mul(pattern, splat(psi.dtype.type(s if power >= 2 else -s)))
    flipped = mul(pattern, splat(psi.dtype.type(-s if power >= 2 else s)))
    minus = mul(pattern, splat(psi.dtype.type(-1)))
    odd_power = power % 2 == 1
    for k in range(start, stop):
        slope = splat(psi.dtype.type(0))
        for row in range(k * chunk, min((k + 1) * chunk, rows)):
            pair = row ^ high
            if pair < row:
                continue
            re, im, co_re, co_im = load(psi, row), load(psi, rows + row), load(co, row), load(co, rows + row)
            to_re, to_im, to_cr, to_ci = (
                load(psi, pair),
                load(psi, rows + pair),
                load(co, pair),
                load(co, rows + pair),
            )
            ex_re, ex_im = exchange(to_re, low), exchange(to_im, low)
            is_odd = odd(above & pair)
            part = overlap(re, im, ex_re, ex_im, co_re, co_im, odd_power)
            slope = fma(minus if is_odd else pattern, part, slope)
            sine = flipped if is_odd else signed
            new_re, new_im = turned(re, im, ex_re, ex_im, cosine, sine, odd_power)
            new_cr, new_ci = turned(
                co_re, co_im, exchange(to_cr, low), exchange(to_ci, low), cosine, sine, odd_power
            )
            if high:
                ex_re, ex_im = exchange(re, low), exchange(im, low)
                is_odd = odd(above & row)
                part = overlap(to_re, to_im, ex_re, ex_im, to_cr, to_ci, odd_power)
                slope = fma(minus if is_odd else pattern, part, slope)
                sine = flipped if is_odd else signed
                to_re, to_im = turned(to_re, to_im, ex_re, ex_im, cosine, sine, odd_power)
                to_cr, to_ci = turned(
                    to_cr, to_ci, exchange(co_re, low), exchange(co_im, low), cosine, sine, odd_power
                )
                store(psi, pair, to_re)
                store(psi, rows + pair, to_im)
                store(co, pair, to_cr)
                store(co, rows + pair, to_ci)
            store(psi, row, new_re)
            store(psi, rows + row, new_im)
            store(co, row, new_cr)
            store(co, rows + row, new_ci)
        value = total(mul(one, slope))
        parts[k] = (-value if power >= 2 else value) * psi.dtype.type(0.5)
