"""Explicit SIMD vectors inside Numba kernels: the type, parts of code generators, and common operations.

LLVM leaves plain loops scalar where it cannot prove that rows do not alias, and where rows are chosen by an
index. A vector value type with a handful of intrinsics reaches the machine's rate instead. Unless a kernel
says otherwise a vector has 64 bytes: one register of AVX-512; LLVM splits it into two on AVX2 and four on
NEON. Arrays are C-contiguous; places in them count elements from the start and are not checked: the kernels
answer for them.

Kernels alone import this module, since it loads Numba.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

BYTES = 64

Lowering = tuple[Any, Callable[..., Any]]  # what an intrinsic returns: its signature, its code generator

_index = ir.IntType(32)


class Vector(types.Type):
    """The Numba type of `lanes` numbers of type `scalar` (an integer or a float) as one value."""

    def __init__(self, scalar: Any, lanes: int) -> None:
        super().__init__(name=f"Vector({scalar}, {lanes})")
        self.scalar = scalar
        self.lanes = lanes

    @property
    def llvm(self) -> ir.VectorType:
        """The same type for LLVM."""
        bits = self.scalar.bitwidth
        floats = {32: ir.FloatType(), 64: ir.DoubleType()}
        return ir.VectorType(floats[bits] if is_float(self) else ir.IntType(bits), self.lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.llvm)


def lanes_of(itemsize: int, size: int = BYTES) -> int:
    """How many numbers of `itemsize` bytes a vector of `size` bytes holds."""
    return size // itemsize


def vector_of(scalar: Any, size: int = BYTES) -> Vector:
    """The vector of `size` bytes."""
    return Vector(scalar, lanes_of(scalar.bitwidth // 8, size))


def is_float(vector: Vector) -> bool:
    """Whether the lanes hold floats."""
    return isinstance(vector.scalar, types.Float)


def pointer(context: Any, builder: Any, array_type: types.Array, array: Any, at: Any) -> Any:
    """The address of element `at` of an array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [at])


def load_vector(builder: Any, place: Any, vector: Vector) -> Any:
    """Read a vector from an address that is aligned for one element only."""
    value = builder.load(builder.bitcast(place, vector.llvm.as_pointer()))
    value.align = vector.scalar.bitwidth // 8
    return value


def store_vector(builder: Any, place: Any, value: Any, vector: Vector) -> None:
    """Write a vector to an address that is aligned for one element only."""
    written = builder.store(value, builder.bitcast(place, vector.llvm.as_pointer()))
    written.align = vector.scalar.bitwidth // 8


def splat_vector(builder: Any, value: Any, vector: Vector) -> Any:
    """A vector with `value` in every lane."""
    undefined = ir.Constant(vector.llvm, ir.Undefined)
    first = builder.insert_element(undefined, value, _index(0))
    return shuffle(builder, first, undefined, [0] * vector.lanes)


def shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    """A vector of the named lanes of `a` (0, 1, ...) and `b` (counted on from there)."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_index, len(lanes)), lanes))


def call(builder: Any, name: str, result: Any, args: list[Any]) -> Any:
    """Call an intrinsic of LLVM by its full name."""
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def prefetch_line(builder: Any, place: Any, *, to_write: bool) -> None:
    """Ask for the cache line at an address; a hint, the address may be invalid."""
    byte = builder.bitcast(place, ir.IntType(8).as_pointer())
    flags = [_index(int(to_write)), _index(3), _index(1)]  # 3: keep it in every cache, 1: it is data
    call(builder, "llvm.prefetch.p0i8", ir.VoidType(), [byte, *flags])


@intrinsic
def load(typing: Any, array: Any, at: Any) -> Lowering:
    """`load(array, at)`: the vector of 64 bytes that begins at element `at`."""
    vector = vector_of(array.dtype)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return load_vector(builder, pointer(context, builder, signature.args[0], *args), vector)

    return vector(array, types.intp), lower


@intrinsic
def store(typing: Any, array: Any, at: Any, vector: Any) -> Lowering:
    """`store(array, at, vector)`: write a vector of any size from element `at` on."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = pointer(context, builder, signature.args[0], args[0], args[1])
        store_vector(builder, place, args[2], vector)
        return context.get_dummy_value()

    return types.void(array, types.intp, Vector(array.dtype, vector.lanes)), lower


@intrinsic
def prefetch(typing: Any, array: Any, at: Any) -> Lowering:
    """`prefetch(array, at)`: ask for the cache line of an element that will be read soon."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        prefetch_line(builder, pointer(context, builder, signature.args[0], *args), to_write=False)
        return context.get_dummy_value()

    return types.void(array, types.intp), lower


@intrinsic
def address(typing: Any, array: Any) -> Lowering:
    """`address(array)`: the memory address of the first element, to align what is allocated."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.intp))

    return types.intp(array), lower


@intrinsic
def splat(typing: Any, scalar: Any) -> Lowering:
    """`splat(scalar)`: a vector of 64 bytes with `scalar` in every lane."""
    vector = vector_of(scalar)
    return vector(scalar), lambda context, builder, signature, args: splat_vector(builder, args[0], vector)


@intrinsic
def total(typing: Any, a: Any) -> Lowering:
    """`total(a)`: the sum of all lanes of floats, in an order that does not depend on the machine."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        count, value = a.lanes, args[0]
        while count > 1:  # halves added onto each other
            count //= 2
            low, high = list(range(count)), list(range(count, 2 * count))
            value = builder.fadd(shuffle(builder, value, value, low), shuffle(builder, value, value, high))
        return builder.extract_element(value, _index(0))

    return a.scalar(a), lower


@intrinsic
def neg(typing: Any, a: Any) -> Lowering:
    """`neg(a)`: -a of floats."""
    return a(a), lambda context, builder, signature, args: builder.fneg(*args)


def _binary(on_floats: str | None, on_integers: str) -> Any:
    @intrinsic
    def operation(typing: Any, a: Any, b: Any) -> Lowering | None:
        instruction = on_floats if is_float(a) else on_integers
        if instruction is None:
            return None
        return a(a, a), lambda context, builder, signature, args: getattr(builder, instruction)(*args)

    return operation


_BINARY = (  # LLVM's instruction on floats, on integers
    ("fadd", "add"),
    ("fmul", "mul"),
    (None, "or_"),  # the bits that are set in one of the two
)
add, mul, either = (_binary(*instructions) for instructions in _BINARY)


def _fused(*, negated: bool) -> Any:
    @intrinsic
    def fused(typing: Any, a: Any, b: Any, c: Any) -> Lowering:
        name = f"llvm.fma.v{a.lanes}f{a.scalar.bitwidth}"

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            first = builder.fneg(args[0]) if negated else args[0]
            return call(builder, name, first.type, [first, args[1], args[2]])

        return a(a, a, a), lower

    return fused


fma = _fused(negated=False)  # a b + c
fnma = _fused(negated=True)  # c - a b
