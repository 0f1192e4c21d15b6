"""Models as files: weights in safetensors, options in JSON; nothing in them can run."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from shared.errors import UserError

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save(folder: Path, name: str, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write both files, each whole or not at all.

    Raises:
        UserError: `folder` is a file.
    """
    from safetensors.torch import save_file

    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: expected a folder to save into, received a file; give another name")
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{WEIGHTS}.{os.getpid()}"
    plain = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    save_file(plain, beside, metadata={"format": "pt"})
    beside.replace(folder / WEIGHTS)
    beside = folder / f".{CONFIG}.{os.getpid()}"
    beside.write_text(json.dumps({"model": name, "options": dict(config)}, indent=2) + "\n", encoding="utf-8")
    beside.replace(folder / CONFIG)


def read_config(folder: Path) -> tuple[str, dict[str, Any]]:
    """The name and the options of the model in `folder`.

    Raises:
        UserError: There is no configuration, or it is damaged.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise UserError(
            f"{folder}: expected a folder with {CONFIG} and {WEIGHTS}, found no {CONFIG}; "
            "give a folder that save_pretrained wrote"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        name, options = content["model"], content["options"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: expected a configuration by save_pretrained, received {error!r}") from error
    if not isinstance(name, str) or not isinstance(options, dict):
        raise UserError(f"{file}: expected a name and options, received {name!r} and {options!r}")
    return name, options


def load_weights(folder: Path, model: nn.Module) -> None:
    """Fill `model` with the weights in `folder`.

    Raises:
        UserError: The file is missing or damaged, or belongs to another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / WEIGHTS
    if not file.is_file():
        raise UserError(f"{folder}: expected the weights {WEIGHTS}, found none; save the model again")
    try:
        weights = load_file(file)
    except SafetensorError as error:
        raise UserError(f"{file}: expected a whole safetensors file, received {error}") from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{file}: the weights do not fit {CONFIG}: {error}") from error
