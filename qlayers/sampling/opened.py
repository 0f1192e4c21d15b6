"""A circuit in which every rotation has an angle of its own, so that each can be shifted by itself.

Any gate of `qlayers.gates` is a product of rotations exp(-i t/2 P) with P^2 = 1. As a function of one such t,
with all others held fixed, an expectation value is

    f(t) = <A> = a + b cos t + c sin t,   since exp(i t/2 P) A exp(-i t/2 P)
         = cos^2(t/2) A + sin^2(t/2) P A P + sin(t/2) cos(t/2) i [P, A],

so that (f(t + s) - f(t - s)) / (2 sin s) = f'(t) for every s: with s = pi/2 the two-term rule of Mitarai et
al. (2018, doi:10.1103/PhysRevA.98.032309), exact and not a finite difference. Where t = s_1 x + o_1 of one
rotation and s_2 x + o_2 of another come from one parameter x, the chain rule adds their parts:

    df/dx = s_1 (f(t_1 + pi/2) - f(t_1 - pi/2))/2 + s_2 (f(t_2 + pi/2) - f(t_2 - pi/2))/2.

For CRX(x) = exp(-i x/4 X_t) exp(+i x/4 Z_c X_t), s_1 = 1/2 and s_2 = -1/2: the four evaluations of the
four-term rule (Anselmetti et al., 2021, doi:10.1088/1367-2630/ac2cb3), in other places. A parameter of many
gates, times data, within any function, is the same sum with more terms, which covers the general rules
(Wierichs et al., 2022, doi:10.22331/q-2022-03-30-677); the derivatives of t by inputs and weights are left to
autograd.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from qlayers.circuit import Circuit, Operation, assembled
from qlayers.evaluate import SHARED, Scheduler, angles
from qlayers.expressions import Nodes, children_of, compact, reachable, with_children
from qlayers.gates import Angle, gate
from qlayers.measure import Measurement


class Opened:
    """The opened form of a circuit.

    A point is what a circuit depends on: the inputs of a sample and all weights, side by side. Its turns are
    the numbers of the opened circuit at that point: the angles of rotations, and whatever else is computed,
    such as the amplitudes of a prepared state.

    Attributes:
        circuit: the opened circuit, whose features are the turns; it has no weights.
        fixed: the turns that are no angles of rotations, with the operations that they belong to.
        sources: for each turn what it depends on: -1 for the inputs, else the number of a weight in `names`.

    Args:
        circuit: what to open.
        names: the weights in the order in which points have them.
    """

    def __init__(self, circuit: Circuit, names: Sequence[str]):
        self._sizes = [circuit.features, *(prod(dict(circuit.weights)[name]) for name in names)]
        rows, moved = _by_point(circuit, names)
        opening = _Opening(circuit, rows, moved)
        wanted, coefficients = opening.wanted, _coefficients(circuit, rows, moved)
        table, number = compact(rows, [row for row, _, _ in (*wanted, *coefficients)])
        outputs = [(number[row], scale, offset) for row, scale, offset in (*wanted, *coefficients)]
        scheduler = Scheduler(table, {}, sum(self._sizes), outputs)
        self._schedule, self._places = scheduler.schedule, scheduler.places
        self._count = len(wanted)
        self._tables: dict[tuple, tuple] = {}
        self.circuit, self.fixed = opening.circuit, opening.fixed
        starts = [sum(self._sizes[: i + 1]) for i in range(len(self._sizes))]
        self.sources = [_sources(table, row, starts) for row, _, _ in outputs[: self._count]]

    def with_measurements(self, measurements: Sequence[Measurement]) -> Circuit:
        """The opened circuit with other measurements, side by side."""
        return replace(self.circuit, measurements=tuple(measurements), single=False)

    def point(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(b, P): inputs (b, features) and all numbers of the weights."""
        rows = [weight.reshape(1, -1).expand(inputs.shape[0], -1) for weight in weights]
        return torch.cat([inputs, *rows], -1) if rows else inputs

    def sources_of_point(self) -> list[int]:
        """For each column of a point: the number of a weight, or -1 for inputs."""
        return [number - 1 for number, size in enumerate(self._sizes) for _ in range(size)]

    def turns(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """(b, J) turns and (b, M) computed coefficients of observables at points (b, P)."""
        key = point.device, point.dtype
        if key not in self._tables:
            self._tables[key] = self._schedule.tables(*key), self._columns(point.device)
        tables, (side, column) = self._tables[key]
        shared, batched = angles(point, (), tables)
        if side is not None:  # some are constants after all
            batched = torch.cat([batched, shared.expand(point.shape[0], -1)], -1)
            column = column + (batched.shape[1] - shared.shape[0]) * side
        found = batched.index_select(-1, column)
        return found[:, : self._count], found[:, self._count :]

    def _columns(self, device: torch.device) -> tuple[Tensor | None, Tensor]:
        side = torch.tensor([side == SHARED for side, _ in self._places], dtype=torch.int64, device=device)
        column = torch.tensor([column for _, column in self._places], dtype=torch.int64, device=device)
        return (side if any(side.tolist()) else None), column


def _by_point(circuit: Circuit, names: Sequence[str]) -> tuple[list[tuple], list[int]]:
    """The circuit's expressions with weights as further inputs, and old number -> new."""
    start, starts = circuit.features, {}
    for name in names:
        starts[name] = start
        start += prod(dict(circuit.weights)[name])
    nodes, moved = Nodes(), []
    for row in circuit.nodes:
        if row[0] == "weight":
            moved.append(nodes.input(starts[row[1]] + row[2]))
        else:
            moved.append(nodes._add(with_children(row, [moved[child] for child in children_of(row)])))
    return nodes.rows, moved


def _coefficients(circuit: Circuit, rows: Sequence[tuple], moved: Sequence[int]) -> list[tuple]:
    """The coefficients of terms that are not constants, in order of appearance."""
    found = [moved[term.coefficient] for m in circuit.measurements for term in m.terms]
    return [(row, 1.0, 0.0) for row in found if rows[row][0] != "constant"]


def _sources(rows: Sequence[tuple], root: int, starts: Sequence[int]) -> frozenset[int]:
    """What an expression depends on: -1 for inputs, else the number of a weight."""
    inputs = {rows[number][1] for number in reachable(rows, [root]) if rows[number][0] == "input"}
    return frozenset(sum(position >= start for start in starts) - 1 for position in inputs)


class _Opening:
    """Takes a circuit apart: constant gates stay, every computed number gets a feature of its own.

    Attributes:
        circuit: the opened circuit.
        wanted: (row, scale, offset) of each of its features.
        fixed: the features that are no angles of rotations, with their operations.
    """

    def __init__(self, circuit: Circuit, rows: Sequence[tuple], moved: Sequence[int]):
        self._rows, self._moved, self._nodes = rows, moved, Nodes()
        self.wanted: list[tuple] = []
        self.fixed: dict[int, str] = {}
        operations = [made for operation in circuit.operations for made in self._opened(operation)]
        self.circuit = assembled(
            self._nodes.rows, operations, [], wires=circuit.wires, features=len(self.wanted), weights=()
        )

    def _opened(self, operation: Operation) -> list[Operation]:
        rows = [self._moved[p] for p in operation.parameters]
        if all(self._rows[row][0] == "constant" for row in rows):
            return [operation._replace(parameters=tuple(map(self._number, rows)))]
        found = gate(operation.gate, len(operation.wires))
        if found is None:
            return [operation._replace(parameters=tuple(self._other(row, operation.gate) for row in rows))]
        return [
            Operation(f"PauliRot[{word}]", operation.wires, (self._angle(angle, rows),))
            for word, angle in found.turns
            if set(word) != {"I"}  # else a phase of the whole, which no probability shows
        ]

    def _angle(self, angle: Angle, rows: Sequence[int]) -> int:
        if angle.parameter is None:
            return self._nodes.constant(angle.offset)
        return self._number(rows[angle.parameter], angle.scale, angle.offset)

    def _other(self, row: int, name: str) -> int:
        if self._rows[row][0] != "constant":
            self.fixed[len(self.wanted)] = name
        return self._number(row)

    def _number(self, row: int, scale: float = 1.0, offset: float = 0.0) -> int:
        """The node of scale * row + offset: a constant, or the next feature."""
        if self._rows[row][0] == "constant":
            return self._nodes.constant(scale * self._rows[row][1] + offset)
        self.wanted.append((row, scale, offset))
        return self._nodes.input(len(self.wanted) - 1)
