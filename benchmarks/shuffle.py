"""Shuffles that keep k-lets: ours and seqpro's, each in a process of its own, in turn.

First both must give sequences with the same k-lets as the input; no time is shown for one that does not.

    python benchmarks/shuffle.py [--write] [--rounds N]
"""

import argparse
import random
import statistics
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import record
from systems import Process, System

TITLE = "Shuffles that keep k-lets"
THREADS = 2
DIFFERENT = 500  # sequences of a case; they are repeated up to its size
OURS = System("biolayers", "qbio", "our_shuffle.py", ("torch", "numba"))
SEQPRO = System("seqpro", "seqpro", "seqpro_shuffle.py", ("seqpro",), "seqpro")


@dataclass(frozen=True)
class Case:
    """Sequences, their length, and the k whose words are kept."""

    count: int
    length: int
    k: int

    def __str__(self) -> str:
        return f"{self.count:,} x {self.length:,}, k = {self.k}"


CASES = (Case(10_000, 1000, 2), Case(10_000, 1000, 1), Case(10_000, 1000, 3), Case(100_000, 100, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/shuffle.md and .json")
    parser.add_argument("--rounds", type=int, default=9, help="how often each system has its turn")
    options = parser.parse_args()
    bystanders = record.Bystanders()
    with ExitStack() as stack:
        # Threads of Rust's pool are counted by a variable of its own.
        processes = [
            stack.enter_context(Process(system, threads=THREADS, RAYON_NUM_THREADS=str(THREADS)))
            for system in (OURS, SEQPRO)
        ]
        versions = {
            process.system.key: process.ask("versions", packages=list(process.system.packages))
            for process in processes
        }
        rows = [measure(case, processes, options.rounds) for case in CASES]
    others = bystanders.share()
    table = [["size", "qbio, ms", "seqpro, ms", "times"], *map(cells, rows)]
    notes = [
        record.machine(THREADS),
        f"DNA, medians of calls in turn, seqpro {versions['seqpro']['seqpro']}.",
        "The k-lets of all results are those of the input, checked before anything is timed. The shuffles of "
        "tangermeme and deeplift are not uniform and have no row.",
        record.quietness(others),
    ]
    record.show(TITLE, table, notes, "python benchmarks/shuffle.py")
    if options.write:
        content = {"machine": notes[0], "versions": versions, "others": others, "rows": rows}
        record.write("shuffle", TITLE, table, notes, content)


def measure(case: Case, processes: list[Process], rounds: int) -> dict[str, Any]:
    """Median milliseconds of each system, and the median of the ratios of neighbours in a round."""
    draw = random.Random(0)
    texts = ["".join(draw.choices("ACGT", k=case.length)) for _ in range(DIFFERENT)]
    content = {"texts": texts, "times": case.count // DIFFERENT, "k": case.k}
    for process in processes:
        require_same_words(
            process.system.name, case.k, texts, process.ask("prepare", case=content)["outputs"]
        )
    times: dict[str, list[float]] = {process.system.key: [] for process in processes}
    for _ in range(rounds):
        for process in processes:
            process.ask("run", steps=1)  # awake again
            times[process.system.key].append(1e3 * process.ask("run", steps=5)["seconds"] / 5)
    ratios = [theirs / ours for ours, theirs in zip(times[OURS.key], times[SEQPRO.key], strict=True)]
    return {
        "case": asdict(case),
        "name": str(case),
        "milliseconds": {key: statistics.median(values) for key, values in times.items()},
        "ratio": statistics.median(ratios),
    }


def require_same_words(name: str, k: int, texts: list[str], shuffled: list[str]) -> None:
    """End the run unless every result has the k-lets of its input, and is not the input."""
    for before, after in zip(texts, shuffled, strict=True):
        if words(before, k) != words(after, k) or before == after:
            sys.exit(f"{name}: a shuffle with k = {k} has other {k}-lets than its input, or is its input")


def words(text: str, k: int) -> Counter[str]:
    """How often each k-let occurs.

    Example:
        >>> words("AACAA", 2) == {"AA": 2, "AC": 1, "CA": 1}
        True
    """
    return Counter(text[i : i + k] for i in range(len(text) - k + 1))


def cells(row: dict[str, Any]) -> list[str]:
    ours, theirs = (row["milliseconds"][system.key] for system in (OURS, SEQPRO))
    return [row["name"], f"{ours:.1f}", f"{theirs:.1f}", f"{row['ratio']:.1f}x"]


if __name__ == "__main__":
    main()
