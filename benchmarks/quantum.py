"""A training step of a quantum layer, ours and the peers' side by side.

Forward and backward with respect to inputs and weights in float32, or forward alone. Every system runs in a
process and an environment of its own; first all must agree on values and gradients, then they are timed in
turn (A B C A B C ...), and each ratio compares neighbours of one round. Then ours alone: memory, how soon it
starts, and its share of the machine's rate.

    python benchmarks/quantum.py [--write] [--rounds N] [--cases 8,3,64 tfim:20,10,1 ...] [--systems ...]
"""

import argparse
import os
from contextlib import ExitStack
from time import perf_counter
from typing import Any

import alone
import compare
import record
import tables
from circuits import Case
from field import CASES, OURS, PEERS
from systems import Process, StoppedError

TITLE = "Quantum layers: one training step, float32"
THREADS = alone.THREADS
MEMORY = 12 * 10**9  # bytes that a system may hold
NOTES = (
    "Medians of rounds in which the systems take turns; a slow one has fewer, and a step of more than "
    f"{compare.ONCE_SECONDS:.0f} s is run once. Ratios are medians of the ratios within a round.",
    f"Values and gradients of all systems agree to {compare.TOLERANCE:g}, checked before anything is timed; "
    "the column `error` has the difference from the first row of the case.",
    "The first call builds the layer, compiles where a system compiles, and makes one step. Ours finds its "
    "kernels compiled in a cache on disk. PyTorch has loaded before what it loads at the first gradient.",
    "Peak memory is what the process holds at most, from the first call on, less what it held before.",
    f"A system is stopped at {MEMORY / 1e9:.0f} GB, and when a first call or a step takes more than "
    f"{compare.LIMIT_SECONDS:.0f} s.",
    "TensorCircuit-NG, JAX alone: one jitted function of JAX arrays that returns values and gradients, with "
    "`vmap` over the batch, and with `scan` where all layers are equal; there is no conversion from or to "
    "PyTorch. Its own PyTorch layer has a row of its own.",
    "Useful operations: counted on the simplified circuit, forward once and backward once "
    "(benchmarks/workers/operations.py).",
)


def main() -> None:
    options = _options()
    bystanders = record.Bystanders()
    rates = alone.rates()  # at the start and at the end, since a machine may be busy at one of them
    found: dict[Case, compare.Found] = {}
    with ExitStack() as stack:
        systems = [OURS, *(peer for peer in PEERS if peer.key in options.systems)]
        processes = [
            stack.enter_context(Process(system, threads=THREADS, memory=MEMORY)) for system in systems
        ]
        versions = {process.system.key: versions_of(process) for process in processes}
        missing = {key: reason for key, reason in versions.items() if isinstance(reason, str)}
        ready = [process for process in processes if process.system.key not in missing]
        for case in options.cases:
            start = perf_counter()
            print(f"{case.title} {case.sizes}", end=" ", flush=True)
            try:
                found[case] = missing | compare.measure(ready, case, options.rounds)
            except compare.DisagreementError as error:
                raise SystemExit(f"\n{case}: {error}") from None
            print(f"({perf_counter() - start:.0f} s)", flush=True)
    own = measure_alone(found, rates, options.memory)
    rows = [row for case, timings in found.items() for row in tables.rows(case, timings)]
    others = bystanders.share()
    sections = {"Every system": tables.details(rows), "Ours alone": alone.table(own)}
    notes = [
        record.machine(THREADS),
        record.quietness(others),
        *(f"{system.key}: {system.name}; {_listed(versions[system.key])}" for system in systems),
        *NOTES,
    ]
    record.show(TITLE, tables.summary(rows), notes, "make bench", sections)
    if options.write:
        content = {"machine": notes[0], "others_share": others, "versions": versions, "rows": rows, **own}
        record.write("quantum", TITLE, tables.summary(rows), notes, content, sections)


def versions_of(process: Process) -> dict[str, str] | str:
    """The versions of a system's packages, or why it cannot be run."""
    try:
        return process.ask("versions", packages=list(process.system.packages))
    except StoppedError as stopped:
        return str(stopped)


def measure_alone(
    found: dict[Case, compare.Found], rates: dict[str, float], memory: tuple[Case, ...]
) -> dict[str, Any]:
    """What is measured of ours alone, by name."""
    print("qlayers alone", flush=True)
    rates = alone.rates(rates)
    steps = {
        case: timings[OURS.key]
        for case, timings in found.items()
        if case.circuit == "strong" and case.wires >= 8
    }
    steps = {case: timing for case, timing in steps.items() if isinstance(timing, compare.Timing)}
    return {
        "rates": rates,
        "shares": alone.shares(steps, rates[str(THREADS)]),
        "start_up": alone.start_up(),
        "memory": [alone.memory(case) for case in memory],
    }


def _listed(versions: dict[str, str] | str) -> str:
    if isinstance(versions, str):
        return versions
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/quantum.md and .json")
    parser.add_argument("--rounds", type=int, default=7, help="how often each system has its turn")
    parser.add_argument("--cases", nargs="+", type=_case, default=CASES, metavar="[CIRCUIT:]W,L,B[:forward]")
    keys = [peer.key for peer in PEERS]
    parser.add_argument("--systems", nargs="*", choices=keys, default=keys, help="the peers; default: all")
    parser.set_defaults(memory=alone.MEMORY)
    sizes = parser.add_mutually_exclusive_group()
    for name, cases, help in (
        ("--quick", alone.MEMORY_QUICK, "measure memory on small batches"),
        ("--long", alone.MEMORY_LONG, "measure memory of 500 layers at batch 4096 too: several minutes"),
    ):
        sizes.add_argument(name, dest="memory", action="store_const", const=cases, help=help)
    return parser.parse_args()


def _case(text: str) -> Case:
    try:
        return Case.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    os.environ.pop("QBIO_PREFER", None)  # our own choice of kernel is what is measured
    main()
