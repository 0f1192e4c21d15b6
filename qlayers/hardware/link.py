"""What a runner asks of a device: to prepare circuits, to execute them under an id, to hand out known jobs.

Any PennyLane device prepares and executes. Two hooks make it one that never executes a circuit twice,
methods of the device or functions given to the `Runner`:

- `execute_job(job_id, circuits, config)` executes like `execute`, and tells the service `job_id`, an id of
  ours: as a client token, a job tag, a name. Called again with a known id it must not execute again if the
  service can tell.
- `recover(job_id)` returns the results of that job, waiting for it where it still runs; None where it is
  certain that the service has no such job; it raises `JobFailed` where the job ended without results.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import pennylane as qml
from pennylane.devices import Device, ExecutionConfig, LegacyDeviceFacade
from pennylane.measurements import Shots
from pennylane.ops.mid_measure import MidMeasure
from pennylane.tape import QuantumScript

from shared.errors import UserError


class Circuit(NamedTuple):
    """A circuit as the device takes it, and how it is to be executed."""

    tape: QuantumScript
    config: ExecutionConfig


class Prepared(NamedTuple):
    """The device's circuits of some tapes, and what makes the tapes' results of theirs."""

    circuits: list[Circuit]
    combine: Callable[[Sequence], list]


class Link:
    """A device with its hooks.

    Args:
        device: a PennyLane device, new or legacy.
        execute, recover: the hooks; by default the device's methods `execute_job` and `recover`, if it has
            both. Without hooks, jobs cannot be asked for.
        name: what the journal calls the device; by default its type, name, backend and wires.

    Raises:
        UserError: not a device, or one hook without the other.
    """

    def __init__(
        self,
        device: Any,
        execute: Callable | None = None,
        recover: Callable | None = None,
        name: str | None = None,
    ):
        self.device = _checked(device)
        if execute is None and recover is None:
            execute, recover = (getattr(device, hook, None) for hook in ("execute_job", "recover"))
        if (execute is None) != (recover is None):
            raise UserError(
                "Runner: expected both hooks execute and recover or neither, received "
                f"{'recover' if execute is None else 'execute'} only; see qlayers.hardware.link."
            )
        self._execute, self._recover = execute, recover
        self.name = name or _name(self.device)

    @property
    def can_recover(self) -> bool:
        """Whether a job can be asked for by its id."""
        return self._recover is not None

    def execute(self, job: str, circuits: Sequence[Circuit]) -> Sequence:
        """Results of circuits of one configuration, submitted as one job."""
        tapes, config = tuple(circuit.tape for circuit in circuits), circuits[0].config
        if self._execute is not None:
            return self._execute(job, tapes, config)
        return self.device.execute(tapes, config)  # type: ignore[return-value]

    def recover(self, job: str) -> Sequence | None:
        """Results of a job, or None if the device has never received it."""
        return self._recover(job) if self._recover is not None else None

    def prepare(self, tapes: Sequence[QuantumScript], shots: Shots) -> Prepared:
        """What the device makes of tapes: its own gates, commuting measurements, and so on.

        Tapes with broadcast parameters become one circuit for each sample, since that is what hardware runs
        and charges for.

        Args:
            tapes: with numbers as parameters.
            shots: of those tapes that have none of their own.
        """
        recipes: dict[tuple, tuple] = {}
        pieces = [self._prepare_one(t if t.shots else t.copy(shots=shots), recipes) for t in tapes]
        ends = accumulate((len(piece.circuits) for piece in pieces), initial=0)
        spans = [slice(*pair) for pair in pairwise(ends)]

        def combine(results: Sequence) -> list:
            return [piece.combine(results[span])[0] for piece, span in zip(pieces, spans, strict=True)]

        return Prepared([circuit for piece in pieces for circuit in piece.circuits], combine)

    def _prepare_one(self, tape: QuantumScript, recipes: dict[tuple, tuple]) -> Prepared:
        (plain,), _ = qml.transforms.convert_to_numpy_parameters(tape)
        batch, stack = qml.transforms.broadcast_expand(plain) if plain.batch_size else ((plain,), _only)
        key = (tape.shots, any(isinstance(op, MidMeasure) for op in tape.operations))
        if key not in recipes:  # one for tapes that differ in numbers: they are to be packed into one job
            config = self.device.setup_execution_config(ExecutionConfig(), batch[0])
            recipes[key] = config, self.device.preprocess_transforms(config)
        config, program = recipes[key]
        native, combine = program(tuple(batch))
        circuits = [Circuit(one, config) for one in native]
        return Prepared(circuits, lambda results: [stack(combine(tuple(results)))])


def _only(results: Sequence) -> Any:
    return results[0]


def _checked(device: Any) -> Device:
    if isinstance(device, Device):
        return device
    if isinstance(device, qml.devices.LegacyDevice):
        return LegacyDeviceFacade(device)
    raise UserError(
        f"Runner: expected a PennyLane device, received {type(device).__name__}; "
        'make one with qml.device("default.qubit", wires=2).'
    )


def _name(device: Device) -> str:
    """A device by what does not change from run to run."""
    inner = getattr(device, "target_device", device)  # of a facade
    kind = f"{type(inner).__module__.partition('.')[0]}.{type(inner).__qualname__}"
    backend = getattr(inner, "backend", None)
    label = getattr(backend, "name", None)
    label = label() if callable(label) else label
    parts = [kind, device.name, *([str(label)] if label else [])]
    return " ".join([*parts, f"wires={'any' if device.wires is None else device.wires.tolist()}"])
