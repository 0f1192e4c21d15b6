"""What `import qlayers`, `import biolayers` and `qbio --help` cost, against `import torch` alone.

Fresh interpreters in turn; the least of each counts, for whatever else runs on the machine only adds.

    python benchmarks/imports.py [--write] [--rounds N]
"""

import argparse
import subprocess
import sys
from time import perf_counter

import record

BASE = "import torch"
STATEMENTS = (BASE, "import torch, qlayers", "import torch, biolayers")
HELP = [sys.executable, "-m", "shared.app.cli", "--help"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/imports.md and .json")
    parser.add_argument("--rounds", type=int, default=7, help="fresh interpreters for each statement")
    options = parser.parse_args()
    commands = {statement: [sys.executable, "-c", statement] for statement in STATEMENTS}
    commands["qbio --help"] = HELP
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            found[name].append(seconds(command))
    base = min(found[BASE])
    table = [["start of a process", "seconds", f"beyond `{BASE}`"]]
    for name, values in found.items():
        beyond = f"{min(values) - base:+.3f} s" if name in STATEMENTS[1:] else ""
        table.append([f"`{name}`", f"{min(values):.3f} s", beyond])
    notes = [record.machine(1), f"The least of {options.rounds} fresh interpreters each, in turn."]
    record.show("What an import costs", table, notes, "make bench")
    if options.write:
        record.write("imports", "What an import costs", table, notes, {"machine": notes[0], "seconds": found})


def seconds(command: list[str]) -> float:
    """The wall time of a process."""
    start = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


if __name__ == "__main__":
    main()
