"""ONNX graphs give what the model gives, at any batch size, and what has no form there is named."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import shared
from biolayers import models
from biolayers.layers import TokenConv1d
from qlayers import Circuit, QuantumLayer
from shared.export import ExportError

CIRCUIT = (
    "weights w(3)\nRX(x0) 0\nRX(x1) 1\nRY(w[0]) 0\nCNOT 0 1\nRZ(w[1]) 1\nRX(w[2]) 1\nexpval Z(0)\nexpval Z(1)"
)


def hybrid(*, length: int = 12) -> nn.Module:
    """Tokens (b, length) to logits (b, 3), through an op of each domain."""
    return nn.Sequential(
        TokenConv1d(4, 5, 3, padding=1),
        nn.BatchNorm1d(5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(5 * length, 2),
        QuantumLayer(Circuit.parse(CIRCUIT)),
        nn.Linear(2, 3),
    )


def some_tokens(count: int, length: int = 12) -> torch.Tensor:
    return torch.randint(0, 6, (count, length)).to(torch.uint8)


def results(path: Path, *inputs: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))


def test_a_hybrid_model(tmp_path: Path) -> None:
    model, path = hybrid(), tmp_path / "model.onnx"
    model(some_tokens(30))
    report = shared.export_onnx(model, path, some_tokens(1), metadata={"classes": "a, b, c"})
    assert model.training
    assert report.difference < 1e-6
    assert report.replaced == ("biolayers::token_conv1d at 0", "qlayers::pauli_expval at 6")
    assert report.size == path.stat().st_size
    model.eval()
    for count in (1, 2, 9):
        x = some_tokens(count)
        np.testing.assert_allclose(results(path, x)[0], model(x).detach().numpy(), atol=1e-5)
    proto = onnx.load(path)
    assert {node.domain for node in proto.graph.node} == {""}  # nothing but standard operators
    assert len(proto.graph.node) < 20
    assert [each.name for each in proto.graph.output] == ["output"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {each.key: each.value for each in proto.metadata_props} == {"classes": "a, b, c"}
    for text in (b"site-packages", b".py", str(Path(__file__).parents[3]).encode()):
        assert text not in path.read_bytes()


def test_eight_bits(tmp_path: Path) -> None:
    model, path, x = hybrid(), tmp_path / "model.onnx", some_tokens(300)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    labels = (x == 2).sum(1).clamp(max=2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    report = shared.export_onnx(
        model, path, x[:4], quantize="int8", calibration=[x[:100], x[100:200]], evaluation=(x, labels)
    )
    assert report.quantized == "int8"
    assert report.scores is not None
    assert report.scores.records == 300
    assert report.scores.agreement > 0.95
    assert abs(report.scores.before - report.scores.after) < 0.03
    nodes = onnx.load(path).graph.node
    assert "QuantizeLinear" in {node.op_type for node in nodes}
    (cosine,) = (node for node in nodes if node.op_type == "Cos")  # the circuit is as it was
    made_by = {output: node for node in nodes for output in node.output}
    assert made_by[cosine.input[0]].op_type != "DequantizeLinear"
    np.testing.assert_array_equal(results(path, x[:7])[0].shape, (7, 3))


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.linear(x), tokens.float().mean(1)

    model, inputs = Two(), (torch.randn(4, 3), some_tokens(4))
    shared.export_onnx(model, tmp_path / "two.onnx", inputs)
    for ours, theirs in zip(results(tmp_path / "two.onnx", *inputs), model(*inputs), strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["deepbind", "cnn+quantum"])
def test_reference_models(name: str, tmp_path: Path) -> None:
    model = models.build(name, length=40, classes=3)
    report = shared.export_onnx(model, tmp_path / "model.onnx", some_tokens(3, 40))
    assert report.difference < 1e-5


def test_what_has_no_form_is_named_with_its_place(tmp_path: Path) -> None:
    import pennylane as qml

    def circuit(inputs, weights):
        qml.RX(inputs[..., 0], wires=0)
        qml.CRY(weights[0], wires=[0, 1])
        return qml.vn_entropy(wires=0)

    model = nn.Sequential(nn.Linear(2, 1), QuantumLayer(circuit, {"weights": 2}, features=1))
    with pytest.raises(ExportError, match=r"eig.* has no form in ONNX; it is part of qlayers::entropy at 1"):
        shared.export_onnx(model, tmp_path / "model.onnx", torch.randn(2, 2))
    assert not list(tmp_path.iterdir())


def test_paths_that_depend_on_values_are_refused(tmp_path: Path) -> None:
    class Forks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportError, match="Forks cannot be traced"):
        shared.export_onnx(Forks(), tmp_path / "model.onnx", torch.ones(2, 3))


def test_arguments_that_do_not_fit_are_explained(tmp_path: Path) -> None:
    model, path, x = nn.Linear(3, 2), tmp_path / "model.onnx", torch.ones(2, 3)
    for options, words in (
        ({"quantize": "int4"}, "'int8'"),
        ({"quantize": "int8"}, "calibration"),
        ({"calibration": [x]}, "quantize"),
    ):
        with pytest.raises(ExportError, match=words):
            shared.export_onnx(model, path, x, **options)
    with pytest.raises(ExportError, match="calibration: expected at least one batch"):
        shared.export_onnx(model, path, x, quantize="int8", calibration=[])
    with pytest.raises(ExportError, match="no folder"):
        shared.export_onnx(model, tmp_path / "none" / "model.onnx", x)
    with pytest.raises(ExportError, match="tuple of tensors"):
        shared.export_onnx(model, path, {"x": x})
    with pytest.raises(ExportError, match="dynamic_batch"):
        shared.export_onnx(nn.Bilinear(3, 3, 1), path, (torch.ones(2, 3), torch.ones(1, 3)))
    assert not list(tmp_path.iterdir())
