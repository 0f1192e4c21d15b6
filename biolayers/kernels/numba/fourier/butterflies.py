"""Butterflies: the small transforms that a stage consists of, each on one line of channels per number.

A point is a complex number per channel: a line of real parts, then one of imaginary parts. All points of a
butterfly stay in registers. `spread` is the way to the frequencies and `gather` the way back; the bare ones
are those whose factors are all one. How many points there are is told by the length of a tuple.
"""

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from biolayers.kernels.numba.simd import LINE_BYTES
from shared.simd import (
    Lowering,
    Vector,
    call,
    load_vector,
    pointer,
    splat_vector,
    store_vector,
    vector_of,
)

Complex = tuple[Any, Any]  # the lines of real and of imaginary parts


class _Points:
    """Complex arithmetic on lines, in one direction: forward with exp(-i ...), back with exp(+i ...)."""

    def __init__(self, builder: Any, line: Vector, *, back: bool) -> None:
        self.builder, self.line, self.back = builder, line, back
        self.fma_name = f"llvm.fma.v{line.lanes}f{line.scalar.bitwidth}"

    def add(self, x: Complex, y: Complex) -> Complex:
        return self.builder.fadd(x[0], y[0]), self.builder.fadd(x[1], y[1])

    def sub(self, x: Complex, y: Complex) -> Complex:
        return self.builder.fsub(x[0], y[0]), self.builder.fsub(x[1], y[1])

    def pair(self, x: Complex, y: Complex) -> tuple[Complex, Complex]:
        """The points x + t y and x - t y, where t is a quarter turn: -i forward, i back."""
        b = self.builder
        up = b.fadd(x[0], y[1]), b.fsub(x[1], y[0])
        down = b.fsub(x[0], y[1]), b.fadd(x[1], y[0])
        return (down, up) if self.back else (up, down)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return call(self.builder, self.fma_name, a.type, [a, b, c])

    def scaled(self, x: Complex, factor: float, onto: Complex | None = None) -> Complex:
        """The point factor x, added to `onto` if that is given."""
        number = splat_vector(self.builder, ir.Constant(x[0].type.element, factor), self.line)
        if onto is None:
            return self.builder.fmul(x[0], number), self.builder.fmul(x[1], number)
        return self.fma(x[0], number, onto[0]), self.fma(x[1], number, onto[1])

    def times(self, x: Complex, re: Any, im: Any) -> Complex:
        """The point x (re + i im) forward, x (re - i im) back."""
        b = self.builder
        low, high = (x[1], b.fneg(x[0])) if self.back else (b.fneg(x[1]), x[0])
        return self.fma(low, im, b.fmul(x[0], re)), self.fma(high, im, b.fmul(x[1], re))

    def transform(self, points: Sequence[Complex]) -> list[Complex]:
        """The transform of these points, in order."""
        return _TRANSFORMS.get(len(points), _odd)(self, points)


def _two(of: _Points, x: Sequence[Complex]) -> list[Complex]:
    return [of.add(*x), of.sub(*x)]


def _four(of: _Points, x: Sequence[Complex]) -> list[Complex]:
    even, odd = of.add(x[0], x[2]), of.add(x[1], x[3])
    up, down = of.pair(of.sub(x[0], x[2]), of.sub(x[1], x[3]))
    return [of.add(even, odd), up, of.sub(even, odd), down]


def _eight(of: _Points, x: Sequence[Complex]) -> list[Complex]:
    even, odd = _four(of, x[0::2]), _four(of, x[1::2])
    half = math.sqrt(0.5)
    (one, _), (_, three) = (of.pair(odd[1], odd[1]), of.pair(odd[3], odd[3]))
    ends = [
        (of.add(even[0], odd[0]), of.sub(even[0], odd[0])),
        (of.scaled(one, half, even[1]), of.scaled(one, -half, even[1])),
        of.pair(even[2], odd[2]),
        (of.scaled(three, -half, even[3]), of.scaled(three, half, even[3])),
    ]
    return [first for first, _ in ends] + [second for _, second in ends]


def _odd(of: _Points, x: Sequence[Complex]) -> list[Complex]:
    """An odd number of points, by the symmetry of sine and cosine."""
    count = len(x)
    sides = range(1, count // 2 + 1)
    sums = [of.add(x[j], x[count - j]) for j in sides]
    gaps = [of.sub(x[j], x[count - j]) for j in sides]
    out = [x[0]] * count
    for total in sums:
        out[0] = of.add(out[0], total)
    for k in sides:
        level, slope = x[0], None
        for j, total, gap in zip(sides, sums, gaps, strict=True):
            angle = 2 * math.pi * j * k / count
            level = of.scaled(total, math.cos(angle), level)
            slope = of.scaled(gap, math.sin(angle), slope)
        assert slope is not None
        out[k], out[count - k] = of.pair(level, slope)
    return out


_TRANSFORMS = {2: _two, 4: _four, 8: _eight}


def _places(context: Any, builder: Any, array: types.Array, args: Any, count: int, line: Vector) -> list[Any]:
    """Addresses of the real parts of `count` points, from point args[1] on, args[2] points apart."""
    size = ir.Constant(ir.IntType(64), 2 * line.lanes)
    place = pointer(context, builder, array, args[0], builder.mul(args[1], size))
    stride = builder.mul(args[2], size)
    found = []
    for _ in range(count):
        found.append(place)
        place = builder.gep(place, [stride])
    return found


def _imaginary(builder: Any, place: Any, line: Vector) -> Any:
    return builder.gep(place, [ir.Constant(ir.IntType(64), line.lanes)])


def _read(builder: Any, place: Any, line: Vector) -> Complex:
    return load_vector(builder, place, line), load_vector(builder, _imaginary(builder, place, line), line)


def _write(builder: Any, place: Any, x: Complex, line: Vector) -> None:
    store_vector(builder, place, x[0], line)
    store_vector(builder, _imaginary(builder, place, line), x[1], line)


def _with_factors(
    of: _Points, context: Any, array: types.Array, args: Any, points: Sequence[Complex]
) -> list[Complex]:
    """All points but the first times the numbers that stand in array args[0] from place args[1] on."""
    b = of.builder
    place = pointer(context, b, array, *args)
    numbers = []
    for i in range(2 * (len(points) - 1)):
        at = b.gep(place, [ir.Constant(ir.IntType(64), i)])
        numbers.append(splat_vector(b, b.load(at), of.line))
    return [
        points[0],
        *(of.times(x, re, im) for x, re, im in zip(points[1:], numbers[0::2], numbers[1::2], strict=True)),
    ]


def _butterfly(*, back: bool) -> Any:
    @intrinsic
    def butterfly(typing: Any, data: Any, at: Any, step: Any, roots: Any, spot: Any, like: Any) -> Lowering:
        line = vector_of(data.dtype, LINE_BYTES)

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            of = _Points(builder, line, back=back)
            places = _places(context, builder, data, args, len(like), line)
            points = [_read(builder, place, line) for place in places]
            if back:
                points = of.transform(_with_factors(of, context, roots, args[3:5], points))
            else:
                points = _with_factors(of, context, roots, args[3:5], of.transform(points))
            for place, point in zip(places, points, strict=True):
                _write(builder, place, point, line)
            return context.get_dummy_value()

        return types.void(data, types.intp, types.intp, roots, types.intp, like), lower

    return butterfly


def _bare(*, back: bool) -> Any:
    @intrinsic
    def bare(typing: Any, data: Any, at: Any, step: Any, like: Any) -> Lowering:
        line = vector_of(data.dtype, LINE_BYTES)

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            of = _Points(builder, line, back=back)
            places = _places(context, builder, data, args, len(like), line)
            points = of.transform([_read(builder, place, line) for place in places])
            for place, point in zip(places, points, strict=True):
                _write(builder, place, point, line)
            return context.get_dummy_value()

        return types.void(data, types.intp, types.intp, like), lower

    return bare


# (data, at, step, roots, spot, like): the points at, at + step, ... in place; factors from roots[spot] on
spread, gather = _butterfly(back=False), _butterfly(back=True)
# (data, at, step, like)
spread_bare, gather_bare = _bare(back=False), _bare(back=True)
