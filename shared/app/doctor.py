"""`qbio doctor`: what this machine and this installation offer, and why something is not there."""

import importlib.util
import json as json_format
import os
import platform
from typing import Any

from shared.errors import UserError

# extra -> the modules that it brings
EXTRAS = {
    "train": (
        "lightning",
        "torchmetrics",
        "tensorboard",
        "jsonargparse",
        "rich",
        "matplotlib",
        "jinja2",
        "logomaker",
    ),
    "export": ("onnx", "onnxscript", "onnxruntime"),
}
PACKAGES = ("qbio", "torch", "numpy", "numba", "pennylane", "biopython", "jaxtyping", "lightning")


def doctor(*, conformance: bool = False, json: bool = False) -> int:
    """Show versions, devices, threads and every op's providers, with the reason where one cannot run.

    Args:
        conformance: Also hold every op against every row of the compatibility matrix; this takes minutes.
        json: Print one JSON object instead of tables.

    Returns:
        0; 1 when an op fails a row of the matrix.
    """
    findings = examine()
    if json:
        print(json_format.dumps(findings, indent=2))
    else:
        _print(findings)
    if not conformance:
        return 0
    from shared import check

    return 0 if check.table() else 1


def examine() -> dict[str, Any]:
    """Everything that the doctor knows, as plain values."""
    return {
        "versions": _versions(),
        "machine": _machine(),
        "extras": {extra: _missing(modules) for extra, modules in EXTRAS.items()},
        "ops": _ops(),
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _machine() -> dict[str, Any]:
    import torch

    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return {
        "system": f"{platform.system()} {platform.release()} on {platform.machine()}",
        "devices": devices,
        "cuda": torch.version.cuda or "this PyTorch is built without CUDA",
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "QBIO_PREFER": os.environ.get("QBIO_PREFER", "not set"),
    }


def _missing(modules: tuple[str, ...]) -> list[str]:
    return [module for module in modules if importlib.util.find_spec(module) is None]


def _ops() -> dict[str, list[dict[str, str | None]]]:
    """For each op its providers, in the order in which they are tried; `missing` says why one cannot run."""
    from shared.declare import registry

    try:
        ops = registry()
    except UserError as error:  # a plug-in that does not import: say so, and show the rest
        return {"(none)": [{"provider": "-", "device": "-", "dtypes": "-", "missing": str(error)}]}
    return {
        name: [
            {
                "provider": kernel.provider,
                "device": kernel.device or "any",
                "dtypes": ", ".join(sorted(str(d).removeprefix("torch.") for d in kernel.dtypes or ()))
                or "any",
                "missing": kernel.missing,
            }
            for kernel in [*sorted(op.kernels, key=lambda kernel: -kernel.priority), op.reference_kernel]
        ]
        for name, op in sorted(ops.items())
    }


def _print(findings: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for column in columns:
            made.add_column(column, overflow="fold", no_wrap=column in ("op", "provider"))
        return made

    versions = table("Versions", "package", "version")
    for name, value in findings["versions"].items():
        versions.add_row(name, value)
    machine = table("Machine", "what", "value")
    for name, value in findings["machine"].items():
        machine.add_row(name, ", ".join(value) if isinstance(value, list) else str(value))
    extras = table("Extras", "extra", "state")
    for name, missing in findings["extras"].items():
        advice = f"missing {', '.join(missing)}; " + f'pip install "qbio[{name}]"'.replace("[", r"\[")
        extras.add_row(name, advice if missing else "[green]complete[/]")
    ops = table("Ops", "op", "provider", "device", "floating dtypes", "state")
    for name, providers in findings["ops"].items():
        for i, row in enumerate(providers):
            state = f"[yellow]{row['missing']}[/]" if row["missing"] else "[green]available[/]"
            ops.add_row(name if i == 0 else "", row["provider"], row["device"], row["dtypes"], state)
    for made in (versions, machine, extras, ops):
        console.print(made)
