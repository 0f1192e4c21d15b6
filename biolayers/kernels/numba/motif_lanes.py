"""Words of letters looked up in vector registers: what the search for motif sites is made of.

A *line* is one register of bytes: either a table with an entry for each word of `WORD` letters, or the words
at `LANES` places of a sequence. One instruction looks all of them up. Which one, and so how long the words
are, depends on the processor: AVX-512 VBMI finds a byte among 64 (words of three letters), the older ones of
x86 and ARM find one among 16 (two letters).
"""

import sys
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from shared.simd import Lowering, Vector, call, load_vector, pointer, splat_vector, store_vector

AT_ONCE = 8  # lines of places that one table serves while it is in a register

_features = llvm.get_host_cpu_features()
_arm = llvm.get_default_triple().startswith(("aarch64", "arm64"))

# The instruction, the bytes of a line and the letters of a word, from the best to what runs anywhere.
_CHOICES = (
    ("llvm.x86.avx512.permvar.qi.512", 64, 3, bool(_features.get("avx512vbmi"))),
    ("llvm.x86.avx512.pshuf.b.512", 64, 2, bool(_features.get("avx512bw"))),
    ("llvm.x86.avx2.pshuf.b", 32, 2, bool(_features.get("avx2"))),
    ("llvm.x86.ssse3.pshuf.b.128", 16, 2, bool(_features.get("ssse3"))),
    ("llvm.aarch64.neon.tbl1.v16i8", 16, 2, _arm and sys.byteorder == "little"),
    (None, 16, 2, True),
)
LOOK_UP, LANES, WORD, _ = next(choice for choice in _CHOICES if choice[-1])
ENTRIES = 4**WORD  # of a table; where a line is longer, the table is repeated in it

_line = Vector(types.uint8, LANES)
_lines = types.UniTuple(_line, AT_ONCE)
_mask = ir.IntType(LANES)


@intrinsic
def nothing(typing: Any) -> Lowering:
    """`nothing()`: `AT_ONCE` lines of zeros."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return cgutils.pack_array(builder, [ir.Constant(_line.llvm, None)] * AT_ONCE)

    return _lines(), lower


@intrinsic
def add_found(typing: Any, tables: Any, table: Any, words: Any, place: Any, sums: Any) -> Lowering:
    """`add_found(tables, table, words, place, sums)`: add to each sum the entry of its word, up to 255.

    The table is the line at element `table` of `tables`, the words are the lines from element `place` on.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        line = load_vector(builder, pointer(context, builder, signature.args[0], args[0], args[1]), _line)
        at = pointer(context, builder, signature.args[2], args[2], args[3])
        added = []
        for i, total in enumerate(cgutils.unpack_tuple(builder, args[4])):
            codes = load_vector(builder, builder.gep(at, [ir.Constant(ir.IntType(64), i * LANES)]), _line)
            added.append(_call("llvm.uadd.sat", builder, total, _found(builder, line, codes)))
        return cgutils.pack_array(builder, added)

    return _lines(tables, types.intp, words, types.intp, _lines), lower


@intrinsic
def any_within(typing: Any, sums: Any, bound: Any) -> Lowering:
    """`any_within(sums, bound)`: whether any byte is at most `bound`."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines = cgutils.unpack_tuple(builder, args[0])
        while len(lines) > 1:
            half = len(lines) // 2
            lines = [
                _call("llvm.umin", builder, a, b) for a, b in zip(lines[:half], lines[half:], strict=True)
            ]
        return builder.icmp_unsigned("!=", _within(builder, lines[0], args[1]), ir.Constant(_mask, 0))

    return types.boolean(_lines, types.uint8), lower


@intrinsic
def put(typing: Any, array: Any, sums: Any) -> Lowering:
    """`put(array, sums)`: write all lines to the beginning of an array."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for i, line in enumerate(cgutils.unpack_tuple(builder, args[1])):
            at = ir.Constant(ir.IntType(64), i * LANES)
            store_vector(builder, pointer(context, builder, signature.args[0], args[0], at), line, _line)
        return context.get_dummy_value()

    return types.void(array, _lines), lower


@intrinsic
def within(typing: Any, array: Any, at: Any, bound: Any) -> Lowering:
    """`within(array, at, bound)`: a bit for each byte of the line at element `at`: is it at most `bound`?"""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        line = load_vector(builder, pointer(context, builder, signature.args[0], args[0], args[1]), _line)
        bits = _within(builder, line, args[2])
        return bits if LANES == 64 else builder.zext(bits, ir.IntType(64))

    return types.uint64(array, types.intp, types.uint8), lower


@intrinsic
def lowest(typing: Any, bits: Any) -> Lowering:
    """`lowest(bits)`: the number of the lowest bit that is set, of a number that is not zero."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), lower


def _within(builder: Any, line: Any, bound: Any) -> Any:
    few = builder.icmp_unsigned("<=", line, splat_vector(builder, bound, _line))
    return builder.bitcast(few, _mask)


def _found(builder: Any, table: Any, codes: Any) -> Any:
    """The entries of a table of which `codes` are the numbers, all of them below `ENTRIES`."""
    if LOOK_UP is None:
        found = ir.Constant(_line.llvm, ir.Undefined)
        for i in range(LANES):
            lane = ir.Constant(ir.IntType(32), i)
            entry = builder.extract_element(table, builder.extract_element(codes, lane))
            found = builder.insert_element(found, entry, lane)
        return found
    return call(builder, LOOK_UP, _line.llvm, [table, codes])


def _call(name: str, builder: Any, a: Any, b: Any) -> Any:
    return call(builder, f"{name}.v{LANES}i8", _line.llvm, [a, b])
