"""One pool of worker threads for every CPU kernel.

Numba's own threading layers abort when two Python threads enter them and break after `fork`, so kernels are
compiled serial and without the GIL (`njit(nogil=True)`), take a row range, and are spread over this pool.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from itertools import pairwise

import torch

_pools: dict[int, ThreadPoolExecutor] = {}  # by number of helper threads
_lock = threading.Lock()
_worker = threading.local()
_finest: ContextVar[bool] = ContextVar("qbio_finest_grain", default=False)


def parallel(kernel: Callable[..., None], rows: int, *args: object, grain: int) -> None:
    """Run `kernel(start, stop, *args)` over `range(rows)`, cut into one contiguous share per thread.

    The kernel must write only what belongs to its own rows, and must release the GIL. At most
    `torch.get_num_threads()` threads work, the caller among them; fewer when a share would fall
    below `grain` rows (choose it so that a share is worth about 0.2 ms: a hand-off costs 0.05 ms).
    Calls from inside a worker run inline. The first exception of any share is raised once all have ended.

    Example:
        >>> import numpy as np
        >>> out = np.zeros(10)
        >>> def fill(start, stop, out):
        ...     out[start:stop] = np.arange(start, stop)
        >>> parallel(fill, 10, out, grain=2)
        >>> out.sum()
        np.float64(45.0)
    """
    shares = share_count(rows, grain)
    if shares <= 1:
        kernel(0, rows, *args)
        return
    edges = [rows * i // shares for i in range(shares + 1)]
    jobs = [_pool(shares - 1).submit(kernel, a, b, *args) for a, b in pairwise(edges[1:])]
    try:
        kernel(0, edges[1], *args)
    finally:
        for job in jobs:
            job.exception()  # waits: no share may still write when the caller goes on
    for job in jobs:
        job.result()


def share_count(rows: int, grain: int) -> int:
    """Into how many shares `parallel` would cut `rows`: 1 means that the caller does all the work."""
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
