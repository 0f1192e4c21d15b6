"""An optimized model leaves the laboratory as any other does: saved, loaded, as ONNX."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import shared
from qlayers import Circuit, QuantumLayer
from shared.errors import UserError

CIRCUIT = "weights w(2)\nRX(x0) 0\nRX(x1) 1\nRY(w[0]) 0\nCNOT 0 1\nRX(w[1]) 1\nexpval Z(0)\nexpval Z(1)"


class Hybrid(nn.Module):
    """What users write; most rules find something in it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.nothing = nn.Conv1d(4, 6, 5), nn.BatchNorm1d(6), nn.Identity()
        self.plain = nn.Conv1d(4, 6, 3)
        self.drop, self.neck, self.head = nn.Dropout(0.5), nn.Linear(6, 2), nn.Linear(2, 3)
        self.circuit, self.scale = QuantumLayer(Circuit.parse(CIRCUIT)), 2.0

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # (b, l) -> (b, 3)
        x = F.one_hot(tokens, 4).transpose(1, 2).float()
        given = F.avg_pool1d(F.gelu(self.nothing(self.norm(self.conv(x)))), 4).mean(-1)
        both = torch.maximum(self.plain(x).relu().mean(-1), self.plain(x.flip(1, 2)).relu().mean(-1))
        return self.head(self.circuit(self.neck(self.drop(given + both)) * self.scale))


RULES = {
    "identity",
    "token_conv1d",
    "token_conv1d_norm",
    "token_conv1d_avg_pool",
    "token_conv1d_strands",
    "angle_scaling",
}


def some_tokens(count: int) -> torch.Tensor:
    return torch.randint(0, 4, (count, 40))


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    """A model whose statistics are those of a few batches, and the optimized copy, in evaluation."""
    torch.manual_seed(0)
    model = Hybrid()
    for _ in range(3):
        model(some_tokens(20))
    better = shared.optimize(model.eval(), some_tokens(3))
    assert {change.rule for change in better.report.changes} >= RULES, str(better.report)
    return better, model


def test_saved_and_loaded(pair: tuple[nn.Module, nn.Module], tmp_path: Path) -> None:
    better, model = pair
    manifest = shared.save(better, tmp_path / "model.pt2", some_tokens(2))
    assert {op.name for op in manifest.ops} >= {"biolayers::token_conv1d_avg_pool", "qlayers::pauli_expval"}
    loaded = shared.load(tmp_path / "model.pt2")
    for count in (1, 5):
        x = some_tokens(count)
        assert_close(loaded(x), model(x))
        assert_close(gradients(loaded, x), gradients(model, x))
    assert set(loaded.state_dict()) == set(model.state_dict())
    with pytest.raises(UserError, match="give it this one's state_dict"):
        loaded.deoptimize()
    again = Hybrid().eval()
    again.load_state_dict(loaded.state_dict())
    assert_close(again(x), model(x))


def gradients(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    named = dict(model.named_parameters())
    return dict(zip(named, torch.autograd.grad(model(x).square().sum(), list(named.values())), strict=True))


def test_as_onnx(pair: tuple[nn.Module, nn.Module], tmp_path: Path) -> None:
    better, model = pair
    report = shared.export_onnx(better, tmp_path / "model.onnx", some_tokens(2))
    assert report.difference < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 4):
        x = some_tokens(count)
        found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
        np.testing.assert_allclose(found, model(x).detach().numpy(), atol=1e-5)


def test_what_is_set_before_is_in_the_file(pair: tuple[nn.Module, nn.Module], tmp_path: Path) -> None:
    """An attribute that was changed: the file has the model's own forward, and the value of that moment."""
    better = pair[0]
    x, better.scale = some_tokens(3), 3.0
    try:
        with pytest.warns(shared.graph.ChangedSinceWarning):
            wanted = better(x)
        shared.save(better, tmp_path / "model.pt2", some_tokens(2))
        assert_close(shared.load(tmp_path / "model.pt2")(x), wanted)
    finally:
        better.scale = 2.0


def test_the_state_of_the_model_before(pair: tuple[nn.Module, nn.Module], tmp_path: Path) -> None:
    better, model = pair
    assert better.deoptimize() is model
    torch.save(better.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again = shared.optimize(Hybrid().eval(), some_tokens(3))
    again.load_state_dict(state)
    x = some_tokens(4)
    assert_close(again(x), model(x))
