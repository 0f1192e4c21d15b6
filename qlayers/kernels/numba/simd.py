"""Explicit SIMD vectors inside Numba kernels: 64 bytes of float32 or float64 as one value.

LLVM cannot prove that the rows of a state do not alias, so it leaves plain loops over many rows scalar or
spills them. A vector value type with a handful of intrinsics reaches the machine's FMA rate instead. 64 bytes
are one AVX-512 register; LLVM splits them into two on AVX2 and four on NEON.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

BYTES = 64


def lanes_of(itemsize: int) -> int:
    """How many numbers of this size one vector holds."""
    return BYTES // itemsize


class Vector(types.Type):
    """The Numba type of a vector of `scalar` (float32 or float64)."""

    def __init__(self, scalar: types.Float) -> None:
        super().__init__(name=f"Vector({scalar})")
        self.scalar = scalar
        self.lanes = lanes_of(scalar.bitwidth // 8)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(
            manager, vector, ir.VectorType(manager.lookup(vector.scalar).get_value_type(), vector.lanes)
        )


def _pointer(context, builder, array_type, array, row, llvm_type, lanes):
    """The address of row `row` of an array that is seen as consecutive vectors."""
    data = context.make_array(array_type)(context, builder, array).data
    element = builder.gep(data, [builder.mul(row, ir.Constant(row.type, lanes))])
    return builder.bitcast(element, llvm_type.as_pointer())


@intrinsic
def load(typing_context, array, row):
    """The `row`-th vector of a contiguous array."""
    vector = Vector(array.dtype)

    def generate(context, builder, signature, args):
        llvm_type = context.get_value_type(vector)
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], llvm_type, vector.lanes)
        value = builder.load(pointer)
        value.align = array.dtype.bitwidth // 8
        return value

    return vector(array, types.intp), generate


@intrinsic
def store(typing_context, array, row, value):
    """Write the `row`-th vector of a contiguous array."""
    vector = Vector(array.dtype)

    def generate(context, builder, signature, args):
        llvm_type = context.get_value_type(vector)
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], llvm_type, vector.lanes)
        written = builder.store(args[2], pointer)
        written.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def splat(typing_context, scalar):
    """A vector with `scalar` in every lane."""
    vector = Vector(scalar)

    def generate(context, builder, signature, args):
        llvm_type = context.get_value_type(vector)
        undefined = ir.Constant(llvm_type, ir.Undefined)
        first = builder.insert_element(undefined, args[0], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
        return builder.shuffle_vector(first, undefined, zeros)

    return vector(scalar), generate


@intrinsic
def total(typing_context, vector):
    """The sum of all lanes, in a fixed order."""

    def generate(context, builder, signature, args):
        count, value = vector.lanes, args[0]
        while count > 1:  # halves added onto each other: the order does not depend on the machine
            count //= 2
            index = ir.VectorType(ir.IntType(32), count)
            low = builder.shuffle_vector(value, value, ir.Constant(index, list(range(count))))
            high = builder.shuffle_vector(value, value, ir.Constant(index, list(range(count, 2 * count))))
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return vector.scalar(vector), generate


def _fused(negated: bool):
    @intrinsic
    def fused(typing_context, a, b, c):
        def generate(context, builder, signature, args):
            llvm_type = context.get_value_type(a)
            name = f"llvm.fma.v{a.lanes}f{a.scalar.bitwidth}"
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(llvm_type, [llvm_type] * 3), name
            )
            first = builder.fneg(args[0]) if negated else args[0]
            return builder.call(function, [first, args[1], args[2]])

        return a(a, a, a), generate

    return fused


fma = _fused(negated=False)  # a b + c
fnma = _fused(negated=True)  # c - a b


def _binary(instruction: str):
    @intrinsic
    def operation(typing_context, a, b):
        def generate(context, builder, signature, args):
            return getattr(builder, instruction)(*args)

        return a(a, a), generate

    return operation


add = _binary("fadd")
sub = _binary("fsub")
mul = _binary("fmul")


@intrinsic
def neg(typing_context, a):
    """-a."""

    def generate(context, builder, signature, args):
        return builder.fneg(args[0])

    return a(a), generate


@intrinsic
def odd(typing_context, bits):
    """1 when an int64 has an odd number of set bits, else 0."""

    def generate(context, builder, signature, args):
        return builder.and_(builder.ctpop(args[0]), ir.Constant(args[0].type, 1))

    return types.int64(types.int64), generate


@intrinsic
def address(typing_context, array):
    """The memory address of an array's first element, to align what is allocated."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.intp))

    return types.intp(array), generate
