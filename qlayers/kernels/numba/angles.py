"""Cosines and sines of half angles, many at once, as the kernel wants them."""

import math

from numba import njit

# pi in three parts, the first two of 30 bits: their products with a moderate integer are exact
_PI = (3.141592651605606, 1.9841871583270443e-09, 1.034036596358821e-18)
_SINE = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(8))  # Taylor: exact to 1e-16 up to pi/4
_COSINE = tuple((-1) ** k / math.factorial(2 * k) for k in range(9))
_S0, _S1, _S2, _S3, _S4, _S5, _S6, _S7 = _SINE
_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8 = _COSINE
_A, _B, _C = _PI
_INVERSE = 1 / math.pi


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def half_angles(angles, count, cosines, sines, counts):
    """cos(b/2), sin(b/2) and k mod 4 of `count` angles = b + k pi with |b| <= pi/2, in double precision.

    A loop without calls, that LLVM turns into vector code.
    """
    for i in range(count):
        angle = 1.0 * angles[i]
        turns = math.floor(angle * _INVERSE + 0.5)
        x = 0.5 * (((angle - turns * _A) - turns * _B) - turns * _C)
        y = x * x
        sines[i] = x * (_S0 + y * (_S1 + y * (_S2 + y * (_S3 + y * (_S4 + y * (_S5 + y * (_S6 + y * _S7)))))))
        cosines[i] = _C0 + y * (
            _C1 + y * (_C2 + y * (_C3 + y * (_C4 + y * (_C5 + y * (_C6 + y * (_C7 + y * _C8))))))
        )
        counts[i] = int(turns - 4.0 * math.floor(0.25 * turns))


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def full_half(cosine, sine, count):
    """Cosine and sine of half the whole angle."""
    if count == 0:
        return cosine, sine
    if count == 1:
        return -sine, cosine
    if count == 2:
        return -cosine, -sine
    return sine, -cosine
