"""Attributions: against closed forms and sums over all coalitions, and they add up or say so."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import shared
from biolayers import DNA, PAD, one_hot
from biolayers.interpret import AttributionError, deeplift, gradient_x_input, integrated_gradients
from biolayers.layers import TokenConvBlock

METHODS = (deeplift, integrated_gradients)


def random_tokens(b, l, seed=0):
    return torch.randint(0, 4, (b, l), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def linear_model():
    return nn.Sequential(nn.Conv1d(4, 3, 3), nn.Flatten(), nn.Linear(3 * 10, 2)).double()


class Reuses(nn.Module):
    """One activation used three times, functions and one in place, a gate, a max-pool, a skip."""

    def __init__(self):
        super().__init__()
        self.act, self.norm = nn.ELU(), nn.BatchNorm1d(6)
        self.a, self.b = nn.Conv1d(4, 6, 5, padding="same"), nn.Conv1d(6, 6, 3, padding="same")
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        x = self.act(self.norm(self.a(x)))
        x = self.act(self.b(x)) + x
        x = F.max_pool1d(x, 3, 2) if x.shape[-1] > 6 else x
        x = x * torch.sigmoid(self.b(x).mean(-1, keepdim=True))
        x = F.relu(self.act(x), inplace=True)
        return self.out(F.softplus(x).mean(-1) + x.amax(-1) - x.amax((2,), keepdim=True)[..., 0] / 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["zeros", "uniform", "shuffle"])
def test_linear_models_have_one_answer(method, kind):
    model, tokens = linear_model(), random_tokens(3, 12)
    ours = method(model, tokens, target=1, baselines=kind, count=3, seed=1)
    hypothetical = method(model, tokens, target=1, baselines=kind, count=3, seed=1, hypothetical=True)
    x = one_hot(tokens, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    # what stands there instead does not matter, so the shares that each position has do not either
    torch.testing.assert_close((hypothetical * x).sum(1), ours.sum(1))
    if kind == "zeros":
        torch.testing.assert_close(ours, slope * x)
        torch.testing.assert_close(gradient_x_input(model, tokens, target=1), slope * x)
    if kind == "uniform":
        torch.testing.assert_close(hypothetical, slope - slope.mean(1, keepdim=True))


def test_rescale_of_one_unit_by_hand():
    """relu(w x + b): every input has the share of w (x - x0) that relu's slope between the two leaves."""
    weight, bias = torch.randn(4, 6).double(), -0.3
    x, x0 = (one_hot(random_tokens(1, 6, seed), dtype=torch.float64)[0] for seed in (1, 2))
    ends = [(weight * v).sum() + bias for v in (x, x0)]
    slope = (ends[0].relu() - ends[1].relu()) / (ends[0] - ends[1])
    ours = deeplift(
        lambda v: torch.relu((v * weight).sum((1, 2)) + bias).double(), random_tokens(1, 6, 1),
        baselines=random_tokens(1, 6, 2),
    )  # fmt: skip
    torch.testing.assert_close(ours[0], (slope * weight * (x - x0)).float(), rtol=1e-5, atol=1e-6)


def test_max_pool_by_hand():
    """A is 3 everywhere, C is 2 and then 1: the first place is the largest in both, 3 against 2."""
    weight = torch.tensor([[3.0, 3.0], [2.0, 1.0], [0, 0], [0, 0]])

    def model(x):
        return F.max_pool1d((x * weight).sum(1, keepdim=True), 2).flatten(1)

    aa, cc = torch.tensor([[0, 0]], dtype=torch.uint8), torch.tensor([[1, 1]], dtype=torch.uint8)
    torch.testing.assert_close(deeplift(model, aa, baselines=cc).sum(1), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(deeplift(model, cc, baselines=aa).sum(1), torch.tensor([[-1.0, 0.0]]))


MAXIMA = {
    "adaptive pool": lambda x: F.adaptive_max_pool1d(x, 3),
    "pool with places": lambda x: F.max_pool1d(x, 2, return_indices=True)[0],
    "adaptive pool with places": lambda x: F.adaptive_max_pool1d(x, 2, return_indices=True)[0],
    "max along positions": lambda x: x.max(2).values,
    "max, kept": lambda x: x.max(-1, keepdim=True).values,
    "two strands": lambda x: torch.maximum(x, x.flip(1, 2)),
    "max of two": lambda x: torch.max(x, 2 * x.flip(2)),
    "smaller of two": lambda x: torch.minimum(x, x.square()),
    "above a level": lambda x: torch.maximum(x, torch.full_like(x.detach(), 0.1)),
    "log sigmoid": F.logsigmoid,
    "prelu": lambda x: F.prelu(x, torch.full((1,), 0.2, dtype=x.dtype)),
}


class Between(nn.Module):
    """A convolution, a function, and two outputs."""

    def __init__(self, function):
        super().__init__()
        self.front, self.function, self.head = nn.Conv1d(4, 6, 3), function, nn.LazyLinear(2)

    def forward(self, x):
        return self.head(self.function(self.front(x)).flatten(1))


@pytest.mark.parametrize("name", MAXIMA)
def test_sums_over_maxima(name):
    torch.manual_seed(3)
    model = Between(MAXIMA[name]).double().eval()
    assert_sums(deeplift, model, "given", random_tokens(2, 15, 1), random_tokens(2, 15, 2))


def smooth():
    torch.manual_seed(0)
    layers = (
        nn.Conv1d(4, 6, 5, padding="same"),
        nn.BatchNorm1d(6),
        nn.Softplus(),
        nn.Conv1d(6, 3, 3),
        nn.Tanh(),
    )
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3 * 13, 2), nn.Sigmoid()).double().eval()


@pytest.mark.parametrize("kind", ["zeros", "uniform", "given"])
@settings(max_examples=3)
@given(st.integers(0, 99), st.integers(7, 25))
def test_sums_are_differences_of_outputs(kind, seed, length):
    torch.manual_seed(seed)
    kinked = Reuses().double().eval()
    assert_sums(deeplift, kinked, kind, random_tokens(2, length, seed), random_tokens(2, length, seed + 1))
    straight = partial(integrated_gradients, steps=12)
    assert_sums(straight, smooth(), kind, random_tokens(2, 15, seed), random_tokens(2, 15, seed + 1))


def assert_sums(method, model, kind, tokens, others):
    tokens[0, 3] = DNA.unknown_token
    tokens[1, -2:] = PAD
    x = one_hot(tokens, dtype=torch.float64)
    x0 = {"zeros": 0 * x, "uniform": 0 * x + x.sum(1, keepdim=True) / 4}.get(kind)
    x0 = one_hot(others, dtype=torch.float64) if x0 is None else x0
    gap = (model(x) - model(x0))[:, 1].detach()
    found = method(model, tokens, target=1, baselines=others if kind == "given" else kind, check=1e-6)
    torch.testing.assert_close(found.sum((1, 2)), gap, rtol=1e-6, atol=1e-8)


def test_averages_over_baselines():
    torch.manual_seed(0)
    model, tokens = Reuses().double().eval(), random_tokens(2, 15)
    sets = torch.stack([random_tokens(2, 15, seed) for seed in (5, 6, 7)], 1)  # (b, n, l)
    for method in (deeplift, partial(integrated_gradients, steps=8)):
        whole = method(model, tokens, baselines=sets, batch_size=2, check=None)
        parts = [method(model, tokens, baselines=sets[:, i], check=None) for i in range(3)]
        torch.testing.assert_close(whole, torch.stack(parts).mean(0))


def test_tokens_go_in_as_columns():
    model = nn.Sequential(TokenConvBlock(4, 8, 5, pool_size=2), nn.Flatten(), nn.LazyLinear(1)).eval()
    tokens = random_tokens(4, 20)
    out = model(tokens)[:, 0].detach()
    zero = model(torch.zeros(1, 4, 20))[0, 0].detach()
    for method in METHODS:
        found = method(model, tokens, baselines="zeros")
        torch.testing.assert_close(found.sum((1, 2)), out - zero, rtol=0.02, atol=0.02)
    assert model.training is False


def attends(x):
    x = x.mT
    return F.scaled_dot_product_attention(4 * x, x, x)[:, :, 0].square().sum(1)


def test_what_does_not_add_up_is_an_error():
    with pytest.raises(AttributionError, match=r"deeplift: sample \d with baseline 0: attributions sum to .* "
                                               r"outputs differ by .*use integrated_gradients"):  # fmt: skip
        deeplift(attends, random_tokens(3, 12), baselines="uniform")
    assert deeplift(attends, random_tokens(3, 12), baselines="uniform", check=None).shape == (3, 4, 12)

    def steep(x):
        return torch.sigmoid(1000 * (x.sum((1, 2)) - 0.37 * x.shape[2]))

    with pytest.raises(AttributionError, match="raise steps, or pass check=None or a tolerance above"):
        integrated_gradients(steep, random_tokens(1, 9), baselines="zeros", steps=8)
    with pytest.raises(AttributionError, match="sum to nan"):
        deeplift(lambda x: x.sum((1, 2)) * torch.nan, random_tokens(1, 9), baselines="zeros")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, t: deeplift(m, t.int()), "uint8.*int32"),
        (lambda m, t: gradient_x_input(m, t[:0]), "at least one sequence"),
        (lambda m, t: gradient_x_input(m, t, batch_size=0), "batch_size"),
        (lambda m, t: integrated_gradients(m, t, steps=0), "steps of at least 1"),
        (lambda m, t: deeplift(m, t, target=2), r"one of the outputs, received 2 for outputs \(20, 2\)"),
        (lambda m, t: deeplift(m, t, target=lambda y: y), r"to return \(20,\), received \(20, 2\)"),
        (lambda m, t: deeplift(m, t, baselines="noise"), "'zeros', 'uniform', 'shuffle'.*'noise'"),
        (lambda m, t: deeplift(m, t, baselines=t[:, 1:]), r"received torch.float64 \(1, 1, 4, 11\)"),
        (lambda m, t: deeplift(m, t, count=0), "count of at least 1"),
        (lambda m, t: gradient_x_input(lambda x: x.detach().sum((1, 2)), t), "received a constant"),
    ],
)
def test_errors_name_what_is_wrong(call, words):
    with pytest.raises(shared.UserError, match=words):
        call(linear_model(), random_tokens(1, 12))
