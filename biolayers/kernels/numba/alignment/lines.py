"""What alignment asks of SIMD lines beyond `biolayers.kernels.numba.simd`.

Shifts by one lane, sums with a constant factor from lane to lane (a gap that goes on), powers of two taken
from a float's bits, and 2^x. A line is one vector register of floats.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from biolayers.kernels.numba.simd import LINE_BYTES
from shared import simd
from shared.simd import Lowering, Vector, call, pointer, shuffle, splat_vector

add, mul, fma, total = simd.add, simd.mul, simd.fma, simd.total

_MANTISSA = {32: 23, 64: 52}
_DEGREE = {32: 6, 64: 12}  # of the polynomial for 2^x, so that its error is below the rounding of its terms


def _line(scalar: Any) -> Vector:
    return simd.vector_of(scalar, LINE_BYTES)


def _constant(vector: Vector, value: float) -> Any:
    return ir.Constant(vector.llvm, [value] * vector.lanes)


@intrinsic
def splat(typing: Any, scalar: Any) -> Lowering:
    """`splat(scalar)`: a line with `scalar` in every lane."""
    line = _line(scalar)
    return line(scalar), lambda context, builder, signature, args: splat_vector(builder, args[0], line)


@intrinsic
def read_some(typing: Any, array: Any, at: Any, count: Any, rest: Any) -> Lowering:
    """`read_some(array, at, count, rest)`: the first `count` lanes from element `at` on, `rest` after."""
    line = _line(array.dtype)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = pointer(context, builder, signature.args[0], args[0], args[1])
        place = builder.bitcast(place, line.llvm.as_pointer())
        mask, rest = _first(builder, line, args[2]), splat_vector(builder, args[3], line)
        align = ir.Constant(ir.IntType(32), array.dtype.bitwidth // 8)
        name = f"llvm.masked.load.v{line.lanes}f{array.dtype.bitwidth}.p0"
        return call(builder, name, line.llvm, [place, align, mask, rest])

    return line(array, types.intp, types.intp, array.dtype), lower


@intrinsic
def write_some(typing: Any, array: Any, at: Any, line: Any, count: Any) -> Lowering:
    """`write_some(array, at, line, count)`: write the first `count` lanes from element `at` on."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = pointer(context, builder, signature.args[0], args[0], args[1])
        place = builder.bitcast(place, line.llvm.as_pointer())
        align = ir.Constant(ir.IntType(32), array.dtype.bitwidth // 8)
        name = f"llvm.masked.store.v{line.lanes}f{array.dtype.bitwidth}.p0"
        call(builder, name, ir.VoidType(), [args[2], place, align, _first(builder, line, args[3])])
        return context.get_dummy_value()

    return types.void(array, types.intp, line, types.intp), lower


def _first(builder: Any, line: Vector, count: Any) -> Any:
    """The mask of the lanes below `count`."""
    whole = Vector(types.int64, line.lanes)
    lanes = ir.Constant(whole.llvm, list(range(line.lanes)))
    return builder.icmp_signed("<", lanes, splat_vector(builder, count, whole))


@intrinsic
def enter(typing: Any, line: Any, scalar: Any) -> Lowering:
    """`enter(line, scalar)`: every lane moves up by one; `scalar` enters at lane 0."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        moved = shuffle(builder, args[0], args[0], [0, *range(line.lanes - 1)])
        return builder.insert_element(moved, args[1], ir.Constant(ir.IntType(32), 0))

    return line(line, line.scalar), lower


@intrinsic
def enter_last(typing: Any, line: Any, scalar: Any) -> Lowering:
    """`enter_last(line, scalar)`: every lane moves down by one; `scalar` enters at the last."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        moved = shuffle(builder, args[0], args[0], [*range(1, line.lanes), 0])
        return builder.insert_element(moved, args[1], ir.Constant(ir.IntType(32), line.lanes - 1))

    return line(line, line.scalar), lower


@intrinsic
def first(typing: Any, line: Any) -> Lowering:
    """`first(line)`: lane 0."""
    return line.scalar(line), lambda context, builder, signature, args: builder.extract_element(
        args[0], ir.Constant(ir.IntType(32), 0)
    )


@intrinsic
def last(typing: Any, line: Any) -> Lowering:
    """`last(line)`: the last lane."""
    return line.scalar(line), lambda context, builder, signature, args: builder.extract_element(
        args[0], ir.Constant(ir.IntType(32), line.lanes - 1)
    )


@intrinsic
def powers(typing: Any, factor: Any) -> Lowering:
    """`powers(factor)`: lines of factor, factor^2, factor^4, ... for `run_up` and `run_down`."""
    line = _line(factor)
    lines = types.UniTuple(line, line.lanes.bit_length() - 1)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        made = [splat_vector(builder, args[0], line)]
        while len(made) < len(lines):
            made.append(builder.fmul(made[-1], made[-1]))
        return cgutils.pack_array(builder, made)

    return lines(factor), lower


@intrinsic
def ramp(typing: Any, factor: Any) -> Lowering:
    """`ramp(factor)`: the line 1, factor, factor^2, ..."""
    return _ramp(factor, falling=False)


@intrinsic
def ramp_down(typing: Any, factor: Any) -> Lowering:
    """`ramp_down(factor)`: the line ..., factor^2, factor, 1."""
    return _ramp(factor, falling=True)


def _ramp(factor: Any, *, falling: bool) -> Lowering:
    line = _line(factor)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        made, power = ir.Constant(line.llvm, ir.Undefined), ir.Constant(args[0].type, 1.0)
        for lane in range(line.lanes):
            place = line.lanes - 1 - lane if falling else lane
            made = builder.insert_element(made, power, ir.Constant(ir.IntType(32), place))
            power = builder.fmul(power, args[0])
        return made

    return line(factor), lower


@intrinsic
def run_up(typing: Any, line: Any, powers: Any) -> Lowering:
    """`run_up(line, powers)`: lane j becomes the sum over k <= j of factor^(j - k) line[k]."""
    return _run(line, powers, down=False)


@intrinsic
def run_down(typing: Any, line: Any, powers: Any) -> Lowering:
    """`run_down(line, powers)`: lane j becomes the sum over k >= j of factor^(k - j) line[k]."""
    return _run(line, powers, down=True)


def _run(line: Any, powers: Any, *, down: bool) -> Lowering:
    """A prefix sum by doubling: after step s a lane holds what 2^s lanes give."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, zero = args[0], _constant(line, 0.0)
        for step, power in enumerate(cgutils.unpack_tuple(builder, args[1])):
            by, lanes = 1 << step, line.lanes
            places = [*range(by, lanes + by)] if down else [*range(lanes, lanes + by), *range(lanes - by)]
            moved = shuffle(builder, value, zero, places)
            name = f"llvm.fma.v{lanes}f{line.scalar.bitwidth}"
            value = call(builder, name, value.type, [moved, power, value])
        return value

    return line(line, powers), lower


def _chosen(sign: str) -> Any:
    @intrinsic
    def choose(typing: Any, a: Any, b: Any) -> Lowering:
        return a(a, b), lambda context, builder, signature, args: _better(builder, sign, *args)

    return choose


def _best(sign: str) -> Any:
    @intrinsic
    def best(typing: Any, a: Any) -> Lowering:
        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            count, value = a.lanes, args[0]
            while count > 1:  # one half against the other
                count //= 2
                halves = list(range(count)), list(range(count, 2 * count))
                value = _better(builder, sign, *(shuffle(builder, value, value, half) for half in halves))
            return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

        return a.scalar(a), lower

    return best


def _better(builder: Any, sign: str, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(sign, a, b), a, b)


lower_of, higher_of = _chosen("<"), _chosen(">")  # of two lines, lane by lane; the second where one is NaN
least, greatest = _best("<"), _best(">")  # lane of a line


@intrinsic
def power_of_two(typing: Any, like: Any, exponent: Any) -> Lowering:
    """`power_of_two(array, exponent)`: a number of the array's type; 0 and infinity beyond normal numbers."""
    scalar, shift = like.dtype, _MANTISSA[like.dtype.bitwidth]
    bias = (1 << (scalar.bitwidth - shift - 2)) - 1

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = ir.IntType(64)
        field = builder.add(args[1], ir.Constant(whole, bias))
        field = builder.select(
            builder.icmp_signed("<", field, ir.Constant(whole, 0)), ir.Constant(whole, 0), field
        )
        top = ir.Constant(whole, 2 * bias + 1)
        field = builder.select(builder.icmp_signed(">", field, top), top, field)
        bits = builder.shl(field, ir.Constant(whole, shift))
        if scalar.bitwidth == 32:
            bits = builder.trunc(bits, ir.IntType(32))
        return builder.bitcast(bits, context.get_value_type(scalar))

    return scalar(like, types.int64), lower


@intrinsic
def exponent_of(typing: Any, scalar: Any) -> Lowering:
    """`exponent_of(x)`: e of x = f 2^e with 1 <= f < 2, for a positive normal x; int64."""
    shift = _MANTISSA[scalar.bitwidth]
    bias = (1 << (scalar.bitwidth - shift - 2)) - 1

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.IntType(scalar.bitwidth)
        field = builder.lshr(builder.bitcast(args[0], kind), ir.Constant(kind, shift))
        if scalar.bitwidth == 32:
            field = builder.zext(field, ir.IntType(64))
        return builder.sub(field, ir.Constant(ir.IntType(64), bias))

    return types.int64(scalar), lower


@intrinsic
def exp2(typing: Any, line: Any) -> Lowering:
    """`exp2(line)`: 2^x in each lane; 0 below the normal numbers, NaN above them and for NaN."""
    bits, shift = line.scalar.bitwidth, _MANTISSA[line.scalar.bitwidth]
    bias = (1 << (bits - shift - 2)) - 1
    whole = Vector(types.int32 if bits == 32 else types.int64, line.lanes)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x = _better(builder, "<", args[0], _constant(line, bias + 1.25))  # whose exponent is that of NaN
        x = builder.select(builder.fcmp_unordered("uno", args[0], args[0]), args[0], x)
        magic = _constant(line, 1.5 * 2.0**shift)  # adding it rounds, and leaves the integer in the low bits
        rounded = builder.fadd(x, magic)
        rest = builder.fsub(x, builder.fsub(rounded, magic))
        value = _polynomial(builder, line, rest, _coefficients(_DEGREE[bits]))
        scaled = builder.add(
            builder.bitcast(value, whole.llvm),
            builder.shl(builder.bitcast(rounded, whole.llvm), ir.Constant(whole.llvm, [shift] * line.lanes)),
        )
        tiny = builder.fcmp_ordered("<", x, _constant(line, 2.0 - bias))
        return builder.select(tiny, _constant(line, 0.0), builder.bitcast(scaled, line.llvm))

    return line(line), lower


def _coefficients(degree: int) -> list[float]:
    """Of a polynomial that interpolates 2^x on [-1/2, 1/2] at Chebyshev's points, lowest power first."""
    found = np.polynomial.Chebyshev.interpolate(np.exp2, degree, domain=[-0.5, 0.5])
    return [float(c) for c in found.convert(kind=np.polynomial.Polynomial).coef]


def _polynomial(builder: Any, line: Vector, x: Any, coefficients: list[float]) -> Any:
    name, value = f"llvm.fma.v{line.lanes}f{line.scalar.bitwidth}", _constant(line, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = call(builder, name, value.type, [value, x, _constant(line, coefficient)])
    return value
