"""A PennyLane tape as structure, which plans are made for, and numbers, which are all that changes.

Every parameter of a gate is a number, also a constant one: tapes that differ in values only have equal
structures, so that one plan serves them all and many of them run as one batch.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from qlayers.measure import Measurement
from qlayers.read_gates import Recorded, Vector, expand, labels


class Number(NamedTuple):
    """Stands for a number of the script where a structure would have a constant."""

    column: int


class Step(NamedTuple):
    """A gate or block without its numbers: `sizes` has 0 for a scalar parameter, m for a vector of m."""

    gate: str
    wires: tuple
    sizes: tuple[int, ...]
    entries: tuple[complex, ...]


class Structure(NamedTuple):
    """What tapes may have in common; compares and hashes. Coefficients are floats or a `Number`."""

    wires: tuple
    steps: tuple[Step, ...]
    measurements: tuple[Measurement, ...]


class Script(NamedTuple):
    """A structure with its numbers.

    `numbers` are (), (b,) for a broadcast tape, or (m,) and (b, m) for a vector of m, of any numeric kind;
    `sizes` has 0 or m for each. `batch` is b, or None for a tape without broadcasting.
    """

    structure: Structure
    numbers: list[Any]
    sizes: tuple[int, ...]
    batch: int | None


def script_of(tape, measurements: Sequence[Measurement]) -> Script:
    """The operations of a tape, with measurements whose coefficients are numbers of any kind.

    Args:
        tape: a `QuantumScript` whose parameters are NumPy or torch numbers, without mid-circuit measurements.
        measurements: as `qlayers.read_measurements` reads them from the tape.

    Raises:
        UserError: an operation is invalid, or has no form that the engine runs.
    """
    recorded, touched = [], set()
    for op in tape.operations:
        recorded.extend(map(_as_numbers, expand(op, touched)))
    collected = _Collected()
    structure = Structure(
        wires_of(tape),
        tuple(Step(one.gate, one.wires, collected.all(one.parameters), one.entries) for one in recorded),
        tuple(map(collected.without_numbers, measurements)),
    )
    return Script(structure, collected.numbers, tuple(collected.sizes), tape.batch_size)


class _Collected:
    """The numbers of a script while it is being read."""

    def __init__(self):
        self.numbers: list[Any] = []
        self.sizes: list[int] = []

    def all(self, parameters: Sequence) -> tuple[int, ...]:
        """Take the parameters of a step; their sizes."""
        sizes = []
        for parameter in parameters:
            is_vector = isinstance(parameter, Vector)
            self.numbers.append(parameter.numbers if is_vector else parameter)
            sizes.append(parameter.numbers.shape[-1] if is_vector else 0)
        self.sizes += sizes
        return tuple(sizes)

    def without_numbers(self, measurement: Measurement) -> Measurement:
        """The measurement with those coefficients taken that are torch's and may have a gradient."""
        terms = tuple(
            term._replace(coefficient=self._coefficient(term.coefficient)) for term in measurement.terms
        )
        return measurement._replace(terms=terms)

    def _coefficient(self, value) -> "Number | float":
        if not isinstance(value, Tensor):
            return float(value)
        column = sum(max(size, 1) for size in self.sizes)
        self.all([value])
        return Number(column)


def _as_numbers(one: Recorded) -> Recorded:
    """A prepared state is data, so its amplitudes are numbers, also where they are constants."""
    if one.gate != "StatePrep" or not one.entries:
        return one
    state = np.array(one.entries)
    parts = np.concatenate([state.real, state.imag]) if state.dtype.kind == "c" else state
    return Recorded(one.gate, one.wires, [Vector(parts)])


def wires_of(tape) -> tuple:
    """The wires of a tape in the order of the device's states.

    It is that of PennyLane's simulators: integers 0, 1, ... in order, if the operations have the first of
    them and measurements the rest; other labels as they come, operations first. A state that names its wires
    goes by these. There is at least one.
    """
    named = next((p.wires for p in tape.measurements if type(p).__name__ == "StateMP" and p.wires), ())
    acted = _distinct(tape.operations)
    seen = tuple(wire for wire in _distinct(tape.measurements) if wire not in acted)
    if named:
        return tuple(dict.fromkeys((*labels(named), *acted, *seen)))
    count = len(acted)
    if set(acted) == set(range(count)) and set(seen) == set(range(count, count + len(seen))):
        return tuple(range(count + len(seen))) or (0,)
    return acted + seen


def _distinct(parts: Sequence) -> tuple:
    """The wires of operations or measurements, as they come."""
    return labels(dict.fromkeys(chain.from_iterable(part.wires.labels for part in parts)))
