"""A `Circuit` as PennyLane circuits for a device: one for each sample, with its angles as numbers."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from pennylane.operation import Operator
from pennylane.queuing import QueuingManager
from pennylane.tape import QuantumScript
from torch import Tensor

from qlayers.blocks import BLOCKS
from qlayers.circuit import Circuit, Operation
from qlayers.evaluate import BATCHED, SHARED, Scheduler, angles
from qlayers.expressions import Row, children_of, compact
from qlayers.hardware.operations import maker_of
from qlayers.hardware.readings import Readings
from qlayers.hardware.shifts import Rule, rules_of
from qlayers.noise.channels import KRAUS


class Parameter(NamedTuple):
    """One parameter of one operation.

    Attributes:
        operation, position: which parameter of which operation.
        column: where its number is.
        rule: for its derivative; None if there is none.
        sources: names of the weights that the number depends on, and None if it depends on features.
    """

    operation: int
    position: int
    column: int
    rule: Rule | None
    sources: frozenset[str | None]


class Tapes:
    r"""Makes the PennyLane circuits of a circuit. Their gates are those that were written, in their order.

    Args:
        circuit: what they are of.
        names: all its weights, in the order in which `numbers` gets them.

    Attributes:
        readings: what they measure.
        operations: what they apply.
        parameters: those of the operations that a measurement can depend on.

    Example:
        >>> circuit = Circuit.parse("weights w()\nRX(w*x0) 0\nCRY(x1) 0 1\nRX(x1) 0\nexpval Z(1)")
        >>> tapes = Tapes(circuit, ("w",))
        >>> numbers = tapes.numbers(torch.tensor([[0.1, 0.2]]), [torch.tensor(3.0)]).numpy()
        >>> tape = tapes.tape(tapes.operators(numbers[0]))
        >>> [op.name for op in tape.operations], [p.operation for p in tapes.parameters]
        (['RX', 'CRY', 'RX'], [0, 1])
    """

    def __init__(self, circuit: Circuit, names: Sequence[str]):
        self.readings = Readings(circuit)
        with_phase = "state" in self.readings.kinds  # where alone it shows
        self.operations = [o for o in circuit.operations if with_phase or o.gate != "GlobalPhase"]
        self._makers = [maker_of(operation) for operation in self.operations]
        roots = [p for operation in self.operations for p in operation.parameters]
        self._schedule(circuit, names, roots + self.readings.coefficients)
        self._parameters(circuit, roots)

    def _schedule(self, circuit: Circuit, names: Sequence[str], roots: Sequence[int]) -> None:
        """Find out how `numbers` computes these expressions, and in which column each then is."""
        rows, number = compact(circuit.nodes, roots)
        sizes = {name: prod(shape) for name, shape in circuit.weights}
        scheduler = Scheduler(rows, sizes, circuit.features, [(number[r], 1.0, 0.0) for r in roots], names)
        self._tables = scheduler.schedule.tables(torch.device("cpu"), torch.float64)
        places = sorted(set(scheduler.places))
        self._picked = [[column for side, column in places if side == which] for which in (SHARED, BATCHED)]
        self._column = {r: places.index(p) for r, p in zip(roots, scheduler.places, strict=True)}
        self._coefficients = [self._column[root] for root in self.readings.coefficients]
        self._columns = [[self._column[p] for p in operation.parameters] for operation in self.operations]

    def _parameters(self, circuit: Circuit, roots: Sequence[int]) -> None:
        sources = {root: _sources(circuit.nodes, root) for root in set(roots)}
        self.parameters: list[Parameter] = []
        for number in _light_cone(self.operations, self.readings.wires):
            operation = self.operations[number]
            if not operation.parameters:
                continue
            rules = self._rules(number)
            for position, root in enumerate(operation.parameters):
                found = Parameter(number, position, self._column[root], rules[position], sources[root])
                if found.sources and (found.rule != () or "state" in self.readings.kinds):
                    self.parameters.append(found)

    def _rules(self, number: int) -> list[Rule | None]:
        operation = self.operations[number]
        if operation.gate in (*BLOCKS, KRAUS):
            return [None] * len(operation.parameters)
        some = [0.1] * len(operation.parameters)  # any numbers: rules do not depend on them
        with QueuingManager.stop_recording():
            return rules_of(operation.gate, self._makers[number](some))

    def numbers(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """What the parameters are for each sample, (b, columns) float64 on the CPU; differentiable.

        Args:
            inputs: (b, features).
            weights: in the order of `names`.
        """
        inputs, *weights = (value.cpu().double() for value in (inputs, *weights))
        shared, batched = angles(inputs, weights, self._tables)
        shared, batched = shared[self._picked[SHARED]], batched[:, self._picked[BATCHED]]
        return torch.cat([shared.expand(len(inputs), -1), batched], 1)

    def outputs(self, values: Tensor, numbers: Tensor) -> Tensor:
        """The circuit's results from what was measured, (b, values), and the numbers (b, columns)."""
        return self.readings.outputs(values, numbers[:, self._coefficients])

    def operators(self, numbers: np.ndarray) -> list[Operator]:
        """PennyLane's operations for one sample's numbers, (columns,)."""
        with QueuingManager.stop_recording():
            return [
                make(numbers[columns].tolist())
                for make, columns in zip(self._makers, self._columns, strict=True)
            ]

    def changed(
        self, operators: Sequence[Operator], numbers: np.ndarray, parameter: Parameter, value: float
    ) -> list[Operator]:
        """The operations with another number for one parameter."""
        given = numbers[self._columns[parameter.operation]].tolist()
        given[parameter.position] = value
        with QueuingManager.stop_recording():
            other = self._makers[parameter.operation](given)
        return [*operators[: parameter.operation], other, *operators[parameter.operation + 1 :]]

    def tape(self, operators: Sequence[Operator], shots: int | None = None) -> QuantumScript:
        """The circuit of these operations."""
        return QuantumScript(operators, self.readings.processes, shots=shots)


@lru_cache(maxsize=256)
def tapes_of(circuit: Circuit, names: tuple[str, ...]) -> Tapes:
    """The `Tapes` of a circuit, made once."""
    return Tapes(circuit, names)


def _light_cone(operations: Sequence[Operation], measured: frozenset) -> list[int]:
    """Which operations act on wires that a measurement sees, at once or through later operations."""
    found, seen = [], set(measured)
    for number in reversed(range(len(operations))):
        wires = operations[number].wires
        if not wires or not seen.isdisjoint(wires):  # a phase has no wires
            found.append(number)
            seen.update(wires)
    return found[::-1]


def _sources(rows: Sequence[Row], root: int) -> frozenset[str | None]:
    """What an expression has a gradient for: names of weights, and None for features."""
    return frozenset(_leaves(rows, root))


def _leaves(rows: Sequence[Row], root: int) -> Iterator[str | None]:
    stack, seen = [root], set()
    while stack:
        number = stack.pop()
        if number in seen or rows[number][0] == "detach":
            continue
        seen.add(number)
        row = rows[number]
        if row[0] in ("input", "weight"):
            yield row[1] if row[0] == "weight" else None
        stack.extend(children_of(row))
