"""Sixteen shuffles side by side: the vector operations that one step of `shuffle4` is made of.

A lane is a 64-bit word. Sums are four counts of 16 bits in one word: how many exits of a node have the first
letter, the first two, three, four.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from shared.simd import Lowering, Vector, load_vector, pointer, shuffle, splat_vector, store_vector

LANES = 16
ONES = 0x0001_0001_0001_0001
TOP = 0x8000_8000_8000_8000

_words = Vector(types.uint64, LANES)
_bytes = Vector(types.uint8, LANES)
_block, _four = Vector(types.uint8, 64), Vector(types.uint8, 4)


@intrinsic
def load(typing: Any, array: Any, at: Any) -> Lowering:
    """`load(array, at)`: the lanes that begin at element `at` of a uint64 array."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return load_vector(builder, pointer(context, builder, signature.args[0], *args), _words)

    return _words(array, types.intp), lower


@intrinsic
def store_bytes(typing: Any, array: Any, at: Any, words: Any) -> Lowering:
    """`store_bytes(array, at, words)`: the lowest byte of each lane, into a uint8 array."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = pointer(context, builder, signature.args[0], args[0], args[1])
        store_vector(builder, place, builder.trunc(args[2], _bytes.llvm), _bytes)
        return context.get_dummy_value()

    return types.void(array, types.intp, _words), lower


@intrinsic
def pick(typing: Any, node: Any, a: Any, b: Any, c: Any, d: Any) -> Lowering:
    """`pick(node, a, b, c, d)`: in each lane the word of its node, 0 to 3."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        node, *words = args
        chosen = words[3]
        for number in (2, 1, 0):
            chosen = builder.select(_equal(builder, node, number), words[number], chosen)
        return chosen

    return _words(*[_words] * 5), lower


@intrinsic
def one_more(typing: Any, used: Any, sums: Any) -> Lowering:
    """`one_more(used, sums)`: a random number is used in every lane whose node has an exit left."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        used, sums = args
        some = builder.icmp_unsigned("!=", sums, _constant(0))
        return builder.add(used, builder.zext(some, _words.llvm))

    return _words(_words, _words), lower


@intrinsic
def draw(typing: Any, keys: Any, used: Any, sums: Any) -> Lowering:
    """`draw(keys, used, sums)`: as in `draws.below`, the product whose upper half is the number drawn."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        keys, used, sums = args
        value = builder.add(keys, builder.mul(used, _constant(0x9E3779B97F4A7C15)))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, None)):
            value = builder.xor(value, builder.lshr(value, _constant(shift)))
            value = builder.mul(value, _constant(factor)) if factor else value
        return builder.mul(builder.lshr(value, _constant(32)), builder.lshr(sums, _constant(48)))

    return _words(_words, _words, _words), lower


@intrinsic
def any_doubtful(typing: Any, product: Any, sums: Any) -> Lowering:
    """`any_doubtful(product, sums)`: whether a lane may have to draw again to be without bias."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        product, sums = args
        low = builder.and_(product, _constant(0xFFFFFFFF))
        doubtful = builder.icmp_unsigned("<", low, builder.lshr(sums, _constant(48)))
        mask = builder.bitcast(doubtful, ir.IntType(LANES))
        return builder.icmp_unsigned("!=", mask, ir.Constant(mask.type, 0))

    return types.boolean(_words, _words), lower


@intrinsic
def letter_of(typing: Any, product: Any, sums: Any) -> Lowering:
    """`letter_of(product, sums)`: how many sums the number drawn reaches: 0 to 3, 4 if none is left."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        product, sums = args
        choice = builder.mul(builder.lshr(product, _constant(32)), _constant(ONES))
        passed = builder.and_(builder.sub(builder.add(choice, _constant(TOP)), sums), _constant(TOP))
        counted = builder.mul(builder.lshr(passed, _constant(15)), _constant(ONES))
        return builder.lshr(counted, _constant(48))

    return _words(_words, _words), lower


@intrinsic
def exit_of(typing: Any, letter: Any) -> Lowering:
    """`exit_of(letter)`: what is subtracted from the sums of a node; nothing for 4."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (letter,) = args
        shift = builder.shl(builder.and_(letter, _constant(3)), _constant(4))
        one = builder.shl(_constant(ONES), shift)
        return builder.select(_equal(builder, letter, 4), _constant(0), one)

    return _words(_words), lower


@intrinsic
def without(typing: Any, sums: Any, node: Any, number: Any, exit_: Any) -> Lowering:
    """`without(sums, node, number, exit)`: less the exit in the lanes whose node is `number`."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums, node, number, exit_ = args
        here = builder.icmp_unsigned("==", node, splat_vector(builder, number, _words))
        return builder.sub(sums, builder.select(here, exit_, _constant(0)))

    return _words(_words, _words, types.uint64, _words), lower


@intrinsic
def or_last(typing: Any, letter: Any, node: Any, last: Any) -> Lowering:
    """`or_last(letter, node, last)`: where the letter is 4, the one that `last` has for the node."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        letter, node, last = args
        stored = builder.and_(builder.lshr(last, builder.shl(node, _constant(4))), _constant(3))
        return builder.select(_equal(builder, letter, 4), stored, letter)

    return _words(_words, _words, _words), lower


@intrinsic
def masked(typing: Any, words: Any, mask: Any) -> Lowering:
    """`masked(words, mask)`: the bits of a uint64 mask in every lane."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.and_(args[0], splat_vector(builder, args[1], _words))

    return _words(_words, types.uint64), lower


@intrinsic
def by_lane(typing: Any, array: Any, at: Any) -> Lowering:
    """`by_lane(array, at)`: turn 64 bytes, lane by lane for each of 4 steps, into 4 steps for each lane."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = pointer(context, builder, signature.args[0], *args)
        block = load_vector(builder, place, _block)
        order = [step * LANES + lane for lane in range(LANES) for step in range(4)]
        store_vector(builder, place, shuffle(builder, block, block, order), _block)
        return context.get_dummy_value()

    return types.void(array, types.intp), lower


@intrinsic
def copy_four(typing: Any, target: Any, at: Any, source: Any, start: Any) -> Lowering:
    """`copy_four(target, at, source, start)`: copy 4 bytes."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = load_vector(builder, pointer(context, builder, signature.args[2], *args[2:]), _four)
        store_vector(builder, pointer(context, builder, signature.args[0], *args[:2]), value, _four)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), lower


@intrinsic
def count_equal(typing: Any, array: Any, at: Any, byte: Any) -> Lowering:
    """`count_equal(array, at, byte)`: how many of the 64 bytes from `at` on are `byte`."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        block = load_vector(builder, pointer(context, builder, signature.args[0], args[0], args[1]), _block)
        equal = builder.icmp_unsigned("==", block, splat_vector(builder, args[2], _block))
        return builder.ctpop(builder.bitcast(equal, ir.IntType(64)))

    return types.uint64(array, types.intp, types.uint8), lower


def _constant(word: int) -> Any:
    return ir.Constant(_words.llvm, [word] * LANES)


def _equal(builder: Any, words: Any, number: int) -> Any:
    return builder.icmp_unsigned("==", words, _constant(number))
