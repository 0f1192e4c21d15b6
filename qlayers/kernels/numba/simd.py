"""What the kernels here add to `shared.simd`: arrays and places seen as rows of vectors, and parities.

Row r of a contiguous array, or of a place in memory, is its r-th vector of 64 bytes.
"""

from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from shared.simd import (
    BYTES,
    Lowering,
    Vector,
    call,
    load_vector,
    pointer,
    shuffle,
    splat_vector,
    store_vector,
    vector_of,
)


@intrinsic
def load(typing: Any, array: Any, row: Any) -> Lowering:
    """`load(array, row)`: the vector in a row of an array or place."""
    vector = vector_of(array.dtype)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return load_vector(builder, _place(context, builder, signature, args, vector), vector)

    return vector(array, types.intp), lower


@intrinsic
def store(typing: Any, array: Any, row: Any, value: Any) -> Lowering:
    """`store(array, row, value)`: write the vector into a row."""
    vector = vector_of(array.dtype)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store_vector(builder, _place(context, builder, signature, args, vector), args[2], vector)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), lower


@intrinsic
def odd(typing: Any, bits: Any) -> Lowering:
    """`odd(bits)`: 1 when an int64 has an odd number of set bits, else 0."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.and_(builder.ctpop(args[0]), ir.Constant(args[0].type, 1))

    return types.int64(types.int64), lower


def _place(context: Any, builder: Any, signature: Any, args: Any, vector: Vector) -> Any:
    first = builder.mul(args[1], ir.Constant(args[1].type, vector.lanes))
    if isinstance(signature.args[0], types.CPointer):
        return builder.gep(args[0], [first])
    return pointer(context, builder, signature.args[0], args[0], first)


@intrinsic
def exchange(typing: Any, a: Any, mask: Any) -> Lowering:
    """`exchange(a, mask)`: lane l of the result is lane l xor mask of `a`."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return exchanged(builder, a, *args)

    return a(a, types.int64), lower


def exchanged(builder: Any, vector: Vector, value: Any, mask: Any) -> Any:
    """The value with lane l taken from lane l xor mask."""
    lanes = list(range(vector.lanes))
    if get_host_cpu_features().get("avx512f") and vector.lanes * vector.scalar.bitwidth == 512:
        index = Vector(types.int32 if vector.scalar.bitwidth == 32 else types.int64, vector.lanes)
        narrow = builder.trunc(mask, index.llvm.element) if vector.scalar.bitwidth == 32 else mask
        order = builder.xor(splat_vector(builder, narrow, index), ir.Constant(index.llvm, lanes))
        kind = "sf" if vector.scalar.bitwidth == 32 else "df"
        return call(builder, f"llvm.x86.avx512.permvar.{kind}.512", value.type, [value, order])
    bit = 1
    while bit < vector.lanes:  # elsewhere lanes are exchanged by one bit of the mask after the other
        moved = shuffle(builder, value, value, [lane ^ bit for lane in lanes])
        wanted = builder.icmp_unsigned(
            "!=", builder.and_(mask, ir.Constant(mask.type, bit)), ir.Constant(mask.type, 0)
        )
        value = builder.select(wanted, moved, value)
        bit *= 2
    return value


@intrinsic
def place_at(typing: Any, address: Any, like: Any) -> Lowering:
    """`place_at(address, like)`: an address as a place of numbers of this kind.

    A place is a bare pointer: places[i] reads and writes, nothing counts references to it.
    """
    place = types.CPointer(types.unliteral(like))

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(place))

    return place(types.int64, like), lower


@intrinsic
def beyond(typing: Any, place: Any, count: Any) -> Lowering:
    """`beyond(place, count)`: the place `count` numbers further on."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return place(place, types.int64), lower


@intrinsic
def recast(typing: Any, place: Any, like: Any) -> Lowering:
    """`recast(place, like)`: the same place, seen as numbers of another kind."""
    found = types.CPointer(types.unliteral(like))

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(found))

    return found(place, like), lower


@intrinsic
def spread(typing: Any, place: Any, number: Any) -> Lowering:
    """`spread(place, number)`: a vector with the number in every lane, of the kind that the place holds."""
    kind = place.dtype
    vector = vector_of(kind)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return splat_vector(builder, context.cast(builder, args[1], signature.args[1], kind), vector)

    return vector(place, types.unliteral(number)), lower


@intrinsic
def lanes_in(typing: Any, place: Any) -> Lowering:
    """`lanes_in(place)`: how many numbers of the place's kind a vector holds."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(ir.IntType(64), vector_of(place.dtype).lanes)

    return types.int64(place), lower


@intrinsic
def align_stack(typing: Any) -> Lowering:
    """`align_stack()`: let the stack frame of this function begin on 64 bytes, for spilled vectors.

    LLVM learns that it will spill vectors when it can no longer align the frame, and each then lies across
    two cache lines. A variable of 64 bytes, which only an empty piece of assembly sees, tells it in time.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        room = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(8), BYTES))
        room.align = BYTES
        builder.asm(ir.FunctionType(ir.VoidType(), [room.type]), "", "r", [room], side_effect=True)
        return context.get_dummy_value()

    return types.void(), lower
