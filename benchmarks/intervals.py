"""Windows over a genome against the usual dataset: strings by pysam, turned in Python, then a table.

    python benchmarks/intervals.py [--write] [--threads N] [--seconds S]

Every window is moved and read from a random strand; ours draws that for each batch, the peer is given it. The
results are compared first: no time is shown for paths that disagree. The genome is random.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import pysam
import record
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from biolayers import DNA, IntervalDataset
from biolayers.batching.randomness import coin, integers

TITLE = "Windows over a genome"
OURS, PEER = "qbio", "strings by pysam"
LETTERS = 100_000_000
JITTER = 50
BATCHES = 50  # different ones
CASES = ((64, 1000), (8, 131_072))  # windows of a batch, letters of a window
COMPLEMENT = str.maketrans("ACGT", "TGCA")

Run = Callable[[int], Tensor]  # the tokens of a batch by number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--write", action="store_true", help="write benchmarks/results/intervals.md and .json"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and of our kernels")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each case")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bystanders = record.Bystanders()
    with tempfile.TemporaryDirectory() as folder:
        draw = np.random.default_rng(0)
        path = write_genome(Path(folder), draw)
        found = [measure(path, draw, windows, length, options.seconds) for windows, length in CASES]
    others = bystanders.share()
    table = [["batch", f"{OURS}, ms", "Mbase/s", f"{PEER}, ms", "times"], *map(cells, found)]
    notes = [record.machine(options.threads), "Medians of interleaved batches.", record.quietness(others)]
    record.show(TITLE, table, notes, "python benchmarks/intervals.py")
    if options.write:
        content = {"machine": notes[0], "others": others, "rows": found}
        record.write("intervals", TITLE, table, notes, content)


def write_genome(folder: Path, draw: np.random.Generator) -> str:
    letters = np.frombuffer(b"ACGT", np.uint8)[draw.integers(0, 4, LETTERS, np.uint8)].reshape(-1, 50)
    path = folder / "genome.fa"
    lines = np.concatenate([letters, np.full((len(letters), 1), ord("\n"), np.uint8)], 1)
    path.write_bytes(b">chr1\n" + lines.tobytes())
    return str(path)


def paths(path: str, draw: np.random.Generator, windows: int, length: int) -> dict[str, Run]:
    starts = draw.integers(JITTER, LETTERS - length - JITTER, windows * BATCHES)
    given = [("chr1", start, start + length) for start in starts.tolist()]
    data = IntervalDataset(path, given, jitter=JITTER, reverse_complement=0.5)
    fasta = pysam.FastaFile(path)
    rows = np.arange(len(given))
    moved = (starts + integers(0, 0, rows, "jitter", -JITTER, JITTER + 1)).tolist()
    turned = coin(0, 0, rows, "strand").tolist()

    def strings(batch: int) -> Tensor:
        found = []
        for i in range(batch * windows, (batch + 1) * windows):
            text = fasta.fetch("chr1", moved[i], moved[i] + length)
            found.append(text.translate(COMPLEMENT)[::-1] if turned[i] else text)
        letters = np.frombuffer("".join(found).encode(), np.uint8)
        return torch.from_numpy(DNA.byte_table[letters]).view(windows, length)

    def tokens(batch: int) -> Tensor:
        return data.batch(rows[batch * windows : (batch + 1) * windows], epoch=0)[0]

    return {OURS: tokens, PEER: strings}


def measure(path: str, draw: np.random.Generator, windows: int, length: int, seconds: float) -> dict:
    both = paths(path, draw, windows, length)
    for batch in range(BATCHES):
        if not torch.equal(both[OURS](batch), both[PEER](batch)):
            sys.exit(f"intervals: {OURS} and {PEER} disagree about windows of {length} letters")
    times: dict[str, list[float]] = {name: [] for name in both}
    end = perf_counter() + seconds
    for batch in itertools.cycle(range(BATCHES)):
        for name, run in both.items():
            start = perf_counter()
            run(batch)
            times[name].append(1e3 * (perf_counter() - start))
        if perf_counter() > end:
            break
    middle = {name: statistics.median(values) for name, values in times.items()}
    return {"name": f"{windows} windows of {length:,}", "letters": windows * length, "milliseconds": middle}


def cells(row: dict) -> list[str]:
    ours, peer = (row["milliseconds"][name] for name in (OURS, PEER))
    return [
        row["name"],
        f"{ours:.2f}",
        f"{row['letters'] / ours / 1e3:,.0f}",
        f"{peer:.1f}",
        f"{peer / ours:.0f}x",
    ]


if __name__ == "__main__":
    main()
