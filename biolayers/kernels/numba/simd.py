"""SIMD lines and squares of them: the few vector operations that the sequence kernels are made of.

A *line* is one vector register of floats. A *square* is as many lines as a line has lanes, kept in registers
as a tuple, so that it can be transposed there; a *strip* is any other number of lines in a tuple. Plain loops
do not get this far: LLVM vectorises neither a sum of rows that are chosen by an index, nor a transposition.
Offsets count elements from the start of a C-contiguous array and are not checked: the host wrappers answer
for them.
"""

from collections.abc import Iterator
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from shared import simd
from shared.simd import (
    Lowering,
    load_vector,
    pointer,
    prefetch_line,
    shuffle,
    splat_vector,
    store_vector,
)

LINE_BYTES = 64 if llvm.get_host_cpu_features().get("avx512f") else 32  # a square must fit into the registers

add, write = simd.add, simd.store  # of lines


def lanes_of(itemsize: int) -> int:
    """How many elements of this size a line holds: the side of a square."""
    return simd.lanes_of(itemsize, LINE_BYTES)


@intrinsic
def read(typing: Any, array: Any, offset: Any) -> Lowering:
    """`read(array, offset)`: the line that begins at element `offset`."""
    line = simd.vector_of(array.dtype, LINE_BYTES)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return load_vector(builder, pointer(context, builder, signature.args[0], *args), line)

    return line(array, types.intp), lower


@intrinsic
def load(typing: Any, array: Any, offset: Any, step: Any) -> Lowering:
    """`load(array, offset, step)`: the square whose line i begins at element `offset + i * step`."""
    square = _square(array)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _places(context, builder, signature, args, square)
        return cgutils.pack_array(builder, [load_vector(builder, place, square.dtype) for place in places])

    return square(array, types.intp, types.intp), lower


@intrinsic
def store(typing: Any, array: Any, offset: Any, step: Any, square: Any) -> Lowering:
    """`store(array, offset, step, square)`: write line i from element `offset + i * step` on."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _places(context, builder, signature, args, square)
        for place, line in zip(places, cgutils.unpack_tuple(builder, args[3]), strict=True):
            store_vector(builder, place, line, square.dtype)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, square), lower


@intrinsic
def expect_load(typing: Any, array: Any, offset: Any, step: Any) -> Lowering:
    """`expect_load(array, offset, step)`: fetch a square; a hint, it may lie outside the array."""
    return _prefetch(array, to_write=False)


@intrinsic
def expect_store(typing: Any, array: Any, offset: Any, step: Any) -> Lowering:
    """`expect_store(array, offset, step)`: the same for a square that will be written."""
    return _prefetch(array, to_write=True)


@intrinsic
def pick(typing: Any, array: Any, base: Any, codes: Any, first: Any) -> Lowering:
    """`pick(array, base, codes, first)`: the square whose line i begins at `base + codes[first + i]`."""
    square = _square(array)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _rows(context, builder, signature, args, square)
        return cgutils.pack_array(builder, [load_vector(builder, place, square.dtype) for place in places])

    return square(array, types.intp, codes, types.intp), lower


@intrinsic
def pick_strip(typing: Any, array: Any, base: Any, codes: Any, first: Any, like: Any) -> Lowering:
    """`pick_strip(array, base, codes, first, like)`: `pick` for as many lines as the tuple `like` is long."""
    strip = types.UniTuple(simd.vector_of(array.dtype, LINE_BYTES), len(like))

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _rows(context, builder, signature, args, strip)
        return cgutils.pack_array(builder, [load_vector(builder, place, strip.dtype) for place in places])

    return strip(array, types.intp, codes, types.intp, like), lower


@intrinsic
def pick_add(typing: Any, array: Any, base: Any, codes: Any, first: Any, square: Any) -> Lowering:
    """`pick_add(array, base, codes, first, square)`: `square + pick(array, base, codes, first)`.

    It takes strips, too.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines = cgutils.unpack_tuple(builder, args[4])
        places = _rows(context, builder, signature, args, square)
        added = [
            builder.fadd(line, load_vector(builder, place, square.dtype))
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
            added = builder.fadd(load_vector(builder, place, square.dtype), line)
            store_vector(builder, place, added, square.dtype)
        return context.get_dummy_value()

    return types.void(array, types.intp, codes, types.intp, square), lower


@intrinsic
def fill(typing: Any, array: Any, value: Any) -> Lowering:
    """`fill(array, value)`: a line of the array's type with `value` in every lane."""
    line = simd.vector_of(array.dtype, LINE_BYTES)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scalar = context.cast(builder, args[1], signature.args[1], array.dtype)
        return splat_vector(builder, scalar, line)

    return line(array, value), lower


@intrinsic
def peak(typing: Any, strip: Any, best: Any, winner: Any, first: Any) -> Lowering:
    """`peak(strip, best, winner, first)`: (best, winner) after a look at each line of the strip in turn.

    In each lane, a value above the best so far becomes the best; its winner is the number of its line,
    `first` being that of the strip's first one.
    """
    line = strip.dtype

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines = cgutils.unpack_tuple(builder, args[0])
        top, at = lines[0], ir.Constant(line.llvm, [0.0] * line.lanes)
        for i, value in enumerate(lines[1:], 1):
            above = builder.fcmp_ordered(">", value, top)
            top = builder.select(above, value, top)
            at = builder.select(above, ir.Constant(line.llvm, [float(i)] * line.lanes), at)
        above = builder.fcmp_ordered(">", top, args[1])
        at = builder.fadd(at, args[3])
        found = builder.select(above, top, args[1]), builder.select(above, at, args[2])
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(line, 2)(strip, line, line, line), lower


@intrinsic
def rectify(typing: Any, best: Any, winner: Any, cut: Any) -> Lowering:
    """`rectify(best, winner, cut)`: (best, winner) with 0 and `cut` in the lanes that are not above 0."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        above = builder.fcmp_ordered(">", args[0], ir.Constant(best.llvm, [0.0] * best.lanes))
        zero = ir.Constant(best.llvm, [0.0] * best.lanes)
        found = builder.select(above, args[0], zero), builder.select(above, args[1], args[2])
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(best, 2)(best, best, best), lower


@intrinsic
def store_as(typing: Any, array: Any, offset: Any, step: Any, lines: Any) -> Lowering:
    """`store_as(array, offset, step, lines)`: `store` as the array's integers; the tuple has any length."""
    cast = simd.Vector(array.dtype, lines.dtype.lanes)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _places(context, builder, signature, args, lines)
        for place, line in zip(places, cgutils.unpack_tuple(builder, args[3]), strict=True):
            store_vector(builder, place, builder.fptoui(line, cast.llvm), cast)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, lines), lower


@intrinsic
def strip_of(typing: Any, array: Any, like: Any) -> Lowering:
    """`strip_of(array, like)`: as many lines of zeros, of the array's type, as the tuple `like` is long."""
    strip = types.UniTuple(simd.vector_of(array.dtype, LINE_BYTES), len(like))

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(strip.dtype.llvm, [0.0] * strip.dtype.lanes)
        return cgutils.pack_array(builder, [zero] * len(strip))

    return strip(array, like), lower


@intrinsic
def add_masked(typing: Any, strip: Any, masks: Any, first: Any, starts: Any, at: Any, value: Any) -> Lowering:
    """`add_masked(strip, masks, first, starts, at, value)`: add a number to some lanes of each line.

    The bits of `masks[first + starts[at + i]]` say to which lanes of line i.
    """
    line = strip.dtype

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = pointer(context, builder, masks, args[1], args[2])
        places = pointer(context, builder, starts, args[3], args[4])
        number = splat_vector(builder, args[5], line)
        lines = cgutils.unpack_tuple(builder, args[0])
        for i, sums in enumerate(lines):
            start = builder.load(builder.gep(places, [ir.Constant(ir.IntType(64), i)]))
            bits = builder.trunc(builder.load(builder.gep(words, [start])), ir.IntType(line.lanes))
            chosen = builder.bitcast(bits, ir.VectorType(ir.IntType(1), line.lanes))
            lines[i] = builder.select(chosen, builder.fadd(sums, number), sums)
        return cgutils.pack_array(builder, lines)

    return strip(strip, masks, types.intp, starts, types.intp, line.scalar), lower


@intrinsic
def add_strip(typing: Any, array: Any, offset: Any, strip: Any) -> Lowering:
    """`add_strip(array, offset, strip)`: add the lines to as many from `offset` on, side by side."""
    line = strip.dtype

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = pointer(context, builder, array, args[0], args[1])
        for sums in cgutils.unpack_tuple(builder, args[2]):
            store_vector(builder, place, builder.fadd(load_vector(builder, place, line), sums), line)
            place = builder.gep(place, [ir.Constant(ir.IntType(64), line.lanes)])
        return context.get_dummy_value()

    return types.void(array, types.intp, strip), lower


@intrinsic
def store_strip(typing: Any, array: Any, offset: Any, strip: Any) -> Lowering:
    """`store_strip(array, offset, strip)`: write the lines side by side from `offset` on."""
    line = strip.dtype

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = pointer(context, builder, array, args[0], args[1])
        for value in cgutils.unpack_tuple(builder, args[2]):
            store_vector(builder, place, value, line)
            place = builder.gep(place, [ir.Constant(ir.IntType(64), line.lanes)])
        return context.get_dummy_value()

    return types.void(array, types.intp, strip), lower


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
                    rows[i], rows[i + side] = shuffle(builder, a, b, upper), shuffle(builder, a, b, under)
            side //= 2
        return cgutils.pack_array(builder, rows)

    return square(square), lower


def _prefetch(array: Any, *, to_write: bool) -> Lowering:
    square = _square(array)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for place in _places(context, builder, signature, args, square):
            prefetch_line(builder, place, to_write=to_write)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), lower


def _square(array: types.Array) -> types.UniTuple:
    line = simd.vector_of(array.dtype, LINE_BYTES)
    return types.UniTuple(line, line.lanes)


def _places(context: Any, builder: Any, signature: Any, args: Any, square: types.UniTuple) -> Iterator[Any]:
    """Pointers `array + offset + i * step`."""
    place = pointer(context, builder, signature.args[0], args[0], args[1])
    for _ in range(len(square)):
        yield place
        place = builder.gep(place, [args[2]])


def _rows(context: Any, builder: Any, signature: Any, args: Any, square: types.UniTuple) -> Iterator[Any]:
    """Pointers `array + base + codes[first + i]`."""
    table = pointer(context, builder, signature.args[0], args[0], args[1])
    codes = pointer(context, builder, signature.args[2], args[2], args[3])
    for i in range(len(square)):
        code = builder.load(builder.gep(codes, [ir.Constant(ir.IntType(64), i)]))
        yield builder.gep(table, [builder.zext(code, ir.IntType(64))])
