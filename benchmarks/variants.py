"""Windows of variants and haplotypes against the usual way: strings by pysam, edited in Python, then a table.

    python benchmarks/variants.py [--write] [--threads N] [--seconds S]

The results are compared first: no time is shown for paths that disagree. The genome and the variants are
random; GenVarLoader's authors publish 2.02 ms for a batch of 32 diploid windows of 16,384 letters.
"""

import argparse
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

from biolayers import DNA, PAD, HaplotypeDataset, VariantDataset, Variants

TITLE = "Windows of variants"
OURS, PEER = "qbio", "strings by pysam"
LETTERS = 20_000_000
PAIR, PAIRS = 1000, 256  # letters of a window, pairs of a batch
WINDOW, WINDOWS = 16_384, 32  # of haplotypes
EVERY = 1000  # letters between two variants of a person
COPIES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/variants.md and .json")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and of our kernels")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each case")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bystanders = record.Bystanders()
    with tempfile.TemporaryDirectory() as folder:
        draw = np.random.default_rng(0)
        path = write_genome(Path(folder), draw)
        variants = some_variants(path, draw)
        found = [
            measure("256 pairs of 1,000", 2 * PAIRS * PAIR, pairs(path, variants, draw), options.seconds),
            measure(
                "32 diploid windows of 16,384",
                COPIES * WINDOWS * WINDOW,
                haplotypes(path, variants, draw),
                options.seconds,
            ),
        ]
    others = bystanders.share()
    table = [["batch", f"{OURS}, ms", "Mbase/s", f"{PEER}, ms", "times"], *map(cells, found)]
    notes = [record.machine(options.threads), "Medians of interleaved batches.", record.quietness(others)]
    record.show(TITLE, table, notes, "python benchmarks/variants.py")
    if options.write:
        content = {"machine": notes[0], "others": others, "rows": found}
        record.write("variants", TITLE, table, notes, content)


def write_genome(folder: Path, draw: np.random.Generator) -> str:
    letters = np.frombuffer(b"ACGT", np.uint8)[draw.integers(0, 4, LETTERS)].reshape(-1, 80)
    path = folder / "genome.fa"
    path.write_bytes(b">chr1\n" + b"\n".join(row.tobytes() for row in letters) + b"\n")
    return str(path)


def some_variants(path: str, draw: np.random.Generator) -> Variants:
    """Four of five change a letter, the others insert or delete up to 20."""
    rows = []
    with pysam.FastaFile(path) as fasta:
        text = fasta.fetch("chr1")
    for position in range(EVERY, LETTERS - EVERY, EVERY):
        kind, size = draw.integers(10), int(draw.integers(1, 21))
        ref = text[position : position + 1 + size * (kind == 0)]
        new = "".join(draw.choice(list("ACGT"), size * (kind == 1)))
        alt = ref[0] + new if kind < 2 else "ACGT"["ACGT".index(ref) - 1]
        rows.append(("chr1", position, ref, alt))
    table = Variants.of(rows)
    carried = draw.integers(0, 2, (len(rows), 1, COPIES)).astype(np.int8)
    columns = {"samples": ["ann"], "genotypes": carried, "phased": np.ones((len(rows), 1), bool)}
    names, places, refs, alts = zip(*rows, strict=True)
    return Variants.of_columns(names, places, refs, alts, list(table.id), table.record, **columns)


Paths = dict[str, Callable[[], Tensor]]


def pairs(path: str, variants: Variants, draw: np.random.Generator) -> Paths:
    data = VariantDataset(path, variants, length=PAIR)
    fasta = pysam.FastaFile(path)
    chosen = draw.choice(np.arange(5, len(variants) - 5), PAIRS, replace=False)

    def strings() -> Tensor:
        rows = []
        for i in chosen.tolist():
            contig, position, ref, alt = variants[i]
            shared = len(ref) != len(alt) and ref[-1] != alt[-1]  # the first letter; else the last, or none
            start = position + shared - PAIR // 2
            text = fasta.fetch(contig, start, start + PAIR + len(ref))
            edited = text[: position - start] + alt + text[position - start + len(ref) :]
            rows += [text[:PAIR], edited[:PAIR]]
        return tokens_of(rows).view(PAIRS, 2, PAIR)

    return {OURS: lambda: data.batch(chosen)[0], PEER: strings}


def haplotypes(path: str, variants: Variants, draw: np.random.Generator) -> Paths:
    starts = draw.integers(0, LETTERS - 2 * WINDOW, WINDOWS).tolist()
    data = HaplotypeDataset(path, variants, [("chr1", s, s + WINDOW) for s in starts], length=WINDOW)
    fasta = pysam.FastaFile(path)
    carried, positions = variants.genotypes[:, 0], variants.position

    def strings() -> Tensor:
        rows = []
        for start in starts:
            text = fasta.fetch("chr1", start, start + 2 * WINDOW)
            low, high = np.searchsorted(positions, [start, start + 2 * WINDOW - 100])
            for copy in range(COPIES):
                pieces, at = [], 0
                for i in (low + np.flatnonzero(carried[low:high, copy])).tolist():
                    _, position, ref, alt = variants[i]
                    pieces += [text[at : position - start], alt]
                    at = position - start + len(ref)
                rows.append(("".join(pieces) + text[at:])[:WINDOW])
        return tokens_of(rows).view(WINDOWS, COPIES, WINDOW)

    return {OURS: lambda: data.batch(range(WINDOWS))[0], PEER: strings}


def tokens_of(rows: list[str]) -> Tensor:
    letters = np.frombuffer("".join(rows).encode(), np.uint8)
    return torch.from_numpy(DNA.byte_table[letters])


def measure(name: str, letters: int, paths: Paths, seconds: float) -> dict:
    ours, peer = (run() for run in paths.values())
    if not torch.equal(ours, peer) or (ours == PAD).any():
        sys.exit(f"variants: {OURS} and {PEER} disagree about {name}")
    times: dict[str, list[float]] = {path: [] for path in paths}
    end = perf_counter() + seconds
    while perf_counter() < end or len(times[OURS]) < 5:
        for path, run in paths.items():
            start = perf_counter()
            run()
            times[path].append(1e3 * (perf_counter() - start))
    middle = {path: statistics.median(values) for path, values in times.items()}
    return {"name": name, "letters": letters, "milliseconds": middle}


def cells(row: dict) -> list[str]:
    ours, peer = (row["milliseconds"][path] for path in (OURS, PEER))
    return [
        row["name"],
        f"{ours:.2f}",
        f"{row['letters'] / ours / 1e3:,.0f}",
        f"{peer:.1f}",
        f"{peer / ours:.0f}x",
    ]


if __name__ == "__main__":
    main()
