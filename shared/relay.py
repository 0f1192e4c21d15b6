"""Hand-offs between compiled kernels, in a microsecond: no Python, no GIL, and PyTorch's own threads.

To hand half of its work to a thread of ours, a small kernel would have to wait for it to wake up and to get
the GIL: 50 us and more, which is what it takes altogether. OpenMP threads run a compiled function at once,
as long as they spin after the latest loop, be it ours or one of PyTorch's; else they are woken.

Kernels alone import this module, since it loads Numba. A kernel is the address of a compiled function
`void (int64 start, int64 stop, int64 room, int64 *numbers)`, made by `numba.cfunc`, that does rows
start..stop of its work; `room` is the address of memory to work in, `numbers` hold its arguments, addresses
among them. It must write only what belongs to its own rows, and must not fail: so it allocates nothing.
Kernels that take arrays come here by `shared.plain`.
"""

import threading
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch

from shared import handoff, openmp
from shared.pace import Pace
from shared.threads import parallel, share_count

_PIECES = 4  # at most, per thread: another process may hold one of the processors, the others then do more
_KEPT_BYTES = 2**20  # by each calling thread: asking for memory would take small work longer than itself


class _Own(threading.local):
    """What each calling thread keeps: a job, and memory for small work."""

    def __init__(self) -> None:
        self.job = np.zeros(handoff.LENGTH, np.int64)
        self.room = _memory(_KEPT_BYTES)


def _memory(size: int) -> np.ndarray:
    """Bytes that begin with a cache line."""
    room = np.empty(size + 64, np.uint8)
    return room[-room.ctypes.data % 64 :]


_own = _Own()


def run(
    kernel: int,
    rows: int,
    numbers: tuple[int, ...],
    *,
    grain: int,
    room: int,
    pace: Pace,
    ends: bool = False,
) -> None:
    """Run a kernel over `range(rows)`, on several threads if there are `grain` rows and more for each.

    At most `torch.get_num_threads()` threads work, the caller among them. What `shared.threads` promises
    holds here too; a call from one of its workers runs alone.

    Args:
        kernel: the address of a compiled function, see above.
        rows: how many there are; it is called even if there are none.
        numbers: its arguments, at most 48.
        grain: rows that are worth a hand-off, which takes some 2 us if the helpers are awake.
        room: bytes of memory that each thread needs; what is in there at first can be anything.
        pace: what is known of this kind of work: only if helpers make it quicker are they asked.
        ends: whether the kernel has something to do before all rows and after them, on one thread: it is
            called with start = stop = 0, and start = stop = rows.
    """
    count = share_count(rows, grain)
    if count == 1:
        run_alone(kernel, rows, numbers, room=room, ends=ends)
        return
    begun = perf_counter_ns()
    if pace.helped():
        pieces = max(count, min(_PIECES * count, rows // max(1, grain)))
        share(kernel, rows, numbers, pieces=pieces, threads=count, room=room, ends=ends)
    else:
        run_alone(kernel, rows, numbers, room=room, ends=ends)
    pace.hear(perf_counter_ns() - begun)


def run_alone(kernel: int, rows: int, numbers: tuple[int, ...], *, room: int, ends: bool = False) -> None:
    """`run` on the calling thread, for work that is known to be small."""
    own = _own
    memory = own.room if room <= _KEPT_BYTES else _memory(room)
    handoff.alone(own.job, kernel, rows, memory, numbers, ends)


def share(
    kernel: int, rows: int, numbers: tuple[int, ...], *, pieces: int, threads: int, room: int, ends: bool
) -> None:
    """`run` on so many threads."""
    room = -(-room // 64) * 64  # so that each thread's begins with a cache line
    own, size = _own, threads * room
    memory = own.room if size <= _KEPT_BYTES else _memory(size)
    work = (kernel, rows, pieces, threads, memory, room, numbers)
    if entry := openmp.entry():
        # a team of PyTorch's size, as another would end some of its threads and begin them anew
        handoff.lead(entry, handoff.body.address, torch.get_num_threads(), own.job, *work, ends)
    else:
        _share_among_own(own.job, work, threads, ends)


def _share_among_own(job: np.ndarray, work: tuple[Any, ...], threads: int, ends: bool) -> None:
    """The same on the Python threads of `shared.threads`."""
    handoff.cut(job, *work)
    if ends:
        handoff.end(job, False)
    parallel(handoff.attend, threads, job, grain=1)
    if ends:
        handoff.end(job, True)
