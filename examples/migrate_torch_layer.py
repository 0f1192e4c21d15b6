"""A model with `pennylane.qnn.TorchLayer`, changed in one line.

    python examples/migrate_torch_layer.py

Both models hold the same weights, moved over by their state_dict. They agree on outputs and gradients, and
then each trains for a few steps against the clock.
"""

import time
from statistics import median

import pennylane as qml
import torch
from jsonargparse import auto_cli
from torch import nn
from torch.nn import functional as F

import qlayers

WIRES = 4
BATCH = 32

device = qml.device("default.qubit", wires=WIRES)


@qml.qnode(device)
def circuit(inputs, weights):
    """A circuit as it stands in thousands of programs."""
    qml.AngleEmbedding(inputs, wires=range(WIRES))
    qml.StronglyEntanglingLayers(weights, wires=range(WIRES))
    return [qml.expval(qml.Z(wire)) for wire in range(WIRES)]


def model_with(layer_class: type[nn.Module]) -> nn.Module:
    """The model; only the class of its quantum layer differs."""
    return nn.Sequential(
        nn.Linear(8, WIRES),
        layer_class(circuit, {"weights": (2, WIRES, 3)}),  # <- the line that changes
        nn.Linear(WIRES, 2),
    )


def step_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Milliseconds of one training step."""
    start = time.perf_counter()
    F.cross_entropy(model(x), y).backward()
    return 1e3 * (time.perf_counter() - start)


def main(steps: int = 10, seed: int = 0) -> float:
    """Compare the two layers.

    Args:
        steps: Training steps that are timed; the two models take turns.
        seed: Of the data and the weights.

    Returns:
        How many times faster a step has become, by medians.
    """
    torch.manual_seed(seed)
    before, after = model_with(qml.qnn.TorchLayer), model_with(qlayers.TorchLayer)
    after.load_state_dict(before.state_dict())
    x, y = torch.randn(BATCH, 8), torch.randint(0, 2, (BATCH,))

    for model in (before, after):
        step_of(model, x, y)  # the first call prepares
    gradients = zip(before.parameters(), after.parameters(), strict=True)
    difference = max((ours.grad - theirs.grad).abs().max().item() for theirs, ours in gradients)
    print(f"largest difference of an output:   {(before(x) - after(x)).abs().max().item():.1e}")
    print(f"largest difference of a gradient:  {difference:.1e}")

    times = [[step_of(model, x, y) for model in (before, after)] for _ in range(steps)]
    theirs, ours = (median(column) for column in zip(*times, strict=True))
    print(f"pennylane.qnn.TorchLayer:          {theirs:7.2f} ms a step, forward and backward")
    print(f"qlayers.TorchLayer:                {ours:7.2f} ms a step")
    print(f"faster:                            {theirs / ours:.0f} times")
    return theirs / ours


if __name__ == "__main__":
    auto_cli(main)
