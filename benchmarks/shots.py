"""A training step with finite shots against PennyLane's, which takes one sample at a time, in one run.

    python benchmarks/shots.py [--write] [--threads N] [--seconds S]

Six wires, 1000 shots, an AngleEmbedding behind a trainable Linear and StronglyEntanglingLayers; forward and
backward through the encoder. Outputs and gradients are compared first, as means over many steps against the
exact ones: no time is shown for paths that disagree.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import pennylane as qml
import record
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from qlayers import TorchLayer

TITLE = "A training step with 1,000 shots"
WIRES, LAYERS, BATCH, SHOTS, FEATURES = 6, 2, 32, 1000, 4
OURS = "qbio"
DEVICES = {"PennyLane default.qubit": "default.qubit", "PennyLane lightning.qubit": "lightning.qubit"}
REPETITIONS, FEW = 40, 1  # steps that are averaged before times are shown: of ours, of the peers
SIGMAS = 5.0


class Hybrid(nn.Module):
    """A Linear and a circuit; all of them begin alike."""

    def __init__(self, kind: type, device: str, shots: int | None):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(FEATURES, WIRES)
        node = qml.QNode(circuit, qml.device(device, wires=WIRES), diff_method="best")
        if shots is not None:
            node = qml.set_shots(qml.QNode(circuit, node.device, diff_method="parameter-shift"), shots)
        self.layer = kind(node, {"w": (LAYERS, WIRES, 3)})

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.encoder(x))


class Looped(Hybrid):
    """One sample after the other."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([super(Looped, self).forward(sample) for sample in x])


def circuit(inputs, w):
    qml.AngleEmbedding(inputs, wires=range(WIRES))
    qml.StronglyEntanglingLayers(w, wires=range(WIRES))
    return [qml.expval(qml.Z(wire)) for wire in range(WIRES)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/shots.md and .json")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and of our kernels")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for all systems together")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bystanders = record.Bystanders()
    x = torch.rand(BATCH, FEATURES, generator=torch.Generator().manual_seed(1))
    exact = step(Hybrid(TorchLayer, "default.qubit", None), x)
    systems = {OURS: Hybrid(TorchLayer, "default.qubit", SHOTS)}
    systems |= {name: Looped(qml.qnn.TorchLayer, device, SHOTS) for name, device in installed().items()}
    for name, model in systems.items():
        require_agreement(name, model, x, exact, REPETITIONS if name == OURS else FEW)
    runs = {name: (lambda model=model: step(model, x)) for name, model in systems.items()}
    found = medians(runs, options.seconds)
    others = bystanders.share()
    notes = [
        record.machine(options.threads),
        f"{WIRES} wires, {LAYERS} layers, batch {BATCH}, {SHOTS} shots per circuit, float32; medians of "
        f"interleaved steps; PennyLane {qml.__version__}, PyTorch {torch.__version__}.",
        "PennyLane: diff_method parameter-shift, one sample at a time.",
        record.quietness(others),
    ]
    table = [["system", "forward + backward, ms", "times ours"], *cells(found)]
    record.show(TITLE, table, notes, "python benchmarks/shots.py")
    if options.write:
        content = {"machine": notes[0], "pennylane": qml.__version__, "others": others, "milliseconds": found}
        record.write("shots", TITLE, table, notes, content)


def installed() -> dict[str, str]:
    """The peers' devices that there are."""
    found = {}
    for name, device in DEVICES.items():
        try:
            qml.device(device, wires=1)
        except qml.exceptions.DeviceError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        found[name] = device
    return found


def step(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The outputs, and the gradients of a weighed sum of them by all parameters."""
    out = model(x)
    weights = torch.linspace(-1.0, 1.0, out.numel()).reshape(out.shape)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), list(model.parameters()))]


def require_agreement(name: str, model: nn.Module, x: Tensor, exact: list[Tensor], count: int) -> None:
    """End the run unless the means of outputs and gradients agree with the exact ones, as shots allow.

    An output of one step has a deviation of at most 1/sqrt(shots); a shifted pair of them, weighed by at most
    1 and summed over 6 wires, the batch, and the encoder's features, of at most the bound below.
    """
    found = [
        torch.stack(parts).mean(0) for parts in zip(*(step(model, x) for _ in range(count)), strict=True)
    ]
    one = SIGMAS / (SHOTS * count) ** 0.5
    bounds = [one, *[one * WIRES * BATCH**0.5 * FEATURES**0.5] * (len(found) - 1)]
    for what, (ours, right, bound) in enumerate(zip(found, exact, bounds, strict=True)):
        gap = (ours - right).abs().max().item()
        if not gap <= bound:
            sys.exit(f"shots: result {what} of {name} is off by {gap:.3g}, more than {bound:.3g}")


def medians(runs: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = perf_counter() + seconds
    while perf_counter() < end or len(times[OURS]) < 3:
        for name, run in runs.items():
            start = perf_counter()
            run()
            times[name].append(1e3 * (perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def cells(found: dict[str, float]) -> list[list[str]]:
    return [[name, f"{time:,.1f}", f"{time / found[OURS]:,.0f}x"] for name, time in found.items()]


if __name__ == "__main__":
    main()
