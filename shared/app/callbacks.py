"""What happens around the epochs: history and speed, seeds that survive a resume, plain progress lines."""

import signal
import sys
import threading
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from rich.console import Console

PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # in the state of a ModelCheckpoint


class History(L.Callback):
    """One row of figures for every finished epoch; it travels in the checkpoint, so a resume keeps it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._start = self._batch_start = 0.0
        self._busy = 0.0  # seconds within training batches
        self._seen = 0  # records

    @property
    def seconds(self) -> float:
        """Time spent in all epochs, those before a resume included."""
        return sum(row["seconds"] for row in self.rows)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start, self._busy, self._seen = time.perf_counter(), 0.0, 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._batch_start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._busy += time.perf_counter() - self._batch_start
        self._seen += len(batch[-1])
        pl_module.log("samples/s", self._seen / self._busy, prog_bar=True, logger=False)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        figures = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        figures["samples/s"] = self._seen / self._busy
        seconds = time.perf_counter() - self._start
        self.rows.append({"epoch": trainer.current_epoch + 1, **figures, "seconds": seconds})

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class Keep(ModelCheckpoint):
    """A `ModelCheckpoint` that knows its files again after the run's folder was moved or renamed."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        before, here = state_dict["dirpath"], str(self.dirpath)

        def moved(path: str) -> str:
            return here + path.removeprefix(before) if path.startswith(before) else path

        paths = {name: moved(state_dict[name]) for name in PATHS}
        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "dirpath": here, "best_k_models": best})


class Interrupts(L.Callback):
    """Makes sure that Ctrl-C is heard: if its exception is lost in a destructor, it is raised again.

    Used as a context around the fit; it puts back the handler that was there, which Lightning does not.
    """

    def __init__(self) -> None:
        self.pressed = False

    def __enter__(self) -> None:
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        if self._in_main_thread:
            self._before = signal.signal(signal.SIGINT, self._press)

    def __exit__(self, *_: object) -> None:
        if self._in_main_thread:
            signal.signal(signal.SIGINT, self._before)

    def _press(self, *_: object) -> None:
        self.pressed = True
        raise KeyboardInterrupt

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.pressed:
            raise KeyboardInterrupt


class Reseed(L.Callback):
    """Gives every step its own seed, so that a resumed run draws the same dropout as one that never stopped.

    A seed per epoch would not do: loaders draw random numbers when they start, and not at the same places.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed((self.seed << 32) + trainer.global_step)


class Bar(RichProgressBar):
    """A moving bar with the figures that one looks at while waiting, short enough for one line."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        figures = super().get_metrics(trainer, pl_module)
        shown = {
            "loss": "loss",
            "val/loss": "val",
            "val/accuracy": "accuracy",
            "samples/s": "samples/s",
        }
        texts = {"samples/s": ",.0f"}
        return {
            label: f"{figures[name]:{texts.get(name, '.3f')}}"
            for name, label in shown.items()
            if name in figures
        }


class Lines(L.Callback):
    """One line per epoch, for logs and pipes, where a moving bar would be noise."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        figures = trainer.callback_metrics
        print(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            f"  loss {figures['train/loss']:.3f}"
            f"  val/loss {figures['val/loss']:.3f}"
            f"  val/accuracy {figures['val/accuracy']:.3f}"
            f"  {figures['samples/s']:,.0f} samples/s",
            flush=True,
        )


def progress() -> L.Callback:
    """A bar on a terminal, lines elsewhere."""
    if Console().is_terminal and sys.stdout.isatty():
        return Bar(refresh_rate=5)
    return Lines()
