"""Attributes that change after optimizing: noticed, never stale."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import shared
from shared.graph import ChangedSinceWarning


class Scaled(nn.Module):
    """Numbers and flags of its own, a part with some more, and something for a rule to merge."""

    kind = "plain"

    def __init__(self):
        super().__init__()
        self.scale, self.sizes, self.twice = 1.5, [3, 1], False
        self.part, self.drop, self.pool = Part(), nn.Dropout(0.5), nn.Identity()

    def forward(self, x):
        x = self.part(self.pool(x)) * self.scale
        x = x * 2 if self.twice else x
        x = x.split(self.sizes, -1)[0] if self.kind == "plain" else x
        return self.drop(x)


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.p = nn.Linear(4, 4), 0.0

    def forward(self, x):
        return nn.functional.dropout(self.linear(x), self.p, self.training)


@pytest.fixture
def both():
    torch.manual_seed(0)
    model = Scaled().eval()
    better = shared.optimize(model, torch.rand(2, 4))
    assert better.report
    return better, model


CHANGES = {
    "a number": lambda m: setattr(m, "scale", 2.0),
    "its type": lambda m: setattr(m, "scale", 2),
    "a flag": lambda m: setattr(m, "twice", True),
    "in a list": lambda m: m.sizes.__setitem__(slice(None), [1, 3]),
    "of the class": lambda m: setattr(m, "kind", "whole"),
    "of a part": lambda m: (setattr(m.part, "p", 1.0), m.part.train()),
    "the mode of a part": lambda m: (setattr(m.part, "p", 1.0), m.part.train(True)),
    "a dropout alone": lambda m: m.drop.train(),
    "a module that was left out": lambda m: setattr(m, "pool", nn.Tanh()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_in_the_copy_is_noticed(both, change):
    better, model = both
    x = torch.rand(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_close(better(x), model(x))
    for each in copy.deepcopy(better), pickle.loads(pickle.dumps(better)), better:
        plain = copy.deepcopy(each).deoptimize()
        CHANGES[change](each)
        CHANGES[change](plain)
        with pytest.warns(ChangedSinceWarning, match="call shared.optimize again"):
            assert_same(each, plain, x)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # once is enough
            assert_same(each, plain, x)


def assert_same(ours, theirs, x):
    found = []
    for each in (ours, theirs):
        torch.manual_seed(1)
        found.append(each(x))
    assert_close(*found)


def test_what_changes_back_is_the_graph_again(both):
    better, model = both
    better.scale = 2.0
    with pytest.warns(ChangedSinceWarning):
        better(torch.rand(3, 4))
    better.scale = 1.5
    assert better._holds()
    assert_close(better(torch.ones(3, 4)), model(torch.ones(3, 4)))


def test_what_changes_in_the_model_is_said(both):
    better, model = both
    model.scale = 2.0
    x = torch.rand(3, 4)
    with pytest.warns(ChangedSinceWarning, match="scale was set in the model, and the optimized copy has"):
        assert_close(better(x) * 2.0 / 1.5, model(x))
    model.part.p = 0.5  # parts that nothing was changed in are the same in both
    better.train()
    assert better.part is model.part
    with pytest.warns(ChangedSinceWarning, match="p is not what it was"):
        better(x)


def test_parts_of_a_model_that_is_no_graph(both):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Scaled()

        def forward(self, x):
            return self.inner(x) if float(x.sum()) >= 0 else x

    model, x = Outer().eval(), torch.rand(2, 4)
    better = shared.optimize(model, x)
    assert better.inner is not model.inner
    better.inner.scale = 2.0
    with pytest.warns(ChangedSinceWarning):
        assert_close(better(x) / 2.0 * 1.5, model(x))


def test_a_forward_that_counts_is_no_graph():
    class Counting(Scaled):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) * self.calls

    model = Counting().eval()
    better = shared.optimize(model, torch.rand(2, 4))
    assert "sets the attribute calls" in str(better.report)


def test_a_compiler_sees_the_change(both):
    better, model = both
    compiled, x = torch.compile(better, backend="eager", fullgraph=True), torch.rand(3, 4)
    assert_close(compiled(x), model(x))
    better.scale = model.scale = 3.0
    assert_close(compiled(x), model(x))
