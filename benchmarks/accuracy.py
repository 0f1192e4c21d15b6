"""Accuracy from scratch on public sequence sets, on a CPU: the exact configurations, data to figures.

The sets are those of GUE (Zhou et al., DNABERT-2, ICLR 2024) and the splice junctions of UCI. Choices were
made on the development parts; the test parts are read once, at the end of each run. Each figure comes as
shipped, and again without the test sequences that training has seen.

    python benchmarks/accuracy.py --data FOLDER [--task tf0 --task tata --task splice] [--seeds 3] [--write]

FOLDER holds `gue_tf0/{train,dev,test}.csv.gz`, `gue_prom_core_tata/...` and `splice_junctions.fa`.
"""

import argparse
import csv
import gzip
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import record
import torch
from composed_cnn import ComposedCNN
from kmer_bag import KmerBag
from learning import Settings, fit, log_chances
from rich.console import Console
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_matthews_corrcoef

from biolayers import DNA, FastaDataset, leakage
from biolayers.models import SequenceCNN

TITLE = "Accuracy from scratch on a CPU"
PARTS = ("train", "dev", "test")
WORD = 24  # a test sequence that shares so many letters in a row with training overlaps it
SPLICE_FOLDS = 10
EXAMPLES = 1000  # of the published experiments on splice junctions
console = Console()


@dataclass(frozen=True)
class Gue:
    """A set of GUE: the members of the model (their log chances are averaged), and the figures to reach."""

    folder: str
    title: str
    members: tuple[tuple[str, dict[str, Any], Settings], ...]
    published: dict[str, float] = field(default_factory=dict)


KMERS = Settings(epochs=3, batch_size=256, lr=3e-3, weight_decay=1.0, average=0.95)
CONVOLUTIONS = Settings(epochs=6, batch_size=256, lr=6e-3, weight_decay=0.1, average=0.99, both_strands=True)
WEIGHED = {"composition": (1, 2, 3), "gated": True, "hidden": 64, "left_out": 0.7}
PLACES = Settings(epochs=12, batch_size=64, lr=5e-3, smoothing=0.05)
SETS = {
    "tf0": Gue(
        "gue_tf0",
        "GUE tf/0",
        (
            ("kmers", {"ks": (2, 3, 4, 5, 6, 7, 8), **WEIGHED}, KMERS),
            ("kmers", {"ks": (4, 5, 6, 7, 8, 9, 10), **WEIGHED}, KMERS),
            ("composed_cnn", {}, CONVOLUTIONS),
        ),
        {"DNABERT-2": 0.7199, "3-mer DNABERT": 0.6795, "NT-2500M-multi": 0.6664},
    ),
    "tata": Gue(
        "gue_prom_core_tata",
        "GUE prom_core_tata",
        (("cnn", {"channels": 64, "kernel_size": 11, "positions": 35, "dropout": 0.3}, PLACES),),
        {"3-mer DNABERT": 0.7815, "DNABERT-2": 0.7417},
    ),
}
SPLICE = {"channels": 64, "kernel_size": 9, "positions": 30, "dropout": 0.4}
SPLICE_TRAINING = Settings(epochs=14, batch_size=64, lr=5e-3, smoothing=0.05)
SPLICE_PUBLISHED = {  # 10-fold on 1,000 examples, Noordewier, Towell and Shavlik, NIPS 1990
    "KBANN": {"donor": 0.0756, "acceptor": 0.0847, "neither": 0.0462},
    "backprop": {"donor": 0.0574, "acceptor": 0.1075, "neither": 0.0529},
}
MAKERS: dict[str, Callable[..., nn.Module]] = {
    "cnn": lambda length, classes, **options: SequenceCNN(length, classes, **options),
    "kmers": lambda length, classes, **options: KmerBag(classes, **options),
    "composed_cnn": lambda length, classes, **options: ComposedCNN(classes, **options),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of the sets")
    parser.add_argument("--task", action="append", choices=[*SETS, "splice"], help="by default all")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each set")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/accuracy.md and .json")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the models are too small for two
    rows = {task: run(task, options.data, options.seeds) for task in options.task or [*SETS, "splice"]}
    rows = kept() | rows if options.write else rows
    table = [
        ["set", "figure", "test, mean", "each seed", "without seen", "published", "minutes"],
        *(cells for task in (*SETS, "splice") if task in rows for cells in rows[task]["cells"]),
    ]
    notes = [
        record.machine(1),
        "MCC, higher is better; errors, lower is better. Without seen: without test sequences that training "
        f"has seen whole, on either strand, or, for tf/0, {WORD} letters in a row of.",
        "Chosen on the development parts; the test parts were read once per run. Minutes are those of a "
        "machine that other work shared.",
    ]
    again = "python benchmarks/accuracy.py --data FOLDER"
    record.show(TITLE, table, notes, again)
    if options.write:
        content = {"machine": notes[0], "tasks": rows}
        record.write("accuracy", TITLE, table, notes, content, command=again)


def run(task: str, data: Path, seeds: int) -> dict[str, Any]:
    start = perf_counter()
    row = splice(data, seeds) if task == "splice" else gue(SETS[task], data, seeds)
    minutes = f"{(perf_counter() - start) / 60:.1f}"
    return {**row, "cells": [[*cells, minutes] for cells in row["cells"]]}


def kept() -> dict[str, Any]:
    """The tasks of earlier runs."""
    file = record.RESULTS / "accuracy.json"
    return json.loads(file.read_text())["tasks"] if file.is_file() else {}


def gue(task: Gue, data: Path, seeds: int) -> dict[str, Any]:
    """Train with each seed, and judge on the test part."""
    parts = {part: read(data / task.folder / f"{part}.csv.gz") for part in PARTS}
    seen = seen_before(parts)
    results = []
    for seed in range(seeds):
        chances = {part: torch.zeros(len(parts[part][0])) for part in ("dev", "test")}
        for place, (kind, options, settings) in enumerate(task.members):
            model = trained(kind, options, settings, parts, f"{task.title}, seed {seed}", 100 * seed + place)
            for part, total in chances.items():
                rows = log_chances(model, parts[part][0], both_strands=settings.both_strands)
                total += rows[:, 1] - rows[:, 0]
        results.append(judged(chances, parts, seen) | {"seed": seed})
        console.print(f"{task.title}, seed {seed}: {results[-1]}")
    scores = [result["test"] for result in results]
    cells = [
        task.title,
        "MCC",
        f"{statistics.mean(scores):.4f}",
        ", ".join(f"{score:.4f}" for score in scores),
        ", ".join(f"{statistics.mean(r[name] for r in results):.4f} ({name})" for name in seen),
        ", ".join(f"{name} {value:.4f}" for name, value in task.published.items()),
    ]
    left_out = {name: int(places.sum()) for name, places in seen.items()}
    return {"cells": [cells], "results": results, "settings": asdict(task), "seen": left_out}


def read(file: Path) -> tuple[Tensor, Tensor]:
    """Tokens (n, l) uint8 and labels (n,) of a part."""
    with gzip.open(file, "rt", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return DNA.tokens([row["sequence"] for row in rows]), torch.tensor([int(row["label"]) for row in rows])


def seen_before(parts: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Which test sequences training has seen, (n,) bool: whole, and in part."""
    train, test = parts["train"][0], parts["test"][0]
    whole = torch.zeros(len(test), dtype=torch.bool)
    whole[leakage(train, test, near=None).indices()] = True
    known = set(words(train)) | set(words(DNA.reverse_complement(train)))
    overlap = torch.tensor([any(word in known for word in words(row[None])) for row in test])
    return {"whole": whole, "overlap": overlap | whole}


def words(tokens: Tensor) -> list[bytes]:
    texts = [row.numpy().tobytes() for row in tokens]
    return [text[i : i + WORD] for text in texts for i in range(len(text) - WORD + 1)]


def trained(
    kind: str,
    options: dict[str, Any],
    settings: Settings,
    parts: dict[str, tuple[Tensor, Tensor]],
    title: str,
    seed: int,
) -> nn.Module:
    """A model of the last epoch's averaged weights; the development part is only looked at."""
    torch.manual_seed(seed)
    tokens, labels = parts["train"]
    model = MAKERS[kind](tokens.shape[1], int(labels.max()) + 1, **options)
    for epoch, found in enumerate(fit(model, tokens, labels, settings, seed=seed), 1):
        rows = log_chances(found, parts["dev"][0], both_strands=settings.both_strands)
        score = mcc(rows[:, 1] - rows[:, 0], parts["dev"][1])
        console.print(f"{title}, {kind}: epoch {epoch} of {settings.epochs}, MCC on dev {score:.4f}")
    return found


def judged(
    chances: dict[str, Tensor], parts: dict[str, tuple[Tensor, Tensor]], seen: dict[str, Tensor]
) -> dict[str, float]:
    """MCC on dev, on test, and on the test sequences that are left without those seen."""
    found = {part: mcc(total, parts[part][1]) for part, total in chances.items()}
    return found | {
        name: mcc(chances["test"][~places], parts["test"][1][~places]) for name, places in seen.items()
    }


def mcc(scores: Tensor, labels: Tensor) -> float:
    """Matthews correlation of the signs of `scores` with labels 0 and 1."""
    return float(binary_matthews_corrcoef((scores > 0).long(), labels))


def splice(data: Path, seeds: int) -> dict[str, Any]:
    """Errors of each class by 10-fold cross-validation over distinct sequences: on all, and on 1,000."""
    junctions = FastaDataset(data / "splice_junctions.fa", label_pattern=r"class=(\w+)")
    tokens, labels = junctions.batch(range(len(junctions)))
    results = {
        name: [folds(tokens, labels, junctions.classes, seed, count) for seed in range(seeds)]
        for name, count in (("all", len(tokens)), (f"{EXAMPLES:,}", EXAMPLES))
    }
    cells = []
    for name, runs in results.items():
        for kind in junctions.classes:
            errors = [found[kind] for found in runs]
            published = ", ".join(
                f"{who} {100 * rates[kind]:.2f} %" for who, rates in SPLICE_PUBLISHED.items()
            )
            cells.append(
                [
                    f"splice junctions, {name} examples",
                    f"error, {kind}",
                    f"{100 * statistics.mean(errors):.2f} %",
                    ", ".join(f"{100 * error:.2f}" for error in errors),
                    "(folds by distinct sequence)",
                    published,
                ]
            )
    settings = {"model": SPLICE, "training": asdict(SPLICE_TRAINING)}
    return {"cells": cells, "results": results, "settings": settings, "published": SPLICE_PUBLISHED}


def folds(tokens: Tensor, labels: Tensor, classes: list[str], seed: int, count: int) -> dict[str, float]:
    """Error rates by class; each distinct sequence counts once, and is in one fold only."""
    rng = torch.Generator().manual_seed(seed)
    tokens, labels = distinct(tokens, labels)
    chosen = torch.randperm(len(tokens), generator=rng)[:count]
    tokens, labels = tokens[chosen], labels[chosen]
    found = torch.empty_like(labels)
    for fold in range(SPLICE_FOLDS):
        held = torch.arange(len(tokens)) % SPLICE_FOLDS == fold
        torch.manual_seed(100 * seed + fold)
        model = SequenceCNN(tokens.shape[1], len(classes), **SPLICE)
        for best in fit(model, tokens[~held], labels[~held], SPLICE_TRAINING, seed=100 * seed + fold):
            last = best
        found[held] = log_chances(last, tokens[held], both_strands=False).argmax(1)
        wrong = float((found[held] != labels[held]).float().mean())
        console.print(f"splice, {len(tokens):,} examples, seed {seed}, fold {fold}: error {wrong:.4f}")
    return {
        name: float((found[labels == number] != number).float().mean()) for number, name in enumerate(classes)
    }


def distinct(tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Each sequence once, with the label of its first record."""
    first = {row.numpy().tobytes(): place for place, row in reversed(list(enumerate(tokens)))}
    places = torch.tensor(sorted(first.values()))
    return tokens[places], labels[places]


if __name__ == "__main__":
    main()
