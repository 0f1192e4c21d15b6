"""Write one channel per letter. Rows are cut into parts, so that a long one is shared among threads."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from biolayers.kernels.numba.bytes import BLOCK
from shared.simd import Lowering, Vector, load_vector, pointer, splat_vector, store_vector

PART = 1 << 14  # letters of a part


def parts(length: int) -> int:
    """How many parts a row has."""
    return max(1, -(-length // PART))


@njit(nogil=True, cache=True)
def one_hot(first, last, tokens, one, channels, out):
    """Fill parts `first` to `last`, which count through the rows.

    Args:
        first: Where this share of the parts begins.
        last: And ends.
        tokens: (n, l) uint8.
        one: (1,): what a 1 is, as an integer of as many bytes.
        channels: How many.
        out: (n * channels * l,) of the same kind.
    """
    length = tokens.shape[1]
    count = max(1, (length + PART - 1) // PART)
    for i in range(first, last):
        row, begin = i // count, i % count * PART
        end = min(begin + PART, length)
        source, target = row * length, row * channels * length
        whole = begin + (end - begin) // BLOCK * BLOCK
        for k in range(begin, whole, BLOCK):
            for channel in range(channels):
                _put(out, target + channel * length + k, tokens, source + k, np.uint8(channel), one)
        for channel in range(channels):
            for k in range(whole, end):
                hit = tokens[row, k] == np.uint8(channel)
                out[target + channel * length + k] = one[0] if hit else one[0] ^ one[0]


@intrinsic
def _put(typing: Any, out: Any, at: Any, tokens: Any, place: Any, token: Any, one: Any) -> Lowering:
    """`_put(out, at, tokens, place, token, one)`: 64 elements: one[0] where `tokens` has `token`, else 0."""
    block, wide = Vector(types.uint8, BLOCK), Vector(out.dtype, BLOCK)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        letters = load_vector(builder, pointer(context, builder, kinds[2], *args[2:4]), block)
        hit = builder.icmp_unsigned("==", letters, splat_vector(builder, args[4], block))
        first = pointer(context, builder, kinds[5], args[5], ir.Constant(ir.IntType(64), 0))
        yes = splat_vector(builder, builder.load(first), wide)
        found = builder.select(hit, yes, ir.Constant(wide.llvm, [0] * BLOCK))
        store_vector(builder, pointer(context, builder, kinds[0], *args[:2]), found, wide)
        return context.get_dummy_value()

    return types.void(out, types.intp, tokens, types.intp, types.uint8, one), lower
