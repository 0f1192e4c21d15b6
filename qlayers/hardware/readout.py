"""Readout errors, measured and undone: what a wire shows when it is 0, and what when it is 1.

The probabilities that a device shows are A p, where p are the true ones and A is the tensor product of a
2 x 2 matrix for each wire, whose columns are what it shows for 0 and for 1 (errors of different wires are
taken as independent). Two circuits measure all of these matrices: no gate at all, and X on every wire. The
inverse is applied to one wire after another, in 2^n n steps. Bravyi, Sheldon, Kandala, McKay, Gambetta,
"Mitigating measurement errors in multiqubit experiments", 2021.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import pennylane as qml
from pennylane.measurements import ExpectationMP, MeasurementProcess, ProbabilityMP
from pennylane.tape import QuantumScript

from qlayers.hardware.errors import HardwareError
from qlayers.hardware.mitigation import Mitigation, Runs
from shared.errors import UserError

LEAST_DETERMINANT = 0.05  # of a wire's matrix; below, its readout says next to nothing


class Corrected(NamedTuple):
    """A measurement of probabilities, and what it is measured for: `eigenvalues` of an expval."""

    wires: tuple
    eigenvalues: np.ndarray | None


class ReadoutMitigation(Mitigation):
    """Runs circuits and corrects their probabilities and expectation values of Pauli words.

    Expectation values are measured as probabilities of the words' wires. The wires are calibrated in the
    first call that needs them, as two more circuits of its submissions.

    Args:
        runner: a `Runner` or another mitigation.
        shots: of the calibration; None for those of the runner. Its errors enter every result.
        clip: whether corrected probabilities below 0, which finite shots can give, become 0 and the others
            are scaled to the sum 1. That makes expectation values biased.

    Example:
        >>> from qlayers.hardware import Runner
        >>> ideal = qml.device("default.mixed", wires=2)
        >>> device = qml.noise.insert(ideal, qml.BitFlip, 0.1, position="end")  # misread bits
        >>> tape = qml.tape.QuantumScript([qml.RX(0.4, 0)], [qml.expval(qml.Z(0) @ qml.Z(1))])
        >>> bare, = Runner(device).run([tape])
        >>> mitigated, = ReadoutMitigation(Runner(device)).run([tape])
        >>> round(float(bare), 4), round(float(mitigated), 4), round(float(np.cos(0.4)), 4)
        (0.5895, 0.9211, 0.9211)
    """

    def __init__(self, runner: Runs, shots: int | None = None, *, clip: bool = False):
        super().__init__(runner)
        self.shots, self.clip = shots, clip
        self._inverses: dict[Any, np.ndarray] = {}  # of each wire: (2, 2)

    def recalibrate(self) -> None:
        """Measure the readout again in the next call: it drifts within hours."""
        self._inverses = {}

    def prepare(
        self, tapes: Sequence[QuantumScript]
    ) -> tuple[list[QuantumScript], Callable[[Sequence], list[Any]]]:
        """Tapes that measure probabilities, calibration where it is missing, and the correction."""
        pieces = [self._piece(tape) for tape in tapes]
        circuits = [circuit for piece, _ in pieces for circuit in piece]
        spans = [slice(*pair) for pair in pairwise(accumulate((len(p) for p, _ in pieces), initial=0))]
        missing = [wire for wire in _read(circuits) if wire not in self._inverses]

        def combine(results: Sequence) -> list[Any]:
            if missing:
                self._calibrate(missing, *results[len(circuits) :])
            return [make(results[span]) for (_, make), span in zip(pieces, spans, strict=True)]

        return circuits + (_calibration(missing, self.shots) if missing else []), combine

    def _planned(self, calls: Sequence[Sequence[QuantumScript]]) -> list[list[QuantumScript]]:
        """As of any mitigation; later calls find the calibration of earlier ones."""
        found, known = [], set(self._inverses)
        for tapes in calls:
            circuits = [circuit for tape in tapes for circuit in self._piece(tape)[0]]
            missing = [wire for wire in _read(circuits) if wire not in known]
            known.update(missing)
            found.append(circuits + (_calibration(missing, self.shots) if missing else []))
        return found

    def _piece(self, tape: QuantumScript) -> tuple[Sequence[QuantumScript], Callable[[Sequence], Any]]:
        """The circuits of one tape: commuting words each, turned into the basis of Z."""
        for measurement in tape.measurements:
            _check(measurement)
        if tape.shots.has_partitioned_shots:
            raise UserError(
                f"ReadoutMitigation: expected one number of shots, received {tape.shots}; give copies of "
                "the tape for several."
            )
        parts, combine = qml.transforms.split_non_commuting(tape, grouping_strategy="qwc")
        turned = [qml.transforms.diagonalize_measurements(part)[0][0] for part in parts]
        wanted = [[_corrected(measurement) for measurement in part.measurements] for part in turned]
        circuits = [
            part.copy(measurements=[qml.probs(wires=one.wires) for one in many])
            for part, many in zip(turned, wanted, strict=True)
        ]

        def make(results: Sequence) -> Any:
            values = [self._values(many, one) for many, one in zip(wanted, results, strict=True)]
            return combine(tuple(values))

        return circuits, make

    def _values(self, wanted: list[Corrected], result: Any) -> Any:
        several = result if len(wanted) > 1 else (result,)
        values = tuple(self._value(one, np.asarray(r)) for one, r in zip(wanted, several, strict=True))
        return values if len(wanted) > 1 else values[0]

    def _value(self, wanted: Corrected, probabilities: np.ndarray) -> Any:
        """From what the device shows, (..., 2^n), to probabilities or an expectation value."""
        batch, count = probabilities.shape[:-1], len(wanted.wires)
        p = probabilities.reshape(-1, *(2,) * count)
        for axis, wire in enumerate(wanted.wires, start=1):
            p = np.moveaxis(np.tensordot(self._inverses[wire], p, axes=(1, axis)), 0, axis)
        p = p.reshape(*batch, 2**count)
        if self.clip:
            p = np.maximum(p, 0)
            p = p / p.sum(axis=-1, keepdims=True)
        return p if wanted.eigenvalues is None else (p @ wanted.eigenvalues)[()]

    def _calibrate(self, wires: list, zeros: Any, ones: Any) -> None:
        several = len(wires) > 1
        for place, wire in enumerate(wires):
            columns = [np.asarray(shown[place] if several else shown) for shown in (zeros, ones)]
            matrix = np.stack(columns, axis=1)
            if np.linalg.det(matrix) < LEAST_DETERMINANT:
                raise HardwareError(
                    f"ReadoutMitigation: expected wire {wire!r} to show 0 and 1 differently, received "
                    f"probabilities {columns[0].tolist()} for 0 and {columns[1].tolist()} for 1; use "
                    "another wire of the device, or more shots for the calibration."
                )
            self._inverses[wire] = np.linalg.inv(matrix)


def _read(circuits: Sequence[QuantumScript]) -> dict:
    """The wires that are measured, in order."""
    return dict.fromkeys(wire for circuit in circuits for part in circuit.measurements for wire in part.wires)


def _calibration(wires: list, shots: int | None) -> list[QuantumScript]:
    measurements = [qml.probs(wires=wire) for wire in wires]
    flips = [qml.X(wire) for wire in wires]
    return [QuantumScript(gates, measurements, shots=shots) for gates in ([], flips)]


def _check(measurement: MeasurementProcess) -> None:
    words = measurement.obs is not None and measurement.obs.pauli_rep is not None
    bare = isinstance(measurement, ProbabilityMP) and measurement.obs is None and len(measurement.wires)
    if not bare and not (isinstance(measurement, ExpectationMP) and words):
        raise UserError(
            "ReadoutMitigation: expected qml.probs of named wires and qml.expval of Pauli words and their "
            f"sums, received {measurement!r}; run other measurements through the runner itself."
        )


def _corrected(measurement: MeasurementProcess) -> Corrected:
    wires = tuple(measurement.wires)
    values = measurement.eigvals() if isinstance(measurement, ExpectationMP) else None
    return Corrected(wires, None if values is None else np.real(values))
