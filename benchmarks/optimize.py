"""A hybrid model as a user writes it, before and after `shared.optimize`: a training step in eager mode.

    python benchmarks/optimize.py [--write] [--threads N] [--seconds S] [--filters N] [--device D]
        [--no-compile]

One-hot letters, Conv1d, ReLU, MaxPool1d, Linear, `pennylane.qnn.TorchLayer`, Linear; 64 sequences of 1,000
letters. A step is forward, loss, backward and Adam's step. Outputs and gradients are compared first: no time
is shown for models that disagree. The ways take turns; ratios are of neighbours in one round.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import pennylane as qml
import record
import torch
import torch.nn.functional as F
from tables import milliseconds, times
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import shared

TITLE = "A hybrid model as a user writes it, and after shared.optimize"
AS_IT_IS, OPTIMIZED, COMPILED = "as it is", "shared.optimize", 'torch.compile(backend="qbio")'
ALONE = {
    "the quantum layer alone": ["quantum_layer"],
    "the convolution alone": ["token_conv1d"],
    "convolution and pooling alone": ["token_conv1d", "token_conv1d_max_pool"],
}
DEVICES = {"default.qubit": "backprop", "lightning.qubit": "adjoint"}
BATCH, LENGTH, LAYERS = 64, 1000, 3
AGREE = 1e-5
STEPS = 5  # of the fast ways, for one of the slow


class Naive(nn.Module):
    """What users write."""

    def __init__(self, wires: int, device: str, filters: int) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv1d(4, filters, 19), nn.MaxPool1d(10)
        self.neck, self.head = nn.Linear(filters * 98, wires), nn.Linear(wires, 2)
        self.quantum = quantum_layer(wires, device)

    def forward(self, tokens: Tensor) -> Tensor:  # (b, l) -> (b, 2)
        x = F.one_hot(tokens, 4).transpose(1, 2).float()
        x = self.pool(F.relu(self.conv(x))).flatten(1)
        return self.head(self.quantum(self.neck(x)))


def quantum_layer(wires: int, device: str) -> nn.Module:
    @qml.qnode(qml.device(device, wires=wires), diff_method=DEVICES[device])
    def circuit(inputs, weights):
        qml.AngleEmbedding(inputs, wires=range(wires))
        qml.StronglyEntanglingLayers(weights, wires=range(wires))
        return [qml.expval(qml.Z(wire)) for wire in range(wires)]

    return qml.qnn.TorchLayer(circuit, {"weights": (LAYERS, wires, 3)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/optimize.md and .json")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and of our kernels")
    parser.add_argument("--seconds", type=float, default=8.0, help="time for each model")
    parser.add_argument("--filters", type=int, default=64, help="of the convolution")
    parser.add_argument("--device", choices=DEVICES, help="of PennyLane; by default all")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bystanders = record.Bystanders()
    devices = [options.device] if options.device else list(DEVICES)
    cases = [(device, wires) for device in devices for wires in (4, 8)]
    found, rewrites = [], []
    for device, wires in cases:
        rows, report = measured(device, wires, options)
        found += rows
        rewrites = rewrites or [["place", "before", "after"], *rewritten(report)]
    others = bystanders.share()
    table = [["device, wires", "way", "step", "faster"], *map(cells, found)]
    notes = [
        record.machine(options.threads),
        f"float32, {BATCH} sequences of {LENGTH:,} letters, {options.filters} filters of 19, {LAYERS} layers "
        f"(StronglyEntanglingLayers); PyTorch {torch.__version__}, PennyLane {qml.__version__}.",
        "Medians of steps in turn.",
        f"Outputs and gradients of all ways agree to {AGREE:g}.",
        record.quietness(others),
    ]
    more = {"What was rewritten": rewrites}
    record.show(TITLE, table, notes, "python benchmarks/optimize.py", more)
    if options.write:
        content = {"machine": notes[0], "torch": torch.__version__, "others": others, "rows": found}
        record.write("optimize", TITLE, table, notes, content, more)


def measured(device: str, wires: int, options: argparse.Namespace) -> tuple[list[dict[str, Any]], Any]:
    """One model in all its ways."""
    torch.manual_seed(0)
    model = Naive(wires, device, options.filters)
    tokens, labels = torch.randint(0, 4, (BATCH, LENGTH)), torch.randint(0, 2, (BATCH,))
    best = shared.optimize(model, tokens)
    ways: dict[str, Callable] = {AS_IT_IS: model, OPTIMIZED: best}
    ways |= {name: shared.optimize(model, tokens, passes=passes) for name, passes in ALONE.items()}
    if not options.no_compile:
        ways[COMPILED] = torch.compile(model, backend="qbio", fullgraph=True, dynamic=True)
    require_agreement(model, ways, tokens, labels)
    steps = {name: step_of(model, way, tokens, labels) for name, way in ways.items()}
    seconds = in_turn(steps, options.seconds)
    return [row(f"{device}, {wires}", name, seconds) for name in ways], best.report


def require_agreement(model: nn.Module, ways: dict[str, Callable], tokens: Tensor, labels: Tensor) -> None:
    """End the run unless outputs and gradients of all ways are those of the model."""
    wanted = results(model, model, tokens, labels)
    for name, way in ways.items():
        for ours, theirs in zip(results(model, way, tokens, labels), wanted, strict=True):
            gap = (ours - theirs).abs().max().item()
            if not gap <= AGREE:
                sys.exit(f"optimize: {name} differs by {gap:.1e}")


def results(model: nn.Module, way: Callable, tokens: Tensor, labels: Tensor) -> list[Tensor]:
    out = way(tokens)
    return [out.detach(), *torch.autograd.grad(F.cross_entropy(out, labels), list(model.parameters()))]


def step_of(model: nn.Module, way: Callable, tokens: Tensor, labels: Tensor) -> Callable[[], None]:
    """A training step; the parameters are those of the model in every way, and do not move (rate 0)."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(way(tokens), labels).backward()
        optimizer.step()

    return step


def in_turn(steps: dict[str, Callable[[], None]], seconds: float) -> dict[str, list[float]]:
    """The seconds of a step by way and round: the median of a few where steps are short."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    end = perf_counter() + seconds
    while perf_counter() < end or len(found[AS_IT_IS]) < 3:
        for name, step in steps.items():
            count = 1 if name == AS_IT_IS else STEPS
            found[name].append(statistics.median(timed(step) for _ in range(count)))
    return found


def timed(step: Callable[[], None]) -> float:
    start = perf_counter()
    step()
    return perf_counter() - start


def row(case: str, name: str, seconds: dict[str, list[float]]) -> dict[str, Any]:
    ratios = [theirs / ours for theirs, ours in zip(seconds[AS_IT_IS], seconds[name], strict=True)]
    return {
        "case": case,
        "way": name,
        "seconds": seconds[name],
        "least_ratio": min(seconds[AS_IT_IS]) / min(seconds[name]),
        "ratio": statistics.median(ratios),
    }


def cells(row: dict[str, Any]) -> list[str]:
    faster = "" if row["way"] == AS_IT_IS else times(row["ratio"])
    return [row["case"], row["way"], milliseconds(1e3 * statistics.median(row["seconds"])), faster]


def rewritten(report: Any) -> list[list[str]]:
    return [[each.place or "the whole model", each.before, each.after] for each in report.changes]


if __name__ == "__main__":
    main()
