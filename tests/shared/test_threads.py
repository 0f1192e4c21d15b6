"""The worker pool: right values, and none of the ways in which thread pools die."""

import multiprocessing
import os
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from torch.utils.data import DataLoader, Dataset

from shared import threads


@njit(nogil=True, cache=True)
def squares(start, stop, out):
    for i in range(start, stop):
        out[i] = i * i


def expected(rows):
    return np.arange(rows, dtype=np.int64) ** 2


def run(rows=1000, grain=1):
    out = np.full(rows, -1, dtype=np.int64)
    threads.parallel(squares, rows, out, grain=grain)
    return out


@pytest.fixture
def thread_count():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@given(st.integers(0, 200), st.integers(0, 50), st.integers(1, 5))
def test_each_row_is_done_once(rows, grain, count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        done = np.zeros(rows, dtype=np.int64)
        pieces, workers = [], set()

        def kernel(start, stop, done):
            pieces.append(stop - start)
            workers.add(threading.get_ident())
            done[start:stop] += 1

        threads.parallel(kernel, rows, done, grain=grain)
    finally:
        torch.set_num_threads(before)
    assert (done == 1).all()
    assert len(workers) <= count
    if len(pieces) > 1:
        assert rows >= 2 * grain
        assert min(pieces) >= max(1, grain // 4)


def test_values():
    assert (run() == expected(1000)).all()


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_number_of_threads_is_honoured(thread_count, count):
    thread_count(count)
    workers = set()

    def kernel(start, stop):
        workers.add(threading.get_ident())
        time.sleep(0.01)

    threads.parallel(kernel, 100, grain=1)
    assert 1 <= len(workers) <= count
    assert threading.get_ident() in workers
    assert threads.share_count(100, 1) == count
    assert threads.share_count(100, 60) == 1
    assert threads.share_count(0, 1) == 1


def test_finest_grain_is_scoped(thread_count):
    thread_count(2)
    assert threads.share_count(4, 1000) == 1
    with threads.finest_grain():
        assert threads.share_count(4, 1000) == 2
        assert threads.share_count(1, 1000) == 1
    assert threads.share_count(4, 1000) == 1


def test_nested_calls_in_a_worker_run_inline(thread_count):
    thread_count(2)
    inner: dict[int, set[int]] = {}

    def kernel(start, stop):
        seen = inner.setdefault(threading.get_ident(), set())
        threads.parallel(lambda a, b: seen.add(threading.get_ident()), 10, grain=1)
        time.sleep(0.01)

    threads.parallel(kernel, 2, grain=1)
    helpers = {who: seen for who, seen in inner.items() if who != threading.get_ident()}
    assert helpers
    assert all(seen == {who} for who, seen in helpers.items())


def test_deep_nesting_ends(thread_count):
    thread_count(2)
    count = []

    def kernel(start, stop, depth):
        count.append(stop - start)
        if depth:
            threads.parallel(kernel, 4, depth - 1, grain=1)

    threads.parallel(kernel, 4, 4, grain=1)
    assert sum(count) >= 4


@pytest.mark.parametrize("failing", ["first", "last", "every"])
def test_an_exception_is_raised_once_all_threads_have_ended(thread_count, failing):
    thread_count(2)
    begun, ended = [], []

    def kernel(start, stop):
        if failing == "every" or start == {"first": 0, "last": 7}.get(failing):
            raise ValueError(f"piece {start}")
        begun.append(start)
        time.sleep(0.05)
        ended.append(start)

    with pytest.raises(ValueError, match="piece"):
        threads.parallel(kernel, 8, grain=1)
    assert sorted(ended) == sorted(begun)  # nothing still runs
    assert len(ended) == 0 if failing == "every" else len(ended) < 8
    assert (run() == expected(1000)).all()  # the pool is still good


def test_several_python_threads_at_once(thread_count):
    thread_count(2)
    with ThreadPoolExecutor(6) as callers:
        for out in callers.map(lambda i: run(1000 + i), range(60)):
            assert (out == expected(len(out))).all()


def test_after_fork(thread_count):
    thread_count(2)
    run()  # the parent has a pool, whose threads the child does not get
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and up warns of fork beside threads
        child = os.fork()
    if child == 0:
        ok = False
        try:
            ok = bool((run() == expected(1000)).all())
        finally:
            os._exit(0 if ok else 1)
    for _ in range(600):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    assert os.waitstatus_to_exitcode(status) == 0
    assert (run() == expected(1000)).all()


def test_fork_while_another_thread_is_at_work(thread_count):
    thread_count(2)
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            run(50)

    worker = threading.Thread(target=busy)
    worker.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context = multiprocessing.get_context("fork")
            children = [context.Process(target=_exit_right) for _ in range(3)]
            for child in children:
                child.start()
    finally:
        stop.set()
        worker.join()
    for child in children:
        child.join(60)
        assert child.exitcode == 0


def _exit_right():
    torch.set_num_threads(2)
    sys.exit(0 if (run() == expected(1000)).all() else 1)


class Squares(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        torch.set_num_threads(2)  # a loader gives a worker one thread; two make it build a pool
        return run(500 + index)


@pytest.mark.parametrize(
    "method", [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()]
)
def test_inside_dataloader_workers(thread_count, method):
    thread_count(2)
    run()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        loader = DataLoader(
            Squares(), batch_size=None, num_workers=2, multiprocessing_context=method, timeout=100
        )
        found = list(loader)
    for out in found:
        assert (np.asarray(out) == expected(len(out))).all()


def test_a_loader_worker_has_one_thread_and_builds_no_pool():
    class Shares(Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            run()
            return threads.share_count(1000, 1), len(threads._pools)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        loader = DataLoader(
            Shares(), batch_size=None, num_workers=1, multiprocessing_context="fork", timeout=60
        )
        assert list(loader) == [[1, 0]]
