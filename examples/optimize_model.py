"""A hybrid model as a user wrote it, made faster by one call, without a change to its code.

    python examples/optimize_model.py

The copy that `shared.optimize` returns has the parameters of the model itself. It agrees with the model on
outputs and gradients, its report names every rewrite, and both are timed in turn.
"""

import time
from statistics import median

import pennylane as qml
import torch
from jsonargparse import auto_cli
from torch import nn
from torch.nn import functional as F

import shared


class Hybrid(nn.Module):
    """DNA to two classes: a convolution finds motifs, a circuit combines them."""

    def __init__(self, wires: int = 4, filters: int = 32) -> None:
        super().__init__()

        @qml.qnode(qml.device("default.qubit", wires=wires))
        def circuit(inputs, weights):
            qml.AngleEmbedding(inputs, wires=range(wires))
            qml.StronglyEntanglingLayers(weights, wires=range(wires))
            return [qml.expval(qml.Z(wire)) for wire in range(wires)]

        self.conv = nn.Conv1d(4, filters, 19)
        self.norm = nn.BatchNorm1d(filters)
        self.pool = nn.MaxPool1d(10)
        self.neck = nn.Linear(filters, wires)
        self.quantum = qml.qnn.TorchLayer(circuit, {"weights": (2, wires, 3)})
        self.head = nn.Linear(wires, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (b, l), 0 to 3 for A C G T, to scores (b, 2)."""
        x = F.one_hot(tokens, 4).transpose(1, 2).float()
        x = self.pool(F.relu(self.norm(self.conv(x))))
        return self.head(self.quantum(self.neck(x.mean(-1))))


def step_of(model: nn.Module, tokens: torch.Tensor, labels: torch.Tensor) -> float:
    """Milliseconds of a training step without the optimizer."""
    start = time.perf_counter()
    F.cross_entropy(model(tokens), labels).backward()
    return 1e3 * (time.perf_counter() - start)


def gradients(model: nn.Module, tokens: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    """Of the loss, for every parameter."""
    return list(torch.autograd.grad(F.cross_entropy(model(tokens), labels), list(model.parameters())))


def main(steps: int = 10, length: int = 500, batch: int = 32, seed: int = 0) -> float:
    """Optimize the model, and compare.

    Args:
        steps: Training steps that are timed; model and copy take turns.
        length: Letters of a sequence.
        batch: Sequences of a step.
        seed: Of the data and the weights.

    Returns:
        How many times faster a step has become, by medians.
    """
    torch.manual_seed(seed)
    tokens, labels = torch.randint(0, 4, (batch, length)), torch.randint(0, 2, (batch,))
    model = Hybrid()
    faster = shared.optimize(model, tokens)
    print(faster.report)

    pairs = zip(gradients(faster, tokens, labels), gradients(model, tokens, labels), strict=True)
    worst = max((ours - theirs).abs().max().item() for ours, theirs in pairs)
    print(f"largest difference of a gradient:  {worst:.1e}")
    shares = all(a is b for a, b in zip(faster.parameters(), model.parameters(), strict=True))
    print(f"parameters are the model's own:    {shares}")

    times = [[step_of(each, tokens, labels) for each in (model, faster)] for _ in range(steps)]
    theirs, ours = (median(column) for column in zip(*times, strict=True))
    print(f"as it was written:                 {theirs:7.2f} ms a step")
    print(f"optimized:                         {ours:7.2f} ms a step, {theirs / ours:.0f} times faster")
    return theirs / ours


if __name__ == "__main__":
    auto_cli(main)
