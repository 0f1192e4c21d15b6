"""Train a hybrid classifier on a noisy quantum processor, within a budget. Kill it and run it again.

    python examples/train_on_noisy_processor.py

Every circuit that comes back is written to a journal before it is used. Stop the training at any moment
(Ctrl-C, or kill -9) and start it again: it replays what is in the journal, pays for nothing twice, and goes
on. Delete the journal for a new training.

With `pip install 'qbio[hardware]'` the processor is Qiskit's simulator with the noise that IBM measured on a
real one; without, PennyLane's with noise of our own.
"""

import math
from pathlib import Path

import pennylane as qml
import torch
from jsonargparse import auto_cli
from torch import nn
from torch.nn import functional as F

from qlayers import QuantumLayer
from qlayers.hardware import Budget, ReadoutMitigation, Runner

WIRES, SHOTS, BATCH = 2, 500, 8


def circuit(inputs, weights):
    """Two qubits, four weights."""
    qml.AngleEmbedding(inputs, wires=range(WIRES))
    qml.BasicEntanglerLayers(weights, wires=range(WIRES))
    return [qml.expval(qml.Z(wire)) for wire in range(WIRES)]


def processor() -> tuple[str, qml.devices.Device]:
    """A processor that errs in its gates and when it is read, and what it is."""
    try:
        import pennylane_qiskit  # noqa: F401  (brings the device)
        from qiskit_aer.noise import NoiseModel
        from qiskit_ibm_runtime.fake_provider import FakeManilaV2
    except ImportError:
        device = qml.device("default.mixed", wires=WIRES)
        device = qml.noise.insert(device, qml.DepolarizingChannel, 0.01, position="all")
        return "default.mixed with made-up noise", qml.noise.insert(device, qml.BitFlip, 0.04, position="end")
    noise = NoiseModel.from_backend(FakeManilaV2())
    device = qml.device("qiskit.aer", wires=WIRES, noise_model=noise, optimization_level=0)
    return "qiskit.aer with the noise of IBM's Manila processor", device


def moons(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of two interleaved half-circles: (n, 2), and which one: (n,)."""
    label = torch.arange(n) % 2
    angle = math.pi * (torch.rand(n) + label)
    points = torch.stack([angle.cos() - label + 0.5, angle.sin() + 0.5 * label - 0.25], 1)
    return points + 0.1 * torch.randn(n, 2), label.float()


def main(steps: int = 15, journal: Path = Path("noisy_processor.db"), seed: int = 0) -> float:
    """Train on half-circles.

    Args:
        steps: Training steps.
        journal: Where circuits and results are kept.
        seed: Of the data and the weights; a training that goes on must begin with the same.

    Returns:
        The accuracy of the trained model on new points, with a perfect processor.
    """
    name, device = processor()
    runner = Runner(
        device,
        shots=SHOTS,
        journal=journal,
        budget=Budget(circuits=150 * steps, price_per_circuit=0.3, price_per_shot=0.00035),
        circuits_per_job=25,  # small jobs, so that little is lost when this is killed
        in_doubt="again",  # a simulator forgets a job when it is killed; a service can be asked for it
        progress=True,
    )
    with runner:
        torch.manual_seed(seed)
        mitigated = ReadoutMitigation(runner, shots=8 * SHOTS)
        layer = QuantumLayer(circuit, {"weights": (2, WIRES)}, runner=mitigated)
        model = nn.Sequential(nn.Linear(2, WIRES), layer, nn.Linear(WIRES, 1))
        points, labels = moons(BATCH * steps)
        print(f"processor: {name}\njournal: {journal}, with {runner.spent().circuits} circuits\n")
        print(f"A step, the first with calibration:\n{mitigated.estimate(model, points[:BATCH])}\n")

        optimizer = torch.optim.Adam(model.parameters(), lr=0.15)
        for step in range(steps):
            before = runner.spent().circuits
            chosen = slice(step * BATCH, (step + 1) * BATCH)
            loss = F.binary_cross_entropy_with_logits(model(points[chosen]).squeeze(-1), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            new = runner.spent().circuits - before
            print(f"step {step + 1:2d}  loss {loss.item():.4f}  {new} new circuits", flush=True)
        print(f"\nspent in all: {runner.spent().circuits} circuits, for {runner.spent().money:.2f}")

    perfect = QuantumLayer(circuit, {"weights": (2, WIRES)})
    perfect.load_state_dict(layer.state_dict())
    points, labels = moons(500)
    with torch.no_grad():
        logits = nn.Sequential(model[0], perfect, model[2])(points).squeeze(-1)
    accuracy = ((logits > 0) == labels.bool()).float().mean().item()
    print(f"accuracy on new points, with a perfect processor: {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    auto_cli(main)
