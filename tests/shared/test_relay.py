"""Hand-offs between compiled kernels: right values, whoever helps, and no thread that hangs."""

import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import cfunc, types
from numba.extending import intrinsic

from shared import openmp, relay
from shared.pace import Pace

_SIGNATURE = "void(int64, int64, int64, CPointer(int64))"


@cfunc(_SIGNATURE)
def count_rows(start, stop, room, numbers):
    """numbers: work per row, then a count for each row, and one for the beginning and the end."""
    if start == stop:
        numbers[1] += 1 if start == 0 else 1000
        return
    for row in range(start, stop):
        total = 0
        for k in range(numbers[0]):
            total += k & 3
        numbers[2 + row] += 1 + (total & 0)


@pytest.fixture(params=["openmp", "own"])
def two_threads(request, monkeypatch):
    """Two threads, PyTorch's own or ours, which are always asked."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(Pace, "helped", lambda self: True)
    if request.param == "own":
        monkeypatch.setattr(openmp, "_entry", 0)
    yield
    torch.set_num_threads(before)


class Counts:
    """Runs `count_rows` and looks at what it counted."""

    def __init__(self, rows, work=1):
        self.rows, self.numbers = rows, (work, *[0] * (1 + rows))

    def run(self, grain=1, ends=True):
        relay.run(count_rows.address, self.rows, self.numbers, grain=grain, room=64, pace=Pace(), ends=ends)
        return relay._own.job[16 + 1 : 16 + 2 + self.rows].tolist()


@pytest.mark.parametrize("work", [1, 3000])
@pytest.mark.parametrize("rows", [2, 3, 17, 40])
@pytest.mark.parametrize("grain", [1, 2, 5])
def test_each_row_is_done_once(two_threads, rows, grain, work):
    for _ in range(50):
        assert Counts(rows, work).run(grain) == [1001, *[1] * rows]


@cfunc(_SIGNATURE)
def note_room(start, stop, room, numbers):
    """numbers: work per row, then the memory that each row was done in."""
    total = numbers[0]
    for _ in range(numbers[0] * (stop - start)):
        total ^= total << 13
        total ^= total >> 7
    for row in range(start, stop):
        numbers[1 + row] = room + (total == 0)


def test_helpers_help_and_each_has_memory_of_its_own(two_threads):
    seen = set()
    for _ in range(200):
        relay.run(note_room.address, 40, (20_000, *[0] * 40), grain=1, room=100, pace=Pace())
        rooms = sorted(set(relay._own.job[17:57].tolist()))
        assert len(rooms) <= 2
        seen.add(len(rooms))
        if 2 in seen:
            break
    assert 2 in seen
    assert rooms[1] - rooms[0] == 128  # a cache line begins there


def test_a_job_for_two_in_a_team_of_more(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    monkeypatch.setattr(Pace, "helped", lambda self: True)
    try:
        for _ in range(100):
            relay.run(note_room.address, 4, (20_000, *[0] * 4), grain=2, room=64, pace=Pace())
            assert len(set(relay._own.job[17:21].tolist())) <= 2
    finally:
        torch.set_num_threads(before)


def test_without_rows_the_ends_are_done_all_the_same():
    relay.run(count_rows.address, 0, (1, 0), grain=1, room=64, pace=Pace(), ends=True)
    assert relay._own.job[17] == 2


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1e-3), min_size=1, max_size=30))
def test_calls_at_any_distance(pauses):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for pause in pauses:
            assert Counts(9, 300).run() == [1001, *[1] * 9]
            time.sleep(pause)
    finally:
        torch.set_num_threads(before)


def test_the_number_of_threads_may_change(two_threads):
    for count in (3, 1, 2, 5, 2, 4):
        torch.set_num_threads(count)
        for _ in range(5):
            assert Counts(23, 300).run() == [1001, *[1] * 23]
            torch.ones(300_000).exp_()  # a loop of PyTorch's in between


def test_several_python_threads_at_once(two_threads):
    def runs(seed):
        out = np.zeros(64, np.int64)
        for _ in range(200):
            relay.run(fill.address, 64, (out.ctypes.data, seed), grain=1, room=64, pace=Pace())
            if not (out == seed + np.arange(64)).all():
                return False
            out[:] = 0
        return True

    with ThreadPoolExecutor(5) as callers:
        assert all(callers.map(runs, range(20)))


@intrinsic
def place_at(typing, address):
    def lower(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.int64)(types.int64), lower


@cfunc(_SIGNATURE)
def fill(start, stop, room, numbers):
    """numbers: where, and from which number on."""
    out = place_at(numbers[0])
    for row in range(start, stop):
        out[row] = numbers[1] + row


def calls(pace, count, alone, together):
    """How many of the calls had helpers."""
    helped = 0
    for _ in range(count):
        helped += pace.helped()
        pace.hear(together if pace.helped() else alone)
    return helped


@pytest.mark.parametrize("good", [True, False])
def test_helpers_are_asked_where_they_make_it_quicker(good):
    pace = Pace()
    times = (40_000, 25_000) if good else (40_000, 60_000)
    calls(pace, 100, *times)
    helped = calls(pace, 2000, *times)
    assert helped > 1900 if good else helped < 100


def test_a_change_is_noticed():
    pace = Pace()
    calls(pace, 3000, 40_000, 60_000)
    calls(pace, 3000, 40_000, 25_000)
    assert calls(pace, 1000, 40_000, 25_000) > 900


def test_rare_delays_do_not_change_the_choice():
    pace = Pace()
    calls(pace, 200, 40_000, 25_000)
    for _ in range(20):
        calls(pace, 20, 40_000, 25_000)
        calls(pace, 1, 40_000, 5_000_000)
    assert calls(pace, 1000, 40_000, 25_000) > 900


def test_helpers_that_stall_are_soon_left_alone():
    pace = Pace()
    calls(pace, 3000, 400_000, 250_000)
    assert calls(pace, 20, 400_000, 16_000_000) <= 5  # every call is an outlier, and nobody waits for a trial
    assert calls(pace, 2000, 400_000, 16_000_000) <= 8  # a trial is one call
    calls(pace, 1100, 400_000, 250_000)
    assert calls(pace, 100, 400_000, 250_000) > 90  # and when the processor is free again, they are asked


def test_one_thread_asks_nobody(monkeypatch):
    def entry():
        raise AssertionError("asked")

    monkeypatch.setattr(openmp, "entry", entry)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert Counts(8).run() == [1001, *[1] * 8]
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_fork(two_threads):
    Counts(40, 100).run()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and up warns of fork beside threads
        child = os.fork()
    if child == 0:
        ok = False
        try:
            ok = openmp.entry() == 0 and Counts(40, 100).run() == [1001, *[1] * 40]
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
