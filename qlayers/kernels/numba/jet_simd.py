"""The jet kernel's arithmetic, unrolled over the rows of a jet while it is compiled.

A jet of c rows is a tuple of c vectors (see `qlayers.ops.duals`); the argument `jet` of the operations below
is any tuple of c integers, whose length is what counts. The product of two jets has one term for each way to
split a subset in two: Python writes these terms out, so the compiled code has neither loops nor tables.
"""

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from shared.simd import Lowering, call, load_vector, pointer, store_vector, vector_of


def splits(subset: int) -> Iterator[tuple[int, int]]:
    """The pairs (A, subset without A).

    >>> list(splits(3))
    [(0, 3), (1, 2), (2, 1), (3, 0)]
    """
    return ((part, subset ^ part) for part in range(subset + 1) if part & subset == part)


class Rows:
    """Writes code that works on rows of one array and on vectors."""

    def __init__(self, context: Any, builder: Any, array_type: types.Array, array: Any):
        self._builder, self._vector = builder, vector_of(array_type.dtype)
        self._context, self._type, self._array = context, array_type, array

    def load(self, row: Any, offset: int = 0) -> Any:
        """The vector in row `row` + `offset`."""
        return load_vector(self._builder, self._place(row, offset), self._vector)

    def store(self, row: Any, offset: int, value: Any) -> None:
        """Write a vector."""
        store_vector(self._builder, self._place(row, offset), value, self._vector)

    def _place(self, row: Any, offset: int) -> Any:
        b, lanes = self._builder, self._vector.lanes
        at = b.add(b.mul(row, _int(row, lanes)), _int(row, offset * lanes))
        return pointer(self._context, b, self._type, self._array, at)

    def row(self, *numbers: Any, times: int = 1) -> Any:
        """The sum of integers, times a constant."""
        b = self._builder
        total = numbers[0]
        for number in numbers[1:]:
            total = b.add(total, number)
        return b.mul(total, _int(total, times))


class Vectors:
    """Writes arithmetic on vectors; None stands for a sum without terms yet."""

    def __init__(self, builder: Any, like: Any):
        self._builder = builder
        bits = 64 if like.type.element == ir.DoubleType() else 32
        self._fma = f"llvm.fma.v{like.type.count}f{bits}"

    def more(self, total: Any, a: Any, b: Any) -> Any:
        """Total + a b."""
        if total is None:
            return self._builder.fmul(a, b)
        return call(self._builder, self._fma, a.type, [a, b, total])

    def less(self, total: Any, a: Any, b: Any) -> Any:
        """Total - a b."""
        return self.more(total, self._builder.fneg(a), b)

    def dot(self, total: Any, *terms: tuple[int, Any, Any]) -> Any:
        """Total + the sum of sign a b over the terms (sign, a, b)."""
        for sign, a, b in terms:
            total = self.more(total, a, b) if sign > 0 else self.less(total, a, b)
        return total


def _int(like: Any, value: int) -> Any:
    return ir.Constant(like.type, value)


def _unpack(builder: Any, values: Any, count: int) -> list[Any]:
    return [builder.extract_value(values, i) for i in range(count)]


def _pack(context: Any, builder: Any, kind: Any, values: list[Any]) -> Any:
    return context.make_tuple(builder, kind, values)


# rows and jets


def _loader(width: int) -> Any:
    @intrinsic
    def load(typing: Any, array: Any, row: Any, jet: Any) -> Lowering:
        kind = types.UniTuple(vector_of(array.dtype), width * len(jet))

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            rows = Rows(context, builder, signature.args[0], args[0])
            return _pack(context, builder, kind, [rows.load(args[1], i) for i in range(len(kind))])

        return kind(array, types.intp, jet), lower

    return load


load_jet = _loader(1)  # `load_jet(array, row, jet)`: c vectors from `row` on
load_amplitude = _loader(2)  # the same for c pairs re, im
load_matrix = _loader(4)  # the same for c quaternions


@intrinsic
def store_rows(typing: Any, array: Any, row: Any, values: Any) -> Lowering:
    """`store_rows(array, row, values)`: write a tuple of vectors from `row` on."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = Rows(context, builder, signature.args[0], args[0])
        for i, value in enumerate(_unpack(builder, args[2], len(values))):
            rows.store(args[1], i, value)
        return context.get_dummy_value()

    return types.void(array, types.intp, values), lower


@intrinsic
def add_scaled(typing: Any, array: Any, row: Any, values: Any, scale: Any) -> Lowering:
    """`add_scaled(array, row, values, scale)`: add a tuple's vectors, scaled, to the rows from `row` on."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, code = Rows(context, builder, signature.args[0], args[0]), Vectors(builder, args[3])
        for i, value in enumerate(_unpack(builder, args[2], len(values))):
            rows.store(args[1], i, code.more(rows.load(args[1], i), value, args[3]))
        return context.get_dummy_value()

    return types.void(array, types.intp, values, scale), lower


# rotations: (p, q) to (c p - s q, s p + c q)


def _rotated(code: Vectors, p: list, q: list, cosine: list, sine: list) -> tuple[list, list]:
    """The two jets after a rotation by a jet, which may have fewer rows: the others are zero."""
    new_p, new_q = [], []
    for subset in range(len(p)):
        top, bottom = None, None
        for part, rest in splits(subset):
            if part < len(cosine):
                top = code.dot(top, (1, cosine[part], p[rest]), (-1, sine[part], q[rest]))
                bottom = code.dot(bottom, (1, cosine[part], q[rest]), (1, sine[part], p[rest]))
        new_p.append(top)
        new_q.append(bottom)
    return new_p, new_q


@intrinsic
def rotate_rows(
    typing: Any, array: Any, p: Any, q: Any, jet: Any, trig: Any, at: Any, moving: Any, sign: Any
) -> Lowering:
    """`rotate_rows(array, p, q, jet, trig, at, moving, sign)`: rotate the jets in rows p + 4 B and q + 4 B.

    Cosine and sine stand in `trig` from row `at` on, in turns, as many as `moving` has entries; `sign`
    multiplies the sine.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = Rows(context, builder, signature.args[0], args[0])
        angle = Rows(context, builder, signature.args[4], args[4])
        first = [rows.load(args[1], 4 * i) for i in range(len(jet))]
        second = [rows.load(args[2], 4 * i) for i in range(len(jet))]
        cosine = [angle.load(args[5], 2 * i) for i in range(len(moving))]
        sine = [builder.fmul(args[7], angle.load(args[5], 2 * i + 1)) for i in range(len(moving))]
        turned = _rotated(Vectors(builder, args[7]), first, second, cosine, sine)
        for row, values in zip(args[1:3], turned, strict=True):
            for i, value in enumerate(values):
                rows.store(row, 4 * i, value)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, jet, trig, types.intp, moving, sign), lower


@intrinsic
def phased(typing: Any, amplitude: Any, trig: Any, at: Any, moving: Any, sign: Any) -> Lowering:
    """`phased(amplitude, trig, at, moving, sign)`: (cos - i sign sin) times an amplitude."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = _unpack(builder, args[0], len(amplitude))
        angle = Rows(context, builder, signature.args[1], args[1])
        cosine = [angle.load(args[2], 2 * i) for i in range(len(moving))]
        sine = [builder.fmul(args[4], angle.load(args[2], 2 * i + 1)) for i in range(len(moving))]
        im, re = _rotated(Vectors(builder, args[4]), values[1::2], values[::2], cosine, sine)
        mixed = [value for pair in zip(re, im, strict=True) for value in pair]
        return _pack(context, builder, amplitude, mixed)

    return amplitude(amplitude, trig, types.intp, moving, sign), lower


# pairs of amplitudes


def _pair(rows: Rows, j: Any, k: Any, size: int) -> list[list[Any]]:
    """For each row of the jet: re, im of amplitude j, re, im of amplitude k."""
    at = [rows.row(index, times=2 * size) for index in (j, k)]
    return [[rows.load(row, 2 * i + part) for row in at for part in (0, 1)] for i in range(size)]


@intrinsic
def turn(typing: Any, state: Any, j: Any, k: Any, jet: Any, matrix: Any) -> Lowering:
    """`turn(state, j, k, jet, matrix)`: the matrix times the amplitudes at j and k, in place.

    The matrix q0 - i (q1 X + q2 Y + q3 Z) is a tuple of quaternions, one for each row of the jet, or a single
    one if it has no infinitesimal part.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size, rows = len(jet), Rows(context, builder, signature.args[0], args[0])
        pair = _pair(rows, args[1], args[2], size)
        values = _unpack(builder, args[4], len(matrix))
        quaternions = [values[4 * i : 4 * i + 4] for i in range(len(matrix) // 4)]
        code = Vectors(builder, values[0])
        at = [rows.row(index, times=2 * size) for index in args[1:3]]
        for subset in reversed(range(size)):
            new = [None] * 4
            for part, rest in splits(subset):
                if part < len(quaternions):
                    new = _turned(code, new, quaternions[part], pair[rest])
            for i, value in enumerate(new):
                rows.store(at[i // 2], 2 * subset + i % 2, value)
        return context.get_dummy_value()

    return types.void(state, types.intp, types.intp, jet, matrix), lower


def _turned(code: Vectors, total: list, q: list, pair: list) -> list:
    """Total + matrix times pair; the matrix is [[q0 - i q3, -q2 - i q1], [q2 - i q1, q0 + i q3]]."""
    r0, i0, r1, i1 = pair
    return [
        code.dot(total[0], (1, q[0], r0), (1, q[3], i0), (-1, q[2], r1), (1, q[1], i1)),
        code.dot(total[1], (1, q[0], i0), (-1, q[3], r0), (-1, q[2], i1), (-1, q[1], r1)),
        code.dot(total[2], (1, q[2], r0), (1, q[1], i0), (1, q[0], r1), (-1, q[3], i1)),
        code.dot(total[3], (1, q[2], i0), (-1, q[1], r0), (1, q[0], i1), (1, q[3], r1)),
    ]


@intrinsic
def conjugate(typing: Any, matrix: Any) -> Lowering:
    """`conjugate(matrix)`: the inverse of a matrix."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = _unpack(builder, args[0], len(matrix))
        return _pack(
            context, builder, matrix, [builder.fneg(v) if i % 4 else v for i, v in enumerate(values)]
        )

    return matrix(matrix), lower


@intrinsic
def moments(typing: Any, psi: Any, co: Any, j: Any, k: Any, jet: Any, total: Any) -> Lowering:
    """`moments(psi, co, j, k, jet, total)`: add a pair's part of Im <co|X, Y, Z|psi> to a tuple of 3 c."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size = len(jet)
        state = _pair(Rows(context, builder, signature.args[0], args[0]), args[2], args[3], size)
        costate = _pair(Rows(context, builder, signature.args[1], args[1]), args[2], args[3], size)
        sums = _unpack(builder, args[5], len(total))
        code = Vectors(builder, sums[0])
        for subset in range(size):
            for part, rest in splits(subset):
                (p0, q0, p1, q1), (r0, i0, r1, i1) = costate[part], state[rest]
                terms = (
                    ((1, p0, i1), (-1, q0, r1), (1, p1, i0), (-1, q1, r0)),
                    ((-1, p0, r1), (-1, q0, i1), (1, p1, r0), (1, q1, i0)),
                    ((1, p0, i0), (-1, q0, r0), (-1, p1, i1), (1, q1, r1)),
                )
                for i, four in enumerate(terms):
                    sums[3 * subset + i] = code.dot(sums[3 * subset + i], *four)
        return _pack(context, builder, total, sums)

    return total(psi, co, types.intp, types.intp, jet, total), lower


# products over amplitudes: observables, and the slopes of diagonal rotations


def _amplitude(rows: Rows, j: Any, size: int) -> list[list[Any]]:
    at = rows.row(j, times=2 * size)
    return [[rows.load(at, 2 * i), rows.load(at, 2 * i + 1)] for i in range(size)]


@intrinsic
def slope_of(typing: Any, psi: Any, co: Any, j: Any, jet: Any) -> Lowering:
    """`slope_of(psi, co, j, jet)`: Im conj(co[j]) psi[j], a jet."""
    kind = types.UniTuple(vector_of(psi.dtype), len(jet))

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size = len(jet)
        state = _amplitude(Rows(context, builder, signature.args[0], args[0]), args[2], size)
        costate = _amplitude(Rows(context, builder, signature.args[1], args[1]), args[2], size)
        code, jets = Vectors(builder, state[0][0]), []
        for subset in range(size):
            total = None
            for part, rest in splits(subset):
                (p, q), (r, i) = costate[part], state[rest]
                total = code.dot(total, (1, p, i), (-1, q, r))
            jets.append(total)
        return _pack(context, builder, kind, jets)

    return kind(psi, co, types.intp, jet), lower


def _density(*, turned: bool) -> Any:
    @intrinsic
    def density(typing: Any, psi: Any, j: Any, k: Any, jet: Any) -> Lowering:
        kind = types.UniTuple(vector_of(psi.dtype), len(jet))

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            rows = Rows(context, builder, signature.args[0], args[0])
            left, right = (_amplitude(rows, index, len(jet)) for index in (args[2], args[1]))
            code, jets = Vectors(builder, left[0][0]), []
            for subset in range(len(jet)):
                total = None
                for part, rest in splits(subset):
                    if part & -subset & subset:  # summed over all amplitudes, A and its complement agree
                        continue
                    (p, q), (r, i) = left[part], right[rest]
                    terms = ((1, q, r), (-1, p, i)) if turned else ((1, p, r), (1, q, i))
                    total = code.dot(total, *terms)
                jets.append(builder.fadd(total, total) if subset else total)
            return _pack(context, builder, kind, jets)

        return kind(psi, types.intp, types.intp, jet), lower

    return density


density = _density(turned=False)  # `density(psi, j, k, jet)`: Re conj(psi[k]) psi[j], to be summed over all j
turned_density = _density(turned=True)  # Re conj(psi[k]) i psi[j]


def _spread(*, turned: bool) -> Any:
    @intrinsic
    def spread(typing: Any, psi: Any, co: Any, j: Any, k: Any, weight: Any) -> Lowering:
        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            size = len(weight)
            state = _amplitude(Rows(context, builder, signature.args[0], args[0]), args[2], size)
            rows = Rows(context, builder, signature.args[1], args[1])
            costate, at = _amplitude(rows, args[3], size), rows.row(args[3], times=2 * size)
            weights = _unpack(builder, args[4], size)
            code = Vectors(builder, weights[0])
            for subset in range(size):
                re, im = costate[subset]
                for part, rest in splits(subset):
                    r, i = state[rest]
                    re = code.dot(re, (-1, weights[part], i) if turned else (1, weights[part], r))
                    im = code.dot(im, (1, weights[part], r) if turned else (1, weights[part], i))
                rows.store(at, 2 * subset, re)
                rows.store(at, 2 * subset + 1, im)
            return context.get_dummy_value()

        return types.void(psi, co, types.intp, types.intp, weight), lower

    return spread


spread = _spread(turned=False)  # `spread(psi, co, j, k, weight)`: co[k] += weight psi[j]
turned_spread = _spread(turned=True)  # co[k] += weight i psi[j]


@intrinsic
def scaled(typing: Any, values: Any, scale: Any) -> Lowering:
    """`scaled(values, scale)`: a tuple of vectors times a vector."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        products = [builder.fmul(value, args[1]) for value in _unpack(builder, args[0], len(values))]
        return _pack(context, builder, values, products)

    return values(values, scale), lower
