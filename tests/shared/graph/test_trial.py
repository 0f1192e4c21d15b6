"""What a comparison of two models notices, and what it takes for rounding."""

import copy
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import shared
from shared.graph import Rule, trial


class Branches(nn.Module):
    """A large and a tiny contribution."""

    def __init__(self, share, *, dtype=torch.float32):
        super().__init__()
        self.large, self.tiny = nn.Linear(5, 4, dtype=dtype), nn.Linear(5, 4, dtype=dtype)
        self.share = share

    def forward(self, x):
        return self.large(x) + self.share * self.tiny(x)


@settings(max_examples=15)
@given(
    st.sampled_from([1.0, 1e-3, 1e-6, 1e-10, 1e-20]),
    st.sampled_from([1.05, 0.0, -1.0]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_a_wrong_gradient_is_noticed_however_small(share, factor, dtype):
    torch.manual_seed(0)
    model, x = Branches(share, dtype=dtype), torch.rand(6, 5, dtype=dtype)
    wanted = trial.outcomes(model, (x,), training=True)
    assert trial.wrong(copy.deepcopy(model), (x,), wanted) is None
    bad = copy.deepcopy(model)
    bad.tiny.weight.register_hook(lambda grad: grad * factor)
    assert "differ by" in trial.wrong(bad, (x,), wanted)


def test_a_rule_that_is_wrong_by_a_tiny_gradient_does_not_fire(monkeypatch):
    def spoil(scene, node):
        if node.target != "tiny" or any(user.target is torch.detach for user in node.users):
            return None
        with scene.graph.inserting_after(node):
            new = scene.graph.call_function(torch.detach, (node,))
        node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
        return "tiny", "tiny without gradients"

    rule = Rule("spoil", "x = x.detach()", spoil)
    monkeypatch.setattr(sys.modules["shared.graph.optimize"], "_chosen", lambda passes: (rule,))
    better = shared.optimize(Branches(1e-8), torch.rand(6, 5))
    assert not better.report
    assert "more than its calls say" in str(better.report)


class Cancelling(nn.Module):
    """A bias before a norm has no gradient but rounding."""

    def __init__(self, dtype):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, 6, 3, dtype=dtype), nn.BatchNorm1d(6, dtype=dtype)

    def forward(self, x):
        return self.norm(self.conv(x)).relu().mean(-1)


class Otherwise(Cancelling):
    """The same by other sums."""

    def forward(self, x):
        y = self.conv(x.flip(0)).flip(0)
        mean, var = y.mean((0, 2), keepdim=True), y.var((0, 2), keepdim=True, unbiased=False)
        y = (y - mean) / (var + self.norm.eps).sqrt()
        return (y * self.norm.weight[:, None] + self.norm.bias[:, None]).relu().mean(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(4))
def test_rounding_is_no_mistake(dtype, seed):
    torch.manual_seed(seed)
    model, x = Cancelling(dtype), torch.randn(16, 4, 50, dtype=dtype)
    other = Otherwise(dtype)
    other.load_state_dict(model.state_dict())
    wanted = {True: trial.outcome(model, (x,), training=True)}
    bias = [each.abs().max() for each in wanted[True]][2]
    assert bias < 1e-4
    assert trial.difference(trial.outcome(other, (x,), training=True), wanted[True]) is not None
    assert trial.wrong(other.train(), (x,), _training_alone(model, x)) is None


def _training_alone(model, x):
    return trial.Outcomes(model, (x,), (True,))


def test_rounding_leaves_the_parameters_as_they_were():
    model = Branches(1e-3)
    before, versions = copy.deepcopy(model.state_dict()), [each._version for each in model.parameters()]
    trial.outcomes(model, (torch.rand(2, 5),), training=True).noise(True)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert versions == [each._version for each in model.parameters()]
