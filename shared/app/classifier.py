"""Any `nn.Module` that gives logits, as a Lightning module: loss, accuracy, AdamW, warm-up and decay."""

import math
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from shared.app.settings import Settings

PARTS = ("train", "val", "test")


class Classifier(L.LightningModule):
    """A model with the loss, metrics and optimizer of single-label classification.

    Args:
        model: Maps a batch `(b, ...)` to logits `(b, classes)`.
        classes: Names of the classes, in the order of the logits.
        settings: How to train.
        card: Plain values that say how to build the model again; kept in the checkpoint under `"qbio"`.
    """

    def __init__(
        self, model: nn.Module, classes: list[str], settings: Settings, card: dict[str, Any]
    ) -> None:
        super().__init__()
        self.model = model
        self.classes = classes
        self.settings = settings
        self.card = card
        self.accuracy = nn.ModuleDict(
            {f"{part}_part": MulticlassAccuracy(len(classes), average="micro") for part in PARTS}
        )
        self.predicted: list[Tensor] = []  # of the held-out part, by batch
        self.confusion = MulticlassConfusionMatrix(len(classes))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self._score(batch, "train")
        self.log("loss", loss, prog_bar=True, logger=False, batch_size=len(batch[1]))  # of this step
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._score(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._score(batch, "test")

    def _score(self, batch: tuple[Tensor, Tensor], part: str) -> Tensor:
        inputs, labels = batch
        logits = self(inputs)  # (b, classes)
        loss = F.cross_entropy(logits, labels)
        accuracy = cast(Metric, self.accuracy[f"{part}_part"])
        accuracy(logits, labels)
        shown = {"prog_bar": part != "test", "on_step": False, "on_epoch": True, "batch_size": len(labels)}
        self.log(f"{part}/loss", loss, **shown)
        self.log(f"{part}/accuracy", accuracy, **shown)
        if part == "test":
            self.confusion.update(logits, labels)
            self.predicted.append(logits.argmax(1).cpu())
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.settings.lr, weight_decay=self.settings.weight_decay
        )
        total = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["qbio"] = self.card


def rate(step: int, total: int, *, warmup: float = 0.1) -> float:
    """The share of the highest learning rate at `step` of `total`: a linear rise, then half a cosine to zero.

    Example:
        >>> [round(rate(step, 100), 2) for step in (0, 9, 10, 55, 99)]
        [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))
