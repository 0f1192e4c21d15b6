"""One call of a PennyLane quantum function, recorded: gates of the table and the observables it asks for.

It works alike with tensors that have values and with those of `qlayers.trace` that have none. PennyLane
applies the QNode's transforms, and decomposes what the gate table does not know.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qlayers.gates import gate
from shared.errors import UserError

MOST_CONTROLS = (
    3  # a gate with k controls becomes up to 2^k rotations per rotation; beyond, PennyLane decomposes
)
MOST_DENSE_WIRES = 8  # observables without a Pauli form are expanded through their matrix up to here
NOTHING = frozenset({"Barrier", "Snapshot", "Identity", "GlobalPhase"})  # no effect on an expectation value
MEASURED = frozenset({"MidMeasure", "MidMeasureMP", "Conditional", "PauliMeasure"})


class SignatureError(UserError, TypeError):
    """The arguments of a quantum function do not fit a layer."""


@dataclass
class Recording:
    """What one call of a quantum function did; parameters are whatever kind of number it computed with."""

    operations: list[tuple[str, tuple, list]] = field(default_factory=list)  # (gate, wires, parameters)
    observables: list[list[tuple[Any, tuple]]] = field(default_factory=list)  # [(coefficient, word), ...]
    single: bool = False  # a bare measurement was returned, not a list
    wires: tuple = ()


class QuantumFunction:
    """A QNode or plain quantum function together with how a layer calls it."""

    def __init__(
        self, function: Callable, shapes: Mapping[str, tuple[int, ...]], *, input_arg: str = "inputs"
    ):
        self.function, self.shapes, self.input_arg = function, dict(shapes), input_arg
        self.qnode = function if hasattr(function, "device") and hasattr(function, "func") else None
        self._check_signature(inspect.signature(self.qnode.func if self.qnode else function).parameters)
        if self.qnode:
            self._check_qnode()

    def __deepcopy__(self, memo: dict) -> "QuantumFunction":
        return self  # nothing in it changes

    @property
    def name(self) -> str:
        plain = self.qnode.func if self.qnode else self.function
        return getattr(plain, "__name__", type(plain).__name__)

    @property
    def device_wires(self) -> list:
        wires = self.qnode.device.wires if self.qnode else None
        return [] if wires is None else [_label(wire) for wire in wires]

    def _check_signature(self, parameters: Mapping[str, inspect.Parameter]) -> None:
        given = ", ".join(parameters)
        if self.input_arg not in parameters:
            raise SignatureError(
                f"The quantum function must have an argument named {self.input_arg!r} for the data; its "
                f"arguments are ({given}). Rename the data argument, or pass its name as input_arg."
            )
        if self.input_arg in self.shapes:
            raise UserError(
                f"{self.input_arg!r} is the data argument and must not be in weight_shapes; remove it there."
            )
        kinds = [parameter.kind for parameter in parameters.values()]
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            raise SignatureError(
                "A layer calls its quantum function by argument names, so *args has no meaning; name each "
                "weight."
            )
        if inspect.Parameter.VAR_KEYWORD not in kinds and {*self.shapes, self.input_arg} != set(parameters):
            raise UserError(
                f"weight_shapes must name every argument but {self.input_arg!r}: the function's arguments "
                f"are ({given}), weight_shapes has ({', '.join(self.shapes)}). Bind constants with "
                "functools.partial."
            )

    def _check_qnode(self) -> None:
        if self.qnode.interface not in ("auto", "torch"):
            raise UserError(
                f"The QNode's interface must be 'torch' or 'auto', not {self.qnode.interface!r}; drop the "
                "argument."
            )
        if getattr(self.qnode, "shots", None):
            raise UserError(
                f"This layer returns exact expectation values, but the QNode asks for {self.qnode.shots}; "
                "remove the shots from the device or QNode."
            )

    def record(self, inputs: Tensor, weights: Mapping[str, Tensor]) -> Recording:
        """Call the function and list the gates and observables that it asks for."""
        tape, returned = self._tape({self.input_arg: inputs, **weights})
        measured = _measurements(tape, returned)
        found = Recording(single=not isinstance(returned, list | tuple))
        for op in tape.operations:
            found.operations.extend(_expand(op))
        found.observables = [_terms(measurement) for measurement in measured]
        found.wires = self._wires(found)
        return found

    def _tape(self, arguments: dict[str, Tensor]):
        import pennylane as qml

        returned = []

        def remember(**kwargs):
            returned.append(self._plain(**kwargs))
            return returned[-1]

        with torch.enable_grad():
            if self.qnode is None:
                return qml.tape.make_qscript(remember)(**arguments), returned[-1]
            qnode = copy.copy(self.qnode)
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

    def _wires(self, found: Recording) -> tuple:
        used = dict.fromkeys(_label(wire) for _, wires, _ in found.operations for wire in wires)
        used.update(
            dict.fromkeys(
                _label(wire) for terms in found.observables for _, word in terms for _, wire in word
            )
        )
        if self.device_wires:
            return tuple(wire for wire in self.device_wires if wire in used)
        return tuple(sorted(used)) if all(isinstance(wire, int) for wire in used) else tuple(used)


def _is_identity(join: Callable) -> bool:
    """Whether the post-processing of a transform hands the one result through."""
    marker = object()
    try:
        found = join((marker,))
    except Exception:  # it computes with the result, so it is not the identity
        return False
    return found is marker or (isinstance(found, tuple | list) and len(found) == 1 and found[0] is marker)


def _label(wire):
    """A wire label as int or str."""
    if isinstance(wire, str):
        return wire
    try:
        return int(wire.__index__())
    except (AttributeError, TypeError):
        raise UserError(f"Wire labels must be integers or strings, not {wire!r}; rename the wire.") from None


def _measurements(tape, returned) -> list:
    import pennylane as qml

    flat = list(returned) if isinstance(returned, list | tuple) else [returned]
    if not flat or len(flat) != len(tape.measurements):
        raise UserError(
            "The quantum function must return one expectation value or a list of them, for example "
            f"[qml.expval(qml.Z(w)) for w in range(n)]; it returned {returned!r}."
        )
    for measurement in tape.measurements:
        if not isinstance(measurement, qml.measurements.ExpectationMP) or measurement.obs is None:
            raise UserError(
                "Only expectation values of observables (qml.expval) are supported; the function returns "
                f"{measurement!r}."
            )
    if tape.shots:
        raise UserError(f"This layer returns exact expectation values, but the tape asks for {tape.shots}.")
    return tape.measurements


def _expand(op) -> Iterator[tuple[str, tuple, list]]:
    """The gates of the table that make up `op`, in order of application."""
    if op.name in NOTHING:
        return
    if found := _known(op):
        yield found
        return
    if (rotations := _evolution(op)) is not None:
        yield from rotations
        return
    for part in _decomposition(op):
        yield from _expand(part)


def _known(op) -> tuple[str, tuple, list] | None:
    """(name in the gate table, wires, parameters), or None."""
    name, wires = op.name, [_label(wire) for wire in op.wires]
    if name == "PauliRot":
        name = f"PauliRot[{op.hyperparameters['pauli_word']}]"
    elif gate(name, len(wires)) is None or name.startswith(("C(", "Adjoint(")):
        base = getattr(op, "base", None)
        inner = None if base is None else _known(base)
        if inner is None:
            return None
        name, wires, parameters = inner
        if op.name.startswith("Adjoint("):
            name = f"Adjoint({name})"
        elif (values := getattr(op, "control_values", None)) is not None and len(values) <= MOST_CONTROLS:
            for value in reversed(values):
                name = f"C({name})" if value else f"C0({name})"
            wires = [*(_label(wire) for wire in op.control_wires), *wires]
        else:
            return None
        return name, tuple(wires), parameters
    return (name, tuple(wires), list(op.data)) if gate(name, len(wires)) else None


def _evolution(op) -> list[tuple[str, tuple, list]] | None:
    """exp(-i t sum of c P) with commuting words P as rotations by 2 t c; None if it is something else."""
    sentence = op.base.pauli_rep if op.name == "Evolution" else None
    if sentence is None or not all(a.commutes_with(b) for a in sentence for b in sentence):
        return None
    return [
        (f"PauliRot[{''.join(word.values())}]", tuple(map(_label, word)), [2 * op.param * _real(c, op.base)])
        for word, c in sentence.items()
        if word  # the identity is a phase
    ]


def _decomposition(op) -> list:
    import pennylane as qml

    what = f"{op.name} on wires {list(op.wires)}"
    if op.name in MEASURED or isinstance(op, qml.operation.Channel):
        raise UserError(
            f"{what} is not unitary, and this layer simulates pure states; remove it from the circuit."
        )
    try:
        with qml.QueuingManager.stop_recording():
            parts = op.decomposition()
    except qml.exceptions.DecompositionUndefinedError:
        raise UserError(
            f"The gate {what} is not in the gate table and PennyLane cannot decompose it; write it with "
            "standard gates, or give its class a compute_decomposition."
        ) from None
    return parts


def _terms(measurement) -> list[tuple[Any, tuple]]:
    """The observable as [(coefficient, word)], a word being ((letter, wire), ...) without identities."""
    import pennylane as qml

    observable = measurement.obs
    sentence = observable.pauli_rep
    if sentence is None:
        if not observable.has_matrix or len(observable.wires) > MOST_DENSE_WIRES:
            raise UserError(
                f"The observable {observable!r} has no form as a sum of Pauli words; build it from qml.X, "
                "qml.Y, qml.Z with +, @ and real factors."
            )
        matrix = qml.matrix(observable, wire_order=observable.wires)
        sentence = qml.pauli_decompose(matrix, wire_order=list(observable.wires), pauli=True)
    return [
        (_real(coefficient, observable), tuple((letter, _label(wire)) for wire, letter in word.items()))
        for word, coefficient in sentence.items()
    ]


def _real(value, observable):
    """The coefficient, refused if it has an imaginary part."""
    if isinstance(value, Tensor):
        return value.real if value.is_complex() else value
    value = complex(value)
    if abs(value.imag) > 1e-12 * max(1.0, abs(value.real)):
        raise UserError(
            f"The observable {observable!r} is not Hermitian: a coefficient is {value}; make it real."
        )
    return value.real
