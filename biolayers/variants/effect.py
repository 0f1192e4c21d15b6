"""What a model makes of variants: its predictions for both alleles, and how they differ."""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from biolayers.variants.dataset import VariantDataset
from biolayers.variants.errors import VariantError
from biolayers.variants.table import Variants
from shared.progress import bar

STATISTICS = ("difference", "log_ratio")


@dataclass(frozen=True, eq=False)
class VariantEffects:
    """The predictions for both alleles of each variant.

    Args:
        variants: The n variants.
        reference: (n, outputs) float32: the predictions for the reference windows.
        alternative: (n, outputs) float32: the same for the alternative windows.
        effect: (n, outputs) float32: how they differ.
        statistic: What `effect` is: "difference" (alternative - reference) or "log_ratio" (base 2).
        outputs: The names of the outputs.
    """

    variants: Variants
    reference: Tensor
    alternative: Tensor
    effect: Tensor
    statistic: str
    outputs: list[str]

    def __len__(self) -> int:
        """How many variants."""
        return len(self.variants)

    def columns(self) -> dict[str, list[Any]]:
        """The table by column: contig, position (0-based), id, ref, alt, and three columns per output."""
        variants = self.variants
        table: dict[str, list[Any]] = {
            "contig": [variants.contigs[i] for i in variants.contig],
            "position": variants.position.tolist(),
            "id": list(variants.id),
            "ref": list(variants.ref),
            "alt": list(variants.alt),
        }
        for k, name in enumerate(self.outputs):
            for kind, values in (("reference", self.reference), ("alternative", self.alternative)):
                table[f"{name}_{kind}"] = values[:, k].tolist()
            table[f"{name}_{self.statistic}"] = self.effect[:, k].tolist()
        return table

    def frame(self) -> Any:
        """The table as a pandas data frame."""
        import pandas as pd

        return pd.DataFrame(self.columns())

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table as a CSV file; positions count from 0."""
        columns = self.columns()
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))

    def top(self, count: int, *, output: int = 0) -> "VariantEffects":
        """The variants with the largest effects of one output, up or down, largest first."""
        rows = self.effect[:, output].abs().argsort(descending=True, stable=True)[:count]
        parts = (part[rows] for part in (self.reference, self.alternative, self.effect))
        return VariantEffects(self.variants.select(rows.numpy()), *parts, self.statistic, self.outputs)

    def __repr__(self) -> str:
        outputs = f"{len(self.outputs)} output{'s' * (len(self.outputs) != 1)}"
        largest = f", largest {float(self.effect.abs().max()):.4g}" if self.effect.numel() else ""
        return f"VariantEffects({len(self):,} variants, {outputs}, {self.statistic}{largest})"


def variant_effect(
    model: nn.Module | Callable[[Tensor], Tensor],
    dataset: VariantDataset,
    *,
    statistic: str = "difference",
    batch_size: int = 64,
    transform: Callable[[Tensor], Tensor] | None = None,
    outputs: Sequence[str] | None = None,
    pseudocount: float = 0.0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> VariantEffects:
    r"""Predict both alleles of every variant and say how much the alternative changes.

    A module is put into evaluation mode (and on `device`), and back afterwards; no gradients are kept.
    Predictions are averaged over the strands where the dataset gives both.

    Args:
        model: From tokens (b, length) uint8 to predictions (b,) or (b, outputs).
        dataset: The variants; their windows are taken as they are, without jitter and random strands.
        statistic: "difference" (alternative - reference), or "log_ratio", the base-2 logarithm of
            (alternative + pseudocount) / (reference + pseudocount), for positive predictions.
        batch_size: Windows that the model sees at once, at least 4.
        transform: Turns what the model returns into (b,) or (b, outputs): `lambda y: y.softmax(1)`,
            `lambda tracks: tracks.sum(-1)`.
        outputs: The names of the outputs; by default output_0 and so on.
        pseudocount: Of the log ratio.
        device: Where to predict; by default where the model's parameters are.
        progress: Whether to show a progress bar on a terminal, where rich is installed.

    Raises:
        VariantError: The predictions have another shape, are not positive where a log ratio is wanted, or an
            option is not as it must be.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "x.fa")
        >>> with open(path, "w") as file:
        ...     _ = file.write(">one\nAACCGGTTAC\n")
        >>> pairs = VariantDataset(path, [("one", 4, "G", "T"), ("one", 8, "A", "C")], length=5)
        >>> def gc(tokens):
        ...     return ((tokens == 1) | (tokens == 2)).float().mean(1)
        >>> effects = variant_effect(gc, pairs, outputs=["gc"], progress=False)
        >>> effects
        VariantEffects(2 variants, 1 output, difference, largest 0.2)
        >>> effects.columns()["alt"], effects.effect[:, 0]
        (['T', 'C'], tensor([-0.2000,  0.2000]))
    """
    _check(statistic, batch_size)
    step = batch_size // (4 if dataset.both_strands else 2)
    show = progress and find_spec("rich") is not None
    found = []
    with _evaluating(model, device) as place, bar(len(dataset), "variants", show=show) as advance:
        for start in range(0, len(dataset), step):
            rows = np.arange(start, min(start + step, len(dataset)))
            found.append(_predicted(model, dataset.batch(rows)[0], place, transform))
            advance(len(rows))
    both = torch.cat(found) if found else torch.empty(0, 2, len(outputs or ["output_0"]))  # (n, 2, outputs)
    names = [f"output_{k}" for k in range(both.shape[2])] if outputs is None else list(outputs)
    if len(names) != both.shape[2]:
        raise VariantError(f"variant_effect: expected {both.shape[2]} names of outputs, received {names}")
    reference, alternative = both.unbind(1)
    effect = alternative - reference
    if statistic == "log_ratio":
        effect = _log_ratio(dataset.variants, both + pseudocount)
    return VariantEffects(dataset.variants, reference, alternative, effect, statistic, names)


def _check(statistic: str, batch_size: int) -> None:
    if statistic not in STATISTICS:
        raise VariantError(
            f"variant_effect: expected statistic to be one of {', '.join(map(repr, STATISTICS))}, "
            f"received {statistic!r}"
        )
    if batch_size < 4:
        raise VariantError(f"variant_effect: expected batch_size from 4 on, received {batch_size}")


def _predicted(
    model: Callable[[Tensor], Tensor],
    tokens: Tensor,
    device: torch.device | None,
    transform: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """The predictions for tokens (b, 2, ..., length), averaged over strands: (b, 2, outputs) float32."""
    flat = tokens.flatten(0, -2)
    made = model(flat if device is None else flat.to(device))
    made = made if transform is None else transform(made)
    if not isinstance(made, Tensor) or made.dim() not in (1, 2) or len(made) != len(flat):
        what = f"shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise VariantError(
            f"variant_effect: expected predictions ({len(flat)},) or ({len(flat)}, outputs), received "
            f"{what}; give transform= to turn what the model returns into one row of numbers per window"
        )
    return made.cpu().float().reshape(*tokens.shape[:2], -1, made[0].numel()).mean(2)


def _log_ratio(variants: Variants, both: Tensor) -> Tensor:
    """The base-2 logarithm of alternative to reference, for (n, 2, outputs)."""
    wrong = ~(both > 0).flatten(1).all(1)
    if wrong.any():
        i = int(wrong.int().argmax())
        raise VariantError(
            f"{variants.where(i)}: expected positive predictions for a log ratio, received "
            f"{both[i].min().item():.4g}; give a transform= such as softmax or exp, or a pseudocount"
        )
    return both[:, 1].log2() - both[:, 0].log2()


@contextmanager
def _evaluating(model: Any, device: str | torch.device | None) -> Iterator[torch.device | None]:
    """Evaluation mode without gradients, undone afterwards; gives the device for the tokens."""
    place = None if device is None else torch.device(device)
    if not isinstance(model, nn.Module):
        with torch.no_grad():
            yield place
        return
    training = {module: module.training for module in model.modules()}
    first = next(model.parameters(), None)
    home = None if first is None else first.device
    if place is not None:
        model.to(place)
    else:
        place = home
    model.eval()
    try:
        with torch.no_grad():
            yield place
    finally:
        for module, mode in training.items():
            module.training = mode
        if home is not None:
            model.to(home)
