# pyright: reportCallIssue=false
"""The compiled half of `shared.relay`: jobs, their pieces, and the states that threads watch.

Numbers that several threads change are read and written by atomic instructions. Pyright is told to pass over
calls here, as it takes Numba's intrinsics for their generators.
"""

import os
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_process_triple
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from shared.simd import Lowering, address, pointer
from shared.simd import call as call_llvm

# a job: places of an array of int64, the first in a cache line of its own
_NEXT, _COUNT, _ROWS, _KERNEL, _ROOM, _SIZE, _NUMBERS = 0, 8, 9, 10, 11, 12, 16
LENGTH = 64

# what a helper does
ASLEEP, READY, BUSY, CALLED = 0, 1, 2, 3  # called: it was asleep, and has not begun yet
LINE = 8  # numbers from one helper's state to the next one's: a cache line


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
def lead(job, states, kernel, rows, count, memory, room, numbers, ends):
    """Share the rows out in pieces, and do those that nobody takes."""
    job[_COUNT], job[_ROWS], job[_KERNEL] = count, rows, kernel
    job[_ROOM], job[_SIZE] = address(memory), room
    for i in range(len(numbers)):
        job[_NUMBERS + i] = numbers[i]
    if ends:
        call(kernel, 0, 0, address(memory), job, _NUMBERS)
    put(job, _NEXT, 0)
    for at in range(0, len(states), LINE):
        swap(states, at, READY, BUSY)
    _work(job, 0)


@njit(nogil=True, cache=True)
def join(job, states, ends):
    """Wait until the helpers have done what they have taken."""
    for at in range(0, len(states), LINE):
        if not swap(states, at, CALLED, ASLEEP):  # it need not begin any more; else it may still write
            looks = 0
            while get(states, at) == BUSY:
                looks += 1
                wait(looks)
    if ends:
        call(job[_KERNEL], job[_ROWS], job[_ROWS], job[_ROOM], job, _NUMBERS)


@njit(nogil=True, cache=True)
def attend(job, states, at, patience):
    """What a helper does from waking up to falling asleep."""
    who = 1 + at // LINE
    swap(states, at, ASLEEP, READY)  # unless it is called
    looks = 0
    while True:
        if get(states, at) == BUSY or swap(states, at, CALLED, BUSY):
            _work(job, who)
            put(states, at, READY)
            looks = 0
        else:
            looks += 1
            wait(looks)
            if looks > patience and swap(states, at, READY, ASLEEP):
                return
            if get(states, at) == ASLEEP:  # called, but not in time; another call may be on its way
                return


@njit(nogil=True, cache=True)
def summon(states, at):
    """Whether a helper was asleep; then it is called, and whoever asks must wake it."""
    return swap(states, at, ASLEEP, CALLED)


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _work(job, who):
    """Take pieces until none is left; `who` counts the threads."""
    rows, count, room = job[_ROWS], job[_COUNT], job[_ROOM] + who * job[_SIZE]
    while True:
        i = take(job, _NEXT)
        if i >= count:
            return
        call(job[_KERNEL], rows * i // count, rows * (i + 1) // count, room, job, _NUMBERS)


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return pointer(context, builder, signature.args[0], args[0], args[1])


@intrinsic
def get(typing: Any, array: Any, at: Any) -> Lowering:
    """`get(array, at)`: a number that another thread may change, and all that it wrote before."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature, args), "acquire", 8)

    return types.int64(array, types.intp), lower


@intrinsic
def put(typing: Any, array: Any, at: Any, value: Any) -> Lowering:
    """`put(array, at, value)`: a number that another thread looks at, after all that was written before."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _place(context, builder, signature, args), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), lower


@intrinsic
def take(typing: Any, array: Any, at: Any) -> Lowering:
    """`take(array, at)`: a number, to which one is added in the same instant."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", _place(context, builder, signature, args), one, "acq_rel")

    return types.int64(array, types.intp), lower


@intrinsic
def swap(typing: Any, array: Any, at: Any, old: Any, new: Any) -> Lowering:
    """`swap(array, at, old, new)`: whether a number was `old`; then it is `new`."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature, args)
        pair = builder.cmpxchg(place, args[2], args[3], "acq_rel", "acquire")
        return builder.extract_value(pair, 1)

    return types.boolean(array, types.intp, types.int64, types.int64), lower


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


@njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def wait(looks):
    """Between two looks; now and then the processor goes to who wants it, which may be the other side."""
    if looks & 255 == 0:
        give_way()
    else:
        pause()


@intrinsic
def give_way(typing: Any) -> Lowering:
    """`give_way()`: let another thread have this processor, if one wants it."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if os.name == "posix":
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), lower


@intrinsic
def pause(typing: Any) -> Lowering:
    """`pause()`: tell the processor, where it has an instruction for that, that this loop only waits."""
    machine = get_process_triple().split("-", 1)[0]

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if machine == "x86_64":
            call_llvm(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        elif machine in ("aarch64", "arm64"):
            call_llvm(builder, "llvm.aarch64.hint", ir.VoidType(), [ir.Constant(ir.IntType(32), 1)])
        return context.get_dummy_value()

    return types.void(), lower
