"""Orders of calls: the lowest peak of memory, nothing that depends or draws or writes out of its turn."""

import itertools

import pytest
import torch
from drawn import Drawn, assert_same, inputs, plans
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

import shared
from shared.graph import schedule
from shared.graph.schedule import Task, best_order, peak_of


class Branches(nn.Module):
    """Four wide branches that are all begun before the first is ended."""

    def __init__(self, branches=4, wide=256):
        super().__init__()
        self.up = nn.ModuleList([nn.Linear(8, wide) for _ in range(branches)])
        self.down = nn.ModuleList([nn.Linear(wide, 2) for _ in range(branches)])

    def forward(self, x):
        wide = [up(x) for up in self.up]
        return torch.cat([down(each.relu()) for down, each in zip(self.down, wide, strict=True)], -1)


def reordered(model):
    return [change for change in model.report.changes if change.rule == "schedule"]


def test_branches_run_one_after_the_other():
    model, x = Branches(), torch.rand(32, 8)
    better = shared.optimize(model, x)
    assert len(reordered(better)) == 1
    assert better.report.before.peak > 2 * better.report.after.peak
    assert torch.equal(better.eval()(x), model.eval()(x))
    assert "bytes at once, at most, in evaluation" in str(better.report)
    assert not shared.optimize(better, x).report


def test_a_good_order_stays_and_other_passes_leave_it():
    chain = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    assert not shared.optimize(chain, torch.rand(4, 8)).report
    assert not shared.optimize(Branches(), torch.rand(4, 8), passes=[]).report
    assert reordered(shared.optimize(Branches(), torch.rand(4, 8), passes=["schedule"]))


@settings(max_examples=10)
@given(plans)
def test_any_graph(plan):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "LEAST", 1e-9)
        model, x = Drawn(plan), inputs()
        better = shared.optimize(model, x, passes=["schedule"])
        assert_same(better, model, x)
        assert not shared.optimize(better, x, passes=["schedule"]).report
        if better.report:
            assert better.report.after.peak < better.report.before.peak


tasks = st.integers(2, 6).flatmap(
    lambda n: st.lists(
        st.tuples(st.integers(0, 2**n - 1), st.integers(1, 9), st.integers(0, 9)), min_size=n, max_size=n
    )
)


@given(tasks)
def test_no_order_is_better(drawn):
    """Against all orders, where each task makes one piece of memory and takes some more while it runs."""
    sizes = [size for _, size, _ in drawn]
    after = [mask & ((1 << i) - 1) for i, (mask, _, _) in enumerate(drawn)]
    users = [sum(1 << j for j, mask in enumerate(after) if mask >> i & 1) | 1 << i for i in range(len(drawn))]
    plan = [
        Task(after[i], size + more, (i,), (i, *(j for j in range(i) if after[i] >> j & 1)))
        for i, (_, size, more) in enumerate(drawn)
    ]
    allowed = [
        order
        for order in itertools.permutations(range(len(plan)))
        if all(not after[task] & ~sum(1 << each for each in order[:i]) for i, task in enumerate(order))
    ]
    best = min(peak_of(plan, sizes, users, order) for order in allowed)
    order = best_order(plan, sizes, users)
    assert tuple(order) in allowed
    assert peak_of(plan, sizes, users, order) == best


def test_large_graphs_are_searched_in_part(monkeypatch):
    model, x = Branches(branches=20, wide=32), torch.rand(4, 8)
    monkeypatch.setattr(schedule, "STATES", 400)
    better = shared.optimize(model, x, passes=["schedule"], training=False)
    assert better.report.before.peak > 5 * better.report.after.peak


def test_writing_drawing_and_unknown_calls_stay_in_turn(monkeypatch):
    monkeypatch.setattr(schedule, "LEAST", 1e-9)

    class Ordered(Branches):
        def forward(self, x):
            first = self.up[0](x)
            second = self.up[1](x)
            shared_sum = x * 2
            seen = shared_sum.sum()
            shared_sum.mul_(3)  # after it was read
            noise = torch.rand_like(second[:, :2])
            more = torch.rand_like(noise)
            return self.down[0](first) + self.down[1](second) + noise - 2 * more + seen + shared_sum[:, :2]

    model, x = Ordered().eval(), torch.rand(6, 8)
    better = shared.optimize(model, x)
    for _ in range(2):
        torch.manual_seed(3)
        ours = better(x)
        torch.manual_seed(3)
        assert_close(ours, model(x))
