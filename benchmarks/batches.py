"""Batches of labelled sequences: our loader against a usual dataset, interleaved in one run.

    python benchmarks/batches.py [--write] [--rounds N] [--records N]

The usual dataset reads one record at a time with pyfaidx, turns its letters into tokens by a table, and
leaves the rest to PyTorch's `DataLoader`. Both must give the same batches before any time is shown.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import record
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from biolayers import FastaDataset, loader

TITLE = "Batches of labelled sequences"
LENGTH, BATCH = 1000, 64
READERS = Path(__file__).resolve().parents[1] / ".bench" / "readers"


class Usual(Dataset[tuple[Tensor, int]]):
    """One record at a time; a worker opens the file by itself, as pyfaidx cannot be shared."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.table = np.full(256, 255, np.uint8)
        self.table[np.frombuffer(b"ACGTacgt", np.uint8)] = [0, 1, 2, 3] * 2
        with open(path, encoding="ascii") as file:
            headers = [line[1:].split() for line in file if line.startswith(">")]
        self.names = [name for name, _ in headers]
        self.labels = [int(label[2:]) for _, label in headers]
        self.file: Any = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.file is None:
            from pyfaidx import Fasta

            self.file = Fasta(self.path, as_raw=True, rebuild=False)
        text = self.file[self.names[index]][:]
        return torch.from_numpy(self.table[np.frombuffer(text.encode(), np.uint8)]), self.labels[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/batches.md and .json")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each, in turn")
    parser.add_argument("--records", type=int, default=20_000, help=f"of {LENGTH:,} letters")
    options = parser.parse_args()
    sys.path += map(str, READERS.glob("lib/python*/site-packages"))  # last: only pyfaidx comes from there
    bystanders = record.Bystanders()
    with tempfile.TemporaryDirectory() as folder:
        path = synthetic(Path(folder) / "x.fa", options.records)
        found = [row for workers in (0, 2) for row in measure(path, workers, options.rounds)]
    others = bystanders.share()
    table = [["batches of", "workers", "us a batch", "usual, us a batch", "times"], *map(cells, found)]
    notes = [
        record.machine(torch.get_num_threads()),
        f"{options.records:,} records of {LENGTH:,} letters in batches of {BATCH}, shuffled, from the page "
        f"cache; medians of {options.rounds} interleaved epochs, PyTorch {torch.__version__}.",
        record.quietness(others),
    ]
    record.show(TITLE, table, notes, "python benchmarks/batches.py")
    if options.write:
        content = {"machine": notes[0], "torch": torch.__version__, "others": others, "rows": found}
        record.write("batches", TITLE, table, notes, content)


def synthetic(path: Path, records: int) -> str:
    """A file of random records with labels 0 and 1 in their headers."""
    letters = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), (records, LENGTH))
    with open(path, "w", encoding="ascii") as file:
        for i, row in enumerate(letters):
            file.write(f">s{i} y={i % 2}\n{row.tobytes().decode()}\n")
    return str(path)


def measure(path: str, workers: int, rounds: int) -> list[dict[str, Any]]:
    """Times of whole epochs, in turn; workers live on from one to the next."""
    more = {"reverse_complement": 0.5, "window": LENGTH - 10, "jitter": 5}
    pattern = {"label_pattern": r"y=(\d)"}
    plain, augmented = FastaDataset(path, **pattern), FastaDataset(path, **pattern, **more)
    usual = Usual(path)  # not opened yet: forked workers that share an open file of pyfaidx read garbage
    agree(loader(plain, batch_size=BATCH), DataLoader(Usual(path), batch_size=BATCH))
    options = {"batch_size": BATCH, "shuffle": True}
    lasting = {"num_workers": workers, "persistent_workers": workers > 0}
    systems: dict[str, Iterable[Any]] = {
        "tokens": loader(plain, workers=workers, **options),
        "tokens, moved and turned": loader(augmented, workers=workers, **options),
        "usual": DataLoader(usual, **options, **lasting),
    }
    times: dict[str, list[float]] = {name: [] for name in systems}
    for turn in range(rounds + 1):  # the first starts the workers
        for name, batches in systems.items():
            seconds = epoch(lambda batches=batches: sum(1 for _ in batches))
            if turn:
                times[name].append(seconds)
    medians = {name: statistics.median(each) for name, each in times.items()}
    return [
        {"what": name, "workers": workers, "ours": medians[name], "usual": medians["usual"]}
        for name in list(systems)[:2]
    ]


def epoch(run: Callable[[], int]) -> float:
    """Seconds a batch."""
    start = perf_counter()
    count = run()
    return (perf_counter() - start) / count


def agree(ours: Iterable[Any], usual: Iterable[Any]) -> None:
    """Stop unless all batches are equal."""
    for (tokens, labels), (others, classes) in zip(ours, usual, strict=True):
        if not torch.equal(tokens, others) or not torch.equal(labels, classes):
            sys.exit("the two give different batches")


def cells(row: dict[str, Any]) -> list[str]:
    """One row of the table."""
    times = row["usual"] / row["ours"]
    return [
        row["what"],
        str(row["workers"]),
        f"{row['ours'] * 1e6:.0f}",
        f"{row['usual'] * 1e6:.0f}",
        f"{times:.1f}",
    ]


if __name__ == "__main__":
    main()
