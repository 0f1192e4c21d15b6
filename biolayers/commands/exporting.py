"""From the folder of a run, or of a saved model, to a file for other machines, and how good that file is."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from biolayers import Alphabet, models
from biolayers.commands import training
from biolayers.commands.rebuilding import rebuilt
from biolayers.models import storing
from shared.app.runs import Run, read_checkpoint
from shared.errors import UserError
from shared.export import export_onnx
from shared.export.report import Scores
from shared.store import load, save

MOST_CALIBRATED = 512  # training sequences whose ranges become those of the activations
BATCH = 256


@dataclass(frozen=True)
class Source:
    """A model with what is known of its data.

    Args:
        model: ready for inference.
        length: of the sequences.
        alphabet: of the sequences.
        classes: their names; none for a model that was not trained here.
        parts: the run's parts of its data, where these are still there.
        missing: why they are not.
    """

    model: nn.Module
    length: int
    alphabet: Alphabet
    classes: list[str]
    parts: dict[str, Any]
    missing: str = ""

    def metadata(self) -> dict[str, str]:
        """What a device has to know to feed the model, as texts."""
        return {
            "classes": json.dumps(self.classes),
            "length": str(self.length),
            "alphabet": str(self.alphabet),
            "tokens": self.alphabet.byte_table.tobytes().hex(),  # of each of the 256 bytes; "fe" is refused
        }

    def batches(self, part: str, most: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Tokens and labels of a part."""
        data = self.parts[part]
        count = len(data) if most is None else min(most, len(data))
        for start in range(0, count, BATCH):
            tokens, labels = data.batch(range(start, min(start + BATCH, count)))
            yield tokens, labels


def export(run: Path, *, to: str, quantize: str | None, output: Path | None, length: int | None) -> None:
    """Write the file and print what it is and how good."""
    if quantize is not None and to != "onnx":
        raise UserError(f"--quantize: expected together with --to onnx, received --to {to}; leave it out")
    source = _source(run, length)
    out = output if output is not None else Path(f"{run.resolve().name.removesuffix('.ckpt')}.{to}")
    if to == "pt2":
        out = out.with_suffix(".pt2") if output is None else out
    if quantize is not None and not source.parts:
        raise UserError(f"--quantize: expected the data of the run, to calibrate on, but {source.missing}")
    example = torch.zeros(2, source.length, dtype=torch.uint8)
    print(_onnx(source, out, example, quantize) if to == "onnx" else _program(source, out, example))
    if source.missing:
        print(f"not scored on held-out data: {source.missing}")


def _onnx(source: Source, out: Path, example: Tensor, quantize: str | None) -> str:
    calibration = None
    if quantize is not None:
        calibration = (tokens for tokens, _ in source.batches("train", MOST_CALIBRATED))
    report = export_onnx(
        source.model,
        out,
        example,
        quantize=quantize,
        calibration=calibration,
        evaluation=source.batches("test") if source.parts else None,
        input_names=["tokens"],
        output_names=["logits"],
        metadata=source.metadata(),
    )
    return str(report)


def _program(source: Source, out: Path, example: Tensor) -> str:
    manifest = save(source.model, out, example, metadata=source.metadata())
    lines = [f"{out}: {out.stat().st_size:,} bytes", str(manifest)]
    if source.parts:
        lines.append(str(_scores(source, load(out))))
    return "\n".join(lines)


@torch.inference_mode()
def _scores(source: Source, loaded: nn.Module) -> Scores:
    found = [
        (source.model(tokens).argmax(1), loaded(tokens).argmax(1), labels)
        for tokens, labels in source.batches("test")
    ]
    before, after, labels = (torch.cat(part) for part in zip(*found, strict=True))
    shares = [float((a == b).float().mean()) for a, b in ((before, labels), (after, labels), (before, after))]
    return Scores(*shares, records=len(labels))


def _source(path: Path, length: int | None) -> Source:
    """The model at `path`: a run, one of its checkpoints, or a folder that `save_pretrained` wrote."""
    if not path.exists():
        raise UserError(f"RUN: expected the folder of a run or of a model, found nothing at {path}")
    if (path / storing.CONFIG).is_file():
        return _pretrained(path, length)
    if length is not None:
        raise UserError("--length: a run knows the length of its sequences; leave it out")
    content = read_checkpoint(path, option="RUN")
    card = content["qbio"]
    alphabet = training.ALPHABETS[card["alphabet"]]
    parts, missing = _parts(path if path.is_dir() else path.parent.parent, card)
    return Source(rebuilt(content), card["length"], alphabet, card["classes"], parts, missing)


def _pretrained(folder: Path, length: int | None) -> Source:
    model = models.from_pretrained(folder)
    length = model.config.get("length", length) if length is None else length
    if length is None:
        raise UserError(f"--length: expected the length of the sequences, which {folder} does not say")
    letters = model.config.get("letters") or 4
    alphabet = training.ALPHABETS["DNA" if letters == 4 else "PROTEIN"]
    return Source(model, length, alphabet, [], {}, "a model without a run has no data")


def _parts(folder: Path, card: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The parts that the run was trained, validated and judged on; or none, and the reason."""
    config = Run(folder).config
    try:
        options = yaml.safe_load(config.read_text(encoding="utf-8"))
        defaults = {"label_pattern": None, "labels": None, "class_files": None, "fasta": None}
        defaults |= {"name_column": None, "label_column": None, "pad_to": None}
        data = training.read(_with_paths(defaults | options))
        if data.classes != card["classes"] or training.digest(data) != card["data"]:
            return {}, f"the data that {config} names have changed since"
        return training.divide(data, seed=card["seed"], by=options["split_by"]), ""
    except (OSError, UserError, yaml.YAMLError, KeyError, TypeError) as error:
        return {}, f"the run's data cannot be read ({error})"


def _with_paths(options: dict[str, Any]) -> dict[str, Any]:
    files = options["class_files"]
    files = files and {name: Path(file) for name, file in files.items()}
    paths = {name: options[name] and Path(options[name]) for name in ("fasta", "labels")}
    return {**options, **paths, "class_files": files}
