"""A quantum circuit as the head of a classifier: features -> angles -> circuit -> logits."""

import math

import torch
from torch import Tensor, nn

REACH = math.pi / 2  # the angles stay within -REACH and REACH, where they cannot wrap round


class QuantumHead(nn.Module):
    """Classifies features with a variational circuit; nothing goes round it.

    A linear layer chooses one angle per wire, batch normalisation spreads the angles over the circuit's range
    (without it, many start at 0, where cos has no slope, and training can stall); the circuit
    (`AngleEmbedding`, then `StronglyEntanglingLayers`) is measured in Z on every wire; a linear layer reads
    the logits from these expectation values alone.

    Args:
        features: Number of input features.
        classes: Number of classes.
        wires: Qubits of the circuit, at least 2.
        layers: Entangling layers.

    Example:
        >>> head = QuantumHead(8, 3)
        >>> head(torch.zeros(5, 8)).shape
        torch.Size([5, 3])
    """

    def __init__(self, features: int, classes: int, *, wires: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.angles = nn.Sequential(nn.Linear(features, wires), nn.BatchNorm1d(wires))
        self.circuit = _circuit(wires, layers)
        self.logits = nn.Linear(wires, classes)

    def forward(self, features: Tensor) -> Tensor:  # (b, features) -> (b, classes)
        angles = REACH * torch.tanh(self.angles(features))  # (b, wires)
        return self.logits(self.circuit(angles))


def quantum_head(features: int, classes: int) -> QuantumHead:
    """The head of the entry point `quantum` in the group `qbio.heads`: 4 wires, 2 entangling layers.

    Example:
        >>> quantum_head(8, 3).logits
        Linear(in_features=4, out_features=3, bias=True)
    """
    return QuantumHead(features, classes)


def _circuit(wires: int, layers: int) -> nn.Module:
    import pennylane as qml

    from qlayers import QuantumLayer

    def circuit(inputs, weights):
        qml.AngleEmbedding(inputs, wires=range(wires))
        qml.StronglyEntanglingLayers(weights, wires=range(wires))
        return [qml.expval(qml.Z(wire)) for wire in range(wires)]

    return QuantumLayer(circuit, {"weights": (layers, wires, 3)})
