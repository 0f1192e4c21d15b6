# pyright: reportCallIssue=false
"""The compiled half of `shared.relay` and `shared.plain`: jobs, and the pieces that threads take of them.

Numbers that several threads change are changed by atomic instructions. Pyright is told to pass over calls
here, as it takes Numba's intrinsics for their generators.
"""

from typing import Any

from llvmlite import ir
from numba import cfunc, njit, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from shared.simd import Lowering, address, pointer

# a job: places of an array of int64, the first in a cache line of its own
_NEXT, _WHO, _THREADS, _COUNT, _ROWS, _KERNEL, _ROOM, _SIZE, _NUMBERS = 0, 1, 8, 9, 10, 11, 12, 13, 16
LENGTH = 64


@njit(nogil=True, cache=True)
def alone(job, kernel, rows, memory, numbers, ends):
    """Do all rows."""
    for i in range(len(numbers)):
        job[_NUMBERS + i] = numbers[i]
    if ends:
        call(kernel, 0, 0, address(memory), job, _NUMBERS)
    if rows or not ends:
        call(kernel, 0, rows, address(memory), job, _NUMBERS)
    if ends:
        call(kernel, rows, rows, address(memory), job, _NUMBERS)


@njit(nogil=True, cache=True)
def cut(job, kernel, rows, count, threads, memory, room, numbers):
    """Fill in a job: rows in `count` pieces, for so many threads with `room` bytes of memory each."""
    job[_NEXT], job[_WHO], job[_THREADS] = 0, 0, threads
    job[_COUNT], job[_ROWS], job[_KERNEL] = count, rows, kernel
    job[_ROOM], job[_SIZE] = address(memory), room
    for i in range(len(numbers)):
        job[_NUMBERS + i] = numbers[i]


@njit(nogil=True, cache=True)
def lead(entry, body, team, job, kernel, rows, count, threads, memory, room, numbers, ends):
    """Have a job, see `cut`, done by a team of OpenMP threads, the caller among them."""
    cut(job, kernel, rows, count, threads, memory, room, numbers)
    if ends:
        end(job, False)
    fork(entry, body, job, team)
    if ends:
        end(job, True)


@njit(nogil=True, cache=True)
def end(job, last):
    """What a kernel does on one thread: before all rows, or after them."""
    rows = job[_ROWS] if last else 0
    call(job[_KERNEL], rows, rows, job[_ROOM], job, _NUMBERS)


@njit(nogil=True, cache=True)
def attend(start, stop, job):
    """Take pieces until none is left, as one of the threads of the job; for `shared.threads`."""
    who, rows, count = take(job, _WHO), job[_ROWS], job[_COUNT]
    if who >= job[_THREADS]:  # the team of a large machine has more threads than the job is worth
        return
    while True:
        i = take(job, _NEXT)
        if i >= count:
            return
        place = job[_ROOM] + who * job[_SIZE]
        call(job[_KERNEL], rows * i // count, rows * (i + 1) // count, place, job, _NUMBERS)


@intrinsic
def fork(typing: Any, entry: Any, body: Any, job: Any, team: Any) -> Lowering:
    """`fork(entry, body, job, team)`: `GOMP_parallel`, see `shared.openmp`."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = pointer(context, builder, signature.args[2], args[2], ir.Constant(ir.IntType(64), 0))
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64), data.type, word, word])
        threads = builder.trunc(args[3], word)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1], data, threads, word(0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, job, types.int64), lower


@intrinsic
def take(typing: Any, array: Any, at: Any) -> Lowering:
    """`take(array, at)`: a number, to which one is added in the same instant."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = ir.Constant(ir.IntType(64), 1)
        place = pointer(context, builder, signature.args[0], args[0], args[1])
        return builder.atomic_rmw("add", place, one, "acq_rel")

    return types.int64(array, types.intp), lower


@intrinsic
def call(typing: Any, kernel: Any, start: Any, stop: Any, room: Any, job: Any, at: Any) -> Lowering:
    """`call(kernel, start, stop, room, job, at)`: the compiled function at an address, on a job's numbers."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        numbers = pointer(context, builder, signature.args[4], args[4], args[5])
        number = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [number, number, number, number.as_pointer()])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [*args[1:4], numbers])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4, job, types.intp), lower


@cfunc(types.void(types.CPointer(types.int64)), cache=True)
def body(job):
    """What OpenMP calls in each thread."""
    attend(0, 0, carray(job, LENGTH))
