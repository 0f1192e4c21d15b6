"""Constants made once, and norms folded in evaluation: nothing is stale or shared."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

import shared
from shared.graph import norms
from shared.graph.constants import Once


class Places(nn.Module):
    """Adds sines and cosines of the places in a sequence, made anew in each call."""

    def __init__(self, *, way=lambda x, y: x + y):
        super().__init__()
        self.linear, self.way = nn.Linear(6, 6), way

    def forward(self, x):
        place = torch.arange(x.shape[1], device=x.device).to(x.dtype)
        rate = torch.exp(torch.arange(3, dtype=x.dtype) * (-math.log(1e4) / 3))
        angle = place[:, None] * rate[None]
        return self.way(self.linear(x), torch.cat([angle.sin(), angle.cos()], -1))


def rewrites(better):
    return [f"{change.before} -> {change.after}" for change in better.report.changes]


def gradients(model, x):
    return torch.autograd.grad(model(x).square().sum(), list(model.parameters()))


ONCE = "11 calls that make a constant -> one that remembers it"


def test_places_are_made_once_for_each_length():
    model, x = Places(), torch.rand(2, 5, 6)
    better = shared.optimize(model, x, passes=["constants"])
    assert rewrites(better) == [ONCE]
    for length in (5, 9, 5):
        longer = torch.rand(3, length, 6)
        with torch.inference_mode():
            better(longer)
        assert_close(better(longer), model(longer))
        assert_close(gradients(better, longer), gradients(model, longer))
    assert list(better.state_dict()) == list(model.state_dict())
    assert list(vars(model)) == list(vars(Places()))


def test_constants_follow_casts_copies_and_autocast():
    model, x = Places(), torch.rand(2, 5, 6)
    better = shared.optimize(model, x, passes=["constants"])
    better(x)
    copied = copy.deepcopy(better).double()
    assert copied(x.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(better(x), model(x))
    assert_close(better(x), model(x))


def test_constants_of_an_export():
    model, x = Places(), torch.rand(2, 5, 6)
    better = shared.optimize(model, x, passes=["constants"]).eval()
    better(x)
    exported = torch.export.export(
        better, (x,), dynamic_shapes=(({1: torch.export.Dim("n", min=2, max=64)},),)
    )
    longer = torch.rand(2, 8, 6)
    assert_close(exported.module()(longer), model.eval()(longer))


LEFT = {
    "written": (lambda x, y: x + y.mul_(2), "changed in place"),
    "returned": (lambda x, y: (x, y[0]), "the model returns it, and"),
}


@pytest.mark.parametrize("way", LEFT)
def test_constants_that_others_could_change(way):
    forward, reason = LEFT[way]
    better = shared.optimize(Places(way=forward), torch.rand(2, 5, 6), passes=["constants"])
    assert not better.report
    assert reason in str(better.report)


def test_random_numbers_are_no_constants():
    class Noisy(Places):
        def forward(self, x):
            return x + torch.cat([torch.rand(6).sin(), torch.ones(1).cos()])[:6]

    better = shared.optimize(Noisy(), torch.rand(2, 5, 6), passes=["constants"])
    assert not better.report


def test_a_function_that_remembers():
    made = []
    once = Once(lambda n: made.append(n) or torch.ones(n))
    assert once(2) is once(2)
    for n in range(9):
        once(n)
    assert made == [2, *range(2), *range(3, 9)]
    assert once(2) is not None
    assert made[-1] == 2  # forgotten, as eight others came since
    with torch.device("meta"):
        assert once(3).device.type == "meta"
    assert isinstance(pickle.loads(pickle.dumps(Once(math.sqrt))), Once)


class Normed(nn.Module):
    def __init__(self, layer, norm, way=lambda x: x):
        super().__init__()
        self.layer, self.norm, self.way = layer, norm, way

    def forward(self, x):
        return self.norm(self.layer(x)).relu()


def settled(model):
    """With statistics and parameters that are no zeros and ones."""
    torch.manual_seed(0)
    for each in (*model.parameters(), *model.buffers()):
        if each.is_floating_point():
            each.data.copy_(torch.rand_like(each) + 0.5)
    return model.double().eval()


@pytest.fixture
def any_size(monkeypatch):
    monkeypatch.setattr(norms, "LARGE", 1)


CASES = {
    "linear": (nn.Linear(3, 2), nn.BatchNorm1d(2), (40, 3)),
    "conv1d": (nn.Conv1d(3, 2, 3, bias=False, stride=2), nn.BatchNorm1d(2), (2, 3, 99)),
    "conv2d": (nn.Conv2d(2, 4, 3, padding="same", groups=2), nn.BatchNorm2d(4, affine=False), (2, 2, 9, 9)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("any_size")
def test_norms_in_evaluation(case):
    layer, norm, shape = CASES[case]
    model, x = settled(Normed(layer, norm)), torch.rand(shape, dtype=torch.float64)
    better = shared.optimize(model, x, passes=["batch_norm"])
    assert rewrites(better) == [f"{case} + batch_norm -> {case} with the norm in its weight"]
    assert_close(better(x), model(x))
    assert_close(gradients(better, x), gradients(model, x))
    model.norm.running_mean.add_(1.0)  # nothing is stale
    model.layer.weight.data.mul_(2.0)
    assert_close(better(x), model(x))
    model.norm.train()  # a user's own mind
    before = copy.deepcopy(model)
    assert_close(better(x), before(x))
    assert_close(better.state_dict(), before.state_dict())
    model.train()
    before, better = copy.deepcopy(model), better.train()
    assert_close(better(x), before(x))
    assert_close(better.state_dict(), before.state_dict())


@pytest.mark.usefixtures("any_size")
def test_norms_that_are_no_part_of_a_layer():
    x = torch.rand(2, 3, 8)
    for layer, norm in (
        (nn.Linear(8, 8), nn.BatchNorm1d(3)),
        (nn.Conv1d(3, 3, 1, padding_mode="circular"), nn.BatchNorm1d(3)),
        (nn.Conv1d(3, 3, 3), nn.BatchNorm1d(3, track_running_stats=False)),
    ):
        model = Normed(layer, norm)
        better = shared.optimize(model, x, passes=["batch_norm"])
        assert_close(better.eval()(x), model.eval()(x))
        assert_close(better.train()(x), model.train()(x))


def test_small_outputs_are_normalised():
    better = shared.optimize(Normed(nn.Linear(3, 2), nn.BatchNorm1d(2)), torch.rand(4, 3))
    assert "cheaper to normalise" in str(better.report)


@pytest.mark.usefixtures("any_size")
def test_norms_that_do_not_show_beside_their_convolution():
    model = Normed(nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16))
    report = shared.optimize(model, torch.rand(1, 16, 32, 32)).report
    assert not report
    assert "beside 144 products" in str(report)


@settings(max_examples=12)
@given(
    st.lists(st.sampled_from(["conv", "norm", "relu", "twice"]), min_size=2, max_size=7), st.integers(0, 99)
)
def test_any_stack(kinds, seed):
    torch.manual_seed(seed)
    made = {
        "conv": lambda: nn.Conv1d(4, 4, 3, padding=1),
        "norm": lambda: nn.BatchNorm1d(4),
        "relu": nn.ReLU,
        "twice": lambda: nn.Sequential(nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4)),
    }
    model = settled(nn.Sequential(*(made[kind]() for kind in kinds), nn.Conv1d(4, 2, 1))).float()
    x = torch.rand(2, 4, 9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norms, "LARGE", 1)
        better = shared.optimize(model, x)
        assert not shared.optimize(better, x).report
    for mode in (False, True):
        ours, theirs = copy.deepcopy(better).train(mode), copy.deepcopy(model).train(mode)
        assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
        assert_close(gradients(ours, x), gradients(theirs, x), rtol=1e-3, atol=1e-2)
        assert_close(ours.state_dict(), theirs.state_dict())
