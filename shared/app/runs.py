"""The folder of one training run: what lies where, written whole or not at all, read with care."""

import contextlib
import itertools
import json
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from shared.errors import UserError


@dataclass(frozen=True)
class Run:
    """The files of a run: `config.yaml`, `checkpoints/`, `tensorboard/`, `metrics.json` and `report.html`.

    Example:
        >>> Run(Path("runs/first")).last.as_posix()
        'runs/first/checkpoints/last.ckpt'
    """

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def best(self) -> Path:
        return self.folder / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @classmethod
    def create(cls, folder: Path | None, *, name: str) -> "Run":
        """A new folder: the one asked for, or the first free one of `runs/name`, `runs/name-2`, ...

        Raises:
            UserError: The folder asked for holds something already, or cannot be made.
        """
        if folder is None:
            wanted = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
            folder = next(free for free in (Path("runs") / each for each in wanted) if not free.exists())
        elif folder.exists() and not folder.is_dir():
            raise UserError(
                f"--out: expected a new or empty folder, received the file {folder}; give another name"
            )
        elif folder.exists() and any(folder.iterdir()):
            raise UserError(
                f"--out: expected a new or empty folder, received {folder}, which holds something already; "
                f"choose another one, or continue that run with --resume {folder}"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--out: expected a folder that can be made, received {folder} ({error.strerror}); "
                "choose another one"
            ) from error
        return cls(folder)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """The run in a folder that exists, to be continued.

        Raises:
            UserError: The folder holds no run.
        """
        run = cls(folder)
        if not run.config.is_file():
            raise UserError(
                f"--resume: expected the folder of a run, received {folder}, which has no config.yaml; "
                "give the folder that `qbio train` printed"
            )
        return run


def read_checkpoint(path: Path, *, option: str = "--checkpoint") -> dict[str, Any]:
    """The content of a checkpoint, or of the best one of a run's folder; no code in the file is executed.

    Args:
        path: The file, or the folder.
        option: By which it was named, for messages.

    Raises:
        UserError: There is no such file, or it is not a checkpoint that `qbio train` wrote.
    """
    import torch

    file = Run(path).best if path.is_dir() else path
    if not file.is_file():
        hint = "training was stopped before its first epoch ended" if path.is_dir() else "check the path"
        raise UserError(f"{option}: expected a file at {file}, found none; {hint}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes PyTorch raise nearly anything
        unsafe = isinstance(error, pickle.UnpicklingError)
        reason = "it holds more than plain data" if unsafe else "it is damaged, or no checkpoint"
        raise UserError(
            f"{option}: {file} cannot be read ({reason}); expected a file that `qbio train` wrote, "
            "such as RUN/checkpoints/best.ckpt"
        ) from error
    if not isinstance(content, dict) or "qbio" not in content or "state_dict" not in content:
        raise UserError(f"{option}: {file} was not written by `qbio train`; give the folder of a run")
    return content


def model_weights(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The weights of the model alone, without the metrics that train beside it."""
    return {
        name.removeprefix("model."): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("model.")
    }


@contextlib.contextmanager
def fresh_file(path: Path, *, errors: str = "strict") -> Iterator[IO[str]]:
    """Write a file so that a reader, or a crash, finds the old content or the new one, never half of it.

    Args:
        path: Of the file.
        errors: What becomes of text that is no UTF-8, as of `open`.

    Raises:
        UserError: Nothing can be written there.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with _opened(draft, path, errors) as file:
            yield file
        draft.replace(path)
    finally:
        with contextlib.suppress(OSError):  # it was never there, or its folder is gone
            draft.unlink()


def _opened(draft: Path, path: Path, errors: str) -> IO[str]:
    try:
        return draft.open("w", encoding="utf-8", errors=errors, newline="")
    except OSError as error:
        raise UserError(
            f"{path}: expected a file that can be written, but it cannot ({error.strerror}); choose another "
            "folder with --out"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write `text`, whole or not at all."""
    with fresh_file(path) as file:
        file.write(text)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as readable JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
