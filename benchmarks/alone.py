"""What is measured of our layer alone: memory, how soon it starts, and its share of the machine's rate."""

import tempfile
from collections.abc import Mapping
from typing import Any

import circuits
import peak
from circuits import Case
from compare import Timing
from field import OURS
from systems import Process

THREADS = 2
STARTS = (  # together they reach every kernel of first order
    Case("strong", 4, 2, 32),
    Case("tfim", 18, 1, 1),
    Case("strong", 4, 2, 32, forward=True),
    Case("strong", 8, 2, 64),
)
NEW = Case("strong", 8, 3, 64)  # a structure that the process has not seen
MEMORY = (Case("strong", 14, 50, 4096), Case("strong", 14, 50, 512), Case("strong", 14, 500, 512))
MEMORY_QUICK = (Case("strong", 14, 50, 64), Case("strong", 14, 500, 64))
MEMORY_LONG = (*MEMORY, Case("strong", 14, 500, 4096))


def start_up() -> dict[str, float]:
    """Seconds: compilation with an empty cache, the first step of a later process, a new circuit."""
    with tempfile.TemporaryDirectory() as folder:
        with process(NUMBA_CACHE_DIR=folder) as fresh:
            empty = [_prepare(fresh, case)["seconds"] for case in STARTS]
        with process(NUMBA_CACHE_DIR=folder) as later:
            full = [_prepare(later, case)["seconds"] for case in STARTS]
            first = _prepare(later, NEW)["seconds"]
            step = later.ask("run", steps=1)["seconds"]
    return {"compilation": sum(empty) - sum(full), "later_process": full[0], "new_circuit": first - step}


def memory(case: Case) -> dict[str, Any]:
    """Bytes that a step of the case adds to a process with loaded kernels, and the seconds of that step."""
    with process() as alone:
        _prepare(alone, Case(case.circuit, case.wires, 1, min(case.batch, 64)))
        answer = alone.ask("step_memory", case=circuits.content(case))
    return {"case": str(case), "bytes": answer["memory"], "seconds": answer["seconds"]}


def shares(found: dict[Case, Timing], rate: float) -> dict[str, dict[str, float]]:
    """For each case of ours: useful operations per second, and their share of the machine's rate."""
    shares = {}
    with process() as ours:
        for case, timing in found.items():
            _prepare(ours, case)
            useful = ours.ask("operations")["operations"] / min(timing.steps)
            shares[str(case)] = {"flops": useful, "share": useful / rate}
    return shares


def rates(earlier: Mapping[str, float] | None = None) -> dict[str, float]:
    """The machine's fused multiply-adds per second by number of threads, if not less than `earlier`."""
    return {
        str(threads): max(peak.flops(threads), (earlier or {}).get(str(threads), 0.0))
        for threads in (1, THREADS)
    }


def process(**variables: str) -> Process:
    """A process with our layer."""
    return Process(OURS, threads=THREADS, **variables)


def table(found: dict[str, Any]) -> list[list[str]]:
    """All of it as rows; `found` has the results of the functions above by their names."""
    rows = [["of our layer alone", ""]]
    for threads, rate in found.get("rates", {}).items():
        rows.append([f"fused multiply-adds of the machine, threads: {threads}", f"{rate / 1e9:.0f} GFLOP/s"])
    for text, share in found.get("shares", {}).items():
        case = Case.parse(text)
        what = f"useful operations of a step, {case.title} {case.sizes}"
        rows.append([what, f"{share['flops'] / 1e9:.0f} GFLOP/s, {share['share']:.0%} of the machine's"])
    for entry in found.get("memory", []):
        case = Case.parse(entry["case"])
        rows.append(
            [
                f"memory of a step: {case.wires} wires, {case.layers} layers, batch {case.batch}",
                f"{entry['bytes'] / 1e6:.0f} MB ({entry['seconds']:.3g} s)",
            ]
        )
    if start := found.get("start_up"):
        rows += [
            ["compilation, once on a machine", f"{start['compilation']:.1f} s"],
            ["first step in a later process", f"{start['later_process']:.2f} s"],
            ["a new circuit: capture, plan and schedule", f"{1e3 * start['new_circuit']:.0f} ms"],
        ]
    return rows


def _prepare(process: Process, case: Case) -> dict[str, Any]:
    return process.ask("prepare", case=circuits.content(case))
