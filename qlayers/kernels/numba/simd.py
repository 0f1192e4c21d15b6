"""What the lane kernel adds to `shared.simd`: arrays seen as rows of vectors, and parities.

Row r of a contiguous array is its r-th vector of 64 bytes.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from shared.simd import Lowering, Vector, load_vector, pointer, store_vector, vector_of


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
