"""One training run on Lightning, from data to report: fit, keep the best weights, test once."""

import logging
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, ProgressBar, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from shared.app.callbacks import History, Interrupts, Keep, Reseed, progress
from shared.app.classifier import Classifier
from shared.app.runs import Run, read_checkpoint
from shared.app.scores import summary
from shared.app.settings import Settings
from shared.errors import UserError

# Remarks of Lightning's about choices that are ours, not the user's; every other warning stays visible.
NOT_THE_USERS = (
    r".*does not have many workers which may be a bottleneck.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*isinstance\(treespec, LeafSpec\).* is deprecated.*",
)


@dataclass(frozen=True)
class Result:
    """What training gives: figures, one row of them per epoch, and the class of each held-out record."""

    metrics: dict[str, Any]
    history: list[dict[str, float]]
    predicted: Tensor  # (n,) int64, in the order of the part


def prepare(settings: Settings) -> None:
    """Fix the seeds and the number of threads; call it before the model is built."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with _quiet():
        L.seed_everything(settings.seed, workers=True, verbose=False)


def train(
    run: Run,
    model: nn.Module,
    loaders: Mapping[str, DataLoader],
    *,
    classes: list[str],
    settings: Settings,
    card: dict[str, Any],
    resume: bool = False,
) -> Result:
    """Train, then test the best weights once on the held-out part; the model ends with these weights.

    Args:
        run: Where everything is written; `checkpoints/last.ckpt` is there from the first finished epoch on.
        model: Maps a batch of a part's records to logits `(b, classes)`.
        loaders: What gives batches `(inputs, labels)` of the parts "train", "val" and "test". The order of
            the first must depend on the epoch alone, or be in its `state_dict`, so that a resume keeps it.
        classes: Names of the classes, in the order of the labels.
        settings: How to train.
        card: Plain values that say how to build the model again; kept in every checkpoint.
        resume: Continue from `run.last` (if training had come that far), repeating no finished epoch.

    Raises:
        KeyboardInterrupt: Ctrl-C; its text says how to go on.
    """
    began = time.perf_counter()
    module = Classifier(model, classes, settings, card)
    history = History()
    start = run.last if resume and run.last.exists() else None
    if start is not None:
        past = read_checkpoint(start, option="--resume")
        _same_data(past["qbio"], card)
        if past["epoch"] >= settings.epochs:
            done = past["epoch"] + 1
            raise UserError(
                f"--epochs: expected at least the {done} that are done, received {settings.epochs}"
            )
    with _quiet():
        trainer = _trainer(run, settings, history, batches=len(loaders["train"]))
        _fit(trainer, module, loaders, start, run)
        best = read_checkpoint(run.best)
        module.load_state_dict(best["state_dict"])
        tester = L.Trainer(logger=False, enable_progress_bar=False, enable_checkpointing=False, devices=1)
        tested = tester.test(module, loaders["test"], verbose=False)[0]
    metrics = {
        **{name: float(value) for name, value in tested.items()},
        **_best_row(history.rows, best["epoch"] + 1),
        **summary(module.confusion.compute().tolist(), classes),
        "epochs": len(history.rows),
        "best_epoch": best["epoch"] + 1,
        "samples/s": sum(row["samples/s"] for row in history.rows) / max(1, len(history.rows)),
        "seconds": {"training": history.seconds, "this_call": time.perf_counter() - began},
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "seed": settings.seed,
        "versions": versions(),
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    return Result(metrics, history.rows, torch.cat(module.predicted))


def versions() -> dict[str, str]:
    """Of everything that a figure may depend on."""
    names = ("qbio", "torch", "numpy", "numba", "pennylane", "lightning")
    return {"python": platform.python_version(), **{name: _version(name) for name in names}}


def _version(name: str) -> str:
    try:
        return version(name)
    except ModuleNotFoundError:
        return "not installed"


def _trainer(run: Run, settings: Settings, history: History, *, batches: int) -> L.Trainer:
    folder = run.best.parent
    callbacks = [
        Reseed(settings.seed),
        history,
        progress(),
        EarlyStopping("val/loss", patience=settings.patience, check_on_train_epoch_end=True),
        Keep(folder, "best", monitor="val/loss", save_on_train_epoch_end=True, enable_version_counter=False),
        Keep(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False),
    ]
    if settings.averaging:
        callbacks.insert(0, WeightAveraging(avg_fn=moving_average(settings.averaging)))
    return L.Trainer(
        max_epochs=settings.epochs,
        devices=1,
        callbacks=callbacks,
        logger=TensorBoardLogger(run.folder, name="", version="tensorboard"),
        log_every_n_steps=min(50, batches),
        num_sanity_val_steps=0,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=False,
    )


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """An exponential moving average that starts fast, so that the first epochs are not weighed down by noise.

    Example:
        >>> average = moving_average(0.99)
        >>> [round(float(average(torch.zeros(()), torch.ones(()), n)), 2) for n in (0, 90, 10_000)]
        [0.9, 0.09, 0.01]
    """

    def average(mean: Tensor, current: Tensor, count: Any) -> Tensor:
        keep = min(decay, (1 + float(count)) / (10 + float(count)))
        return keep * mean + (1 - keep) * current

    return average


def _fit(
    trainer: L.Trainer, module: Classifier, loaders: Mapping[str, DataLoader], start: Any, run: Run
) -> None:
    interrupts = Interrupts()
    trainer.callbacks.insert(0, interrupts)  # type: ignore[reportAttributeAccessIssue]  # set by a connector
    try:
        with interrupts:
            trainer.fit(module, loaders["train"], loaders["val"], ckpt_path=start, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt(_how_to_go_on(run)) from None


def _how_to_go_on(run: Run) -> str:
    if run.last.exists():
        return f"interrupted; continue with: qbio train --resume {run.folder}"
    return f"interrupted before the first epoch ended; nothing is kept in {run.folder} but its config.yaml"


def _same_data(then: dict[str, Any], now: dict[str, Any]) -> None:
    changed = sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))
    if changed:
        raise UserError(
            f"--resume: the run began with other data or another model ({', '.join(changed)} changed since); "
            "start a new run instead"
        )


def _best_row(rows: list[dict[str, float]], epoch: int) -> dict[str, float]:
    row = next((row for row in rows if row["epoch"] == epoch), {})
    return {name: value for name, value in row.items() if name.startswith("val/")}


@contextmanager
def _quiet() -> Iterator[None]:
    """Hush Lightning's notes on devices and the remarks above, within this block only."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in NOT_THE_USERS:
            warnings.filterwarnings("ignore", message=message)
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
