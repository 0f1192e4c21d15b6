"""The worker pool: right values, and none of the ways in which thread pools die."""

import ctypes
import multiprocessing
import os
import signal
import subprocess
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

from shared import openmp, plain, threads
from shared.pace import Pace


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


@njit(nogil=True, cache=True)
def squares_but(start, stop, out, never):
    for i in range(start, stop):
        if i == never:
            raise ValueError("such a row")
        out[i] = i * i


@pytest.fixture
def always_shared(thread_count, monkeypatch):
    """Two threads of PyTorch's, which are always asked."""
    thread_count(2)
    if not openmp.entry():
        pytest.skip("PyTorch has no OpenMP threads here")
    monkeypatch.setattr(Pace, "helped", lambda self: True)
    monkeypatch.setattr(plain.Plain, "pace", lambda self, sizes: Pace())


def shared_kinds(kernel):
    """For how many kinds of arguments a kernel ran on OpenMP threads, and for how many it did not."""
    found = [known is not None for known in plain._known.get(kernel, {}).values()]
    return sum(found), len(found) - sum(found)


def test_the_threads_are_those_of_pytorch(always_shared, thread_count):
    with open("/proc/self/maps") as maps:
        lines = [line.split(maxsplit=5) for line in maps]
    spans = [(*(int(end, 16) for end in parts[0].split("-")), parts[-1].strip()) for parts in lines]
    (path,) = (path for start, stop, path in spans if start <= openmp.entry() < stop)
    for count in (3, 2):
        thread_count(count)
        assert ctypes.CDLL(path).omp_get_max_threads() == count


def test_without_openmp_there_are_none(monkeypatch):
    with monkeypatch.context() as changed:
        changed.setattr(torch.backends.openmp, "is_available", lambda: False)
        assert openmp._find() == 0
    with monkeypatch.context() as changed:
        changed.setattr(sys, "platform", "darwin")
        assert openmp._find() == 0


def test_compiled_kernels_need_no_threads_of_ours(always_shared, monkeypatch):
    monkeypatch.setattr(threads, "_pools", {})
    before = threading.active_count()
    for rows in (2, 3, 1000):
        assert (run(rows) == expected(rows)).all()
    assert not threads._pools
    assert threading.active_count() == before


def test_what_comes_once_or_takes_long_is_not_for_openmp(always_shared, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(threads, "_pools", {})
    plain._known.clear()
    run(1000)
    assert threads._pools  # the first call
    (kind,) = plain._known[squares].values()
    (pace,) = kind.paces.values()
    calls = pace._calls
    run(1000)
    assert pace._calls == calls - 1  # the second one
    monkeypatch.setattr(plain, "_LONG", 0)
    run(1000)
    assert list(kind.paces.values()) == [None]
    assert (run(1000) == expected(1000)).all()


@njit(nogil=True, cache=True)
def weigh(start, stop, out, whole, small, real, single, flag, pair, none, values):
    """A sum in which every argument can be seen."""
    for i in range(start, stop):
        total = real + 2 * single + pair[0] * 3 + pair[1][0] * 5 + pair[1][1] + 7 * whole + 11 * small
        if flag:
            total += 13
        out[i] += total + values.flat[i % values.size]


def numbers_of(dtype, shape):
    return (np.arange(np.prod(shape)) % 2).astype(dtype).reshape(shape)


def read_only():
    values = numbers_of(np.float32, (3, 4))
    values.flags.writeable = False
    return values


@pytest.mark.parametrize(
    "values",
    [
        *(numbers_of(dtype, (3, 4)) for dtype in (np.bool_, np.uint8, np.int64, np.float32, np.float64)),
        numbers_of(np.float64, (7,)),
        numbers_of(np.float64, (2, 3, 2)),
        numbers_of(np.float64, (3, 4)).T,
        numbers_of(np.int64, (6, 8))[::2, ::-1],
        read_only(),
    ],
    ids=lambda values: f"{values.dtype}{values.strides}",
)
def test_every_argument_arrives(always_shared, values):
    args = (-3, np.int16(2), 0.25, np.float32(0.5), True, (4, (0.125, -9)), None, values)
    wanted, found = np.zeros(20), np.zeros(20)
    weigh(0, 20, wanted, *args)
    threads.parallel(weigh, 20, found, *args, grain=1)
    assert (found == wanted).all()
    assert shared_kinds(weigh)[0]
    assert not shared_kinds(weigh)[1]


@njit(nogil=True, cache=True)
def add_up(start, stop, out, values):
    for i in range(start, stop):
        for k in range(len(values)):
            out[i] += values[k]


@pytest.mark.parametrize(
    ("count", "kind", "passed"),
    [(50, int, True), (200, int, True), (300, int, False), (8, float, True), (9, float, False)],
)
def test_arguments_of_any_number(always_shared, count, kind, passed):
    before, out = shared_kinds(add_up), np.zeros(30)
    threads.parallel(add_up, 30, out, tuple(kind(k) for k in range(count)), grain=1)
    assert (out == sum(range(count))).all()
    after = shared_kinds(add_up)
    assert (after[0] - before[0], after[1] - before[1]) == (passed, not passed)


def test_other_arguments_go_another_way(always_shared):
    @njit(nogil=True)
    def apply(start, stop, out, function):
        for i in range(start, stop):
            out[i] = function(i)

    @njit
    def double(i):
        return 2 * i

    out = np.zeros(30)
    threads.parallel(apply, 30, out, double, grain=1)
    assert (out == 2 * np.arange(30)).all()
    assert shared_kinds(apply) == (0, 1)
    with pytest.raises(TypeError):
        threads.parallel(squares, 30, grain=1)  # an argument is missing


@pytest.mark.parametrize("never", [0, 57, 99])
def test_an_exception_of_a_compiled_kernel(always_shared, never):
    out = np.full(100, -1)
    with pytest.raises(ValueError, match="such a row"):
        threads.parallel(squares_but, 100, out, never, grain=1)
    at = np.arange(100)
    assert (out[at < never // 13 * 13] >= 0).all()  # pieces of 12 or 13 rows; the others are done
    assert shared_kinds(squares_but) == (1, 0)
    threads.parallel(squares_but, 100, out, -1, grain=1)
    assert (out == expected(100)).all()


def run_for_ever():
    while True:
        run(300_000)


def test_an_interrupt_comes_when_all_have_ended(always_shared):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(20):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            with pytest.raises(KeyboardInterrupt):
                run_for_ever()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (run() == expected(1000)).all()


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        return grad * float((run() == expected(1000)).all())


def test_from_short_lived_threads_and_their_backward(always_shared):
    found = []

    def train():
        x = torch.ones(100_000, requires_grad=True)
        for _ in range(5):
            Squared.apply(x).exp().sum().backward()
        found.append(bool((x.grad > 0).all()))

    for _ in range(5):
        callers = [threading.Thread(target=train) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
    assert found == [True] * 20


def test_inside_a_parallel_region(always_shared):
    found = []
    body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(
        lambda _: found.append(bool((run() == expected(1000)).all()))
    )
    region = ctypes.CFUNCTYPE(None, type(body), ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)(openmp.entry())
    for _ in range(20):
        region(body, None, 2, 0)
    assert found == [True] * 40


def test_the_number_of_threads_may_change(always_shared, thread_count):
    for count in (3, 1, 2, 5, 2):
        thread_count(count)
        for _ in range(5):
            assert (run() == expected(1000)).all()
            torch.ones(300_000).exp_()  # a loop of PyTorch's in between


_EXIT = """
import threading
import numpy as np, torch
from numba import njit
from shared import openmp, threads

@njit(nogil=True)
def squares(start, stop, out):
    for i in range(start, stop):
        out[i] = i * i

def work():
    while True:
        threads.parallel(squares, 100_000, np.zeros(100_000, np.int64), grain=1)

torch.set_num_threads(2)
threads.parallel(squares, 1000, np.zeros(1000, np.int64), grain=1)
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
threading.Event().wait(0.2)
"""


def test_a_process_ends_while_threads_are_at_work():
    ended = subprocess.run([sys.executable, "-c", _EXIT], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
