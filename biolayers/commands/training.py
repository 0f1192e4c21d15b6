"""From the options of `qbio train` to a finished run: data, model, training, report."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.utils.data import Dataset, Subset

from biolayers import DNA, PROTEIN, RNA, FastaDataset, duplicates, models, split
from shared.app import training
from shared.app.report import Facts, write_report
from shared.app.runs import Run, write_json, write_text
from shared.app.settings import Settings
from shared.errors import UserError

ALPHABETS = {"DNA": DNA, "RNA": RNA, "PROTEIN": PROTEIN}
PARTS = ("train", "val", "test")
QUANTUM_NOTE = (
    "The circuit is part of the path: the logits are read from its expectation values alone, and no "
    "classical layer goes round it. To see what it adds, train --model cnn with the same seed (and so on the "
    "same split), or run `python examples/hybrid_splice.py --compare true`, which sets a classical head of "
    "its size beside it."
)
MAY_CHANGE = ("epochs", "threads", "workers")  # what a resumed run may be given anew


class Part(Dataset[tuple[Tensor, Tensor]]):
    """A subset that is read a whole batch at a time, with one gather from the file."""

    def __init__(self, subset: Subset[Any]) -> None:
        self.data: FastaDataset = subset.dataset  # type: ignore[assignment]
        self.indices = torch.tensor(subset.indices, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.data[int(self.indices[index])]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self.data.batch(self.indices[torch.as_tensor(indices)])  # (b, length) uint8, (b,) int64

    @property
    def labels(self) -> Tensor:
        return self.data.labels[self.indices]


def start(options: dict[str, Any], *, out: Path | None, name: str | None = None) -> Run:
    """Begin a new run in `out`, or in the first free folder of `runs/`; bad data leave no folder behind."""
    settings = _settings(options)
    data = read(options)
    training.prepare(settings)  # before the model draws its weights
    model = models.build(
        options["model"], length=data.width, classes=len(data.classes), letters=data.alphabet.channels
    )
    parts = divide(data, seed=settings.seed)
    stem = Path(data.files[0].path).stem if len(data.files) == 1 else "classes"
    run = Run.create(out, name=name or f"{stem}-{options['model']}")
    write_text(run.config, yaml.safe_dump(_plain(options), sort_keys=False))
    _carry_out(run, options, data, parts, model, resume=False)
    return run


def resume(folder: Path, changed: dict[str, Any], *, defaults: dict[str, Any], out: Path | None) -> Run:
    """Continue the run in `folder` after its last finished epoch.

    Args:
        folder: Of the run.
        changed: The options that were given beside --resume.
        defaults: All options of a run; its `config.yaml` leaves out those that are not given.
        out: Must be None: a run stays where it is.
    """
    fixed = sorted(name for name in changed if name not in MAY_CHANGE) + (["out"] if out is not None else [])
    if fixed:
        flags = ", ".join("--" + name.replace("_", "-") for name in fixed)
        raise UserError(
            f"--resume takes its options from {folder}/config.yaml, received also {flags}; leave that out"
        )
    run = Run.open(folder)
    try:
        stored = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        options = {**defaults, **stored, **changed}
        settings = _settings(options)
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise UserError(f"--resume: {run.config} is not the configuration of a run ({error})") from error
    data = read(options)
    training.prepare(settings)
    model = models.build(
        options["model"], length=data.width, classes=len(data.classes), letters=data.alphabet.channels
    )
    _carry_out(run, options, data, divide(data, seed=settings.seed), model, resume=True)
    if changed:
        write_text(run.config, yaml.safe_dump(_plain(options), sort_keys=False))
    return run


def read(options: dict[str, Any]) -> FastaDataset:
    """The labelled sequences that the options name.

    Raises:
        UserError: There is no file, or no source of labels, or more than one; and what `FastaDataset` raises.
    """
    sources = [name for name in ("label_pattern", "labels", "class_files") if options[name]]
    if len(sources) != 1:
        given = " and ".join("--" + name.replace("_", "-") for name in sources) or "none"
        raise UserError(
            f"labels: expected one of --label-pattern, --labels and --class-files, received {given}; "
            "for headers such as '>seq1 class=donor' give --label-pattern 'class=(\\w+)'"
        )
    if (options["fasta"] is None) == (sources != ["class_files"]):
        raise UserError("sequences: expected either --fasta FILE, or --class-files.NAME FILE for each class")
    return FastaDataset(
        options["class_files"] or options["fasta"],
        label_pattern=options["label_pattern"],
        labels=options["labels"],
        name_column=options["name_column"],
        label_column=options["label_column"],
        pad_to=options["pad_to"],
        alphabet=ALPHABETS[options["alphabet"]],
    )


def divide(data: FastaDataset, *, seed: int) -> dict[str, Part]:
    """80 % to train on, 10 % to validate, 10 % held out; identical sequences stay in one part."""
    return {name: Part(subset) for name, subset in zip(PARTS, split(data, seed=seed), strict=True)}


def _carry_out(
    run: Run, options: dict[str, Any], data: FastaDataset, parts: dict[str, Part], model: Any, *, resume: bool
) -> None:
    settings = _settings(options)
    digest = blake2b(
        data.tokens.numpy().tobytes() + data.labels.numpy().tobytes(), digest_size=16
    ).hexdigest()
    card = {
        "model": options["model"],
        "classes": data.classes,
        "alphabet": options["alphabet"],
        "length": data.width,
        "padded": options["pad_to"] is not None,
        "seed": settings.seed,
        "data": digest,
    }
    print(f"{len(data):,} sequences of {data.width:,} letters, {len(data.classes)} classes -> {run.folder}")
    result = training.train(
        run, model, parts, classes=data.classes, settings=settings, card=card, resume=resume
    )
    first = _first_of_each(parts["test"])
    hits = result.predicted[first] == parts["test"].labels[first]
    metrics = {
        **result.metrics,
        "test/accuracy_distinct": float(hits.float().mean()),
        "distinct_held_out": len(first),
        "records": {name: len(part) for name, part in parts.items()},
        "model": options["model"],
    }
    write_json(run.metrics, metrics)
    between = duplicates([Subset(data, part.indices.tolist()) for part in parts.values()])
    facts = Facts(
        title=f"{options['model']} on {_files(data)}",
        counts={name: _counts(part) for name, part in parts.items()},
        data=[
            f"{_files(data)}: {len(data):,} sequences of {data.width:,} letters; {data.counts()}.",
            f"Before the split, {duplicates(data)}.",
            f"After it, {between}: identical sequences were kept in one part, so none of the held-out ones "
            "was seen in training."
            if not between
            else f"After it, {between}.",
            f"Counting each of the {len(first):,} distinct held-out sequences once, accuracy is "
            f"{metrics['test/accuracy_distinct']:.1%}.",
        ],
        settings=_plain(options),
        notes=[QUANTUM_NOTE] if options["model"] == "hybrid" else [],
        again=f"qbio train --config {run.config}",
    )
    write_report(run, {**metrics, "history": result.history}, model, facts)
    _announce(run, metrics)


def _announce(run: Run, metrics: dict[str, Any]) -> None:
    low, high = metrics["test/accuracy_interval"]
    print(
        f"\nheld-out accuracy {metrics['test/accuracy']:.4f} (95 % interval {low:.3f} to {high:.3f}, "
        f"{metrics['records']['test']:,} sequences that training never saw)"
    )
    print(f"report: {run.report.resolve()}")
    print(f"open it: python -m webbrowser {run.report.resolve().as_uri()}")


def _first_of_each(part: Part) -> Tensor:
    """The places of a part's distinct sequences: (n,) int64, the first of each."""
    twice = duplicates(Subset(part.data, part.indices.tolist()), reverse_complement=False)
    later = {place for group in twice.groups for place in sorted(group.indices)[1:]}
    return torch.tensor([place for place in range(len(part)) if place not in later], dtype=torch.int64)


def _counts(part: Part) -> dict[str, int]:
    numbers = torch.bincount(part.labels, minlength=len(part.data.classes)).tolist()
    return dict(zip(part.data.classes, numbers, strict=True))


def _files(data: FastaDataset) -> str:
    return ", ".join(Path(fasta.path).name for fasta in data.files)


def _settings(options: dict[str, Any]) -> Settings:
    names = ("epochs", "batch_size", "lr", "weight_decay", "patience", "seed", "workers", "threads")
    return Settings(**{name: options[name] for name in names})


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """The options as YAML has them: what is not given left out, paths absolute."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        return str(value.resolve()) if isinstance(value, Path) else value

    return {name: plain(value) for name, value in options.items() if value is not None}
