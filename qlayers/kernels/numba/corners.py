"""Passes of one, two or three turns at once, each step on the 2, 4 or 8 rows that they combine.

The steps are written straight in LLVM's terms: what is a loop over corners and pairs here becomes straight
code in the kernel, and compiles in a fraction of the time that so many lines of Python would take.
"""

from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from qlayers.kernels.numba.program import CORNER_COLUMNS
from qlayers.kernels.numba.simd import exchanged
from shared.simd import Lowering, Vector, add, call, load_vector, store_vector, vector_of

NEAR = 255  # so many terms are summed by themselves before they join the others: long sums stay exact
_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


class _Emitter:
    """Writes one step: loads the rows of all corners, combines them in pairs turn by turn, stores them.

    `info` is what `program.corner_table` makes of the turns, `base` the first row of theirs in `tau`.
    """

    def __init__(
        self, builder: Any, count: int, vector: Vector, info: Any, stream: Any, corner: Any, base: Any
    ):
        self.builder, self.count, self.vector, self.info = builder, count, vector, info
        self.corners = range(1 << count)
        size, pairs = len(self.corners), count * len(self.corners) // 2
        self.rows = [builder.xor(corner, self._known(c, stream, size)) for c in self.corners]
        self.lanes = [self._known(2 * size + c) for c in self.corners]
        self._signs = [self._known(3 * size + i, stream, pairs) for i in range(pairs)]
        masks = [self._known(3 * size + 2 * pairs + turn) for turn in range(count)]
        self._bits = [builder.and_(builder.ctpop(builder.and_(mask, corner)), _int(1)) for mask in masks]
        self._bits = [builder.add(builder.add(bit, base), _int(2 * i)) for i, bit in enumerate(self._bits)]

    def _known(self, at: int, stream: Any = None, stride: int = 0) -> Any:
        """Entry `at` of `info`, plus `stride` in the second stream."""
        index = (
            _int(at) if stream is None else self.builder.add(self.builder.mul(stream, _int(stride)), _int(at))
        )
        return self.builder.load(self.builder.gep(self.info, [index]))

    def turns(self, order: range) -> Iterator[tuple[int, list[tuple[int, int, Any]]]]:
        """Each turn with its pairs of corners and the row of `tau` that has the sign of the pair."""
        for turn in order:
            first = [c for c in self.corners if not c >> turn & 1]
            signs = self._signs[turn * len(first) : (turn + 1) * len(first)]
            rows = [self.builder.xor(self._bits[turn], sign) for sign in signs]
            yield turn, [(c, c | 1 << turn, row) for c, row in zip(first, rows, strict=True)]

    def load(self, data: Any, row: Any) -> Any:
        return load_vector(self.builder, self._place(data, row), self.vector)

    def load_all(self, data: Any, moved: bool) -> list[Any]:
        return [
            self._moved(self.load(data, row), c, moved)
            for c, row in zip(self.corners, self.rows, strict=True)
        ]

    def store_all(self, data: Any, values: list[Any], moved: bool) -> None:
        for c, row in zip(self.corners, self.rows, strict=True):
            store_vector(self.builder, self._place(data, row), self._moved(values[c], c, moved), self.vector)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return call(
            self.builder, f"llvm.fma.v{self.vector.lanes}f{self.vector.scalar.bitwidth}", a.type, [a, b, c]
        )

    def shear(self, values: list[Any], v: int, w: int, t: Any, sign: int) -> None:
        """Make v - t w and w + t v of a pair, in place; the other way round for `sign` -1."""
        back, forth = (self.builder.fneg(t), t) if sign > 0 else (t, self.builder.fneg(t))
        values[v], values[w] = self.fma(back, values[w], values[v]), self.fma(forth, values[v], values[w])

    def _place(self, data: Any, row: Any) -> Any:
        return self.builder.gep(data, [self.builder.mul(row, _int(self.vector.lanes))])

    def _moved(self, value: Any, corner: int, moved: bool) -> Any:
        return exchanged(self.builder, self.vector, value, self.lanes[corner]) if moved and corner else value


def _int(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), value)


def _step_forward(count: int, moved: bool) -> Callable[..., Any]:
    @intrinsic
    def step(typing: Any, state: Any, info: Any, stream: Any, corner: Any, base: Any, tau: Any) -> Lowering:
        vector = vector_of(state.dtype)

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            rows, table, factors = args[0], args[1], args[5]
            emit = _Emitter(builder, count, vector, table, *args[2:5])
            values = emit.load_all(rows, moved)
            for _, pairs in emit.turns(range(count)):
                for v, w, row in pairs:
                    emit.shear(values, v, w, emit.load(factors, row), 1)
            emit.store_all(rows, values, moved)
            return context.get_dummy_value()

        return types.void(state, info, types.int64, types.int64, types.int64, tau), lower

    return step


def _step_backward(count: int, moved: bool) -> Callable[..., Any]:
    @intrinsic
    def step(
        typing: Any,
        state: Any,
        costate: Any,
        info: Any,
        stream: Any,
        corner: Any,
        base: Any,
        tau: Any,
        sgn: Any,
        slopes: Any,
    ) -> Lowering:
        vector = vector_of(state.dtype)

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            rows, corows, table = args[:3]
            factors, signs = args[6:8]
            emit = _Emitter(builder, count, vector, table, *args[3:6])
            values, covalues = emit.load_all(rows, moved), emit.load_all(corows, moved)
            found = [builder.extract_value(args[8], i) for i in range(count)]
            for turn, pairs in emit.turns(range(count)[::-1]):
                for v, w, row in pairs:
                    part = builder.fmul(values[v], covalues[w])
                    part = emit.fma(builder.fneg(values[w]), covalues[v], part)
                    found[turn] = emit.fma(emit.load(signs, row), part, found[turn])
                    t = emit.load(factors, row)
                    emit.shear(values, v, w, t, -1)
                    emit.shear(covalues, v, w, t, -1)
            emit.store_all(rows, values, moved)
            emit.store_all(corows, covalues, moved)
            return context.make_tuple(builder, signature.return_type, found)

        numbers = (types.int64, types.int64, types.int64)
        return slopes(state, costate, info, *numbers, tau, sgn, slopes), lower

    return step


def _forward(count: int, moved: bool) -> Callable[..., Any]:
    step = _step_forward(count, moved)

    @njit(**_INNER)
    def forward(state, half, info, first, tau):
        """`count` turns on all rows; `moved`: some of them exchange lanes."""
        pivots = info[CORNER_COLUMNS - 1]
        for stream in range(2):
            corner = 0
            for _ in range(half >> count):
                step(state, info, stream, corner, 2 * first, tau)
                corner = ((corner | pivots) + 1) & ~pivots

    return forward


def _backward(count: int, moved: bool) -> Callable[..., Any]:
    step = _step_backward(count, moved)

    @njit(**_INNER)
    def backward(state, costate, half, info, first, tau, sgn, slopes, nothing):
        """Undo `count` turns on state and costate; adds to their slopes, `nothing` being a tuple of zeros."""
        pivots = info[CORNER_COLUMNS - 1]
        for stream in range(2):
            corner = 0
            near = nothing
            for i in range(half >> count):
                near = step(state, costate, info, stream, corner, 2 * first, tau, sgn, near)
                corner = ((corner | pivots) + 1) & ~pivots
                if i & NEAR == NEAR:
                    slopes, near = added(slopes, near), nothing
            slopes = added(slopes, near)
        return slopes

    @njit(**_INNER)
    def added(a, b):
        if count == 1:
            return (add(a[0], b[0]),)
        if count == 2:
            return add(a[0], b[0]), add(a[1], b[1])
        return add(a[0], b[0]), add(a[1], b[1]), add(a[2], b[2])

    return backward


forward_1, forward_2, forward_3 = (_forward(count, False) for count in (1, 2, 3))
crossed_1, crossed_2, crossed_3 = (_forward(count, True) for count in (1, 2, 3))
backward_1, backward_2, backward_3 = (_backward(count, False) for count in (1, 2, 3))
uncrossed_1, uncrossed_2, uncrossed_3 = (_backward(count, True) for count in (1, 2, 3))
