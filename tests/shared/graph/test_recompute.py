"""What is computed again in training: less memory, no product twice, equal gradients and random numbers."""

import copy

import pytest
import torch
from drawn import Drawn, assert_same, inputs, plans
from hypothesis import given, settings
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

import shared
from shared.errors import UserError
from shared.graph import recompute


class Block(nn.Module):
    """The feed-forward part of a transformer."""

    def __init__(self, width=64, inner=256, norm=nn.LayerNorm):
        super().__init__()
        self.norm, self.up, self.down = norm(width), nn.Linear(width, inner), nn.Linear(inner, width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        return x + self.down(self.drop(nn.functional.gelu(self.up(self.norm(x)))))


def rewrites(model):
    return [change.before for change in model.report.changes if change.rule == "recompute"]


def step(model, x):
    torch.manual_seed(5)
    return torch.autograd.grad(model(x).square().sum(), list(model.parameters()))


def test_norms_and_activations_are_not_kept():
    model, x = nn.Sequential(Block(), Block()), torch.rand(2048, 64)
    better = shared.optimize(model, x, recompute=0.3)
    assert rewrites(better) == ["gelu + Dropout + Linear"] * 2
    assert better.report.after.kept < 0.6 * better.report.before.kept
    assert better.report.after.training_peak < 0.8 * better.report.before.training_peak
    assert_close(step(better, x), step(model, x))
    flops = []
    for each in (model, better):
        with FlopCounterMode(display=False) as counter:
            step(each, x)
        flops.append(counter.get_total_flops())
    assert flops[0] == flops[1]  # no product runs twice


def test_only_on_demand_and_within_the_share():
    model, x = nn.Sequential(Block()), torch.rand(2048, 64)
    assert not rewrites(shared.optimize(model, x))
    assert rewrites(shared.optimize(model, x, passes=["recompute"], recompute=0.3))
    little = shared.optimize(model, x, recompute=1e-4)
    assert not rewrites(little)
    assert "longer than the share of 0.0001" in str(little.report)
    with pytest.raises(
        UserError, match="recompute: expected a share of a step's time, from 0 on, received -1"
    ):
        shared.optimize(model, x, recompute=-1)
    with pytest.raises(UserError, match="expected 'recompute' among the passes, received token_conv1d"):
        shared.optimize(model, x, recompute=0.1, passes=["token_conv1d"])


def test_what_changes_buffers_runs_once(monkeypatch):
    monkeypatch.setattr(recompute, "LEAST", 1)
    model, x = Block(norm=nn.BatchNorm1d), torch.rand(64, 64)
    better = shared.optimize(model, x, recompute=100.0)
    assert rewrites(better)
    assert not any("BatchNorm1d" in each for each in rewrites(better))
    better(x).sum().backward()
    assert model.norm.num_batches_tracked == 1


def test_hooks_run_once(monkeypatch):
    monkeypatch.setattr(recompute, "LEAST", 1)
    model, x = Block(), torch.rand(64, 64)
    model.drop.register_forward_hook(lambda *_: None)
    assert not any("Dropout" in each for each in rewrites(shared.optimize(model, x, recompute=100.0)))


def test_copies_and_other_uses(monkeypatch):
    monkeypatch.setattr(recompute, "LEAST", 1)
    model, x = Block(), torch.rand(16, 64)
    model.drop.p = 0.0
    better = shared.optimize(model, x, recompute=100.0)
    assert rewrites(better)
    twin = copy.deepcopy(better)
    with torch.no_grad():
        twin.norm.weight.zero_()
    assert not torch.equal(twin(x), model(x))
    weights = dict(model.named_parameters())
    slopes = torch.func.grad(lambda w: torch.func.functional_call(better, w, (x,)).sum())(weights)
    expected = torch.func.grad(lambda w: torch.func.functional_call(model, w, (x,)).sum())(weights)
    assert_close(slopes, expected)
    compiled = torch.compile(better, backend="aot_eager", fullgraph=True)
    assert_close(step(compiled, x), step(model, x))


@settings(max_examples=8)
@given(plans)
def test_any_graph(plan):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recompute, "LEAST", 1)
        patch.setattr(recompute, "OVERHEAD", 1)
        model, x = Drawn(plan), inputs()
        better = shared.optimize(model, x, passes=["recompute", "schedule"], recompute=100.0)
        assert_same(better, model, x)
        assert not shared.optimize(better, x, passes=["recompute"]).report
        if rewrites(better):
            assert better.report.after.kept < better.report.before.kept
