"""Activations and their slopes on lines of floats in memory, in place."""

from typing import Any

from llvmlite import ir
from numba import njit
from numba.extending import intrinsic

from biolayers.kernels.numba.selective_scan import exp
from biolayers.kernels.numba.simd import LINE_BYTES, fill, read, write
from shared.simd import Lowering, call, fma, fnma, mul, splat_vector

KINDS = {None: 0, "relu": 1, "gelu": 2, "exp": 3}
_RELU, _GELU, _EXP = 1, 2, 3

# For z >= 0 the normal distribution function of -z is exp(-z z / 2) t P(2 t - 1) with t = 1 / (1 + z / 4);
# P by powers, fitted at Chebyshev's points to 5e-8 and to 2e-16.
_SINGLE = (
    0.1888212826, 0.1519740991, 0.09678434979, 0.04663170149, 0.01509915121, 0.001877972992,
    -0.0008699577191, -0.000390834271, 3.337756057e-05, 3.92803887e-05, -4.183288427e-07,
)  # fmt: skip
_DOUBLE = (
    0.18882128260393785, 0.15197416049297302, 0.09678435018555673, 0.04663046448991294, 0.01509914372258702,
    0.0018850472417491558, -0.0008699230891126944, -0.0004077046156947422, 3.333605188788428e-05,
    5.777374668713712e-05, -4.769171283300536e-07, -8.78624703290086e-06, 1.7864506480482754e-07,
    1.480322355528757e-06, -1.5622854202251649e-07, -2.560592247141351e-07, 6.617114031617589e-08,
    3.979109847948726e-08, -1.9686736076177096e-08, -4.3547812948647285e-09, 4.012985628570631e-09,
    1.0443709631083569e-10, -4.214620484319719e-10, 3.7341198774887576e-11,
)  # fmt: skip
_DENSITY = 0.3989422804014327  # of the normal distribution at 0


@intrinsic
def _divide(typing: Any, a: Any, b: Any) -> Lowering:
    return a(a, b), lambda context, builder, signature, args: builder.fdiv(*args)


@intrinsic
def _magnitude(typing: Any, a: Any) -> Lowering:
    name = f"llvm.fabs.v{a.lanes}f{a.scalar.bitwidth}"
    return a(a), lambda context, builder, signature, args: call(builder, name, args[0].type, [args[0]])


@intrinsic
def _where(typing: Any, a: Any, above: Any, below: Any, otherwise: Any) -> Lowering:
    """`above` in the lanes where a > 0, `below` where a <= 0, `otherwise` where it is not a number."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(a.llvm, [0.0] * a.lanes)
        found = builder.select(builder.fcmp_ordered("<=", args[0], zero), args[2], args[3])
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[1], found)

    return a(a, above, below, otherwise), lower


@intrinsic
def _series(typing: Any, a: Any) -> Lowering:
    """The polynomial P of a."""
    powers = _SINGLE if a.scalar.bitwidth == 32 else _DOUBLE

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def constant(number: float) -> Any:
            return splat_vector(builder, ir.Constant(a.llvm.element, number), a)

        found = constant(powers[-1])
        for number in powers[-2::-1]:
            operands = [found, args[0], constant(number)]
            found = call(builder, f"llvm.fma.v{a.lanes}f{a.scalar.bitwidth}", found.type, operands)
        return found

    return a(a), lower


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _normal(array, z):
    """The normal distribution function of z, and exp(-z z / 2)."""
    one = fill(array, 1.0)
    falling = exp(mul(mul(z, z), fill(array, -0.5)))
    t = _divide(one, fma(_magnitude(z), fill(array, 0.25), one))
    tail = mul(mul(falling, t), _series(fma(t, fill(array, 2.0), fill(array, -1.0))))
    return _where(z, fnma(tail, one, one), tail, z), falling


@njit(nogil=True, cache=True)
def activate(lines, count, kind):
    """Replace each of the first `count` lines by its activation."""
    lanes = LINE_BYTES // lines.itemsize
    if kind == _RELU:
        for at in range(0, count * lanes, lanes):
            z = read(lines, at)
            write(lines, at, _where(z, z, fill(lines, 0.0), z))
    elif kind == _GELU:
        for at in range(0, count * lanes, lanes):
            z = read(lines, at)
            share, _ = _normal(lines, z)
            write(lines, at, mul(z, share))
    elif kind == _EXP:
        for at in range(0, count * lanes, lanes):
            write(lines, at, exp(read(lines, at)))


@njit(nogil=True, cache=True)
def times_slope(factors, lines, count, kind):
    """Multiply the first `count` lines of `factors` by the slopes of the activation at `lines`."""
    lanes = LINE_BYTES // lines.itemsize
    zero, one = fill(lines, 0.0), fill(lines, 1.0)
    for at in range(0, count * lanes, lanes):
        z = read(lines, at)
        if kind == _RELU:
            slope = _where(z, one, zero, zero)
        elif kind == _GELU:
            share, falling = _normal(lines, z)
            slope = fma(mul(z, falling), fill(lines, _DENSITY), share)
        else:
            slope = exp(z)
        write(factors, at, mul(read(factors, at), slope))
