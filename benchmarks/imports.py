"""What `import qlayers` and `import biolayers` add to `import torch`, and how soon `qbio --help` answers.

Fresh interpreters in turn; the least of each counts, for whatever else runs on the machine only adds.

    python benchmarks/imports.py [--write] [--rounds N]
"""

import argparse
import subprocess
import sys
from time import perf_counter

import record

TITLE = "What an import costs"
PACKAGES = ("qlayers", "biolayers", "shared")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/imports.md and .json")
    parser.add_argument("--rounds", type=int, default=7, help="fresh interpreters for each row")
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        found.setdefault("import torch", []).append(import_seconds("torch"))
        for package in PACKAGES:
            found.setdefault(f"import {package}, after torch", []).append(
                import_seconds(package, after="torch")
            )
        found.setdefault("qbio --help", []).append(help_seconds())
    table = [["what", "seconds"], *([f"`{name}`", f"{min(values):.3f}"] for name, values in found.items())]
    notes = [record.machine(1), f"The least of {options.rounds} fresh interpreters each, in turn."]
    record.show(TITLE, table, notes, "make bench")
    if options.write:
        record.write("imports", TITLE, table, notes, {"machine": notes[0], "seconds": found})


def import_seconds(package: str, *, after: str = "sys") -> float:
    """How long a fresh interpreter takes to import `package` once it has imported `after`."""
    script = (
        f"import {after}, time; t = time.perf_counter(); import {package}; print(time.perf_counter() - t)"
    )
    return float(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout)


def help_seconds() -> float:
    """The wall time of `qbio --help`."""
    start = perf_counter()
    subprocess.run([sys.executable, "-m", "shared.app.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


if __name__ == "__main__":
    main()
