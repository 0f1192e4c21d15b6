"""Blocks of 64 bytes as Numba values: the few vector operations that reading letters is made of.

A block is a vector of `shared.simd`; places count bytes of a `uint8` array. What ends in `_at` takes a memory
address instead, so that functions can be called without an array: Numba counts the references of each one
that is handed over.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from shared import simd
from shared.simd import Lowering, load_vector, prefetch_line, shuffle, splat_vector, store_vector

BLOCK = simd.BYTES

load, store, prefetch, splat, either = simd.load, simd.store, simd.prefetch, simd.splat, simd.either
add, address = simd.add, simd.address

_block = simd.vector_of(types.uint8)


@intrinsic
def load_at(typing: Any, place: Any) -> Lowering:
    """`load_at(place)`: the block at an address."""
    return _block(types.intp), lambda context, builder, signature, args: load_vector(
        builder, _pointer(builder, args[0]), _block
    )


@intrinsic
def store_at(typing: Any, place: Any, block: Any) -> Lowering:
    """`store_at(place, block)`: write a block to an address."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store_vector(builder, _pointer(builder, args[0]), args[1], _block)
        return context.get_dummy_value()

    return types.void(types.intp, _block), lower


@intrinsic
def byte_at(typing: Any, place: Any) -> Lowering:
    """`byte_at(place)`: the byte at an address."""
    return types.uint8(types.intp), lambda context, builder, signature, args: builder.load(
        _pointer(builder, args[0])
    )


@intrinsic
def put_at(typing: Any, place: Any, byte: Any) -> Lowering:
    """`put_at(place, byte)`: write a byte to an address."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], _pointer(builder, args[0]))
        return context.get_dummy_value()

    return types.void(types.intp, types.uint8), lower


@intrinsic
def prefetch_at(typing: Any, place: Any) -> Lowering:
    """`prefetch_at(place)`: ask for the cache line at an address."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        prefetch_line(builder, _pointer(builder, args[0]), to_write=False)
        return context.get_dummy_value()

    return types.void(types.intp), lower


@intrinsic
def capitals(typing: Any, letters: Any) -> Lowering:
    """`capitals(letters)`: a..z become A..Z, all else stays."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (letters,) = args
        small = builder.icmp_unsigned("<", builder.sub(letters, _constant(97)), _constant(26))
        return builder.select(small, builder.sub(letters, _constant(32)), letters)

    return _block(_block), lower


@intrinsic
def replace(typing: Any, tokens: Any, letters: Any, letter: Any, token: Any) -> Lowering:
    """`replace(tokens, letters, letter, token)`: `token` where `letters` holds `letter`, else `tokens`."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        tokens, letters, letter, token = args
        hit = builder.icmp_unsigned("==", letters, splat_vector(builder, letter, _block))
        return builder.select(hit, splat_vector(builder, token, _block), tokens)

    return _block(_block, _block, types.uint8, types.uint8), lower


@intrinsic
def pick(typing: Any, tokens: Any, letters: Any, letter: Any, token: Any) -> Lowering:
    """`replace` with `letter` and `token` in every lane of blocks."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        tokens, letters, letter, token = args
        return builder.select(builder.icmp_unsigned("==", letters, letter), token, tokens)

    return _block(_block, _block, _block, _block), lower


@intrinsic
def masked(typing: Any, block: Any, mask: Any) -> Lowering:
    """`masked(block, mask)`: the bits that both have."""
    return _block(_block, _block), lambda context, builder, signature, args: builder.and_(*args)


@intrinsic
def equal(typing: Any, block: Any, byte: Any) -> Lowering:
    """`equal(block, byte)`: 255 where the block holds `byte`, else 0."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        hit = builder.icmp_unsigned("==", args[0], splat_vector(builder, args[1], _block))
        return builder.select(hit, _constant(255), _constant(0))

    return _block(_block, types.uint8), lower


@intrinsic
def backwards(typing: Any, block: Any) -> Lowering:
    """`backwards(block)`: the last byte first."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return shuffle(builder, args[0], args[0], list(reversed(range(BLOCK))))

    return _block(_block), lower


@intrinsic
def any_set(typing: Any, block: Any) -> Lowering:
    """`any_set(block)`: whether any bit is set."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = builder.bitcast(args[0], ir.IntType(8 * BLOCK))
        return builder.icmp_unsigned("!=", whole, ir.Constant(whole.type, 0))

    return types.boolean(_block), lower


@intrinsic
def strays(typing: Any, block: Any) -> Lowering:
    """`strays(block)`: a bit for every byte outside 33..126: no letter; the first byte's is lowest."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        letters = builder.sub(args[0], _constant(33))
        return _bits(builder, builder.icmp_unsigned(">", letters, _constant(93)))

    return types.uint64(_block), lower


@intrinsic
def where(typing: Any, block: Any, byte: Any) -> Lowering:
    """`where(block, byte)`: a bit for every place that holds `byte`; the first place's is lowest."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _bits(builder, builder.icmp_unsigned("==", args[0], splat_vector(builder, args[1], _block)))

    return types.uint64(_block, types.uint8), lower


@intrinsic
def lowest(typing: Any, bits: Any) -> Lowering:
    """`lowest(bits)`: the place of the lowest bit that is set; 64 if none is."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return simd.call(builder, "llvm.cttz.i64", args[0].type, [args[0], ir.Constant(ir.IntType(1), 0)])

    return types.int64(types.uint64), lower


def _pointer(builder: Any, place: Any) -> Any:
    return builder.inttoptr(place, ir.IntType(8).as_pointer())


def _bits(builder: Any, hits: Any) -> Any:
    return builder.bitcast(hits, ir.IntType(BLOCK))


def _constant(byte: int) -> Any:
    return ir.Constant(_block.llvm, [byte] * BLOCK)
