"""What the lane kernel adds to `shared.simd`: arrays seen as rows of vectors, and parities.

Row r of a contiguous array is its r-th vector of 64 bytes.
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
    """`load(array, row)`: the vector in a row."""
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
