"""A training step of a quantum layer, ours and the peers' side by side.

AngleEmbedding + StronglyEntanglingLayers, <Z> on every wire, float32, forward and backward with respect to
inputs and weights. Every system runs in a process and an environment of its own; first all must agree on
values and gradients, then they are timed in turn (A B C A B C ...), and each ratio compares neighbours of one
round.

    python benchmarks/quantum.py [--write] [--rounds N] [--cases 4,2,256 ...]
"""

import argparse
import os
import random
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

import record
from systems import Process, System

OURS = System("qlayers", "ours.py", ("torch", "numba", "pennylane"))

# To add a peer: benchmarks/peers/NAME.txt, benchmarks/workers/NAME_layer.py, and a row here.
PEERS = (
    System(
        "PennyLane, default.qubit (backprop)",
        "pennylane_layer.py",
        ("torch", "pennylane"),
        "pennylane",
        {"device": "default.qubit", "diff_method": "backprop"},
    ),
    System(
        "PennyLane, lightning.qubit (adjoint)",
        "pennylane_layer.py",
        ("torch", "pennylane", "pennylane-lightning"),
        "pennylane",
        {"device": "lightning.qubit", "diff_method": "adjoint"},
    ),
)

TITLE = "Quantum layers: one training step, float32"
CASES = ((4, 2, 256), (8, 3, 64), (10, 3, 64))  # wires, layers, batch
HEAD = ["wires, layers, batch", "system", "step, median", "least", "ours faster", "in rounds", "first call"]
THREADS = 2
TOLERANCE = 1e-5  # of values, and of gradients relative to the largest
BURST_SECONDS = 0.2  # how long one system runs before the next has its turn; a slow one makes one step


@dataclass(frozen=True)
class Timing:
    """What was measured of one system on one case: seconds, and seconds of one step in each round."""

    first: float
    steps: list[float]


def main() -> None:
    options = _options()
    rows: list[dict[str, Any]] = []
    bystanders = record.Bystanders()
    with ExitStack() as stack:
        processes = [stack.enter_context(Process(system, threads=THREADS)) for system in (OURS, *PEERS)]
        machine = record.machine(THREADS)
        versions = {p.system.name: p.ask("versions", packages=list(p.system.packages)) for p in processes}
        for wires, layers, batch in options.cases:
            timings = measure(processes, make_case(wires, layers, batch), options.rounds)
            rows += [row((wires, layers, batch), name, timings) for name in timings]
    others = bystanders.share()
    fresh = first_call_without_cache(CASES[0])
    table = [HEAD, *map(_cells, rows)]
    notes = [
        machine,
        record.quietness(others),
        *(f"{name}: {', '.join(f'{k} {v}' for k, v in found.items())}" for name, found in versions.items()),
        f"Values and gradients of all systems agree to {TOLERANCE:g}.",
        "The first call builds the layer and makes one step; our kernels come compiled from a cache on disk. "
        f"With an empty cache, as once after an installation, it took {fresh:.1f} s at {CASES[0]}.",
    ]
    record.show(TITLE, table, notes, "make bench")
    if options.write:
        content = {
            "machine": machine,
            "others_share": others,
            "versions": versions,
            "rows": rows,
            "first_call_without_cache": fresh,
        }
        record.write("quantum", TITLE, table, notes, content)


def make_case(wires: int, layers: int, batch: int) -> dict[str, Any]:
    """Angles and a cotangent, equal in every environment."""
    source = random.Random(0)

    def uniform(*shape: int) -> list[Any]:
        size, *rest = shape
        return [uniform(*rest) if rest else source.uniform(-3.0, 3.0) for _ in range(size)]

    return {
        "wires": wires,
        "layers": layers,
        "inputs": uniform(batch, wires),
        "weights": uniform(layers, wires, 3),
        "cotangent": uniform(batch, wires),
    }


def measure(processes: list[Process], case: dict[str, Any], rounds: int) -> dict[str, Timing]:
    """Prepare the case everywhere, check that all agree, then time all in turn."""
    answers = [p.ask("prepare", case={**case, **p.system.options}) for p in processes]
    for process, answer in zip(processes[1:], answers[1:], strict=True):
        check_agreement(process.system.name, answer, answers[0])
    bursts = [burst_of(process) for process in processes]
    steps: list[list[float]] = [[] for _ in processes]
    for _ in range(rounds):
        for process, burst, found in zip(processes, bursts, steps, strict=True):
            found.append(process.ask("run", steps=burst)["seconds"] / burst)
    return {
        p.system.name: Timing(answer["seconds"], found)
        for p, answer, found in zip(processes, answers, steps, strict=True)
    }


def burst_of(process: Process) -> int:
    """How many steps fill `BURST_SECONDS`, found warm: the first steps of a small circuit are slow."""
    steps, burst = 0, 1
    while burst > 1.5 * steps:
        steps = burst
        burst = max(1, round(BURST_SECONDS * steps / process.ask("run", steps=steps)["seconds"]))
    return burst


def check_agreement(name: str, found: dict[str, Any], ours: dict[str, Any]) -> None:
    """Raise unless both computed the same: no time is worth printing otherwise."""
    for what in ("outputs", "inputs", "weights"):
        a, b = _flat(found[what]), _flat(ours[what])
        if len(a) != len(b):
            raise SystemExit(
                f"{name} and {OURS.name}: {what} have {len(a)} and {len(b)} entries; nothing was timed"
            )
        error = max(abs(x - y) for x, y in zip(a, b, strict=True)) / max(1.0, *map(abs, a))
        if not error <= TOLERANCE:
            raise SystemExit(
                f"{name} and {OURS.name} disagree: {what} by {error:.2g}, expected at most {TOLERANCE:g}; "
                "nothing was timed"
            )


def first_call_without_cache(case: tuple[int, int, int]) -> float:
    """Seconds of our first step on a machine that has never compiled the kernels."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Process(OURS, threads=THREADS, NUMBA_CACHE_DIR=folder) as process,
    ):
        return process.ask("prepare", case=make_case(*case))["seconds"]


def row(case: tuple[int, int, int], name: str, timings: dict[str, Timing]) -> dict[str, Any]:
    """One line of the results; ratios are of neighbours in one round."""
    timing = timings[name]
    ratios = [theirs / ours for theirs, ours in zip(timing.steps, timings[OURS.name].steps, strict=True)]
    return {
        "case": list(case),
        "system": name,
        "median_ms": 1e3 * median(timing.steps),
        "least_ms": 1e3 * min(timing.steps),
        "steps_ms": [1e3 * step for step in timing.steps],
        "ratio": median(ratios),
        "ratios": ratios,
        "first_call_s": timing.first,
    }


def _cells(found: dict[str, Any]) -> list[str]:
    ratios = found["ratios"]
    ours = found["system"] == OURS.name
    return [
        ", ".join(map(str, found["case"])),
        found["system"],
        _milliseconds(found["median_ms"]),
        _milliseconds(found["least_ms"]),
        "" if ours else f"{found['ratio']:.1f}x",
        "" if ours else f"{min(ratios):.1f} to {max(ratios):.1f}",
        f"{found['first_call_s']:.2f} s",
    ]


def _milliseconds(value: float) -> str:
    return f"{value:.3g} ms" if value < 1000 else f"{value:,.0f} ms"


def _flat(values: Any) -> list[float]:
    return [leaf for value in values for leaf in _flat(value)] if isinstance(values, list) else [values]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/quantum.md and .json")
    parser.add_argument("--rounds", type=int, default=7, help="how often each system has its turn")
    parser.add_argument("--cases", nargs="+", type=_case, default=CASES, metavar="WIRES,LAYERS,BATCH")
    return parser.parse_args()


def _case(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if len(numbers) != 3 or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"expected WIRES,LAYERS,BATCH such as 8,3,64, received {text}")
    return numbers


if __name__ == "__main__":
    os.environ.pop("QBIO_PREFER", None)  # our own choice of kernel is what is measured
    main()
