"""What was measured on this machine, kept in a file of JSON in the user's cache folder."""

import contextlib
import hashlib
import json
import logging
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)

PACKAGES = ("qbio", "torch", "numpy", "numba")


def folder() -> Path:
    """Where measurements lie: `tuning` in `QBIO_CACHE`, or in the user's cache folder of this system."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("QBIO_CACHE")
    return (Path(chosen) if chosen else user_cache_path("qbio", appauthor=False)) / "tuning"


def machine() -> dict[str, Any]:
    """All of a machine and its software that a time may depend on."""
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": [torch.cuda.get_device_name(each) for each in cuda],
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def key_of(what: Any) -> str:
    """A name for plain values: equal values, equal names."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]


def recall(key: str) -> dict[str, Any] | None:
    """What was kept under a key; None if nothing was, or if the file is damaged."""
    file = folder() / f"{key}.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s); measuring again", file, error)
        return None
    if not isinstance(content, dict):
        log.warning("%s holds no measurement; measuring again", file)
        return None
    return content


def keep(key: str, content: dict[str, Any]) -> None:
    """Keep plain values under a key, whole or not at all; where nothing can be written, say so and go on."""
    file = folder() / f"{key}.json"
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        log.warning("%s cannot be written (%s); the next call measures again", file, error)
    finally:
        with contextlib.suppress(OSError):  # it was moved, or never there
            draft.unlink()


def _processor() -> str:
    """The name of the processor, as far as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
