"""From the options of `qbio train` to a finished run: data, model, training, report."""

import logging
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.utils.data import Subset

from biolayers import (
    DNA,
    PROTEIN,
    RNA,
    FastaDataset,
    Leakage,
    Loader,
    Part,
    duplicates,
    loader,
    models,
    split,
)
from biolayers.comparing.leaks import KINDS, leaks_between
from shared.app import training
from shared.app.report import Facts, write_report
from shared.app.runs import Run, write_json, write_text
from shared.app.settings import Settings
from shared.errors import UserError

log = logging.getLogger("biolayers")

ALPHABETS = {"DNA": DNA, "RNA": RNA, "PROTEIN": PROTEIN}
PARTS = ("train", "val", "test")
QUANTUM_NOTE = (
    "The circuit is part of the path: the logits are read from its expectation values alone, and no "
    "classical layer goes round it. To see what it adds, train --model cnn with the same seed (and so on the "
    "same split), or run `python examples/hybrid_splice.py --compare true`, which sets a classical head of "
    "its size beside it."
)
MAY_CHANGE = ("epochs", "threads", "workers", "no_leakage_check")  # what a resumed run may be given anew


def start(options: dict[str, Any], *, out: Path | None, name: str | None = None) -> Run:
    """Begin a new run in `out`, or in the first free folder of `runs/`; bad data leave no folder behind."""
    settings = _settings(options)
    data = read(options)
    training.prepare(settings)  # before the model draws its weights
    model = models.build(
        options["model"], length=data.width, classes=len(data.classes), letters=data.alphabet.channels
    )
    parts = divide(data, seed=settings.seed, by=options["split_by"])
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
    _carry_out(
        run, options, data, divide(data, seed=settings.seed, by=options["split_by"]), model, resume=True
    )
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


def divide(data: FastaDataset, *, seed: int, by: str) -> dict[str, Part]:
    """80 % to train on, 10 % to validate, 10 % held out; sequences that are alike stay in one part."""
    parts = split(data, seed=seed, by=by, progress=True)
    return {name: Part(subset) for name, subset in zip(PARTS, parts, strict=True)}


def _carry_out(
    run: Run, options: dict[str, Any], data: FastaDataset, parts: dict[str, Part], model: Any, *, resume: bool
) -> None:
    settings = _settings(options)
    card = {
        "model": options["model"],
        "classes": data.classes,
        "alphabet": options["alphabet"],
        "length": data.width,
        "padded": options["pad_to"] is not None,
        "seed": settings.seed,
        "data": digest(data),
    }
    print(f"{len(data):,} sequences of {data.width:,} letters, {len(data.classes)} classes -> {run.folder}")
    leaks = {} if options["no_leakage_check"] else _leaks(parts)
    result = training.train(
        run,
        model,
        _loaders(parts, settings),
        classes=data.classes,
        settings=settings,
        card=card,
        resume=resume,
    )
    first = _first_of_each(parts["test"])
    hits = result.predicted[first] == parts["test"].labels[first]
    metrics = {
        **result.metrics,
        "test/accuracy_distinct": float(hits.float().mean()),
        "distinct_held_out": len(first),
        "records": {name: len(part) for name, part in parts.items()},
        "leakage": {where: _found(report) for where, report in leaks.items()},
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
            *_leak_sentences(leaks),
            f"Counting each of the {len(first):,} distinct held-out sequences once, accuracy is "
            f"{metrics['test/accuracy_distinct']:.1%}.",
        ],
        settings=_plain(options),
        notes=[QUANTUM_NOTE] if options["model"] == "hybrid" else [],
        again=f"qbio train --config {run.config}",
    )
    write_report(run, {**metrics, "history": result.history}, model, facts)
    _announce(run, metrics)


def digest(data: FastaDataset) -> str:
    """What tells data apart."""
    content = data.tokens.numpy().tobytes() + data.labels.numpy().tobytes()
    return blake2b(content, digest_size=16).hexdigest()


def _leaks(parts: dict[str, Part]) -> dict[str, Leakage]:
    """What later parts share with earlier ones; each leak is a warning in the log."""
    subsets = [Subset(part.dataset, part.indices.tolist()) for part in parts.values()]
    leaks = leaks_between(subsets, list(parts), progress=True)
    for sentence in _leak_sentences(leaks):
        if any(leaks.values()):
            log.warning("%s", sentence)
    return leaks


def _found(report: Leakage) -> dict[str, int]:
    return {kind: report.count(kind) for kind in KINDS} | {"of": report.test}


def _leak_sentences(leaks: dict[str, Leakage]) -> list[str]:
    """What the check found and what to do about it, for the log and the report; nothing without a check."""
    if leaks and not any(leaks.values()):
        return ["No sequence of a part is equal or similar to one of another part."]
    return [
        f"Leakage, {where}: {len(report):,} of {report.test:,} sequences are equal or similar to others "
        f"there ({', '.join(f'{report.count(kind):,} {kind}' for kind in KINDS)}), so that figures flatter "
        "the model. --split-by similarity makes parts without; --no-leakage-check trains without looking."
        for where, report in leaks.items()
        if report
    ]


def _loaders(parts: dict[str, Part], settings: Settings) -> dict[str, Loader]:
    """The batches of each part; only those of training are shuffled, in an order that a resume keeps."""
    return {
        name: loader(
            part,
            batch_size=settings.batch_size,
            shuffle=name == "train",
            seed=settings.seed,
            workers=settings.workers,
        )
        for name, part in parts.items()
    }


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
    twice = duplicates(Subset(part.dataset, part.indices.tolist()), reverse_complement=False)
    later = {place for group in twice.groups for place in sorted(group.indices)[1:]}
    return torch.tensor([place for place in range(len(part)) if place not in later], dtype=torch.int64)


def _counts(part: Part) -> dict[str, int]:
    numbers = torch.bincount(part.labels, minlength=len(part.dataset.classes)).tolist()
    return dict(zip(part.dataset.classes, numbers, strict=True))


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
