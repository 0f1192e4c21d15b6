"""Worker threads for CPU kernels (those of a few microseconds: see `shared.relay`).

Numba's own threading layers abort when two Python threads enter them and break after `fork`, so kernels are
compiled serial and without the GIL (`njit(nogil=True)`), take a row range, and are spread here: over
PyTorch's OpenMP threads, where there are some and the arguments are arrays and numbers (see `shared.plain`),
else over a pool of Python threads.
"""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from itertools import pairwise
from queue import SimpleQueue

import torch

from shared import openmp

_PIECES = 4  # per thread

_pools: dict[int, "SimpleQueue[_Share]"] = {}  # what its helper threads wait for, by their number
_lock = threading.Lock()
_worker = threading.local()
_finest: ContextVar[bool] = ContextVar("qbio_finest_grain", default=False)


def parallel(kernel: Callable[..., None], rows: int, *args: object, grain: int) -> None:
    """Run `kernel(start, stop, *args)` over `range(rows)`, cut into pieces that several threads take in turn.

    The kernel must write only what belongs to its own rows, and must release the GIL; into which pieces the
    rows are cut may not show in its results. At most `torch.get_num_threads()` threads work, the caller among
    them; fewer when there are less than `grain` rows for each (choose it so that they are worth about 0.2 ms:
    a hand-off costs up to 0.05 ms). There are a few pieces per thread, since another process may hold one of
    the processors: the others then do more. Calls from inside a worker run inline. The first exception is
    raised once all threads have ended; so is a KeyboardInterrupt.

    Example:
        >>> import numpy as np
        >>> out = np.zeros(10)
        >>> def fill(start, stop, out):
        ...     out[start:stop] = np.arange(start, stop)
        >>> parallel(fill, 10, out, grain=2)
        >>> out.sum()
        np.float64(45.0)
    """
    threads = share_count(rows, grain)
    if threads <= 1:
        kernel(0, rows, *args)
        return
    count = max(threads, min(_PIECES * threads, rows // max(1, grain // _PIECES)))
    if not _on_openmp(kernel, rows, args, count, threads):
        _on_own_threads(kernel, rows, args, count, threads)


def _on_openmp(
    kernel: Callable[..., None], rows: int, args: tuple[object, ...], count: int, threads: int
) -> bool:
    """Whether PyTorch's OpenMP threads could do the work."""
    if not (hasattr(kernel, "py_func") and openmp.entry()):  # not compiled by Numba, or there are none
        return False
    from shared import plain  # loads Numba, as the kernel has done

    return plain.share(kernel, rows, args, pieces=count, threads=threads)


def _on_own_threads(
    kernel: Callable[..., None], rows: int, args: tuple[object, ...], count: int, threads: int
) -> None:
    work = _Work(kernel, args, deque(pairwise([rows * i // count for i in range(count + 1)])))
    shares = [_Share(work) for _ in range(threads - 1)]
    pool = _pool(threads - 1)
    for share in shares:
        pool.put(share)
    try:
        work.do()
    finally:
        for share in shares:
            share.end()
    for share in shares:
        if share.failure is not None:
            raise share.failure


class _Work:
    """The pieces of one call that nobody has taken yet."""

    __slots__ = ("args", "kernel", "pieces")

    def __init__(
        self, kernel: Callable[..., None], args: tuple[object, ...], pieces: deque[tuple[int, int]]
    ) -> None:
        self.kernel, self.args, self.pieces = kernel, args, pieces

    def do(self) -> None:
        """Take pieces until none is left; a failure leaves none to the others."""
        kernel, args, pieces = self.kernel, self.args, self.pieces
        try:
            while pieces:
                try:
                    start, stop = pieces.popleft()
                except IndexError:  # another thread took the last one in between
                    return
                kernel(start, stop, *args)
        except BaseException:
            pieces.clear()
            raise


class _Share:
    """The part of a helper thread in some work. Two bare locks: a `Future` takes five times as long."""

    __slots__ = ("_done", "_taken", "failure", "work")

    def __init__(self, work: _Work) -> None:
        self.work = work
        self.failure: BaseException | None = None
        self._taken, self._done = threading.Lock(), threading.Lock()
        self._done.acquire()

    def do(self) -> None:
        """What the helper does, if the work has not ended in the meantime."""
        if not self._taken.acquire(blocking=False):
            return
        try:
            self.work.do()
        except BaseException as failure:  # goes to the caller
            self.failure = failure
        finally:
            self._done.release()

    def end(self) -> None:
        """Keep the helper from beginning, or else wait until it has ended, as it may still write."""
        if not self._taken.acquire(blocking=False):
            self._done.acquire()


def share_count(rows: int, grain: int) -> int:
    """How many threads `parallel` would use: 1 means that the caller does all the work."""
    if getattr(_worker, "inside", False):
        return 1
    if _finest.get():
        grain = 1
    return max(1, min(torch.get_num_threads(), rows // max(1, grain)))


@contextlib.contextmanager
def finest_grain() -> Iterator[None]:
    """Within this block a share may be as small as one row, so that tests spread small work over threads."""
    token = _finest.set(True)
    try:
        yield
    finally:
        _finest.reset(token)


def _pool(helpers: int) -> "SimpleQueue[_Share]":
    pool = _pools.get(helpers)
    if pool is None:
        with _lock:
            pool = _pools.get(helpers)
            if pool is None:
                pool = SimpleQueue()
                for number in range(helpers):
                    name = f"qbio_{number}"
                    threading.Thread(target=_help, args=(pool,), name=name, daemon=True).start()
                _pools[helpers] = pool
    return pool


def _help(pool: "SimpleQueue[_Share]") -> None:
    """The life of a helper thread, which ends with the process."""
    _worker.inside = True
    while True:
        pool.get().do()


def _forget_pools() -> None:
    """Threads do not survive a fork: the child starts without pools and with a free lock."""
    global _lock
    _pools.clear()
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget_pools)
