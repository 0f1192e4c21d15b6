"""Runs the circuit of a layer on a PennyLane device, with gradients that need nothing but more circuits."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pennylane as qml
import torch
from pennylane.measurements import Shots
from pennylane.operation import Operator
from torch import Tensor

from qlayers.first_order import evaluated
from qlayers.hardware.gradients import Method, ParameterShift, Perturbation
from qlayers.hardware.mitigation import Mitigation, Runs
from qlayers.hardware.readings import EXACT
from qlayers.hardware.runner import Runner
from qlayers.hardware.tapes import Parameter, Tapes, tapes_of
from qlayers.program import Captured
from qlayers.retrace import Retraced
from qlayers.sampling.methods import Spsa
from shared.errors import UserError


class OnDevice:
    """What a layer with `device=` or `runner=` runs on.

    A forward is one call of the runner, with a circuit for each sample; a backward is another, with all
    shifted circuits of all samples that have a gradient. Only what requires a gradient costs circuits: the
    inputs, the weights, or both. Everything is computed in float64 on the CPU and returned where the inputs
    are, in their dtype.

    The gates are those of the quantum function, which the device or its service compiles. Gradients are
    found by parameter shift also on devices that know a faster way; simulate without a device for speed.

    Args:
        device: a PennyLane device or the name of one; it gets a `Runner` that keeps no journal.
        runner: a `Runner` or a mitigation on top of one, instead of a device.
        shots: of each circuit; None for those of the runner or device, if they have any, or exact values.
        diff_method: "best" and "parameter-shift" are the rules of each gate, "spsa" moves all parameters at
            once; or an `Spsa` with its options.
        generator: of the random directions of "spsa".

    Raises:
        UserError: both a device and a runner, or none; a method that needs the state.
    """

    def __init__(
        self,
        device: Any = None,
        runner: Any = None,
        shots: int | None = None,
        diff_method: Any = "best",
        generator: torch.Generator | None = None,
    ):
        if (device is None) == (runner is None):
            received = "neither" if device is None else "both"
            raise UserError(
                f"QuantumLayer: expected a device or a runner, received {received}; give the device to the "
                "Runner."
            )
        if runner is not None and not isinstance(runner, Runs):
            raise UserError(
                f"QuantumLayer: expected a Runner or a mitigation, received {type(runner).__name__}; give a "
                "PennyLane device as device=."
            )
        self.shots, self.method = shots, _method(diff_method, generator)
        self._device = device
        self._runner: Runs | None = (
            runner if runner is not None or isinstance(device, str) else _runner_of(device)
        )

    @torch.compiler.disable
    def run(self, program: Captured | Retraced, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(b, outputs) of inputs (b, features) and the weights `program.names`.

        Raises:
            UserError: the circuit depends on values, or measures what finite shots do not show.
            HardwareError: see `Runner.run`.
        """
        if not isinstance(program, Captured):
            raise UserError(
                "On a device a layer needs a fixed circuit, but its function is called anew at each forward, "
                f"since {program.reason}; write it with torch.where, or without Python numbers from tensors."
            )
        tapes = tapes_of(program.circuit, tuple(program.names))
        self._connect(program.circuit.wires)
        self._check_shots(tapes)
        numbers = tapes.numbers(inputs, weights)
        named = zip((*program.names, None), (*weights, inputs), strict=True)
        sources = frozenset(name for name, value in named if _is_trained(value))
        wanted = [parameter for parameter in tapes.parameters if parameter.sources & sources]
        (values,) = evaluated(numbers, _Job(self, tapes, wanted))
        return tapes.outputs(values, numbers).to(inputs.device)

    def values(self, tapes: Tapes, circuits: Sequence[Sequence[Operator]]) -> np.ndarray:
        """(circuits, values), float64 or complex128, of circuits given by their operations."""
        results = self.runner.run([tapes.tape(operators, self.shots) for operators in circuits])
        return np.array([tapes.readings.flat(result) for result in results])

    def gradient(
        self, tapes: Tapes, parameters: Sequence[Parameter], numbers: np.ndarray, slope: np.ndarray
    ) -> np.ndarray:
        """(b, columns): see `Method.gradient`."""
        return self.method.gradient(tapes, parameters, numbers, slope, partial(self.values, tapes))

    @property
    def runner(self) -> Runs:
        """What submits the circuits."""
        if self._runner is None:
            raise UserError(f"Device {self._device!r}: expected wires, which the layer's first call tells.")
        return self._runner

    def describe(self) -> str:
        """The device, shots and method in a few words."""
        base, shots = self._runner and base_of(self._runner), self._shots()
        name = base.link.device.name if isinstance(base, Runner) else str(base or self._device)
        return f"{name}, {f'{shots.total_shots:,} shots' if shots else 'exact'}, {self.method.name}"

    def __deepcopy__(self, memo: dict) -> "OnDevice":
        return self  # copies of a layer count and pay together

    def _connect(self, wires: tuple) -> None:
        """Make the device of a name, now that the wires are known."""
        if self._runner is None:
            self._runner = _runner_of(qml.device(self._device, wires=list(wires)))

    def _shots(self) -> Shots:
        if self.shots is not None:
            return Shots(self.shots)
        return Shots(None) if self._runner is None else getattr(base_of(self._runner), "shots", Shots(None))

    def _check_shots(self, tapes: Tapes) -> None:
        shots = self._shots()
        if shots.has_partitioned_shots:
            raise UserError(
                f"QuantumLayer: expected one number of shots, received {shots}; give several to Runner.run."
            )
        if shots and (kinds := tapes.readings.kinds & EXACT):
            raise UserError(
                f"QuantumLayer: expected measurements that {shots.total_shots} shots can show, received "
                f"{', '.join(sorted(kinds))}; use qml.expval, qml.var or qml.probs, or no shots."
            )


class _Job(NamedTuple):
    """See `qlayers.first_order.Job`: circuits given by their numbers (b, columns), and values (b, values)."""

    backend: OnDevice
    tapes: Tapes
    wanted: Sequence[Parameter]

    @property
    def once(self) -> str:
        return (
            "On a device a layer has first derivatives only, received a request for the second; use the "
            "layer without device= and runner= for those."
        )

    def forward(self, numbers: Tensor) -> tuple[Tensor]:
        circuits = [self.tapes.operators(row) for row in numbers.detach().numpy()]
        size = sum(self.tapes.readings.sizes)
        if not circuits or not size:
            return (numbers.new_zeros(len(circuits), size),)
        return (torch.from_numpy(self.backend.values(self.tapes, circuits)),)

    def backward(self, numbers: Tensor, slope: Tensor) -> Tensor:
        given = numbers.detach().numpy(), slope.detach().resolve_conj().numpy()
        return torch.from_numpy(self.backend.gradient(self.tapes, self.wanted, *given))


def _is_trained(value: Tensor) -> bool:
    """Whether a gradient may be asked for; inside a transform of torch.func only that knows."""
    return value.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(value)


def base_of(runner: Runs) -> Runs:
    """What is below all mitigations."""
    while isinstance(runner, Mitigation):
        runner = runner.runner
    return runner


def _runner_of(device: Any) -> Runner:
    return Runner(device, shots=getattr(device, "shots", None) or None)


def _method(diff_method: Any, generator: torch.Generator | None) -> Method:
    if diff_method in ("best", "parameter-shift"):
        return ParameterShift()
    if diff_method == "spsa" or isinstance(diff_method, Spsa):
        return Perturbation(Spsa() if diff_method == "spsa" else diff_method, generator)
    raise UserError(
        'diff_method on a device: expected "best", "parameter-shift", "spsa" or a qlayers.sampling.Spsa, '
        f"received {diff_method!r}; no other method works without the state."
    )
