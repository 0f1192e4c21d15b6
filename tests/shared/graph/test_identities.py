"""Calls that give back what they are given: left out; and what forbids it."""

import pytest
import torch
import torch.nn.functional as F
from drawn import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import shared

ONLY = ["identity", "round_trip"]


class By(nn.Module):
    """A forward of one's own, with some layers at hand."""

    def __init__(self, way):
        super().__init__()
        self.way, self.linear = way, nn.Linear(3, 3, dtype=torch.float64)
        self.nothing, self.drop, self.drop2d = nn.Identity(), nn.Dropout(0.5), nn.Dropout2d(0.5)

    def forward(self, x):
        return self.way(self, x)


def optimized(way):
    model, x = By(way), torch.rand(4, 3, dtype=torch.float64)
    better = shared.optimize(model, x, passes=ONLY)
    assert_same(better, model, x)
    assert not shared.optimize(better, x, passes=ONLY).report
    return better


def rewrites(better):
    return [f"{change.before} -> {change.after}" for change in better.report.changes]


GONE = {
    "identity": (lambda m, x: m.nothing(m.linear(x)), ["Identity -> nothing"]),
    "of the input": (lambda m, x: m.nothing(x) * 1, ["Identity -> nothing"]),
    "dropout": (lambda m, x: m.drop(m.linear(x)), ["Dropout -> nothing"]),  # in evaluation
    "dropout as a function": (
        lambda m, x: F.dropout(m.linear(x), 0.3, m.training),
        ["dropout -> nothing"],
    ),
    "its mode by name": (
        lambda m, x: F.dropout1d(input=m.linear(x)[..., None], training=False).squeeze(-1),
        ["dropout1d -> nothing"],
    ),
    "there and back": (
        lambda m, x: m.linear(x).transpose(0, 1).swapaxes(1, 0).relu(),
        ["transpose + transpose -> nothing"],
    ),
    "around an identity": (
        lambda m, x: m.nothing(m.linear(x).transpose(-1, -2)).transpose(-2, -1).relu(),
        ["Identity -> nothing", "transpose + transpose -> nothing"],
    ),
    "contiguous": (
        lambda m, x: m.linear(x).t().contiguous().contiguous().sin(),
        ["contiguous + contiguous -> contiguous"],
    ),
}


@pytest.mark.parametrize("way", GONE)
def test_what_is_left_out(way):
    forward, expected = GONE[way]
    assert rewrites(optimized(forward)) == expected


STAYS = {
    "other axes": lambda m, x: m.linear(x)[..., None].transpose(0, 1).transpose(1, 2).sin(),
    "dropout that is always on": lambda m, x: F.dropout(m.linear(x), 0.3),
    "one axis from each end": lambda m, x: m.linear(x).transpose(0, -1).transpose(0, 1).sin(),
    "changed later": lambda m, x: (y := m.linear(x) * 1).t().transpose(0, 1).add_(1) * y,
    "both returned": lambda m, x: torch.cat([(y := m.linear(x)), y.transpose(0, 1).transpose(0, 1).add_(1)]),
}


@pytest.mark.parametrize("way", STAYS)
def test_what_stays(way):
    assert not optimized(STAYS[way]).report


def test_hooks_of_an_identity_are_called():
    seen, model = [], By(lambda m, x: m.nothing(m.linear(x)))
    model.nothing.register_forward_hook(lambda *_: seen.append(1))
    better = shared.optimize(model, torch.rand(4, 3).double(), passes=ONLY)
    assert not better.report
    assert seen


STEPS = {
    "linear": lambda m, x: m.linear(x),
    "nothing": lambda m, x: m.nothing(x),
    "drop": lambda m, x: m.drop(x),
    "channels": lambda m, x: m.drop2d(x.reshape(-1, 3, 1, 1)).reshape(-1, 3),
    "turn": lambda m, x: x.transpose(0, 1),
    "turn back": lambda m, x: x.transpose(-2, -1),
    "sine": lambda m, x: x.sin(),
    "in place": lambda m, x: x.clone().mul_(2),
    "contiguous": lambda m, x: x.contiguous(),
}


@settings(max_examples=15)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=9))
def test_any_chain(steps):
    def forward(m, x):
        x = x[:3]
        for name in steps:
            x = STEPS[name](m, x)
        return m.linear(x) + m.linear(x) * x

    optimized(forward)
