"""From a PennyLane quantum function to a `Circuit`.

The function runs once with tensors that have no values (`qlayers.trace`), PennyLane applies the QNode's
transforms and decomposes what the gate table does not know, and what is left are gates with symbolic angles.
A function written for a batch (`inputs[..., k]`, the templates) is captured on a batch; one written for a
single sample
(`inputs[k]`) is captured on a sample. It runs twice, with different batch sizes: should its angles depend on
the batch size, on other samples or on chance, it is not captured but called at every forward (`ValueNeeded`).

Python numbers and tensors that the function takes from its surroundings are read at capture, as by
torch.jit.trace.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

from qlayers.circuit import Circuit, Operation, Term
from qlayers.expressions import Nodes, children_of, compact, with_children
from qlayers.gates import gate
from qlayers.trace import ValueNeeded, numbers, symbolic
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
                "arguments "
                f"are ({given}). Rename the data argument, or pass its name as input_arg."
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
                "are "
                f"({given}), weight_shapes has ({', '.join(self.shapes)}). Bind constants with "
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
                "remove "
                "the shots from the device or QNode."
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
                "results; "
                "leave out transforms other than rewrites of the circuit."
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
                f"Only expectation values of observables (qml.expval) are supported; the function returns "
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
            "standard "
            "gates, or give its class a compute_decomposition."
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
                "qml.Y, "
                "qml.Z with +, @ and real factors."
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


def capture(function: QuantumFunction, features: int) -> Circuit:
    """The circuit of a function for inputs with so many features.

    Raises:
        ValueNeeded: the circuit depends on values, so that it has to be built anew at each call.
        UserError: it contains something that a layer cannot run.
    """
    batches = (3, 2) if features not in (2, 3) else (5, 4)  # not to be taken for the features
    try:
        return _captured(function, features, batches=batches)
    except (ValueNeeded, UserError):
        raise
    except Exception as of_batch:
        try:
            return _captured(function, features, batches=(None, None))
        except (ValueNeeded, UserError):
            raise
        except Exception as of_sample:
            raise of_sample if isinstance(of_batch, _NotOfBatch) else of_batch from None


class _NotOfBatch(Exception):  # noqa: N818  (not an error of the user: the function is tried on one sample)
    """An angle is neither one number nor one number per sample: the function is not written for a batch."""


def _captured(function: QuantumFunction, features: int, batches: tuple) -> Circuit:
    with torch.random.fork_rng(devices=[]):
        first, second = (_trace(function, features, batch) for batch in batches)
    if first != second:
        raise ValueNeeded("its angles change with the size of the batch or from call to call")
    return first


def _trace(function: QuantumFunction, features: int, batch: int | None) -> Circuit:
    nodes = Nodes()
    rows = 1 if batch is None else batch
    # feature k of sample b is input b * features + k while tracing, so that samples can be told apart
    inputs = symbolic([nodes.input(i) for i in range(rows * features)], nodes, (rows, features))
    weights = {
        name: symbolic([nodes.weight(name, i) for i in range(prod(shape))], nodes, shape)
        for name, shape in function.shapes.items()
    }
    found = function.record(inputs if batch is not None else inputs[0], weights)
    if nodes.refused:
        raise ValueNeeded(nodes.refused)
    return _circuit(function, found, _PerSample(nodes, features, batch), features)


class _PerSample:
    """Reduces a traced parameter to one expression, the same for every sample up to the sample itself."""

    def __init__(self, nodes: Nodes, features: int, batch: int | None):
        self.nodes, self.features, self.batch = nodes, features, batch
        self.erased: list[tuple[int, int | None]] = []  # row -> (row without its sample, the sample or None)

    def __call__(self, parameter) -> int:
        ids = numbers(self.nodes, parameter)
        if ids.ndim == 0:
            ids = ids.expand(1)
            samples = [None]
        elif self.batch is not None and tuple(ids.shape) == (self.batch,):
            samples = list(range(self.batch))
        else:
            raise _NotOfBatch(f"a gate's parameter has shape {tuple(ids.shape)}, expected one number")
        pairs = [self._erase(number) for number in ids.tolist()]
        if self.batch is not None and any(
            of not in (None, b) for (_, of), b in zip(pairs, samples, strict=True)
        ):
            raise ValueNeeded("an angle of one sample depends on other samples")
        if len({row for row, _ in pairs}) != 1:
            raise ValueNeeded("an angle differs from sample to sample by more than the sample's features")
        return pairs[0][0]

    def _erase(self, number: int) -> tuple[int, int | None]:
        for row in self.nodes.rows[len(self.erased) : number + 1]:
            pairs = [self.erased[child] for child in children_of(row)]
            samples = {sample for _, sample in pairs if sample is not None}
            if len(samples) > 1:
                samples = {-1}  # of several samples: no sample at all may use it
            if row[0] == "input":
                samples = {row[1] // self.features}
                row = ("input", row[1] % self.features)
            else:
                row = with_children(row, [child for child, _ in pairs])
            self.erased.append((self.plain._add(row), next(iter(samples), None)))
        return self.erased[number]

    @property
    def plain(self) -> Nodes:
        """The expressions without samples."""
        if not hasattr(self, "_plain"):
            self._plain = Nodes()
        return self._plain


def _circuit(function: QuantumFunction, found: Recording, per_sample: _PerSample, features: int) -> Circuit:
    operations = [
        (name, wires, [per_sample(p) for p in parameters]) for name, wires, parameters in found.operations
    ]
    observables = [[(per_sample(c), word) for c, word in terms] for terms in found.observables]
    roots = [p for _, _, parameters in operations for p in parameters]
    roots += [c for terms in observables for c, _ in terms]
    rows, number = compact(per_sample.plain.rows, roots)
    return Circuit(
        wires=found.wires,
        features=features,
        weights=tuple(function.shapes.items()),
        nodes=rows,
        operations=tuple(Operation(n, w, tuple(number[p] for p in ps)) for n, w, ps in operations),
        observables=tuple(tuple(Term(number[c], word) for c, word in terms) for terms in observables),
        single=found.single,
    )


def guess_features(function: QuantumFunction) -> int | None:
    """How many features the function wants, judged by what it accepts and uses; None if that does not show.

    A function that indexes its inputs uses the same few however many there are; an embedding takes at most
    one per wire; a loop over all features takes any number, and then the device's wires decide.
    """
    used = _features_used(function, 64)
    if used is not None and used < 64:
        return max(used, 1)
    for features in (*{len(function.device_wires): None}, *range(32, 0, -1)):
        if features and _features_used(function, features) == features:
            return features
    return next(
        (n for n in (len(function.device_wires), 1) if n and _features_used(function, n) is not None), None
    )


def _features_used(function: QuantumFunction, features: int) -> int | None:
    try:
        circuit = capture(function, features)
    except Exception:  # any failure means only that it does not take so many features
        return None
    return 1 + max((row[1] for row in circuit.nodes if row[0] == "input"), default=-1)
