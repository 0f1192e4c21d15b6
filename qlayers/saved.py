"""A state_dict that describes its layers, so that they can be built from it without the user's functions.

The description stands in the metadata that torch keeps with a state_dict, beside the version numbers of the
modules: the keys and tensors are as ever, `torch.save` keeps it, and `torch.load(weights_only=True)` reads
it, since it is nothing but texts, numbers and lists. A dict that is made of a state_dict's items lacks it.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from qlayers.circuit import Circuit
from qlayers.inputs import Features
from qlayers.program import Captured
from shared.errors import UserError

if TYPE_CHECKING:
    from qlayers.layer import QuantumLayer

KEY = "qlayers"  # of the description, in a module's metadata
VERSIONS = (1, 2)  # of how it is written; the second adds shots, a method and trajectories


class Description(NamedTuple):
    """What a layer is, but for its weights.

    Attributes:
        name: of the circuit or function.
        inputs: the names of the data arguments.
        circuits: one for each number of features that it was called with.
        fixed: whether it was made from a circuit, which runs with more features than it uses, too.
        shots: how often each circuit is measured; None for exact results.
        method: how it is differentiated, a name or (directions, step) of a `Spsa`.
        trajectories: how many random pure states stand for a noisy one; None for exact noise.
    """

    name: str
    inputs: tuple[str, ...]
    circuits: dict[Features, Circuit]
    fixed: bool
    shots: int | None = None
    method: str | tuple[int, float] = "best"
    trajectories: int | None = None

    def to_plain(self) -> dict[str, Any]:
        """Texts, numbers and lists only."""
        circuits = [[_list(features), str(circuit)] for features, circuit in self.circuits.items()]
        plain = {
            "version": VERSIONS[0],
            "name": self.name,
            "inputs": list(self.inputs),
            "circuits": circuits,
            "fixed": self.fixed,
        }
        if self.shots is None and self.method == "best" and self.trajectories is None:
            return plain
        method = self.method if isinstance(self.method, str) else list(self.method)
        options = {"shots": self.shots, "method": method, "trajectories": self.trajectories}
        return {**plain, "version": VERSIONS[1], **options}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> "Description":
        """What `to_plain` made."""
        if plain.get("version") not in VERSIONS:
            raise UserError(
                f"The description of a layer in a state_dict: expected version 1 to {VERSIONS[-1]},"
                f" received {plain.get('version')}; read it with the release that wrote it."
            )
        try:
            circuits = {_features(features): Circuit.parse(text) for features, text in plain["circuits"]}
            name, inputs, fixed = str(plain["name"]), tuple(map(str, plain["inputs"])), bool(plain["fixed"])
            shots, method = plain.get("shots"), plain.get("method", "best")
            trajectories = plain.get("trajectories")
            method = method if isinstance(method, str) else (int(method[0]), float(method[1]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"The description of a layer in a state_dict cannot be read: {error}") from error
        if not circuits or not inputs:
            raise UserError("The description of a layer in a state_dict has no circuit or no inputs.")
        return cls(name, inputs, circuits, fixed, shots, method, trajectories)


def _list(features: Features) -> list[int]:
    return [features] if isinstance(features, int) else list(features)


def _features(sizes: list[int]) -> Features:
    found = tuple(int(size) for size in sizes)
    return found[0] if len(found) == 1 else found


def description_of(layer: "QuantumLayer") -> Description | None:
    """What a layer is; None if nothing is captured yet, or its circuit depends on values."""
    programs = layer._programs
    circuits = {size: one.circuit for size, one in programs.items() if isinstance(one, Captured)}
    if not circuits or len(circuits) < len(programs):
        return None
    settings = layer._settings
    method = settings.diff_method
    return Description(
        layer._name,
        layer._inputs,
        circuits,
        layer._circuit is not None,
        settings.shots,
        method if isinstance(method, str) else (method.directions, method.step),
        settings.trajectories,
    )


def read(path: str | os.PathLike, map_location: Any = None) -> Mapping[str, Tensor]:
    """The state_dict in a file, without running code from it."""
    return torch.load(path, map_location=map_location, weights_only=True)


def found(state: Mapping[str, Tensor], prefix: str | None) -> tuple[Description, dict[str, Tensor]]:
    """A layer in a state_dict: its description and weights.

    Args:
        state: of the layer or of a model that it is part of.
        prefix: the layer's name in the model, "" for the layer itself; None if there is only one.

    Raises:
        UserError: there is no such layer, or no description.
    """
    metadata = getattr(state, "_metadata", {})
    plain = {name: entry[KEY] for name, entry in metadata.items() if KEY in entry}
    if prefix is None and len(plain) == 1:
        prefix = next(iter(plain))
    if prefix is None or prefix not in plain:
        raise UserError(
            f"Expected a state_dict with the description of a layer{f' {prefix!r}' if prefix else ''}, "
            f"received one that describes the layers {list(plain)}; name one of them by prefix=. A "
            "state_dict describes its layers if it is what state_dict() returned, and not a dict made of "
            "that, and if their circuits do not depend on values."
        )
    description = Description.of_plain(plain[prefix])
    start = f"{prefix}." if prefix else ""
    names = [name for name, _ in next(iter(description.circuits.values())).weights]
    if missing := [start + name for name in names if start + name not in state]:
        raise UserError(
            f"The state_dict lacks the weights {', '.join(missing)} of the layer; remove parametrizations "
            "before saving."
        )
    return description, {name: state[start + name].detach().clone() for name in names}
