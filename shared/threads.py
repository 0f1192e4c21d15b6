"""One pool of worker threads for every CPU kernel.

Numba's own threading layers abort when two Python threads enter them and break after `fork`, so kernels are
compiled serial and without the GIL (`njit(nogil=True)`), take a row range, and are spread over this pool.
"""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import ContextVar
from itertools import pairwise

import torch

_PIECES = 4  # per thread

_pools: dict[int, ThreadPoolExecutor] = {}  # by number of helper threads
_lock = threading.Lock()
_worker = threading.local()
_finest: ContextVar[bool] = ContextVar("qbio_finest_grain", default=False)


def parallel(kernel: Callable[..., None], rows: int, *args: object, grain: int) -> None:
    """Run `kernel(start, stop, *args)` over `range(rows)`, cut into pieces that several threads take in turn.

    The kernel must write only what belongs to its own rows, and must release the GIL; into which pieces the
    rows are cut may not show in its results. At most `torch.get_num_threads()` threads work, the caller among
    them; fewer when there are less than `grain` rows for each (choose it so that they are worth about 0.2 ms:
    a hand-off costs 0.05 ms). There are a few pieces per thread, since another process, or an OpenMP thread
    that spins after one of PyTorch's own loops, may hold one of the processors: the others then do more.
    Calls from inside a worker run inline. The first exception is raised once all threads have ended.

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
    pieces = deque(pairwise([rows * i // count for i in range(count + 1)]))
    jobs = [_pool(threads - 1).submit(_work, kernel, args, pieces) for _ in range(threads - 1)]
    try:
        _work(kernel, args, pieces)
    finally:
        # who has not begun finds nothing left to do; the others are waited for, as they may still write
        begun = [job for job in jobs if not job.cancel()]
        wait(begun)
    for job in begun:
        job.result()


def _work(kernel: Callable[..., None], args: tuple[object, ...], pieces: deque[tuple[int, int]]) -> None:
    """Take pieces until none is left; a failure leaves none to the others."""
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


def _pool(helpers: int) -> ThreadPoolExecutor:
    pool = _pools.get(helpers)
    if pool is None:
        with _lock:
            pool = _pools.get(helpers)
            if pool is None:
                pool = ThreadPoolExecutor(helpers, thread_name_prefix="qbio", initializer=_enter_worker)
                _pools[helpers] = pool
    return pool


def _enter_worker() -> None:
    _worker.inside = True


def _forget_pools() -> None:
    """Threads do not survive a fork: the child starts without pools and with a free lock."""
    global _lock
    _pools.clear()
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget_pools)
