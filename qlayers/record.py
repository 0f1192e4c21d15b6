"""One call of a PennyLane quantum function, recorded: operations, and the measurements it asks for.

It works alike with tensors that have values and with those of `qlayers.symbolic` that have none. PennyLane
applies the QNode's transforms, and decomposes what the gate table does not know.
"""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qlayers.defer import deferred
from qlayers.inputs import Features, names_of
from qlayers.measure import Measurement
from qlayers.mistakes import explained
from qlayers.read_gates import Recorded, Vector, expand, label
from qlayers.read_measurements import measurements, read
from shared.errors import UserError

__all__ = ["QuantumFunction", "Recorded", "Recording", "SignatureError", "Vector"]


class SignatureError(UserError, TypeError):
    """The arguments of a quantum function do not fit a layer."""


@dataclass
class Recording:
    """What one call of a quantum function did; parameters are whatever kind of number it computed with."""

    operations: list[Recorded] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    single: bool = False  # a bare measurement was returned, not a list
    wires: tuple = ()


class QuantumFunction:
    """A QNode or plain quantum function together with how a layer calls it.

    Attributes:
        function, shapes: the function, and the shapes of its weights.
        view: the function as a QNode, for PennyLane's tools.
        inputs: the names of its data arguments.
        widths: how many features each of several data arguments has, in order; None for a single one.
    """

    def __init__(
        self,
        function: Callable,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        input_arg: str | Sequence[str] = "inputs",
    ):
        self.function, self.shapes, self.inputs = function, dict(shapes), names_of(input_arg)
        self.widths: tuple[int, ...] | None = None
        self.guessed: Any = None  # the circuit that `capture.guess_features` captured last
        self.qnode = function if hasattr(function, "device") and hasattr(function, "func") else None
        self._check_signature(inspect.signature(self.qnode.func if self.qnode else function).parameters)
        if self.qnode:
            self._check_qnode()
        self.view = self.qnode or _qnode_of(function)

    def __deepcopy__(self, memo: dict) -> "QuantumFunction":
        return self  # nothing in it changes

    def of(self, features: Features) -> "QuantumFunction":
        """The function for data with so many features."""
        if isinstance(features, int):
            return self
        found = copy.copy(self)
        found.widths, found.guessed = features, None
        return found

    @property
    def name(self) -> str:
        plain = self.qnode.func if self.qnode else self.function
        return getattr(plain, "__name__", type(plain).__name__)

    @property
    def device_wires(self) -> list:
        wires = self.qnode.device.wires if self.qnode else None
        return [] if wires is None else [label(wire) for wire in wires]

    def _check_signature(self, parameters: Mapping[str, inspect.Parameter]) -> None:
        given = ", ".join(parameters)
        for name in self.inputs:
            if name not in parameters:
                raise SignatureError(
                    f"The quantum function must have an argument named {name!r} for the data; its arguments "
                    f"are ({given}). Rename the data argument, or pass its name as input_arg."
                )
            if name in self.shapes:
                raise UserError(
                    f"{name!r} is the data argument and must not be in weight_shapes; remove it there."
                )
        kinds = [parameter.kind for parameter in parameters.values()]
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            raise SignatureError(
                "A layer calls its quantum function by argument names, so *args has no meaning; name each "
                "weight."
            )
        if inspect.Parameter.VAR_KEYWORD not in kinds and {*self.shapes, *self.inputs} != set(parameters):
            raise UserError(
                f"weight_shapes must name every argument but {', '.join(map(repr, self.inputs))}: the "
                f"function's arguments are ({given}), weight_shapes has ({', '.join(self.shapes)}). Bind "
                "constants with functools.partial."
            )

    def _check_qnode(self) -> None:
        if self.qnode.interface not in ("auto", "torch"):
            raise UserError(
                f"The QNode's interface must be 'torch' or 'auto', not {self.qnode.interface!r}; drop the "
                "argument."
            )

    def record(self, inputs: Tensor, weights: Mapping[str, Tensor]) -> Recording:
        """Call the function and list the operations and measurements that it asks for."""
        try:
            tape, returned = self._tape({**self._data(inputs), **weights})
        except (ValueError, TypeError) as error:
            mistake = None if isinstance(error, UserError) else explained(error)
            if mistake is None:
                raise
            raise mistake from error
        processes = measurements(tape, returned)
        operations, kept_on, added = deferred(tape.operations, processes)
        found = Recording(single=not isinstance(returned, list | tuple))
        touched: set = set()
        for op in operations:
            found.operations.extend(expand(op, touched))
        found.measurements = [read(process, kept_on) for process in processes]
        if all(measurement.kind != "state" for measurement in found.measurements):
            found.operations = [o for o in found.operations if o.gate != "GlobalPhase"]  # nothing shows it
        named = [label(wire) for op in operations for wire in op.wires]
        found.wires = self._wires(found, named, [label(wire) for wire in added])
        return found

    def _data(self, inputs: Tensor) -> dict[str, Tensor]:
        """The data arguments, of which `inputs` (..., features) has all features side by side."""
        if self.widths is None:
            return {self.inputs[0]: inputs}
        return dict(zip(self.inputs, inputs.split(self.widths, dim=-1), strict=True))

    def _tape(self, arguments: dict[str, Tensor]):
        import pennylane as qml

        returned = []

        def remember(**kwargs):
            returned.append(self._plain(**kwargs))
            return returned[-1]

        with torch.enable_grad():
            if self.qnode is None:
                return qml.tape.make_qscript(remember)(**arguments), returned[-1]
            qnode = qml.set_shots(self.qnode, None)  # a copy; shots are the layer's affair
            qnode.func = remember
            tapes, join = qml.workflow.construct_batch(qnode, level="user")(**arguments)
        if len(tapes) != 1 or not _is_identity(join):
            raise UserError(
                "A layer runs one circuit, but the QNode's transforms make several of it or compute with "
                "results; leave out transforms other than rewrites of the circuit."
            )
        return tapes[0], returned[-1]

    @property
    def _plain(self) -> Callable:
        return self.qnode.func if self.qnode else self.function

    def _wires(self, found: Recording, named: list, added: list) -> tuple:
        """All wires in order, those added at the end; a measurement of all wires gets the others by name.

        It measures those that operations without effect name, too (`named`: of all operations).
        """
        whole = any(measurement.is_whole for measurement in found.measurements)
        recorded = [wire for operation in found.operations for wire in operation.wires]
        used = dict.fromkeys(named if whole else recorded)
        used.update(dict.fromkeys(wire for measurement in found.measurements for wire in measurement.used))
        own = [wire for wire in used if wire not in added]
        if self.device_wires:
            own = self.device_wires if whole else [wire for wire in self.device_wires if wire in used]
        elif all(isinstance(wire, int) for wire in own) and (not whole or max(own, default=-1) < len(own)):
            own = sorted(own)  # as PennyLane, which takes wires as they come where a number is left out
        if added:
            found.measurements = [
                m._replace(wires=tuple(own)) if m.is_whole and m.kind != "state" else m
                for m in found.measurements
            ]
        return (*own, *added)


def _qnode_of(function: Callable):
    """A plain function as a QNode."""
    import pennylane as qml

    return qml.QNode(function, qml.device("default.qubit", seed=0))  # by default it asks NumPy for a seed


def _is_identity(join: Callable) -> bool:
    """Whether the post-processing of a transform hands the one result through."""
    marker = object()
    try:
        found = join((marker,))
    except Exception:  # it computes with the result, so it is not the identity
        return False
    return found is marker or (isinstance(found, tuple | list) and len(found) == 1 and found[0] is marker)
