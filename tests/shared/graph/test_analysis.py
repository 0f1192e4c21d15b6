"""Counts of operations, FLOPs and bytes, against those worked out by hand."""

import torch
import torch.nn.functional as F
from torch import nn

import shared
from biolayers.layers import TokenConv1d
from shared.graph import Analysis


def by_place(analysis: Analysis) -> dict:
    return {part.place: part for part in analysis.parts}


def test_counts_of_products_and_of_everything_else():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(3, 4)

        def forward(self, x):
            return (self.first(x) + self.second(x)).relu().view(-1)

    found = shared.analyse(Net(), torch.rand(2, 3))
    parts = by_place(found)
    assert parts["first"].flops == parts["second"].flops == 2 * 2 * 3 * 4
    assert parts["first"].bytes == 4 * (2 * 3 + 3 * 4 + 4 + 2 * 4)
    assert parts[""].operations == 2  # the view is none
    assert parts[""].flops == 2 * 8
    assert found.parameters == 2 * 16
    assert found.critical == 48 + 8 + 8  # the second layer runs beside the first
    assert found.kept == 4 * 8  # what relu returned


def test_our_ops_count_by_their_cost_models():
    layer = TokenConv1d(4, 5, 3)
    found = shared.analyse(layer, torch.zeros(2, 10, dtype=torch.uint8))
    assert found.operations == 1
    assert found.flops == 2 * 5 * 8 * 3


def test_nothing_of_the_model_moves():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout())
    x, before, random = torch.rand(4, 3), model[0].running_mean.clone(), torch.random.get_rng_state()
    shared.analyse(model, x)
    assert torch.equal(model[0].running_mean, before)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert not model[0]._forward_hooks


def test_before_and_after():
    class Front(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(4, 8, 5)

        def forward(self, tokens):
            return F.max_pool1d(self.conv(F.one_hot(tokens, 4).transpose(1, 2).float()).relu(), 4)

    report = shared.optimize(Front(), torch.randint(0, 4, (3, 40))).report
    assert report.after.flops < report.before.flops
    assert report.after.kept < report.before.kept
    assert "one forward pass" in str(report)
