# pyright: reportCallIssue=false
"""One compiled call for all kernels of Numba: the compiled half of `shared.plain`.

On the machines below each integer and float that a function takes has its register, or its place on the
stack, whatever comes after it. So a call that passes more of them than a function has does no harm.
"""

from typing import Any

from llvmlite import ir
from numba import cfunc, njit, types
from numba.core.callconv import RETCODE_NONE, RETCODE_OK
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from shared.handoff import take
from shared.simd import Lowering

MACHINES = ("x86_64", "aarch64")  # with Linux; elsewhere small numbers are packed, or callers clear the stack
FEW, MANY = 64, 256  # integers that a call passes on: each is a function of its own
REALS = 8  # floats that a call passes on: so many have registers
_SIGNATURE = "void(int64, int64, int64, CPointer(int64))"

# the numbers of a call: addresses of the function, of what it takes, and of a report
FUNCTION, INTEGERS_AT, REALS_AT, REPORT_AT = range(4)
FAILED, START, STOP = range(3)  # the report: how many pieces have failed, and the first of them


def _loaded(builder: Any, place: Any, kind: Any, count: int) -> list[Any]:
    first = builder.inttoptr(place, kind.as_pointer())
    return [builder.load(builder.gep(first, [ir.IntType(32)(i)])) for i in range(count)]


def _call(count: int) -> Any:
    @intrinsic
    def call(typing: Any, function: Any, integers: Any, reals: Any, start: Any, stop: Any) -> Lowering:
        """`call(function, integers, reals, start, stop)`: whether the kernel at an address has failed."""

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            number, real, state = ir.IntType(64), ir.DoubleType(), RETCODE_OK.type
            left = builder.alloca(number, 2)  # where it would leave a result, and what it raises
            places = [builder.ptrtoint(builder.gep(left, [state(i)]), number) for i in range(2)]
            passed = [*places, *args[3:], *_loaded(builder, args[1], number, count)]
            passed += _loaded(builder, args[2], real, REALS)
            kind = ir.FunctionType(state, [part.type for part in passed])
            found = builder.call(builder.inttoptr(args[0], kind.as_pointer()), passed)
            wrong = [builder.icmp_signed("!=", found, fine) for fine in (RETCODE_OK, RETCODE_NONE)]
            return builder.and_(*wrong)

        return types.boolean(*[types.int64] * 5), lower

    return call


call_few, call_many = _call(FEW), _call(MANY)


@intrinsic
def place(typing: Any, address: Any) -> Lowering:
    """`place(address)`: a pointer to integers."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.int64)(types.int64), lower


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def note(failed, start, stop, numbers):
    """Report a piece that has failed."""
    if failed:
        report = carray(place(numbers[REPORT_AT]), 3)
        if take(report, FAILED) == 0:
            report[START], report[STOP] = start, stop


@cfunc(_SIGNATURE, cache=True)
def run_few(start, stop, room, numbers):
    """Rows start..stop of a kernel of few arguments."""
    failed = call_few(numbers[FUNCTION], numbers[INTEGERS_AT], numbers[REALS_AT], start, stop)
    note(failed, start, stop, numbers)


@cfunc(_SIGNATURE, cache=True)
def run_many(start, stop, room, numbers):
    """The same of a kernel of many."""
    failed = call_many(numbers[FUNCTION], numbers[INTEGERS_AT], numbers[REALS_AT], start, stop)
    note(failed, start, stop, numbers)


CALLS: dict[int, Any] = {FEW: run_few, MANY: run_many}
