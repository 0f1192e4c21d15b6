"""Lightning's checkpoints hold where our loaders stand: a resume in mid-epoch sees every record once."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from biolayers import FastaStream, SequenceDataset, loader

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:.*Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),  # Python 3.12 with threads
]

COUNT = 22


class Watcher(L.LightningModule):
    """Notes the records of each step as (epoch, batch of numbers); fails before step `until`."""

    def __init__(self, until: int | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.until = until
        self.steps: list[tuple[int, list[int]]] = []

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        if self.trainer.global_step == self.until:
            raise ZeroDivisionError
        tokens, numbers = batch
        self.steps.append((self.trainer.current_epoch, numbers.int().tolist()))
        return self.layer(tokens[:, :1].float()).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


def fit(folder: Path, batches: Any, *, until: int | None = None, resume: bool = False) -> Watcher:
    model = Watcher(until)
    trainer = L.Trainer(
        max_epochs=3,
        callbacks=[ModelCheckpoint(folder, "at", every_n_train_steps=1, enable_version_counter=False)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        devices=1,
        accelerator="cpu",
    )
    checkpoint = str(folder / "at.ckpt") if resume else None
    if until is None:
        trainer.fit(model, batches, ckpt_path=checkpoint, weights_only=True)
    else:
        with pytest.raises(ZeroDivisionError):
            trainer.fit(model, batches, ckpt_path=checkpoint, weights_only=True)
    return model


def of_memory(workers: int) -> Any:
    data = SequenceDataset(["ACGT"] * COUNT, targets=np.arange(COUNT))
    context = "fork" if workers else None
    return loader(data, batch_size=4, shuffle=True, workers=workers, context=context)


# Six batches an epoch: within the first, at its end, within the second, in the last.
@pytest.mark.parametrize(("until", "workers"), [(2, 0), (6, 0), (9, 2), (17, 0)])
def test_resumed_in_the_middle(tmp_path: Path, until: int, workers: int) -> None:
    whole = fit(tmp_path / "whole", of_memory(0)).steps
    assert len(whole) == 18
    for epoch in range(3):
        records = [number for at, batch in whole if at == epoch for number in batch]
        assert sorted(records) == list(range(COUNT))
    before = fit(tmp_path / "broken", of_memory(workers), until=until).steps
    after = fit(tmp_path / "broken", of_memory(workers), resume=True).steps
    assert before + after == whole


@pytest.mark.filterwarnings(
    "ignore:Your `IterableDataset` has `__len__` defined"
)  # ours is right with workers
def test_a_stream_of_known_length(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text("".join(f">s{i} n={i}\nACGT\n" for i in range(COUNT)))
    classes = [str(i) for i in range(COUNT)]
    options = {"label_pattern": "n=(.+)", "classes": classes, "buffer": 7, "records": COUNT}

    def make() -> Any:
        return loader(FastaStream(path, batch_size=4, **options))

    whole = fit(tmp_path / "whole", make()).steps
    before = fit(tmp_path / "broken", make(), until=8).steps
    after = fit(tmp_path / "broken", make(), resume=True).steps
    assert before + after == whole
    assert sorted(number for at, batch in whole if at == 1 for number in batch) == list(range(COUNT))
