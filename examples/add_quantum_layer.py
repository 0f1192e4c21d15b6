"""Add a quantum layer to a PyTorch model that you already have.

    python examples/add_quantum_layer.py

The model learns to tell two spirals apart. One line puts a circuit between its layers; from then on it is a
layer like any other: it trains with any optimizer, moves with `.to(...)`, and is saved in the `state_dict`.
"""

import math

import pennylane as qml
import torch
from jsonargparse import auto_cli
from torch import nn
from torch.nn import functional as F

import qlayers

WIRES = 4


def circuit(inputs, weights):
    """Written as for PennyLane: `inputs` are the features of a sample, the rest are trained."""
    qml.AngleEmbedding(inputs, wires=range(WIRES))
    qml.StronglyEntanglingLayers(weights, wires=range(WIRES))
    return [qml.expval(qml.Z(wire)) for wire in range(WIRES)]


def spirals(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of two interleaved spirals: (n, 2), and which spiral: (n,)."""
    label = torch.arange(n) % 2
    turn = 3.5 * torch.rand(n).sqrt()
    angle = turn + math.pi * label
    return torch.stack([turn * angle.cos(), turn * angle.sin()], 1) + 0.1 * torch.randn(n, 2), label


def main(steps: int = 400, seed: int = 0) -> float:
    """Train on spirals.

    Args:
        steps: Training steps.
        seed: Of the data and the weights.

    Returns:
        The accuracy on new points.
    """
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(2, 16),
        nn.Tanh(),
        nn.Linear(16, WIRES),
        qlayers.QuantumLayer(circuit, {"weights": (3, WIRES, 3)}),  # <- the line that is new
        nn.Linear(WIRES, 2),
    )
    print(model)
    print(model[3].circuit.draw())

    points, labels = spirals(1024)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(1, steps + 1):
        loss = F.cross_entropy(model(points), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, steps // 8) == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")

    points, labels = spirals(1000)
    with torch.no_grad():
        accuracy = (model(points).argmax(1) == labels).float().mean().item()
    print(f"accuracy on new points: {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    auto_cli(main)
