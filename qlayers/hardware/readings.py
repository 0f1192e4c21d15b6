"""What a device measures for the measurements of a `Circuit`, and how their results follow from it.

An observable is measured word by word, as hardware does in any case: its coefficients then need not be
numbers before the circuit runs, and may be trained. A variance is <A^2> - <A>^2, so that all that a gradient
needs of the device is linear in its state; a word's square is the identity, which is not measured. With
finite shots a variance is that of the sample: on average it lacks a part in the number of shots.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from math import prod
from typing import Any, NamedTuple

import numpy as np
import pennylane as qml
import torch
from pennylane.measurements import MeasurementProcess, ProbabilityMP, StateMP
from pennylane.operation import Operator
from pennylane.pauli import PauliWord
from pennylane.wires import Wires
from torch import Tensor

from qlayers.circuit import Circuit
from qlayers.measure import DRAWN, Block, Measurement, Term
from qlayers.read_gates import MOST_DENSE_WIRES
from qlayers.readout import joined
from shared.errors import UserError

# measurements that no finite number of shots gives; and those whose values are not linear in the state
EXACT = frozenset({"state", "density", "purity", "entropy", "mutual_info"})
NOT_LINEAR = EXACT - {"density"}
ONE = 0  # the column of values that is 1: the identity's


class Part(NamedTuple):
    """factor * value of a column."""

    factor: float
    column: int


class Weighed(NamedTuple):
    """Parts times the product of some coefficients, which are numbered as in `Readings.coefficients`."""

    coefficients: tuple[int, ...]
    parts: tuple[Part, ...]


class Readings:
    r"""The measurements of a circuit on a device.

    Attributes:
        processes: PennyLane's measurements, each once.
        sizes: how many values each has.
        coefficients: the expressions of the circuit that `outputs` wants the numbers of.
        kinds: those of the circuit's measurements.

    Example:
        >>> readings = Readings(Circuit.parse("expval Z(0)@X(1)\nvar Z(0)@X(1)\nprobs 1\nwires 0 1"))
        >>> readings.processes, readings.sizes
        ([expval(Z(0) @ X(1)), probs(wires=[1])], [1, 2])
        >>> values = readings.flat([0.6, np.array([0.25, 0.75])])
        >>> readings.outputs(torch.from_numpy(values)[None], torch.ones(1, len(readings.coefficients)))
        tensor([[0.6000, 0.6400, 0.2500, 0.7500]], dtype=torch.float64)
    """

    def __init__(self, circuit: Circuit):
        self.processes: list[MeasurementProcess] = []
        self.sizes: list[int] = []
        self.coefficients: list[int] = []
        self.kinds = frozenset(measurement.kind for measurement in circuit.measurements)
        self._wires, self._single = circuit.wires, circuit.single
        self._starts: dict[Any, int] = {}  # of each process: the column of its first value
        self._readers = [self._reader(measurement) for measurement in circuit.measurements]

    @property
    def wires(self) -> frozenset:
        """All that is looked at."""
        return frozenset(wire for process in self.processes for wire in process.wires)

    def flat(self, result: Any) -> np.ndarray:
        """The values of a device's result, side by side.

        Raises:
            UserError: a result has another size than the circuit's measurement.
        """
        several = result if len(self.processes) > 1 else (result,)
        values = [np.ravel(value) for value in several]
        for process, value, size in zip(self.processes, values, self.sizes, strict=True):
            if len(value) != size:
                raise UserError(
                    f"{process!r}: expected {size} numbers, received {len(value)} from the device; measure "
                    "named wires, for example with qml.probs or qml.density_matrix."
                )
        return np.concatenate(values) if values else np.empty(0)

    def outputs(self, values: Tensor, coefficients: Tensor) -> Tensor:
        """The circuit's results, (b, outputs) or (b, *shape) of a single one, as `Captured.run` has them.

        Args:
            values: (b, values) as from `flat`.
            coefficients: (b, c), the numbers of `coefficients`.
        """
        values = torch.cat([values.new_ones(len(values), 1), values], 1)  # column ONE in front
        return joined([read(values, coefficients) for read in self._readers], self._single)

    # from the circuit's measurements

    def _reader(self, measurement: Measurement) -> Callable[[Tensor, Tensor], Tensor]:
        if measurement.kind in DRAWN:
            raise UserError(
                f"qml.{measurement.kind}: expected a layer on its own simulator, received one that runs on a "
                "device; let it return qml.probs, or give circuits to Runner.run."
            )
        if measurement.kind not in ("expval", "var"):
            return self._direct(measurement)
        mean = [self._weighed([term.coefficient], self._parts(term)) for term in measurement.terms]
        if measurement.kind == "expval":
            return lambda values, coefficients: _sum(mean, values, coefficients)
        square = [
            self._weighed([term.coefficient for term in pair], parts)
            for pair, parts in self._square(measurement.terms)
        ]

        def variance(values: Tensor, coefficients: Tensor) -> Tensor:
            return _sum(square, values, coefficients) - _sum(mean, values, coefficients) ** 2

        return variance

    def _direct(self, measurement: Measurement) -> Callable[[Tensor, Tensor], Tensor]:
        wires = measurement.wires or self._wires
        shape = measurement.shape(len(self._wires))
        start = self._measured(measurement, DIRECT[measurement.kind](measurement, wires), prod(shape))
        span = slice(start, start + prod(shape))

        def read(values: Tensor, _: Tensor) -> Tensor:
            found = values[:, span].reshape(len(values), *shape)
            return found.real if values.is_complex() and not measurement.is_complex else found

        return read

    def _measured(self, key: Any, process: MeasurementProcess, size: int = 1) -> int:
        """The column of a process's first value; it is measured once, however many ask for it."""
        if key not in self._starts:
            self._starts[key] = 1 + sum(self.sizes)
            self.processes.append(process)
            self.sizes.append(size)
        return self._starts[key]

    def _weighed(self, coefficients: Sequence[int], parts: Sequence[Part]) -> Weighed:
        for one in coefficients:
            if one not in self.coefficients:
                self.coefficients.append(one)
        return Weighed(tuple(map(self.coefficients.index, coefficients)), tuple(parts))

    def _parts(self, term: Term | Block) -> Sequence[Part]:
        """The expectation value of an observable, without its coefficient."""
        if isinstance(term, Term):
            return [self._word(PauliWord({wire: letter for letter, wire in term.word}))]
        if term.kind == "diagonal":
            bits = Measurement("probs", wires=term.wires)
            start = self._measured(bits, qml.probs(wires=term.wires), 2 ** len(term.wires))
            return [Part(float(np.real(entry)), start + i) for i, entry in enumerate(term.entries)]
        return [self._observable(_observable(term))]

    def _word(self, word: PauliWord, factor: float = 1.0) -> Part:
        if not word:
            return Part(factor, ONE)
        key = frozenset(word.items())
        return Part(factor, self._measured(key, qml.expval(word.operation())))

    def _observable(self, observable: Operator) -> Part:
        return Part(1.0, self._measured(observable.hash, qml.expval(observable)))

    def _square(self, terms: Sequence[Term | Block]) -> Iterator[tuple[tuple, Sequence[Part]]]:
        """A^2 for A = sum of c_i O_i: the c_i^2 O_i^2, and c_i c_j (O_i O_j + O_j O_i) for i < j."""
        for term in terms:
            if isinstance(term, Term):
                yield (term, term), [Part(1.0, ONE)]
            elif term.kind == "diagonal":
                squares = tuple(np.real(entry) ** 2 for entry in term.entries)
                yield (term, term), self._parts(term._replace(entries=squares))
            elif term.kind == "projector":
                yield (term, term), self._parts(term)
            else:
                yield (term, term), [self._product(term, term, 0.5)]
        for one, other in combinations(terms, 2):
            if isinstance(one, Block) or isinstance(other, Block):
                yield (one, other), [self._product(one, other, 1.0)]
                continue
            first, second = (PauliWord({w: letter for letter, w in term.word}) for term in (one, other))
            if first.commutes_with(second):
                ((word, sign),) = (first @ second).items()
                yield (one, other), [self._word(word, 2.0 * float(np.real(sign)))]

    def _product(self, one: Term | Block, other: Term | Block, factor: float) -> Part:
        """The observable factor (A B + B A) as a matrix."""
        a, b = (_observable(term) for term in (one, other))
        wires = Wires.all_wires([a.wires, b.wires])
        if len(wires) > MOST_DENSE_WIRES:
            raise UserError(
                f"var of an observable with matrices: expected products of its terms on up to "
                f"{MOST_DENSE_WIRES} wires, received {len(wires)}; write it with Pauli words."
            )
        a, b = (qml.matrix(observable, wire_order=wires) for observable in (a, b))
        return self._observable(qml.Hermitian(factor * (a @ b + b @ a), wires=wires))


def _sum(terms: Sequence[Weighed], values: Tensor, coefficients: Tensor) -> Tensor:
    """(b,): the sum of weighed values (b, v)."""
    if values.is_complex():
        values = values.real
    total = values.new_zeros(len(values))
    for numbers, parts in terms:
        factors = values.new_tensor([part.factor for part in parts])
        found = values[:, [part.column for part in parts]] @ factors
        for number in numbers:
            found = found * coefficients[:, number]
        total = total + found
    return total


def _observable(term: Term | Block) -> Operator:
    """PennyLane's observable of a term, without its coefficient."""
    if isinstance(term, Term):
        return PauliWord({wire: letter for letter, wire in term.word}).operation()
    if term.kind == "projector":
        return qml.Projector(np.array(term.entries), wires=term.wires)
    size = 2 ** len(term.wires)
    entries = np.array(term.entries)
    return qml.Hermitian(
        np.diag(entries) if term.kind == "diagonal" else entries.reshape(size, size), term.wires
    )


def _probs(measurement: Measurement, wires: tuple) -> MeasurementProcess:
    basis = measurement.basis
    if not basis:
        return qml.probs(wires=wires)
    if isinstance(basis, str):
        return qml.probs(op=qml.prod(*(getattr(qml, x)(wire) for x, wire in zip(basis, wires, strict=True))))
    unitary = np.array(basis).reshape(2 ** len(wires), -1)
    levels = np.arange(len(unitary))[:, None]  # eigenvalues in the order of the outcomes
    return ProbabilityMP(qml.Hermitian(unitary.conj().T @ (levels * unitary), wires=wires))


DIRECT: dict[str, Callable[[Measurement, tuple], MeasurementProcess]] = {
    "probs": _probs,
    "state": lambda measurement, wires: StateMP(wires=Wires(wires)),
    "density": lambda measurement, wires: qml.density_matrix(wires),
    "purity": lambda measurement, wires: qml.purity(wires),
    "entropy": lambda measurement, wires: qml.vn_entropy(wires, log_base=measurement.base),
    "mutual_info": lambda measurement, wires: qml.mutual_info(
        wires, measurement.others, log_base=measurement.base
    ),
}
