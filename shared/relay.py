"""Hand-offs between compiled kernels, in a microsecond: helper threads that stay awake for a moment.

Waking a thread takes 50 us and more, which is what a small kernel takes altogether. A helper here spins in
compiled code, without the GIL, for some 0.2 ms after its latest work, and looks for more. In a training loop
it is still awake at the next kernel, and takes its share at once; else it sleeps, and costs nothing. A helper
that sleeps is called, and joins when it is awake, if anything is left to do by then.

Kernels alone import this module, since it loads Numba. A kernel is the address of a compiled function
`void (int64 start, int64 stop, int64 room, int64 *numbers)`, made by `numba.cfunc`, that does rows
start..stop of its work; `room` is the address of memory to work in, `numbers` hold its arguments, addresses
among them. It must write only what belongs to its own rows, and must not fail: so it allocates nothing.
"""

import os
import threading
from queue import SimpleQueue
from time import perf_counter_ns

import numpy as np

from shared import handoff
from shared.pace import Pace
from shared.threads import share_count

_PIECES = 4  # at most, per thread: another process may hold one of the processors, the others then do more
_PATIENCE = 20000  # looks for work, of some 10 ns, before a helper goes to sleep
_KEPT_BYTES = 2**20  # by each calling thread: asking for memory would take small work longer than itself


class Team:
    """The helper threads of a process, and the job that they share."""

    def __init__(self, helpers: int) -> None:
        self.helpers = helpers
        self.job = np.zeros(handoff.LENGTH, np.int64)
        self.states = np.zeros(helpers * handoff.LINE, np.int64)
        self.lock = threading.Lock()
        self._calls = [SimpleQueue() for _ in range(helpers)]
        for number, calls in enumerate(self._calls):
            arguments = (self.job, self.states, number * handoff.LINE, calls)
            threading.Thread(target=_help, args=arguments, name=f"qbio_relay_{number}", daemon=True).start()

    def call(self) -> None:
        """Call the helpers that sleep."""
        for number, calls in enumerate(self._calls):
            at = number * handoff.LINE
            if self.states[at] == handoff.ASLEEP and handoff.summon(self.states, at):
                calls.put(None)


class _Own(threading.local):
    """What each calling thread keeps: a job to do alone, and memory for small work."""

    def __init__(self) -> None:
        self.job = np.zeros(handoff.LENGTH, np.int64)
        self.room = _memory(_KEPT_BYTES)


def _memory(size: int) -> np.ndarray:
    """Bytes that begin with a cache line."""
    room = np.empty(size + 64, np.uint8)
    return room[-room.ctypes.data % 64 :]


_own = _Own()
_teams: dict[int, Team] = {}  # by number of helpers
_making = threading.Lock()


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
    holds here too; a call from one of its workers, or while another thread has the helpers, runs alone.

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
    threads = share_count(rows, grain)
    if threads == 1:
        run_alone(kernel, rows, numbers, room=room, ends=ends)
        return
    begun = perf_counter_ns()
    team = _teams.get(threads - 1) or _team(threads - 1)
    if pace.helped() and team.lock.acquire(blocking=False):
        try:
            count = max(threads, min(_PIECES * threads, rows // max(1, grain)))
            _lead(team, kernel, rows, count, room, numbers, ends)
        finally:
            team.lock.release()
    else:
        run_alone(kernel, rows, numbers, room=room, ends=ends)
    pace.hear(perf_counter_ns() - begun)


def run_alone(kernel: int, rows: int, numbers: tuple[int, ...], *, room: int, ends: bool = False) -> None:
    """`run` on the calling thread, for work that is known to be small."""
    own = _own
    memory = own.room if room <= _KEPT_BYTES else _memory(room)
    handoff.alone(own.job, kernel, rows, memory, numbers, ends)


def _lead(
    team: Team,
    kernel: int,
    rows: int,
    count: int,
    room: int,
    numbers: tuple[int, ...],
    ends: bool,
) -> None:
    """Share the rows out in `count` pieces, and return when all are done."""
    room = -(-room // 64) * 64  # so that each thread's begins with a cache line
    size = (1 + team.helpers) * room
    memory = _own.room if size <= _KEPT_BYTES else _memory(size)
    team.call()
    try:
        handoff.lead(team.job, team.states, kernel, rows, count, memory, room, numbers, ends)
    finally:
        handoff.join(team.job, team.states, ends)


def _team(helpers: int) -> Team:
    with _making:
        if helpers not in _teams:
            _teams[helpers] = Team(helpers)
        return _teams[helpers]


def _help(job: np.ndarray, states: np.ndarray, at: int, calls: "SimpleQueue[None]") -> None:
    """The life of a helper thread, which ends with the process."""
    while True:
        calls.get()
        handoff.attend(job, states, at, _PATIENCE)


def _forget_teams() -> None:
    """Threads do not survive a fork: the child starts without helpers and with a free lock."""
    global _making
    _teams.clear()
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget_teams)
