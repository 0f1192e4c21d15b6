"""Whole models before and after: the same values, gradients, parameters and modes, and a report."""

import copy
import warnings

import pennylane as qml
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

import shared
from shared.errors import UserError

MERGED = "one_hot + conv1d -> token_conv1d"
POOLED = "token_conv1d + relu + max_pool1d -> token_conv1d_max_pool"


class Front(nn.Module):
    """What users write: one-hot letters, a convolution, an activation, pooling, a linear layer."""

    def __init__(self, *, channels=6, k=5, pool=4, dtype=torch.float64, **conv):
        super().__init__()
        self.conv = nn.Conv1d(4, channels, k, dtype=dtype, **conv)
        self.pool = nn.MaxPool1d(pool)
        self.linear = nn.Linear(channels, 2, dtype=dtype)

    def forward(self, tokens):
        x = F.one_hot(tokens, 4).transpose(1, 2).to(self.conv.weight.dtype)
        return self.linear(self.pool(F.relu(self.conv(x))).mean(-1))


def tokens(*shape, letters=4):
    return torch.randint(0, letters, shape or (3, 40))


def rewrites(model):
    return [f"{change.before} -> {change.after}" for change in model.report.changes]


def gradients(model, *inputs):
    model.zero_grad()
    model(*inputs).square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def test_a_usual_front_becomes_one_call():
    model, x = Front(), tokens()
    better = shared.optimize(model, x)
    assert rewrites(better) == [MERGED, POOLED]
    assert_close(better(x), model(x))
    assert_close(gradients(better, x), gradients(model, x))
    longer = tokens(5, 77)  # neither the batch nor the length is fixed
    assert_close(better(longer), model(longer))


def test_parameters_are_the_models_own():
    model = Front()
    better = shared.optimize(model, tokens())
    assert isinstance(better, Front)
    assert better.deoptimize() is model
    assert list(better.state_dict()) == list(model.state_dict())
    assert all(a is b for a, b in zip(better.parameters(), model.parameters(), strict=True))
    torch.optim.SGD(better.parameters(), lr=0.1)
    better(tokens()).sum().backward()
    assert model.conv.weight.grad is better.conv.weight.grad
    better.load_state_dict({name: torch.ones_like(value) for name, value in model.state_dict().items()})
    assert (model.conv.weight == 1).all()


def test_the_model_is_left_as_it_was():
    model, x = Front().eval(), tokens()
    model.register_buffer("seen", torch.zeros(()))
    before, forward, random = (
        copy.deepcopy(model.state_dict()),
        type(model).forward,
        torch.random.get_rng_state(),
    )
    better = shared.optimize(model, x)
    assert not better.training
    assert not model.training
    assert type(model) is Front
    assert type(model).forward is forward
    assert_close(model.state_dict(), before)
    assert model.conv.weight.grad is None
    assert torch.equal(torch.random.get_rng_state(), random)


class ByHand(nn.Module):
    """The same in functions and methods."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.weight = nn.Parameter(torch.randn(3, 4, 5, dtype=torch.float64))

    def forward(self, tokens):
        return self.way(self, tokens)


WAYS = {
    "permute": lambda m, t: F.conv1d(F.one_hot(t, 4).permute(0, 2, 1).double(), m.weight),
    "swapaxes": lambda m, t: F.conv1d(F.one_hot(t, 4).double().swapaxes(-1, -2), m.weight, padding=2),
    "narrow tokens": lambda m, t: torch.conv1d(
        F.one_hot(t.to(torch.uint8).long(), num_classes=4).to(torch.float64).transpose(2, 1).contiguous(),
        m.weight, None, 2, 1, 2,
    ),
    "same": lambda m, t: F.conv1d(F.one_hot(t, 4).transpose(1, 2).double(), m.weight, padding="same"),
    "pool": lambda m, t: F.max_pool1d(
        F.conv1d(F.one_hot(t, 4).transpose(1, 2).double(), m.weight), kernel_size=3, stride=2
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_spellings(way):
    model, x = ByHand(WAYS[way]), tokens()
    better = shared.optimize(model, x)
    assert MERGED in rewrites(better)
    assert_close(better(x), model(x))
    assert_close(gradients(better, x), gradients(model, x))


LEFT = {
    "groups": (
        lambda m, t: F.conv1d(F.one_hot(t, 12).transpose(1, 2).double(), m.weight, groups=3),
        "in groups",
    ),
    "unknown classes": (
        lambda m, t: F.conv1d(F.one_hot(t).transpose(1, 2).double(), m.weight),
        "must be known",
    ),
    "values decide": (
        lambda m, t: F.conv1d(F.one_hot(t, 4).transpose(1, 2).double(), m.weight) if t.sum() > 0 else None,
        "cannot be traced",
    ),
}


@pytest.mark.parametrize("way", LEFT)
def test_what_cannot_be_proved_is_left_alone(way):
    forward, reason = LEFT[way]
    model, x = ByHand(forward), tokens()
    x[0, 0] = 3
    better = shared.optimize(model, x)
    assert not better.report
    assert any(reason in refusal.reason for refusal in better.report.refusals), str(better.report)
    assert_close(better(x), model(x))


def test_hooks_keep_a_module_out():
    model, x = Front(), tokens()
    seen = []
    model.conv.register_forward_hook(lambda *_: seen.append(1))
    better = shared.optimize(model, x)
    assert not better.report
    seen.clear()
    better(x)
    assert seen == [1]


def test_what_a_graph_cannot_say_is_noticed():
    """`no_grad` and `autocast` leave no trace in a graph."""

    class Frozen(Front):
        def forward(self, tokens):
            with torch.no_grad():
                x = F.relu(self.conv(F.one_hot(tokens, 4).transpose(1, 2).double()))
            return self.linear(self.pool(x).mean(-1))

    model, x = Frozen(), tokens()
    better = shared.optimize(model, x)
    assert not better.report
    assert "more than its calls say" in str(better.report)
    better(x).sum().backward()
    assert better.conv.weight.grad is None


def test_modes_have_graphs_of_their_own():
    class Dropping(Front):
        def forward(self, tokens):
            x = F.one_hot(tokens, 4).transpose(1, 2).double()
            return F.dropout(self.conv(x), 0.5, training=self.training)

    model, x = Dropping(), tokens()
    better = shared.optimize(model, x)
    assert rewrites(better) == [MERGED, "dropout -> nothing"]
    for mode in (True, False):
        model.train(mode)
        better.train(mode)
        torch.manual_seed(1)
        expected = model(x)
        torch.manual_seed(1)
        assert_close(better(x), expected)


def test_other_arguments_take_the_models_own_forward():
    class Masked(Front):
        def forward(self, tokens, mask=None):
            x = super().forward(tokens)
            return x if mask is None else x * mask

    model, x = Masked(), tokens()
    better, mask = shared.optimize(model, x), torch.zeros(2, dtype=torch.float64)
    assert rewrites(better) == [MERGED, POOLED]
    assert_close(better(x), model(x))
    assert_close(better(x, mask=mask), model(x, mask))


def test_parts_of_a_model_that_is_no_graph():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.front = Front()

        def forward(self, tokens):
            return self.front(tokens) if int(tokens.sum()) >= 0 else None

    model, x = Outer(), tokens()
    better = shared.optimize(model, x)
    assert rewrites(better) == [MERGED, POOLED]
    assert {change.place.split(".")[0] for change in better.report.changes} == {"front"}
    assert_close(better(x), model(x))
    assert_close(gradients(better, x), gradients(model, x))


def test_wrong_classes_are_still_an_error():
    better = shared.optimize(Front(), tokens())
    for bad in (4, -1):
        with pytest.raises(UserError, match="classes from 0 to 3"):
            better(torch.full((1, 20), bad))


def test_copies_and_casts():
    model, x = Front(dtype=torch.float32), tokens()
    better = shared.optimize(model, x)
    twin = copy.deepcopy(better)
    assert_close(twin(x), model(x))
    with torch.no_grad():
        twin.conv.weight.zero_()
    assert not torch.equal(twin(x), model(x))
    better.double()
    assert model(x).dtype == torch.float64
    assert_close(better(x), model(x))


def test_twice_is_once():
    x = tokens()
    once = shared.optimize(Front(), x)
    assert not shared.optimize(once, x).report


@settings(max_examples=12)
@given(
    st.fixed_dictionaries(
        {"k": st.integers(1, 7), "stride": st.integers(1, 3), "padding": st.integers(0, 4),
         "dilation": st.integers(1, 3), "bias": st.booleans(), "channels": st.integers(1, 9)}
    ),
    st.integers(1, 5), st.integers(1, 4), st.integers(30, 50),
)  # fmt: skip
def test_any_convolution(sizes, pool, batch, length):
    model, x = Front(pool=pool, **sizes), tokens(batch, length)
    better = shared.optimize(model, x)
    assert rewrites(better) == [MERGED, POOLED]
    assert_close(better(x), model(x))
    assert_close(gradients(better, x), gradients(model, x))


def test_pennylanes_layer():
    device = qml.device("default.qubit", wires=2)

    @qml.qnode(device)
    def circuit(inputs, weights):
        qml.AngleEmbedding(inputs, wires=range(2))
        qml.BasicEntanglerLayers(weights, wires=range(2))
        return [qml.expval(qml.Z(wire)) for wire in range(2)]

    model = nn.Sequential(nn.Linear(3, 2), qml.qnn.TorchLayer(circuit, {"weights": (2, 2)}), nn.Linear(2, 1))
    x = torch.rand(4, 3)
    better = shared.optimize(model, x)
    assert rewrites(better) == ["TorchLayer -> QuantumLayer"]
    assert better[1].weights is model[1].weights
    assert list(better.state_dict()) == list(model.state_dict())
    assert_close(better(x), model(x))
    assert_close(gradients(better, x), gradients(model, x))


def test_mistakes():
    with pytest.raises(UserError, match=r"passes: expected names among .*token_conv1d.*received 'fast'"):
        shared.optimize(Front(), tokens(), passes=["fast"])
    with pytest.raises(
        UserError, match=r"expected example inputs that the model runs on, received float32 \(2"
    ):
        shared.optimize(Front(), torch.rand(2, 3))
    only = shared.optimize(Front(), tokens(), passes=["token_conv1d"])
    assert rewrites(only) == [MERGED]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert str(only.report).startswith("changed (1)\n  conv  one_hot + conv1d")
