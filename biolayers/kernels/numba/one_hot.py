"""Write one channel per letter. Rows are cut into parts, so that a long one is shared among threads.

A result larger than the caches goes past them: memory is written without being read first, which takes two
thirds of the time.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from biolayers.kernels.numba.bytes import BLOCK, address
from shared.simd import BYTES, Lowering, Vector, load_vector, pointer, splat_vector, store_vector

PART = 1 << 14  # letters of a part
LARGE = 1 << 25  # bytes of a result that no cache holds


def parts(length: int) -> int:
    """How many parts a row has."""
    return max(1, -(-length // PART))


@njit(nogil=True, cache=True)
def one_hot(first, last, tokens, one, channels, out, past):
    """Fill parts `first` to `last`, which count through the rows.

    Args:
        first: Where this share of the parts begins.
        last: And ends.
        tokens: (n, l) uint8.
        one: (1,): what a 1 is, as an integer of as many bytes.
        channels: How many.
        out: (n * channels * l,) of the same kind.
        past: Whether what is written goes past the caches.
    """
    length = tokens.shape[1]
    count = max(1, (length + PART - 1) // PART)
    size = out.itemsize
    for i in range(first, last):
        row, begin = i // count, i % count * PART
        end = min(begin + PART, length)
        for channel in range(channels):
            source, target = row * length, (row * channels + channel) * length
            start = begin
            if past:  # from a whole line of the cache on
                start = min(end, begin + -(address(out) // size + target + begin) % (BYTES // size))
            whole = start + (end - start) // BLOCK * BLOCK
            for k in range(begin, start):
                out[target + k] = one[0] if tokens[row, k] == np.uint8(channel) else one[0] ^ one[0]
            if past:
                for k in range(start, whole, BLOCK):
                    _put_past(out, target + k, tokens, source + k, np.uint8(channel), one)
            else:
                for k in range(start, whole, BLOCK):
                    _put(out, target + k, tokens, source + k, np.uint8(channel), one)
            for k in range(whole, end):
                out[target + k] = one[0] if tokens[row, k] == np.uint8(channel) else one[0] ^ one[0]
    if past:
        _settle()


def _writer(past: bool) -> Any:
    """The function that writes a block, past the caches or not."""

    @intrinsic
    def put(typing: Any, out: Any, at: Any, tokens: Any, place: Any, token: Any, one: Any) -> Lowering:
        """`put(out, at, tokens, place, token, one)`: 64 elements, one[0] where `tokens` has `token`."""
        block, wide = Vector(types.uint8, BLOCK), Vector(out.dtype, BLOCK)

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kinds = signature.args
            letters = load_vector(builder, pointer(context, builder, kinds[2], *args[2:4]), block)
            hit = builder.icmp_unsigned("==", letters, splat_vector(builder, args[4], block))
            first = pointer(context, builder, kinds[5], args[5], ir.Constant(ir.IntType(64), 0))
            yes = splat_vector(builder, builder.load(first), wide)
            found = builder.select(hit, yes, ir.Constant(wide.llvm, [0] * BLOCK))
            target = pointer(context, builder, kinds[0], *args[:2])
            if past:
                _store_past(builder, target, found, wide)
            else:
                store_vector(builder, target, found, wide)
            return context.get_dummy_value()

        return types.void(out, types.intp, tokens, types.intp, types.uint8, one), lower

    return put


def _store_past(builder: Any, place: Any, value: Any, vector: Vector) -> None:
    """Write a vector to an address that is aligned for a line, past the caches."""
    written = builder.store(value, builder.bitcast(place, vector.llvm.as_pointer()))
    written.align = BYTES
    written.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))


@intrinsic
def _settle(typing: Any) -> Lowering:
    """`_settle()`: what was written past the caches is there for everyone before anything that follows."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), lower


_put, _put_past = _writer(False), _writer(True)
