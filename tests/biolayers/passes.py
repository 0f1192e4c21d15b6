"""What tests of rules need: a model of many layers, and a comparison of everything that must not change."""

import copy

import torch
from torch import nn
from torch.testing import assert_close

import shared
from biolayers.passes import RULES as OURS

RULES = {rule.name for rule in OURS.rules}


class Model(nn.Module):
    """Layers to choose from, and a forward that does."""

    def __init__(self, forward):
        super().__init__()
        self.conv = nn.Conv1d(4, 6, 5)
        self.strided = nn.Conv1d(4, 6, 5, stride=3, padding=1)
        self.same, self.even = nn.Conv1d(4, 6, 5, padding="same"), nn.Conv1d(4, 6, 4, padding="same")
        self.tall, self.low = nn.Conv2d(1, 6, (4, 5), padding=(0, 2)), nn.Conv2d(1, 6, (3, 5))
        self.norm, self.norm2d = nn.BatchNorm1d(6), nn.BatchNorm2d(6, momentum=None)
        self.wide = nn.Conv1d(3, 6, 5, padding=1)
        self.table, self.padded = nn.Embedding(5, 3), nn.Embedding(4, 3, padding_idx=2)
        self.frozen = nn.Embedding.from_pretrained(torch.randn(4, 3))
        self.nothing = nn.Identity()
        self.large, self.bounded = nn.Embedding(300, 3), nn.Embedding(4, 3, max_norm=1.0)
        self.double()
        self.how = forward

    def forward(self, x):
        return self.how(self, x)


def draw(*shape, letters=4):
    return torch.randint(0, letters, shape)


def fired(better):
    return [change.rule for change in better.report.changes if change.rule in RULES]


def reasons(better):
    return "; ".join(refusal.reason for refusal in better.report.refusals)


def compare(model, x, *, also=None):
    """The optimized copy, once it is known to do the same: values, gradients, buffers, names, modes.

    The buffers of the two are the same, so the model is copied before.
    """
    better = shared.optimize(model, x)
    assert list(better.state_dict()) == list(model.state_dict())
    assert all(a is b for a, b in zip(better.parameters(), model.parameters(), strict=True))
    for given in [x] if also is None else [x, also]:
        for mode in (True, False):
            plain, ours = copy.deepcopy(model).train(mode), copy.deepcopy(better).train(mode)
            assert_close(ours(given), plain(given))
            assert_close(slopes(ours, given), slopes(plain, given))
            assert_close(ours.state_dict(), plain.state_dict())
    assert not shared.optimize(better, x).report.changes
    return better


def slopes(model, x):
    x = x.clone().requires_grad_() if x.is_floating_point() else x
    out = model(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    moving = [each for each in (*model.parameters(), x) if each.requires_grad]
    found = torch.autograd.grad((out * weights).sum(), moving, allow_unused=True)
    return [torch.zeros_like(a) if b is None else b for a, b in zip(moving, found, strict=True)]
