"""Scripts run as few engine calls on batches: those of one structure are rows of one batch."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayers.circuit import Circuit, Operation, assembled
from qlayers.device.script import Number, Script, Structure
from qlayers.expressions import Nodes
from qlayers.measure import Measurement
from qlayers.plan import plan_of
from qlayers.states import StatePlan

SHARED = "shared"  # the one weight of a circuit: the numbers that all samples of a broadcast tape share
MOST_AMPLITUDES = 2**22  # of states that are in memory at once; more rows than that run in several calls
DTYPE = torch.float64


class Part(NamedTuple):
    """Where a measurement is in a row of results."""

    start: int
    stop: int
    shape: tuple[int, ...]
    is_complex: bool


class Prepared(NamedTuple):
    """A structure ready to run: the engine's tables, rows at a time, and what is where in the results."""

    tables: Any
    rows: int | None
    parts: tuple[Part, ...]
    has_weight: bool


def evaluate(scripts: Sequence[Script]) -> list[list[Tensor]]:
    """The measurements of each script, if it has any: (b, *shape) with b = 1 for one without broadcasting.

    Real ones are float64, states and density matrices complex128. Torch numbers that require grad are
    differentiated through, any number of times.
    """
    groups: dict[tuple, list[int]] = defaultdict(list)
    for i, script in enumerate(scripts):
        if script.structure.measurements:
            groups[script.structure, _batched(script)].append(i)
    found: list[list[Tensor]] = [[] for _ in scripts]
    for (structure, batched), members in groups.items():
        alone = len(members) == 1 and scripts[members[0]].batch is not None
        group = [scripts[i] for i in members]
        for i, results in zip(members, _evaluate(structure, group, batched if alone else None), strict=True):
            found[i] = results
    return found


def _batched(script: Script) -> tuple[bool, ...] | None:
    """Which numbers differ from sample to sample; None without broadcasting."""
    if script.batch is None:
        return None
    return tuple(
        np.ndim(number) > (size > 0) for number, size in zip(script.numbers, script.sizes, strict=True)
    )


def _evaluate(
    structure: Structure, scripts: Sequence[Script], batched: tuple[bool, ...] | None
) -> list[list[Tensor]]:
    rows = [1 if script.batch is None else script.batch for script in scripts]
    flags = batched or (True,) * len(scripts[0].numbers)
    inputs = _joined(
        [_matrix(_chosen(s, flags, True), count) for s, count in zip(scripts, rows, strict=True)]
    )
    weights = _matrix(_chosen(scripts[0], flags, False), 1)[0]
    weights = weights.to(inputs.device)
    columns = tuple(b for b, size in zip(flags, scripts[0].sizes, strict=True) for _ in range(max(size, 1)))
    prepared = _prepared(structure, columns, inputs.device)
    values = _run(prepared, inputs, [weights] if prepared.has_weight else [])
    if torch.is_grad_enabled() and not values.requires_grad:
        values = values + 0.0 * (inputs.sum() + weights.sum())  # depends on nothing: has gradients of zero
    return [_parts(prepared.parts, part) for part in values.split(rows)]


def _chosen(script: Script, flags: Sequence[bool], wanted: bool) -> list[tuple[Any, int]]:
    triples = zip(script.numbers, script.sizes, flags, strict=True)
    return [(number, size) for number, size, flag in triples if flag is wanted]


def _matrix(numbers: Iterable[tuple[Any, int]], rows: int) -> Tensor:
    """(rows, columns) of numbers, of which some may be torch's and differentiable."""
    numbers = list(numbers)
    if any(isinstance(number, Tensor) for number, _ in numbers):
        return _matrix_of_tensors(numbers, rows)
    table = np.empty((rows, sum(max(size, 1) for _, size in numbers)))
    column = 0
    for number, size in numbers:
        values = np.asarray(number)
        table[:, column : column + max(size, 1)] = values if size or not values.ndim else values[:, None]
        column += max(size, 1)
    return torch.from_numpy(table)


def _matrix_of_tensors(numbers: Sequence[tuple[Any, int]], rows: int) -> Tensor:
    device = next(
        (
            number.device
            for number, _ in numbers
            if isinstance(number, Tensor) and number.device.type != "cpu"
        ),
        None,
    )
    columns = []
    for number, size in numbers:
        values = torch.as_tensor(number, dtype=DTYPE, device=device)
        columns.append((values if size else values.unsqueeze(-1)).expand(rows, max(size, 1)))
    return torch.cat(columns, -1)


def _joined(matrices: Sequence[Tensor]) -> Tensor:
    return matrices[0] if len(matrices) == 1 else torch.cat(list(matrices))


def _run(prepared: Prepared, inputs: Tensor, weights: list[Tensor]) -> Tensor:
    """(b, outputs), by several calls if that many states would not fit."""
    if prepared.rows is None or len(inputs) <= prepared.rows:
        return prepared.tables.run(inputs, weights)
    return torch.cat([prepared.tables.run(rows, weights) for rows in inputs.split(prepared.rows)])


def _parts(parts: Sequence[Part], values: Tensor) -> list[Tensor]:
    found = []
    for start, stop, shape, is_complex in parts:
        part = values[:, start:stop].reshape((len(values), *shape))
        if values.is_complex() and not is_complex:
            part = part.real
        found.append(part)
    return found


@lru_cache(maxsize=256)
def _prepared(structure: Structure, columns: tuple[bool, ...], device: torch.device) -> Prepared:
    """The plan of a structure where so many columns are per sample and the others shared."""
    circuit = circuit_of(structure, columns)
    plan = plan_of(circuit)
    parts, start = [], 0
    for measurement in circuit.measurements:
        shape = measurement.shape(len(circuit.wires))
        parts.append(Part(start, start + prod(shape), shape, measurement.is_complex))
        start += prod(shape)
    rows = max(1, MOST_AMPLITUDES >> plan.wires) if isinstance(plan, StatePlan) else None
    return Prepared(plan.tables(device, DTYPE), rows, tuple(parts), SHARED in plan.schedule.weights)


def circuit_of(structure: Structure, columns: Sequence[bool]) -> Circuit:
    """The circuit of a structure: a column is a feature where it is per sample, else an element of a weight.

    Example:
        >>> from qlayers.device.script import Step
        >>> steps = (Step("RX", (0,), (0,), ()), Step("RY", (1,), (0,), ()))
        >>> circuit_of(Structure((0, 1), steps, (Measurement("probs"),)), (False, True))
        Circuit(2 wires, 2 gates, 1 output; 1 feature, weights shared(1))
    """
    nodes, numbers, counts = Nodes(), [], [0, 0]
    for per_sample in columns:
        i = counts[per_sample]
        numbers.append(nodes.input(i) if per_sample else nodes.weight(SHARED, i))
        counts[per_sample] += 1
    column = 0
    operations = []
    for gate, wires, sizes, entries in structure.steps:
        width = sum(max(size, 1) for size in sizes)
        operations.append(Operation(gate, wires, tuple(numbers[column : column + width]), entries))
        column += width
    measurements = [_with_nodes(measurement, nodes, numbers) for measurement in structure.measurements]
    return assembled(
        nodes.rows,
        operations,
        measurements,
        wires=structure.wires,
        features=counts[True],
        weights=((SHARED, (counts[False],)),) if counts[False] else (),
    )


def _with_nodes(measurement: Measurement, nodes: Nodes, numbers: Sequence[int]) -> Measurement:
    """The measurement with coefficients that are numbers of nodes."""
    terms = [
        term._replace(
            coefficient=numbers[term.coefficient.column]
            if isinstance(term.coefficient, Number)
            else nodes.constant(term.coefficient)
        )
        for term in measurement.terms
    ]
    return measurement._replace(terms=tuple(terms))
