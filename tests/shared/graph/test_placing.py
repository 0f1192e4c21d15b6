"""Autocast regions, devices, and the reasons why each call runs where it does."""

import pytest
import torch
import torch.nn.functional as F
from drawn import Drawn, inputs, plans
from hypothesis import given, settings
from torch import nn
from torch.testing import assert_close

import shared
from qlayers import QuantumLayer
from shared.errors import UserError
from shared.graph import placing


def circuit(inputs, weights):
    import pennylane as qml

    qml.AngleEmbedding(inputs, wires=range(2))
    qml.BasicEntanglerLayers(weights, wires=range(2))
    return [qml.expval(qml.Z(wire)) for wire in range(2)]


class Hybrid(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.reduce = nn.Conv1d(4, 8, 5), nn.Linear(8, 2)
        self.circuit, self.norm = QuantumLayer(circuit, {"weights": (2, 2)}), nn.LayerNorm(2)
        self.out = nn.Linear(2, 3)

    def forward(self, tokens):
        x = F.relu(self.conv(F.one_hot(tokens, 4).transpose(1, 2).float())).mean(-1)
        return self.out(self.norm(self.circuit(self.reduce(x))))


@pytest.fixture(scope="module")
def narrow():
    torch.manual_seed(0)
    model, tokens = Hybrid(), torch.randint(0, 4, (6, 30))
    return model, shared.optimize(model, tokens, dtype="bfloat16"), tokens


def test_products_are_narrow_and_circuits_are_not(narrow):
    _, better, _ = narrow
    rows = {(each.place, each.call): each for each in better.report.placements}
    assert rows["reduce", "Linear"].dtype == rows["out", "Linear"].dtype == "bfloat16"
    assert rows["circuit", "qlayers::pauli_expval"].dtype == "float32"
    assert rows["circuit", "qlayers::pauli_expval"].provider.startswith("numba")
    (letters,) = [row for row in rows.values() if "token_conv1d" in row.call]
    assert "uint8" in letters.reason
    assert all(row.device == "cpu" and row.reason for row in rows.values())
    assert "products in bfloat16, outputs within" in str(better.report)


def test_a_region_keeps_parameters_results_and_names(narrow):
    model, better, tokens = narrow
    assert better(tokens).dtype == torch.float32
    assert_close(better(tokens), model(tokens), rtol=0.05, atol=0.05)
    assert list(better.state_dict()) == list(model.state_dict())
    assert all(a is b for a, b in zip(better.parameters(), model.parameters(), strict=True))
    better(tokens).sum().backward()
    assert {each.grad.dtype for each in model.parameters()} == {torch.float32}
    assert better.deoptimize() is model
    again = shared.optimize(better, tokens, dtype="bfloat16")
    assert torch.equal(again(tokens), better(tokens))


def test_float32_and_no_dtype_change_nothing():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.rand(2, 3)
    for dtype in (None, "float32", torch.float32):
        assert not shared.optimize(model, x, dtype=dtype).report
    better = shared.optimize(model, x, device="cpu")
    assert [each.call for each in better.report.placements] == ["Linear", "ReLU"]
    assert torch.equal(better(x), model(x))


@settings(max_examples=10)
@given(plans)
def test_any_graph(plan):
    """Models in float64, which autocast leaves alone, are the same to the last bit."""
    model, x = Drawn(plan), inputs()
    better = placing.in_region(model, (x,), torch.bfloat16)
    for mode in (True, False):
        torch.manual_seed(1)
        ours = better.train(mode)(x)
        torch.manual_seed(1)
        assert torch.equal(ours, model.train(mode)(x))
    assert list(better.state_dict()) == list(model.state_dict())
    assert placing.in_region(better, (x,), torch.bfloat16) is better


def test_mistakes():
    model, x = nn.Linear(3, 4), torch.rand(2, 3)
    with pytest.raises(UserError, match="dtype: expected 'float32', 'bfloat16', 'float16' or None, received"):
        shared.optimize(model, x, dtype="int8")
    for device in ("cuda:99", "fridge", "meta"):
        with pytest.raises(UserError, match=r"device: expected one .* received"):
            shared.optimize(model, x, device=device)
