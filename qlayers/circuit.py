"""The noun: a quantum circuit with symbolic angles and the measurements it returns, as plain data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from operator import index
from typing import NamedTuple

from qlayers.blocks import BLOCKS, check_block
from qlayers.expressions import Row, compact
from qlayers.gates import gate
from qlayers.measure import COUNTED, Block, Measurement, Term, check_measurement
from qlayers.noise.channels import check_channel, is_channel
from shared.errors import UserError

__all__ = ["Block", "Circuit", "Measurement", "Operation", "Term", "assembled", "shapes_of"]


class Operation(NamedTuple):
    """A gate of `qlayers.gates`, block of `qlayers.blocks` or channel of `qlayers.noise.channels` on wires.

    Its parameters are numbers of the circuit's `nodes`; a block may have constants, its `entries`, instead.
    """

    gate: str
    wires: tuple[int | str, ...]
    parameters: tuple[int, ...] = ()
    entries: tuple[complex, ...] = ()


@dataclass(frozen=True, repr=False)
class Circuit:
    """Gates with angles that are expressions of input features and weights, and what is measured.

    Circuits compare, hash, pickle and copy as plain data; nothing of PennyLane is inside. `str(circuit)` is a
    text that `Circuit.parse` reads back (the format is described in `qlayers.text`).

    Attributes:
        wires: labels in order; the first is the most significant bit of a basis state.
        features: the number of input features of a sample.
        weights: ((name, shape), ...).
        nodes: the expressions, a table of `qlayers.expressions`.
        operations: the gates in order of application.
        measurements: what it returns, see `qlayers.measure`.
        single: whether the one measurement is returned bare and not in a list, so that it keeps its shape.

    Example:
        >>> circuit = Circuit.parse('''
        ...     wires 0 1
        ...     features 2
        ...     weights w(2)
        ...     RX(x0) 0
        ...     RY(w[1]*x1) 1
        ...     CNOT 0 1
        ...     expval Z(0)
        ...     expval 0.5*X(0)@Z(1)
        ... ''')
        >>> print(circuit.draw())
        0: ──RX(x0)──────╭●─┤ <Z>
        1: ──RY(w[1]*x1)─╰X─┤
        returns <Z(0)>, 0.5*<X(0)@Z(1)>
        >>> Circuit.parse(str(circuit)) == circuit
        True
    """

    wires: tuple[int | str, ...]
    features: int
    weights: tuple[tuple[str, tuple[int, ...]], ...]
    nodes: tuple[Row, ...]
    operations: tuple[Operation, ...]
    measurements: tuple[Measurement, ...]
    single: bool = False

    @classmethod
    def from_function(
        cls,
        function: Callable,
        weight_shapes: Mapping[str, int | Sequence[int]],
        *,
        features: int | None = None,
        input_arg: str = "inputs",
    ) -> "Circuit":
        """The circuit of a PennyLane QNode or quantum function.

        Args:
            function: has an argument `input_arg` for the data; every other argument is a weight.
            weight_shapes: weight name -> shape, as for `QuantumLayer`.
            features: the number of input features; default: judged by what the function accepts.
            input_arg: the name of the data argument.

        Raises:
            UserError: the circuit cannot be run, or depends on the values of inputs or weights.

        Example:
            >>> import pennylane as qml
            >>> def function(inputs, w):
            ...     qml.AngleEmbedding(inputs, wires=range(2))
            ...     qml.CRY(w, wires=[0, 1])
            ...     return qml.expval(qml.Z(1))
            >>> Circuit.from_function(function, {"w": ()})
            Circuit(2 wires, 3 gates, 1 output; 2 features, weights w())
        """
        from qlayers.capture import capture, guess_features
        from qlayers.record import QuantumFunction
        from qlayers.symbolic import ValueNeeded

        wanted = QuantumFunction(function, shapes_of(weight_shapes), input_arg=input_arg)
        found = features if features is not None else guess_features(wanted) or 1
        try:
            return capture(wanted, found)
        except UserError:
            raise
        except ValueNeeded as error:
            raise UserError(
                f"The circuit of {wanted.name} is not fixed: {error}. A QuantumLayer runs such a function by "
                "calling it at each forward; for a Circuit, write it with torch.where and without Python "
                "numbers from tensors."
            ) from None
        except Exception as error:
            raise UserError(
                f"The quantum function {wanted.name} fails for inputs with {found} features: {error}"
            ) from error

    @classmethod
    def parse(cls, text: str) -> "Circuit":
        """The circuit that a text describes; see `qlayers.text` for the format."""
        from qlayers.text import parse

        return parse(text)

    def __post_init__(self):
        known = set(self.wires)
        if len(known) != len(self.wires):
            raise UserError(f"Wires must differ from each other, these do not: {list(self.wires)}.")
        touched: set = set()
        for operation in self.operations:
            self._check_operation(operation)
            self._check_wires(operation.gate, operation.wires, known)
            if operation.gate == "StatePrep" and not touched.isdisjoint(operation.wires):
                raise UserError(
                    f"StatePrep on wires {list(operation.wires)}: expected wires on which nothing has acted, "
                    f"received some of {sorted(map(str, touched))}; put it first."
                )
            touched.update(operation.wires)
        for measurement in self.measurements:
            check_measurement(measurement, self.wires)
        if self.single and len(self.measurements) != 1:
            raise UserError(f"A single output is wanted, {len(self.measurements)} measurements are given.")

    def _check_operation(self, operation: Operation) -> None:
        if operation.gate in BLOCKS:
            check_block(operation.gate, operation.wires, len(operation.parameters), operation.entries)
            return
        if is_channel(operation.gate):
            rows = [self.nodes[parameter] for parameter in operation.parameters]
            constants = [row[1] if row[0] == "constant" else None for row in rows]
            check_channel(operation.gate, operation.wires, constants, operation.entries)
            return
        found = gate(operation.gate, len(operation.wires))
        if found is None:
            raise UserError(
                f"No gate {operation.gate!r} on {len(operation.wires)} wires is known; see qlayers.gates."
            )
        if found.parameters != len(operation.parameters):
            raise UserError(
                f"{operation.gate} takes {found.parameters} parameters, {len(operation.parameters)} are "
                "given."
            )
        if operation.entries:
            raise UserError(f"{operation.gate} takes no constants of its own; use its parameters.")

    def _check_wires(self, what: str, wires: tuple, known: set) -> None:
        if len(set(wires)) != len(wires) or not known.issuperset(wires):
            raise UserError(
                f"{what} acts on wires {list(wires)}; expected different ones of the circuit's "
                f"{list(self.wires)}."
            )

    @cached_property
    def _text(self) -> str:
        from qlayers.text import to_text

        return to_text(self)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        weights = ", ".join(f"{name}({','.join(map(str, shape))})" for name, shape in self.weights)
        counts = [
            (len(self.wires), "wire"),
            (len(self.operations), "gate"),
            (len(self.measurements), "output"),
        ]
        first = ", ".join(f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in counts)
        features = f"{self.features} feature{'' if self.features == 1 else 's'}"
        return f"Circuit({first}; {features}{', weights ' + weights if weights else ''})"

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what is returned for one sample: of the single measurement, or of all side by side."""
        shapes = [measurement.shape(len(self.wires)) for measurement in self.measurements]
        return shapes[0] if self.single else (sum(map(prod, shapes)),)

    @property
    def noisy(self) -> bool:
        """Whether it has noise channels, so that its states are mixed."""
        return any(is_channel(operation.gate) for operation in self.operations)

    @property
    def counted(self) -> bool:
        """Whether it returns how often outcomes were seen, which makes no tensor."""
        return any(measurement.kind in COUNTED for measurement in self.measurements)

    @property
    def exact(self) -> "Circuit":
        """The circuit with what single shots are drawn from in place of them, see `Measurement.exact`."""
        measurements = tuple(measurement.exact for measurement in self.measurements)
        return self if measurements == self.measurements else replace(self, measurements=measurements)

    @property
    def features_used(self) -> int:
        """How many features a sample must have: one more than the highest that an angle depends on."""
        return 1 + max((row[1] for row in self.nodes if row[0] == "input"), default=-1)

    def draw(self, *, width: int = 100) -> str:
        """A drawing in text, wrapped at `width` columns; angles are symbolic (x0 is a sample's feature 0)."""
        from qlayers.draw import draw

        return draw(self, width=width)

    def plan(self, *, simplify: bool = True):
        """The circuit as Pauli rotations and measured words, simplified; see `qlayers.plan.Plan`."""
        from qlayers.plan import plan_of

        return plan_of(self.exact, simplify=simplify)


def assembled(
    rows: Sequence[Row],
    operations: Sequence[Operation],
    measurements: Sequence[Measurement],
    **fields,
) -> Circuit:
    """The circuit over a table of expressions, of which it keeps what it needs, in order of first use."""
    roots = [p for operation in operations for p in operation.parameters]
    roots += [term.coefficient for measurement in measurements for term in measurement.terms]
    nodes, number = compact(rows, roots)
    return Circuit(
        nodes=nodes,
        operations=tuple(o._replace(parameters=tuple(number[p] for p in o.parameters)) for o in operations),
        measurements=tuple(
            m._replace(terms=tuple(t._replace(coefficient=number[t.coefficient]) for t in m.terms))
            for m in measurements
        ),
        **fields,
    )


class SizeError(UserError, TypeError):
    """The shape of a weight is no int and no sequence of ints."""


def shapes_of(weight_shapes: Mapping[str, int | Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Shapes as tuples; an int n is (n,), and 1 is () as in PennyLane's TorchLayer.

    >>> shapes_of({"a": 3, "b": (2, 3), "c": 1, "d": ()})
    {'a': (3,), 'b': (2, 3), 'c': (), 'd': ()}
    """
    shapes = {}
    for name, size in weight_shapes.items():
        try:
            shape = (
                tuple(map(index, size)) if hasattr(size, "__iter__") else () if size == 1 else (index(size),)
            )
        except TypeError:
            raise SizeError(
                f"The shape of weight {name!r} must be an int or a tuple of ints, not {size!r}."
            ) from None
        if prod(shape) < 0 or any(n < 0 for n in shape):
            raise UserError(f"The shape of weight {name!r} must not be negative, it is {shape}.")
        shapes[name] = shape
    return shapes
