"""What a saved model is and what it needs, as JSON inside its file: read before anything else."""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, version
from typing import Any

import torch

from shared.declare import Op

FORMAT = 1
FREE = "batch"  # a size that may be any


@dataclass(frozen=True)
class Place:
    """An input or output.

    Args:
        name: of the argument, or of the value.
        dtype: such as "float32".
        shape: sizes, `FREE` for one that may be any.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Needed:
    """An op of a package.

    Args:
        name: as namespace::name.
        schema: with which it was saved.
        package: that declares it, as pip knows it.
        version: of the package.
    """

    name: str
    schema: str
    package: str
    version: str


@dataclass(frozen=True)
class Manifest:
    """What a file of `shared.save` says of itself.

    Args:
        inputs: in order.
        outputs: in order.
        ops: those of qbio and of plug-ins, by name.
        parameters: how many numbers the weights have.
        mode: "eval": dropout is off and batch norm has fixed statistics.
        versions: of qbio, torch and Python.
        checksums: SHA-256 of each record.
        metadata: texts that the caller of `save` gave.
        format: of this manifest.
    """

    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    ops: tuple[Needed, ...]
    parameters: int
    mode: str = "eval"
    versions: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> bytes:
        """As text."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def of_json(cls, content: bytes) -> "Manifest":
        """From text.

        Raises:
            ValueError: it is no manifest.
        """
        plain = json.loads(content)
        if not isinstance(plain, dict) or set(plain) - {each.name for each in fields(cls)}:
            raise ValueError("its manifest has other entries")
        if plain.get("format") != FORMAT:
            raise ValueError(f"its manifest has the format {plain.get('format')}, and not {FORMAT}")
        try:
            places = {name: tuple(map(_place, plain.pop(name))) for name in ("inputs", "outputs")}
            ops = tuple(Needed(**op) for op in plain.pop("ops"))
            return cls(**places, ops=ops, **plain)
        except (KeyError, TypeError) as error:
            raise ValueError(f"its manifest lacks something ({error})") from error

    def __str__(self) -> str:
        def listed(places: tuple[Place, ...]) -> str:
            return ", ".join(f"{p.name} {p.dtype} ({', '.join(map(str, p.shape))})" for p in places)

        ops = ", ".join(f"{op.name} of {op.package}" for op in self.ops) or "none"
        return (
            f"{listed(self.inputs)} -> {listed(self.outputs)}; {self.parameters:,} parameters; ops: {ops}; "
            f"torch {self.versions.get('torch')}"
        )


def _place(plain: Mapping[str, Any]) -> Place:
    return Place(str(plain["name"]), str(plain["dtype"]), tuple(plain["shape"]))


def versions() -> dict[str, str]:
    """What is installed here."""
    return {"qbio": version_of("qbio"), "torch": torch.__version__, "python": platform.python_version()}


def version_of(package: str) -> str:
    """Of an installed package, or "unknown"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def needed(op: Op) -> Needed:
    """Where an op comes from."""
    package = package_of(op.reference.__module__)
    return Needed(op.name, str(op.overload._schema), package, version_of(package))


def package_of(module: str) -> str:
    """The package, as pip knows it, whose module this is; the module's own name if none is installed."""
    top = module.partition(".")[0]
    for entry in entry_points(group="qbio.ops"):  # also finds packages that are installed as links
        if entry.value.partition(".")[0].partition(":")[0] == top and entry.dist is not None:
            return entry.dist.name
    return next(iter(packages_distributions().get(top, [])), top)


def checksums(records: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each record."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(records.items())}
