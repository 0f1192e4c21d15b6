"""Mutagenesis on windows: equal to a call of the model for each mutant, over random stacks of layers."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import shared
from biolayers import DNA, PAD, one_hot
from biolayers.interpret import ism, ism_report
from biolayers.layers import TokenConv1d


def naive(model, tokens, channels=4):
    """Every mutant written out, one call for each sequence: the definition."""
    out = []
    for row in tokens:
        copies = row.repeat(len(row), channels, 1)  # (l, letters, l)
        for position in range(len(row)):
            if row[position] != PAD:
                copies[position, :, position] = torch.arange(channels)
        found = model(copies.flatten(0, 1))
        out.append(found.unflatten(0, (len(row), channels)).transpose(0, 1))
    return torch.stack(out)


class OfColumns(nn.Module):
    """Lets a model of columns take tokens too."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.one = nn.Parameter(torch.ones(()))  # has a dtype, even where the model has no parameters

    def forward(self, x):
        return self.model(x if x.is_floating_point() else one_hot(x, dtype=torch.float64))


def assert_equal_to_naive(model, tokens, **options):
    model.double().eval()
    ours = ism(model, tokens, **options)
    with torch.no_grad():
        theirs = naive(model, tokens)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * max(1, theirs.abs().max().item()))


def random_tokens(b, l, seed=0):
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 4, (b, l), generator=rng).to(torch.uint8)
    return torch.where(torch.rand(b, l, generator=rng) < 0.05, DNA.unknown_token, tokens).to(torch.uint8)


def settle(model):
    """Norms as if after training: statistics and factors that are not 0 and 1."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean), nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight), nn.init.normal_(module.bias)
    return model


@st.composite
def stacks(draw):
    """A random stack of layers with the lengths that it can take, and the length."""
    length = start = draw(st.integers(9, 40))
    channels, layers = 4, []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(("conv", "same", "norm", "act", "max", "avg", "drop")))
        k, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        padding = draw(st.integers(0, k // 2))
        reach = length + 2 * padding
        if kind == "conv":
            dilation, out = draw(st.integers(1, 3)), draw(st.integers(1, 3))
            if dilation * (k - 1) + 1 > reach:
                continue
            layers.append(nn.Conv1d(channels, out, k, stride, padding, dilation))
            channels, length = out, (reach - dilation * (k - 1) - 1) // stride + 1
        elif kind == "same":
            odd = k | 1
            groups = channels if draw(st.booleans()) else 1
            layers.append(nn.Conv1d(channels, channels, odd, padding="same", groups=groups, dilation=stride))
        elif kind in ("max", "avg"):
            if k > reach:
                continue
            if kind == "max":
                layers.append(nn.MaxPool1d(k, stride, padding, ceil_mode=draw(st.booleans())))
            else:
                layers.append(nn.AvgPool1d(k, stride, padding))
            length = layers[-1](torch.zeros(1, 1, length)).shape[2]
        else:
            layers.append({"norm": nn.BatchNorm1d(channels), "act": nn.GELU(), "drop": nn.Dropout(0.5)}[kind])
    head = draw(st.sampled_from(("linear", "mean", "max", "none")))
    ends = {
        "linear": [nn.Flatten(), nn.Linear(channels * length, 3), nn.ReLU()],
        "mean": [nn.AdaptiveAvgPool1d(1)],
        "max": [nn.AdaptiveMaxPool1d(1), nn.Flatten()],
        "none": [],
    }
    return settle(nn.Sequential(*layers, *ends[head])), start


@settings(max_examples=20)
@given(stacks(), st.integers(1, 40), st.integers(0, 99))
def test_random_stacks(stack, batch_size, seed):
    model, length = stack
    assert_equal_to_naive(OfColumns(model), random_tokens(1, length, seed), batch_size=batch_size)


class Tower(nn.Module):
    """Residual sums of dilated convolutions, gates, crops, sums with numbers and in place."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(4, 3, 5, padding=2)
        self.tower = nn.ModuleList(nn.Conv1d(3, 3, 3, padding=2**i, dilation=2**i) for i in range(3))
        self.valid = nn.Conv1d(3, 3, 4)
        self.scale = nn.Parameter(torch.randn(3, 1))

    def forward(self, x):
        x = F.relu(self.first(x))
        for layer in self.tower:
            x = x + F.relu(layer(x))
        y = self.valid(x)
        y = y + x[:, :, 1:-2] * 0.5
        y += 1
        y = 2 * y.sigmoid() * self.valid(x).tanh() * self.scale
        kept = y
        y.relu_()  # `kept` is the same tensor
        return (F.pad(kept, (2, -3)) - 0.25).mean(-1)


def test_residual_sums_gates_and_crops():
    model = OfColumns(Tower())
    assert_equal_to_naive(model, random_tokens(2, 33))
    assert "in full from model (mean)" in str(ism_report(model, random_tokens(1, 33)))


@pytest.mark.parametrize("padding", ["same", 3])
def test_layers_of_tokens(padding):
    model = settle(
        nn.Sequential(
            TokenConv1d(4, 6, 6, padding=padding), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.MaxPool1d(3),
            nn.Conv1d(6, 5, 3), nn.ELU(), nn.Flatten(), nn.LazyLinear(2),
        )
    )  # fmt: skip
    tokens = random_tokens(2, 41, 3)
    tokens[0, -4:] = PAD
    model.eval()(tokens)
    assert_equal_to_naive(model, tokens, fast=True)


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, 4, 3), nn.LayerNorm(4)

    def forward(self, x):
        x = self.norm(self.conv(x).transpose(1, 2))
        return F.scaled_dot_product_attention(x, x, x).sum(1)


def test_what_no_rule_knows_is_computed_in_full():
    model = OfColumns(Attends())
    assert_equal_to_naive(model, random_tokens(1, 12))
    report = ism_report(model, random_tokens(1, 12))
    assert report.windows == [("model.conv", "conv1d", 3, 10)]
    assert report.ended_by == "model (transpose)"


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x):
        return self.rnn(x.mT)[0][:, -1]


@pytest.mark.parametrize("model", [Recurrent(), nn.Sequential(nn.Softmax(1), nn.Flatten()), nn.Identity()])
def test_models_without_a_fast_part(model):
    assert_equal_to_naive(OfColumns(model), random_tokens(1, 8))


class OfTokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(256, 3)

    def forward(self, tokens):
        if tokens.is_floating_point():
            raise TypeError("tokens only")
        return F.embedding(tokens.int(), self.table.weight).cumsum(1).tanh().mean(1)


def test_models_of_tokens_alone():
    assert_equal_to_naive(OfTokens(), random_tokens(2, 9))
    assert "does not take float columns (tokens only)" in ism_report(OfTokens(), random_tokens(1, 9)).reason
    with pytest.raises(shared.UserError, match="fast=True, but the model does not take float columns"):
        ism(OfTokens(), random_tokens(1, 9), fast=True)


def test_models_that_see_columns_otherwise_are_called_on_tokens():
    def model(x):
        return x.sum(-1, keepdim=True).float() if x.ndim == 2 else x.sum((1, 2)).unsqueeze(1)

    tokens = random_tokens(1, 9)
    torch.testing.assert_close(ism(model, tokens), naive(model, tokens))
    assert "differ" in str(ism_report(model, tokens))


def test_positions_and_the_slow_way():
    model = nn.Sequential(nn.Conv1d(4, 3, 3), nn.Flatten(), nn.Linear(3 * 10, 1)).eval()
    tokens = random_tokens(2, 12)
    whole = ism(model, tokens)
    assert whole.shape == (2, 4, 12, 1)
    some = ism(model, tokens, positions=[7, 0, 7])
    torch.testing.assert_close(some, whole[:, :, [7, 0, 7]])
    torch.testing.assert_close(ism(model, tokens, fast=False), whole, rtol=1e-5, atol=1e-6)
    assert ism(model, tokens, positions=[]).shape == (2, 4, 0, 1)


def test_a_mode_that_is_put_back():
    model = nn.Sequential(nn.Conv1d(4, 3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    model[1].eval()
    ism(model, random_tokens(1, 9))
    assert [module.training for module in model] == [True, False, True]
    assert int(model[1].num_batches_tracked) == 0


def test_sequences_without_a_known_letter():
    model = OfColumns(nn.Sequential(nn.Conv1d(4, 3, 3), nn.ReLU(), nn.Flatten()))
    assert_equal_to_naive(model, torch.full((1, 7), DNA.unknown_token, dtype=torch.uint8))
    assert_equal_to_naive(model, torch.full((1, 7), PAD, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, t: ism(m, t.long()), "uint8.*int64"),
        (lambda m, t: ism(m, t[0]), r"\(b, l\)"),
        (lambda m, t: ism(m, t[:0]), "at least one sequence"),
        (lambda m, t: ism(m, t, positions=[9]), r"positions in 0\.\.8"),
        (lambda m, t: ism(m, t, positions=torch.tensor([0.5])), r"positions in 0\.\.8"),
        (lambda m, t: ism(m, t, batch_size=0), "batch_size of at least 1"),
        (lambda m, t: ism(lambda x: (m(x), 1), t), "returns a tensor"),
        (lambda m, t: ism(lambda x: m(x).sum(), t), r"returns a tensor.*received \(\)"),
    ],
)
def test_errors_name_what_is_wrong(call, words):
    with pytest.raises(shared.UserError, match=words):
        call(nn.Conv1d(4, 1, 3), random_tokens(1, 9))


def test_models_that_take_neither():
    with pytest.raises(shared.UserError, match=r"on columns: .*[Kk]ernel size.*; on tokens: .*type"):
        ism(nn.Conv1d(4, 1, 30), random_tokens(1, 9))
