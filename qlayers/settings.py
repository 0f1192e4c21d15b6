"""How a layer runs its circuit: exactly, with finite shots, or on a device; and how it is differentiated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from shared.errors import UserError

if TYPE_CHECKING:
    from qlayers.program import Captured
    from qlayers.sampling.backend import Sampled
    from qlayers.sampling.methods import Spsa

METHODS = ("best", "adjoint", "parameter-shift", "spsa")


@runtime_checkable
class Backend(Protocol):
    """What runs a captured circuit in place of the exact engine."""

    def run(self, program: "Captured", inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(b, outputs) of inputs (b, features) and the weights `program.names`; differentiable."""
        ...

    def describe(self) -> str:
        """In a few words, for the layer's repr."""
        ...


@dataclass(frozen=True, eq=False)
class Settings:
    """The options of a `QuantumLayer` that say how it runs, checked.

    Attributes:
        shots: how often each circuit is measured; None for exact results.
        diff_method: a name of `METHODS`, or a `Spsa` with options of its own.
        generator: where the shots' randomness comes from; None for torch's default generator.
        device: a PennyLane device to run on, or its name.
        runner: what submits circuits to a device.
        trajectories: how many random pure states stand for a noisy one; None for what the circuit needs.
    """

    shots: int | None = None
    diff_method: "str | Spsa" = "best"
    generator: torch.Generator | None = None
    device: Any = None
    runner: Any = None
    trajectories: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "shots", _whole(self.shots, "shots"))
        object.__setattr__(self, "trajectories", _whole(self.trajectories, "trajectories"))
        if isinstance(self.diff_method, str) and self.diff_method not in METHODS:
            raise UserError(
                f"diff_method: expected one of {', '.join(METHODS)} or a qlayers.sampling.Spsa, received "
                f"{self.diff_method!r}."
            )
        if self.generator is not None and not isinstance(self.generator, torch.Generator):
            raise UserError(f"generator: expected a torch.Generator or None, received {self.generator!r}.")
        if self.shots is not None and self.diff_method == "adjoint":
            raise UserError(
                'diff_method="adjoint" needs the exact state, but the layer takes shots; use '
                '"parameter-shift" or "spsa", or leave out the shots.'
            )

    def __getstate__(self) -> dict:
        """All but the generator, whose state belongs to a run."""
        return {**self.__dict__, "generator": None}

    def __deepcopy__(self, memo: dict) -> "Settings":
        return replace(self, generator=None)  # copies of a layer run on one device

    def of_qnode(self, qnode: Any) -> "Settings":
        """These, with the shots of a QNode and its method for them, where they leave both open."""
        shots = number_of(getattr(qnode, "shots", None))
        if self.shots is not None or shots is None:
            return self
        method = self.diff_method
        if method == "best" and qnode.diff_method in ("parameter-shift", "spsa"):
            method = _spsa(qnode.gradient_kwargs) if qnode.diff_method == "spsa" else qnode.diff_method
        return replace(self, shots=shots, diff_method=method)

    def sampler(self, shots: int | None) -> "Sampled":
        """What takes single shots, so many or as many as these say."""
        from qlayers.sampling.backend import Sampled

        wanted = _whole(shots, "shots") or self.shots
        if wanted is None:
            raise UserError("Single shots need their number: pass shots=, or set that of the layer.")
        return Sampled(wanted, "best", self.generator)

    def backend(self) -> Backend | None:
        """What runs the circuits; None for the exact engine."""
        if self.device is not None or self.runner is not None:
            from qlayers.hardware.backend import OnDevice

            return OnDevice(
                device=self.device,
                runner=self.runner,
                shots=self.shots,
                diff_method=self.diff_method,
                generator=self.generator,
            )
        if self.shots is None and self.diff_method in ("best", "adjoint"):
            return None
        from qlayers.sampling.backend import Sampled

        return Sampled(self.shots, self.diff_method, self.generator)


def number_of(shots: Any) -> Any:
    """The one number of PennyLane's `Shots`; anything else as it is."""
    if getattr(shots, "has_partitioned_shots", False):
        raise UserError(f"shots of a layer: expected one number, received {shots}; use qml.set_shots.")
    return getattr(shots, "total_shots", shots)


def _spsa(options: Mapping[str, Any]) -> "Spsa":
    """The method of a QNode's gradient_kwargs."""
    from qlayers.sampling.methods import Spsa

    names = {"num_directions": "directions", "h": "step"}
    return Spsa(**{ours: options[name] for name, ours in names.items() if name in options})


def _whole(value: Any, name: str) -> int | None:
    """A positive int or None."""
    if value is None:
        return None
    try:
        found = index(value)
    except TypeError:
        found = 0
    if found < 1 or isinstance(value, bool):
        raise UserError(f"{name}: expected a positive int or None, received {value!r}.")
    return found
