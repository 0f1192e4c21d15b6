"""Training through noise: ours by density matrices and by trajectories against PennyLane's default.mixed.

    python benchmarks/noise.py [--write] [--threads N] [--seconds S]

AngleEmbedding and strongly entangling layers with depolarizing and amplitude damping after every gate, the
expectation value of Z on every wire. Exact results are compared first: no time is shown for paths that
disagree; trajectories are compared by their standard error.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import pennylane as qml
import record
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from qlayers import QuantumLayer

TITLE = "Training step of a circuit with noise after every gate"
OURS, PEER = "qbio", "default.mixed"


@dataclass(frozen=True)
class Case:
    """One size: wires, layers, batch, and the number of trajectories (None: exact)."""

    wires: int
    layers: int
    batch: int
    trajectories: int | None = None

    def __str__(self) -> str:
        way = "exact" if self.trajectories is None else f"{self.trajectories} trajectories"
        return f"{self.wires} wires, {self.layers} layer{'s' * (self.layers != 1)}, batch {self.batch}, {way}"


CASES = (Case(4, 2, 32), Case(6, 2, 32), Case(10, 1, 1, 100))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/noise.md and .json")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and of our kernels")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each size")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bystanders = record.Bystanders()
    found = [measure(case, options.seconds) for case in CASES]
    others = bystanders.share()
    table = [["circuit", f"{OURS}, ms", f"{PEER}, ms", "times"], *map(cells, found)]
    notes = [
        record.machine(options.threads),
        f"float64, forward + backward, medians of interleaved steps, PennyLane {qml.__version__}, PyTorch "
        f"{torch.__version__}; {PEER} by backpropagation, with broadcast inputs; of trajectories the other "
        "side is the exact density matrix.",
        record.quietness(others),
    ]
    record.show(TITLE, table, notes, "python benchmarks/noise.py")
    if options.write:
        content = {"machine": notes[0], "torch": torch.__version__, "others": others, "rows": found}
        record.write("noise", TITLE, table, notes, content)


def circuit(case: Case) -> Callable:
    """The quantum function of a case."""

    def noise(*wires: int) -> None:
        for wire in wires:
            qml.DepolarizingChannel(0.01, wires=wire)
            qml.AmplitudeDamping(0.02, wires=wire)

    def function(inputs, w):
        for wire in range(case.wires):
            qml.RX(inputs[..., wire], wires=wire)
            noise(wire)
        for layer in range(case.layers):
            for wire in range(case.wires):
                qml.Rot(w[layer, wire, 0], w[layer, wire, 1], w[layer, wire, 2], wires=wire)
                noise(wire)
            for wire in range(case.wires):
                pair = wire, (wire + 1) % case.wires
                qml.CNOT(wires=pair)
                noise(*pair)
        return [qml.expval(qml.Z(wire)) for wire in range(case.wires)]

    return function


def measure(case: Case, seconds: float) -> dict:
    """Median milliseconds of a training step of both."""
    torch.manual_seed(0)
    x = torch.rand(case.batch, case.wires, dtype=torch.float64, requires_grad=True)
    w = torch.rand(case.layers, case.wires, 3, dtype=torch.float64)
    function = circuit(case)
    layer = QuantumLayer(
        function, {"w": tuple(w.shape)}, {"w": w}, features=case.wires, trajectories=case.trajectories
    )
    node = qml.QNode(function, qml.device("default.mixed", wires=case.wires), diff_method="backprop")
    weights = w.clone().requires_grad_()

    def train(run: Callable[[], Tensor], leaves: list[Tensor]) -> tuple[Tensor, ...]:
        out = run()
        return out.detach(), *torch.autograd.grad(out.sum(), leaves)

    steps = {
        OURS: lambda: train(lambda: layer(x), [x, layer.w]),
        PEER: lambda: train(lambda: torch.stack(node(x, weights), -1), [x, weights]),
    }
    require_agreement(
        case, [steps[OURS]() for _ in range(1 if case.trajectories is None else 20)], steps[PEER]()
    )
    return {"case": asdict(case), "name": str(case), "milliseconds": medians(steps, seconds)}


def require_agreement(case: Case, ours: list[tuple[Tensor, ...]], peer: tuple[Tensor, ...]) -> None:
    """End the run unless exact results agree to 1e-9, means of trajectories to six standard errors."""
    for what, own, other in zip(
        ("output", "gradient of inputs", "gradient of weights"), zip(*ours, strict=True), peer, strict=True
    ):
        runs = torch.stack(own)
        limit = 1e-9 if len(runs) == 1 else 6 * runs.std(0) / len(runs) ** 0.5 + 1e-9
        gap = (runs.mean(0) - other.reshape(runs.shape[1:])).abs()
        if not bool((gap <= limit).all()):
            sys.exit(f"noise: {case}: the {what} differs from {PEER}'s by {gap.max().item():.1e}")


def medians(steps: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    end = perf_counter() + seconds
    while perf_counter() < end or len(times[OURS]) < 3:
        for name, step in steps.items():
            start = perf_counter()
            step()
            times[name].append(1e3 * (perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def cells(row: dict) -> list[str]:
    ours, peer = (row["milliseconds"][name] for name in (OURS, PEER))
    return [row["name"], f"{ours:.2f}", f"{peer:.0f}", f"{peer / ours:.0f}x"]


if __name__ == "__main__":
    main()
