"""Layers of many kinds in onnxruntime: what they measure, how they encode, with noise, and of many wires."""

from pathlib import Path

import pennylane as qml
import pytest
import torch

import shared
from qlayers import QuantumLayer
from shared.export import ExportError


def uploads_again(inputs, weights):
    """Inputs enter twice, once scaled by a weight."""
    for layer in range(2):
        qml.AngleEmbedding(inputs, wires=range(2))
        qml.BasicEntanglerLayers(weights[None, layer], wires=range(2))
    qml.RZ(inputs[..., 0] * weights[0, 1], wires=0)
    return [qml.probs(wires=0), qml.expval(qml.X(0) @ qml.Y(1)), qml.var(qml.Z(1))]


def noisy(inputs, weights):
    """Exact noise."""
    qml.AngleEmbedding(inputs, wires=range(2))
    qml.DepolarizingChannel(0.1, wires=0)
    qml.StronglyEntanglingLayers(weights[None, :, None].expand(1, 2, 3), wires=range(2))
    qml.AmplitudeDamping(0.2, wires=1)
    return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]


def wide(inputs, weights):
    """More angles than a Fourier series takes."""
    for layer in range(2):
        qml.AngleEmbedding(inputs * (layer + 1), wires=range(6))
        qml.StronglyEntanglingLayers(weights[None, layer], wires=range(6))
    return [qml.expval(qml.Z(wire)) for wire in range(6)]


def amplitudes(inputs, weights):
    """The inputs are a state."""
    qml.AmplitudeEmbedding(inputs, wires=range(2), normalize=True)
    qml.StronglyEntanglingLayers(weights[None], wires=range(2))
    return qml.probs(wires=range(2))


CASES = {
    uploads_again: ((2, 2), 2, 25),
    noisy: ((2,), 2, 12),
    wide: ((2, 6, 3), 6, 120),
    amplitudes: ((2, 3), 4, 40),
}


@pytest.mark.parametrize("circuit", CASES, ids=lambda circuit: circuit.__name__)
def test_layer(circuit, tmp_path: Path) -> None:
    shape, features, most = CASES[circuit]
    layer = QuantumLayer(circuit, {"weights": shape}, features=features)
    report = shared.export_onnx(layer, tmp_path / "layer.onnx", torch.randn(5, features))
    assert report.difference < 1e-5
    assert report.nodes <= most


def test_shots_are_refused(tmp_path: Path) -> None:
    layer = QuantumLayer(wide, {"weights": (2, 6, 3)}, features=6, shots=100)
    with pytest.raises(ExportError):
        shared.export_onnx(layer, tmp_path / "layer.onnx", torch.randn(5, 6))
