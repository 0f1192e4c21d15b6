"""A hybrid quantum-classical model of your own, on real splice junctions.

    python examples/hybrid_splice.py                 # the hybrid model
    python examples/hybrid_splice.py --compare true  # and a classical head of its size, on the same split

A convolution reads the sequence, a circuit of four qubits decides: everything that the last layer sees has
passed through the circuit. (`qbio demo` trains such a model with all the comfort: early stopping, averaged
weights, a report.)
"""

import copy
from pathlib import Path

import pennylane as qml
import torch
from jsonargparse import auto_cli
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import biolayers
import qlayers
from biolayers.layers import TokenConv1d

SPLICE = Path(__file__).parent / "data" / "splice_junctions.fa"
WIRES = 4


def circuit(inputs, weights):
    """Angles in, one expectation value per wire out."""
    qml.AngleEmbedding(inputs, wires=range(WIRES))
    qml.StronglyEntanglingLayers(weights, wires=range(WIRES))
    return [qml.expval(qml.Z(wire)) for wire in range(WIRES)]


class Angles(nn.Module):
    """Bring any numbers into the range of an angle, (-pi/2, pi/2)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.pi / 2 * torch.tanh(x)


def model_with(middle: nn.Module) -> nn.Sequential:
    """The body, four numbers, the part that differs, and three logits."""
    return nn.Sequential(
        TokenConv1d(4, 32, 9, padding=4),  # (b, 60) tokens -> (b, 32, 60)
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.MaxPool1d(3),  # places matter here: a splice site stands in the middle
        nn.Flatten(),
        nn.Dropout(0.4),
        nn.Linear(32 * 20, WIRES),
        nn.BatchNorm1d(WIRES),
        middle,
        nn.Linear(WIRES, 3),
    )


def fit(model: nn.Module, training: torch.utils.data.Dataset, epochs: int) -> None:
    """Adam with a decaying rate."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(1, epochs + 1):
        model.train()
        losses = []
        for tokens, labels in DataLoader(training, batch_size=64, shuffle=True):
            loss = F.cross_entropy(model(tokens), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        schedule.step()
        print(f"epoch {epoch:2d}  loss {sum(losses) / len(losses):.4f}")


def main(epochs: int = 15, seed: int = 0, compare: bool = False) -> dict[str, float]:
    """Train, and judge on held-out sequences.

    Args:
        epochs: Passes over the training part.
        seed: Of the split, the weights and the order.
        compare: Also train the same body with a classical middle of the same width.

    Returns:
        The accuracy on the held-out part, by kind of model.
    """
    data = biolayers.FastaDataset(SPLICE, label_pattern=r"class=(\w+)")
    training, held_out = biolayers.split(data, (0.9, 0.1), seed=seed)
    tokens, labels = data.batch(held_out.indices)

    torch.manual_seed(seed)
    quantum = qlayers.QuantumLayer(circuit, {"weights": (2, WIRES, 3)})  # 24 weights
    print(quantum.circuit.draw())
    middles = {"hybrid": nn.Sequential(Angles(), quantum)}
    if compare:
        middles["classical"] = nn.Sequential(nn.Tanh(), nn.Linear(WIRES, WIRES), nn.Tanh())  # 20 weights

    accuracy = {}
    for kind, middle in middles.items():
        print(f"\n{kind}: {sum(p.numel() for p in middle.parameters())} weights in the part that differs")
        torch.manual_seed(seed)  # the same body, the same order
        model = model_with(copy.deepcopy(middle))
        fit(model, training, epochs)
        model.eval()
        with torch.no_grad():
            accuracy[kind] = (model(tokens).argmax(1) == labels).float().mean().item()
    print()
    for kind, share in accuracy.items():
        print(f"{kind}: {share:.3f} of {len(labels)} held-out sequences right")
    return accuracy


if __name__ == "__main__":
    auto_cli(main)
