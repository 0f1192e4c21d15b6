"""Blocks of 64 bytes as Numba values: the few vector operations that reading letters is made of.

A block lives in vector registers (one of AVX-512, two of AVX2, four of NEON: LLVM splits it). Places count
bytes from the start of a C-contiguous `uint8` array and are not checked: the kernels answer for them.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

BLOCK = 64

_byte = ir.IntType(8)
_vector = ir.VectorType(_byte, BLOCK)


class Block(types.Type):
    """The Numba type of 64 bytes in registers."""

    def __init__(self) -> None:
        super().__init__(name="block")


@register_model(Block)
class BlockModel(models.PrimitiveModel):
    def __init__(self, manager: Any, block: Block) -> None:
        super().__init__(manager, block, _vector)


_block = Block()


@intrinsic
def load(typing: Any, array: Any, at: Any) -> Any:
    """`load(array, at)`: the block that begins at byte `at`."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        block = builder.load(_place(context, builder, signature, args, _vector))
        block.align = 1
        return block

    return _block(array, types.intp), lower


@intrinsic
def store(typing: Any, array: Any, at: Any, block: Any) -> Any:
    """`store(array, at, block)`: write the block from byte `at` on."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _place(context, builder, signature, args, _vector)).align = 1
        return context.get_dummy_value()

    return types.void(array, types.intp, _block), lower


@intrinsic
def prefetch(typing: Any, array: Any, at: Any) -> Any:
    """`prefetch(array, at)`: ask for the cache line of a byte that will be read soon."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [_byte.as_pointer(), word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = _place(context, builder, signature, args, _byte)
        builder.call(function, [place, word(0), word(3), word(1)])  # to read, keep close, data
        return context.get_dummy_value()

    return types.void(array, types.intp), lower


@intrinsic
def splat(typing: Any, byte: Any) -> Any:
    """`splat(byte)`: the byte 64 times."""
    return _block(types.uint8), lambda context, builder, signature, args: _splat(builder, args[0])


@intrinsic
def either(typing: Any, left: Any, right: Any) -> Any:
    """`either(left, right)`: the bits that are set in one of the two."""
    return _block(_block, _block), lambda context, builder, signature, args: builder.or_(*args)


@intrinsic
def capitals(typing: Any, letters: Any) -> Any:
    """`capitals(letters)`: a..z become A..Z, all else stays."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (letters,) = args
        small = builder.icmp_unsigned("<", builder.sub(letters, _constant(97)), _constant(26))
        return builder.select(small, builder.sub(letters, _constant(32)), letters)

    return _block(_block), lower


@intrinsic
def replace(typing: Any, tokens: Any, letters: Any, letter: Any, token: Any) -> Any:
    """`replace(tokens, letters, letter, token)`: `token` where `letters` holds `letter`, else `tokens`."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        tokens, letters, letter, token = args
        hit = builder.icmp_unsigned("==", letters, _splat(builder, letter))
        return builder.select(hit, _splat(builder, token), tokens)

    return _block(_block, _block, types.uint8, types.uint8), lower


@intrinsic
def equal(typing: Any, block: Any, byte: Any) -> Any:
    """`equal(block, byte)`: 255 where the block holds `byte`, else 0."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        hit = builder.icmp_unsigned("==", args[0], _splat(builder, args[1]))
        return builder.select(hit, _constant(255), _constant(0))

    return _block(_block, types.uint8), lower


@intrinsic
def backwards(typing: Any, block: Any) -> Any:
    """`backwards(block)`: the last byte first."""
    order = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), list(reversed(range(BLOCK))))

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.shuffle_vector(args[0], ir.Constant(_vector, ir.Undefined), order)

    return _block(_block), lower


@intrinsic
def any_set(typing: Any, block: Any) -> Any:
    """`any_set(block)`: whether any bit is set."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = builder.bitcast(args[0], ir.IntType(8 * BLOCK))
        return builder.icmp_unsigned("!=", whole, ir.Constant(whole.type, 0))

    return types.boolean(_block), lower


def _place(context: Any, builder: Any, signature: Any, args: Any, pointee: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), pointee.as_pointer())


def _constant(byte: int) -> Any:
    return ir.Constant(_vector, [byte] * BLOCK)


def _splat(builder: Any, byte: Any) -> Any:
    lane = builder.insert_element(ir.Constant(_vector, ir.Undefined), byte, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [0] * BLOCK)
    return builder.shuffle_vector(lane, ir.Constant(_vector, ir.Undefined), zeros)
