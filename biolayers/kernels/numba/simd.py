"""SIMD lines and squares of them: the few vector operations that the sequence kernels are made of.

A *line* is one vector register of floats. A *square* is as many lines as a line has lanes, kept in registers
as a tuple, so that it can be transposed there. Plain loops do not get this far: LLVM vectorises neither a sum
of rows that are chosen by an index, nor a transposition. Offsets count elements from the start of a
C-contiguous array and are not checked: the host wrappers answer for them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

LINE_BYTES = 64 if llvm.get_host_cpu_features().get("avx512f") else 32  # a square must fit into the registers

Lowering = tuple[Any, Callable[..., Any]]


def lanes_of(itemsize: int) -> int:
    """How many elements of this size a line holds: the side of a square."""
    return LINE_BYTES // itemsize


class Line(types.Type):
    """The Numba type of one vector of floats."""

    def __init__(self, dtype: types.Float):
        self.dtype = dtype
        self.lanes = lanes_of(dtype.bitwidth // 8)
        super().__init__(name=f"line({dtype})")


@register_model(Line)
class LineModel(models.PrimitiveModel):
    def __init__(self, manager: Any, line: Line):
        super().__init__(manager, line, _vector(line))


@intrinsic
def read(typing: Any, array: Any, offset: Any) -> Lowering:
    """`read(array, offset)`: the line that begins at element `offset`."""
    line = Line(array.dtype)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _load(builder, _pointer(context, builder, signature.args[0], *args), line)

    return line(array, types.intp), lower


@intrinsic
def write(typing: Any, array: Any, offset: Any, line: Any) -> Lowering:
    """`write(array, offset, line)`: write a line from element `offset` on."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _store(builder, _pointer(context, builder, signature.args[0], *args[:2]), args[2], line)
        return context.get_dummy_value()

    return types.void(array, types.intp, line), lower


@intrinsic
def add(typing: Any, a: Any, b: Any) -> Lowering:
    """`add(a, b)`: the sum of two lines."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args)

    return a(a, a), lower


@intrinsic
def load(typing: Any, array: Any, offset: Any, step: Any) -> Lowering:
    """`load(array, offset, step)`: the square whose line i begins at element `offset + i * step`."""
    square = _square(array)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _places(
            _pointer(context, builder, signature.args[0], args[0], args[1]), builder, args[2], square
        )
        return cgutils.pack_array(builder, [_load(builder, place, square.dtype) for place in places])

    return square(array, types.intp, types.intp), lower


@intrinsic
def store(typing: Any, array: Any, offset: Any, step: Any, square: Any) -> Lowering:
    """`store(array, offset, step, square)`: write line i from element `offset + i * step` on."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _places(
            _pointer(context, builder, signature.args[0], args[0], args[1]), builder, args[2], square
        )
        for place, line in zip(places, cgutils.unpack_tuple(builder, args[3]), strict=True):
            _store(builder, place, line, square.dtype)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, square), lower


@intrinsic
def expect_load(typing: Any, array: Any, offset: Any, step: Any) -> Lowering:
    """`expect_load(array, offset, step)`: fetch a square; a hint, it may lie outside the array."""
    return _prefetch(array, to_write=0)


@intrinsic
def expect_store(typing: Any, array: Any, offset: Any, step: Any) -> Lowering:
    """`expect_store(array, offset, step)`: the same for a square that will be written."""
    return _prefetch(array, to_write=1)


@intrinsic
def pick(typing: Any, array: Any, base: Any, codes: Any, first: Any) -> Lowering:
    """`pick(array, base, codes, first)`: the square whose line i begins at `base + codes[first + i]`."""
    square = _square(array)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _rows(context, builder, signature, args, square)
        return cgutils.pack_array(builder, [_load(builder, place, square.dtype) for place in places])

    return square(array, types.intp, codes, types.intp), lower


@intrinsic
def pick_add(typing: Any, array: Any, base: Any, codes: Any, first: Any, square: Any) -> Lowering:
    """`pick_add(array, base, codes, first, square)`: `square + pick(array, base, codes, first)`."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines = cgutils.unpack_tuple(builder, args[4])
        places = _rows(context, builder, signature, args, square)
        added = [
            builder.fadd(line, _load(builder, place, square.dtype))
            for line, place in zip(lines, places, strict=True)
        ]
        return cgutils.pack_array(builder, added)

    return square(array, types.intp, codes, types.intp, square), lower


@intrinsic
def drop_add(typing: Any, array: Any, base: Any, codes: Any, first: Any, square: Any) -> Lowering:
    """`drop_add(array, base, codes, first, square)`: add line i to the line at `base + codes[first + i]`."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines = cgutils.unpack_tuple(builder, args[4])
        for line, place in zip(lines, _rows(context, builder, signature, args, square), strict=True):
            _store(builder, place, builder.fadd(_load(builder, place, square.dtype), line), square.dtype)
        return context.get_dummy_value()

    return types.void(array, types.intp, codes, types.intp, square), lower


@intrinsic
def transpose(typing: Any, square: Any) -> Lowering:
    """`transpose(square)`: rows become columns, by swapping blocks of half the side, a quarter, ..., one."""
    lanes = len(square)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = cgutils.unpack_tuple(builder, args[0])
        side = lanes // 2
        while side:
            upper = [j if not j & side else lanes + j - side for j in range(lanes)]
            under = [j + side if not j & side else lanes + j for j in range(lanes)]
            for i in range(lanes):
                if not i & side:
                    a, b = rows[i], rows[i + side]
                    rows[i], rows[i + side] = _shuffle(builder, a, b, upper), _shuffle(builder, a, b, under)
            side //= 2
        return cgutils.pack_array(builder, rows)

    return square(square), lower


def _prefetch(array: Any, *, to_write: int) -> Lowering:
    square = _square(array)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        start = _pointer(context, builder, signature.args[0], args[0], args[1])
        for place in _places(start, builder, args[2], square):  # 3: keep it in every cache, 1: it is data
            builder.call(ask, [builder.bitcast(place, byte), flag(to_write), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), lower


def _vector(line: Line) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if line.dtype.bitwidth == 32 else ir.DoubleType(), line.lanes)


def _square(array: types.Array) -> types.UniTuple:
    line = Line(array.dtype)
    return types.UniTuple(line, line.lanes)


def _pointer(context: Any, builder: Any, array_type: types.Array, array: Any, offset: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


def _places(start: Any, builder: Any, step: Any, square: types.UniTuple) -> Iterator[Any]:
    """Pointers `start + i * step`."""
    for _ in range(len(square)):
        yield start
        start = builder.gep(start, [step])


def _rows(context: Any, builder: Any, signature: Any, args: Any, square: types.UniTuple) -> Iterator[Any]:
    """Pointers `array + base + codes[first + i]`."""
    table = _pointer(context, builder, signature.args[0], args[0], args[1])
    codes = _pointer(context, builder, signature.args[2], args[2], args[3])
    for i in range(len(square)):
        code = builder.load(builder.gep(codes, [ir.Constant(ir.IntType(64), i)]))
        yield builder.gep(table, [builder.zext(code, ir.IntType(64))])


def _load(builder: Any, place: Any, line: Line) -> Any:
    value = builder.load(builder.bitcast(place, _vector(line).as_pointer()))
    value.align = line.dtype.bitwidth // 8
    return value


def _store(builder: Any, place: Any, value: Any, line: Line) -> None:
    builder.store(value, builder.bitcast(place, _vector(line).as_pointer())).align = line.dtype.bitwidth // 8


def _shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    return builder.shuffle_vector(a, b, mask)
