"""What the HMM kernels do with SIMD vectors beyond `shared.simd`: maxima, and scans across the lanes.

A scan finds what each lane receives from all lanes before it, where every lane passes on what it receives,
weighted: v_z = u_z + g_z v_z-1 (sums of products) or max(u_z, g_z + v_z-1) (best paths). It takes log2(lanes)
steps with the weights of 1, 2, 4, ... lanes together, which lie in an array one vector after the other.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from shared.simd import (
    Lowering,
    call,
    load_vector,
    pointer,
    shuffle,
    splat_vector,
    vector_of,
)


def _reduced(kind: str) -> Any:
    @intrinsic
    def reduced(typing: Any, a: Any) -> Lowering:
        name = f"llvm.vector.reduce.{kind}.v{a.lanes}f{a.scalar.bitwidth}"

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return call(builder, name, a.llvm.element, [args[0]])

        return a.scalar(a), lower

    return reduced


top = _reduced("fmax")  # top(a): the largest lane
bottom = _reduced("fmin")  # bottom(a): the smallest lane


@intrinsic
def larger(typing: Any, a: Any, b: Any) -> Lowering:
    """`larger(a, b)`: the larger one in each lane."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _larger(builder, *args)

    return a(a, a), lower


@intrinsic
def smaller(typing: Any, a: Any, b: Any) -> Lowering:
    """`smaller(a, b)`: the smaller one in each lane."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return a(a, a), lower


@intrinsic
def least(typing: Any, a: Any, b: Any) -> Lowering:
    """`least(a, b)`: the smaller one in each lane, or `a` where `b` is not positive."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = splat_vector(builder, ir.Constant(a.llvm.element, 0.0), a)
        smaller = builder.select(builder.fcmp_ordered("<", args[1], args[0]), args[1], args[0])
        return builder.select(builder.fcmp_ordered(">", args[1], zero), smaller, args[0])

    return a(a, a), lower


def _shifted(by: int, edge: float) -> Any:
    @intrinsic
    def shifted(typing: Any, a: Any) -> Lowering:
        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _shift(builder, args[0], a, by, edge)

        return a(a), lower

    return shifted


up = _shifted(1, 0.0)  # up(a): each lane from the one before it, 0 in the first
down = _shifted(-1, 0.0)  # down(a): each lane from the one after it, 0 in the last
up_best = _shifted(1, -float("inf"))  # the same with -inf in the first


def _scan(direction: int, *, best: bool) -> Any:
    @intrinsic
    def scan(typing: Any, array: Any, at: Any, a: Any) -> Lowering:
        vector = vector_of(array.dtype)

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            found, step, place = args[2], 1, 0
            weights = pointer(context, builder, signature.args[0], args[0], args[1])
            while step < vector.lanes:
                weight = load_vector(
                    builder, builder.gep(weights, [ir.Constant(ir.IntType(64), place)]), vector
                )
                edge = -float("inf") if best else 0.0
                moved = _shift(builder, found, vector, direction * step, edge)
                if best:
                    found = _larger(builder, builder.fadd(weight, moved), found)
                else:
                    name = f"llvm.fma.v{vector.lanes}f{vector.scalar.bitwidth}"
                    found = call(builder, name, found.type, [weight, moved, found])
                step, place = 2 * step, place + vector.lanes
            return found

        return vector(array, types.intp, vector), lower

    return scan


scan_up = _scan(1, best=False)  # scan_up(array, at, u): from the first lane on, weights from element `at` on
scan_down = _scan(-1, best=False)  # scan_down(array, at, u): from the last lane back
scan_best = _scan(1, best=True)  # scan_best(array, at, u): from the first lane on, of best paths


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _shift(builder: Any, value: Any, vector: Any, by: int, edge: float) -> Any:
    """Lane z from lane z - `by`, `edge` where there is none."""
    fill = splat_vector(builder, ir.Constant(vector.llvm.element, edge), vector)
    lanes = vector.lanes
    places = [z - by if 0 <= z - by < lanes else lanes for z in range(lanes)]
    return shuffle(builder, value, fill, places)
