"""Two ways to the same batches of tokens, ours and the usual one, timed in turn and shown as a table."""

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import record
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from biolayers import DNA

OURS, PEER = "qbio", "strings by pysam"
LEAST = 5  # batches of each that are timed at least

Run = Callable[[int], Tensor]  # the tokens of a batch by number


class Case(NamedTuple):
    """A kind of batch: so many letters, `batches` different ones, made in two ways."""

    name: str
    letters: int
    batches: int
    ours: Run
    peer: Run


def compare(
    name: str, title: str, doc: str, cases: Callable[[str, np.random.Generator], Iterator[Case]], letters: int
) -> None:
    """The whole program: a random genome, the cases one after the other, the table.

    Args:
        name: of the benchmark and its results.
        title: of the table.
        doc: what the program does, in a line.
        cases: makes them from the path of the genome and a source of random numbers.
        letters: of the genome.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--write", action="store_true", help=f"write benchmarks/results/{name}.md and .json")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and of our kernels")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each case")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bystanders = record.Bystanders()
    with tempfile.TemporaryDirectory() as folder:
        draw = np.random.default_rng(0)
        path = write_genome(Path(folder), draw, letters)
        found = [measure(name, case, options.seconds) for case in cases(path, draw)]
    others = bystanders.share()
    table = [["batch", f"{OURS}, ms", "Mbase/s", f"{PEER}, ms", "times"], *map(cells, found)]
    notes = [record.machine(options.threads), "Medians of interleaved batches.", record.quietness(others)]
    record.show(title, table, notes, f"python benchmarks/{name}.py")
    if options.write:
        record.write(name, title, table, notes, {"machine": notes[0], "others": others, "rows": found})


def write_genome(folder: Path, draw: np.random.Generator, letters: int) -> str:
    """A file of one contig, chr1, of random letters, a multiple of 50."""
    lines = np.frombuffer(b"ACGT", np.uint8)[draw.integers(0, 4, letters, np.uint8)].reshape(-1, 50)
    path = folder / "genome.fa"
    text = np.concatenate([lines, np.full((len(lines), 1), ord("\n"), np.uint8)], 1)
    path.write_bytes(b">chr1\n" + text.tobytes())
    return str(path)


def tokens_of(rows: Sequence[str]) -> Tensor:
    """The tokens of strings, one after the other."""
    return torch.from_numpy(DNA.byte_table[np.frombuffer("".join(rows).encode(), np.uint8)])


def measure(name: str, case: Case, seconds: float) -> dict:
    """Median milliseconds of both ways; all batches are compared first."""
    ways = {OURS: case.ours, PEER: case.peer}
    for batch in range(case.batches):
        if not torch.equal(*[run(batch) for run in ways.values()]):
            sys.exit(f"{name}: {OURS} and {PEER} disagree about {case.name}")
    times: dict[str, list[float]] = {way: [] for way in ways}
    end = perf_counter() + seconds
    for batch in itertools.cycle(range(case.batches)):
        for way, run in ways.items():
            start = perf_counter()
            run(batch)
            times[way].append(1e3 * (perf_counter() - start))
        if perf_counter() > end and len(times[OURS]) >= LEAST:
            break
    middle = {way: statistics.median(values) for way, values in times.items()}
    return {"name": case.name, "letters": case.letters, "milliseconds": middle}


def cells(row: dict) -> list[str]:
    """A line of the table."""
    ours, peer = (row["milliseconds"][way] for way in (OURS, PEER))
    rate = row["letters"] / ours / 1e3
    return [row["name"], f"{ours:.2f}", f"{rate:,.0f}", f"{peer:.1f}", f"{peer / ours:.1f}x"]
