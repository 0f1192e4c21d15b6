"""Hand-offs between compiled kernels: right values, whoever helps, and no thread that hangs."""

import os
import threading
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

from shared import handoff, relay
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


@pytest.fixture
def team(monkeypatch):
    """A team of one helper, which is always asked."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(Pace, "helped", lambda self: True)
    yield relay._team(1)
    torch.set_num_threads(before)


class Counts:
    """Runs `count_rows` and looks at what it counted."""

    def __init__(self, rows, work=1):
        self.rows, self.numbers = rows, (work, *[0] * (1 + rows))

    def run(self, job, grain=1, ends=True):
        relay.run(count_rows.address, self.rows, self.numbers, grain=grain, room=64, pace=Pace(), ends=ends)
        return job[16 + 1 : 16 + 2 + self.rows].tolist()


@pytest.mark.parametrize("work", [1, 3000])
@pytest.mark.parametrize("rows", [2, 3, 17, 40])
@pytest.mark.parametrize("grain", [1, 2, 5])
def test_each_row_is_done_once(team, rows, grain, work):
    shared = rows >= 2 * grain
    for _ in range(50):
        found = Counts(rows, work).run(team.job if shared else relay._own.job, grain)
        assert found == [1001, *[1] * rows]


def test_helpers_help(team):
    joined = []
    for _ in range(200):
        begun = time.perf_counter()
        Counts(40, 20_000).run(team.job)
        joined.append(time.perf_counter() - begun)
        assert team.states[0] in (handoff.READY, handoff.ASLEEP, handoff.CALLED)
    assert sorted(joined)[0] > 0
    deadline = time.perf_counter() + 30  # they look a number of times, which takes long on a busy machine
    while team.states[0] != handoff.ASLEEP and time.perf_counter() < deadline:
        time.sleep(0.01)
    assert team.states[0] == handoff.ASLEEP  # and then they sleep


def test_without_rows_the_ends_are_done_all_the_same():
    relay.run(count_rows.address, 0, (1, 0), grain=1, room=64, pace=Pace(), ends=True)
    assert relay._own.job[17] == 2


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1e-3), min_size=1, max_size=30))
def test_calls_at_any_distance(pauses):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        team = relay._team(1)
        for pause in pauses:
            assert Counts(9, 300).run(team.job) == [1001, *[1] * 9]
            time.sleep(pause)
    finally:
        torch.set_num_threads(before)


def test_several_python_threads_at_once(team):
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


def test_one_thread_needs_no_team(monkeypatch):
    monkeypatch.setattr(relay, "_teams", {})
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert Counts(8).run(relay._own.job) == [1001, *[1] * 8]
    finally:
        torch.set_num_threads(before)
    assert not relay._teams


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_fork(team):
    Counts(40, 100).run(team.job)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and up warns of fork beside threads
        child = os.fork()
    if child == 0:
        ok = False
        try:
            fresh = relay._team(1)
            ok = fresh is not team and Counts(40, 100).run(fresh.job) == [1001, *[1] * 40]
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


def test_threads_end_with_the_process():
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("qbio_relay"))
