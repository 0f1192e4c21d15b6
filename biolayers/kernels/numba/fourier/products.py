"""Products of real spectra, at frequencies k and m - k in one step.

Z is the transform of the even numbers plus i times that of the odd ones. E = Z[k] + conj Z[m - k] and
O = (Z[k] - conj Z[m - k]) / i are twice the transforms of either; in them a circular convolution y = x * h is

    E_y = E_x E_h + u O_x O_h        O_y = E_x O_h + O_x E_h        u = exp(-2 pi i k / m)

since an odd number times an odd number lands on an even one, one place further. The correlation of x and g,
whose number j is the sum of g[t] x[t - j], has conj(E_x) in place of E_x and conj(u O_x) in place of O_x.
Spectra are kept as four lines per pair of frequencies: re E, im E, re O, im O.
"""

from typing import Any

from numba import njit
from numba.extending import intrinsic

from biolayers.kernels.numba.fourier.rows import lanes_in
from biolayers.kernels.numba.simd import add, fill, read, write
from shared.simd import Lowering, fma, fnma, mul


@intrinsic
def sub(typing: Any, a: Any, b: Any) -> Lowering:
    """`sub(a, b)`: a - b of lines."""
    return a(a, a), lambda context, builder, signature, args: builder.fsub(*args)


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _parts(data, p, q):
    """The lines re E, im E, re O, im O of the points at p and q."""
    lanes = lanes_in(data)
    p, q = 2 * lanes * p, 2 * lanes * q
    a, b, c, d = read(data, p), read(data, p + lanes), read(data, q), read(data, q + lanes)
    return add(a, c), sub(b, d), add(b, d), sub(c, a)


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _put_parts(data, p, q, er, ei, our, oui):
    """E + i O at p and conj(E) + i conj(O) at q."""
    lanes = lanes_in(data)
    p, q = 2 * lanes * p, 2 * lanes * q
    write(data, p, sub(er, oui))
    write(data, p + lanes, add(ei, our))
    write(data, q, add(er, oui))
    write(data, q + lanes, sub(our, ei))


@njit(nogil=True, cache=True)
def keep_spectrum(data, partners, scale, spectrum):
    """Keep scale times E and O of the transformed points."""
    lanes = lanes_in(data)
    factor = fill(data, scale)
    for i in range(len(partners)):
        at = 4 * lanes * i
        for part in _parts(data, partners[i, 0], partners[i, 1]):
            write(spectrum, at, mul(part, factor))
            at += lanes


@njit(nogil=True, cache=True)
def convolve(data, partners, turns, spectrum):
    """The transformed points of x become those of x * h, where `spectrum` is of h."""
    lanes = lanes_in(data)
    for i in range(len(partners)):
        p, q = partners[i]
        er, ei, our, oui = _parts(data, p, q)
        ur, ui = fill(data, turns[i, 0]), fill(data, turns[i, 1])
        tr, ti = fnma(oui, ui, mul(our, ur)), fma(our, ui, mul(oui, ur))  # u O
        at = 4 * lanes * i
        hr, hi = read(spectrum, at), read(spectrum, at + lanes)
        kr, ki = read(spectrum, at + 2 * lanes), read(spectrum, at + 3 * lanes)
        ar, ai = fnma(ti, ki, mul(tr, kr)), fma(tr, ki, mul(ti, kr))
        ar, ai = fma(er, hr, fnma(ei, hi, ar)), fma(er, hi, fma(ei, hr, ai))
        br, bi = fnma(oui, hi, mul(our, hr)), fma(our, hi, mul(oui, hr))
        br, bi = fma(er, kr, fnma(ei, ki, br)), fma(er, ki, fma(ei, kr, bi))
        _put_parts(data, p, q, ar, ai, br, bi)


@njit(nogil=True, cache=True)
def correlate(x, grad, partners, turns, spectrum):
    """Add E and O of the correlation of x with grad, from the transformed points of both."""
    lanes = lanes_in(x)
    for i in range(len(partners)):
        p, q = partners[i]
        er, ei, our, oui = _parts(x, p, q)
        ur, ui = fill(x, turns[i, 0]), fill(x, turns[i, 1])
        tr, ti = fnma(oui, ui, mul(our, ur)), fma(our, ui, mul(oui, ur))  # u O
        hr, hi, kr, ki = _parts(grad, p, q)
        at = 4 * lanes * i
        ar, ai = read(spectrum, at), read(spectrum, at + lanes)
        ar, ai = fma(er, hr, fma(ei, hi, ar)), fma(er, hi, fnma(ei, hr, ai))  # conj(E) E_g
        ar, ai = fma(our, kr, fma(oui, ki, ar)), fma(our, ki, fnma(oui, kr, ai))  # conj(O) O_g
        write(spectrum, at, ar)
        write(spectrum, at + lanes, ai)
        br, bi = read(spectrum, at + 2 * lanes), read(spectrum, at + 3 * lanes)
        br, bi = fma(er, kr, fma(ei, ki, br)), fma(er, ki, fnma(ei, kr, bi))  # conj(E) O_g
        br, bi = fma(tr, hr, fma(ti, hi, br)), fma(tr, hi, fnma(ti, hr, bi))  # conj(u O) E_g
        write(spectrum, at + 2 * lanes, br)
        write(spectrum, at + 3 * lanes, bi)


@njit(nogil=True, cache=True)
def give_spectrum(spectrum, partners, scale, data):
    """The points whose E and O are `spectrum`, times scale."""
    lanes = lanes_in(data)
    factor = fill(data, scale)
    for i in range(len(partners)):
        at = 4 * lanes * i
        er, ei = mul(read(spectrum, at), factor), mul(read(spectrum, at + lanes), factor)
        our, oui = mul(read(spectrum, at + 2 * lanes), factor), mul(read(spectrum, at + 3 * lanes), factor)
        _put_parts(data, partners[i, 0], partners[i, 1], er, ei, our, oui)
