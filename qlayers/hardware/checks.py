"""Whether a device's answer can be the result of its circuit: its length, shapes, ranges, sums.

Only what no circuit can give is refused. A device that mitigates errors itself may return expectation values
a little beyond the observable's eigenvalues; a `Runner` takes another function as `check`, or None.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.measurements import MeasurementProcess, StateMP
from pennylane.ops.mid_measure import MidMeasure
from pennylane.tape import QuantumScript

from qlayers.hardware.errors import InvalidResult

TOLERANCE = 1e-3  # a probability's error in single precision after many gates
MOST_EIGENVALUES = 10  # wires of an observable that has no Pauli words, whose eigenvalues are computed


def check_result(tape: QuantumScript, result: Any, wires: int | None = None) -> None:
    """Refuse a result that no execution of the circuit gives.

    Args:
        tape: the circuit as the device got it, without broadcasting.
        result: what the device returned for it.
        wires: how many wires the device has, for measurements of all of them; by default the tape's.

    Raises:
        InvalidResult: wrong length or shape, NaN or infinity, expectation values beyond the observable's
            eigenvalues, probabilities outside [0, 1] or whose sum is not 1, samples that are not bits, counts
            that do not add up to the shots. Results of circuits with mid-circuit measurements may lack
            shots (postselection), so that only their lengths are checked.

    Example:
        >>> tape = qml.tape.QuantumScript([qml.H(0)], [qml.expval(qml.Z(0))])
        >>> check_result(tape, np.float64(1.5))
        Traceback (most recent call last):
        qlayers.hardware.errors.InvalidResult: expval(Z(0)): expected a value in [-1.0, 1.0], received 1.5
    """
    copies = list(tape.shots) if tape.shots else [None]
    parts = _parts(result, len(copies), "copies of shots") if tape.shots.has_partitioned_shots else [result]
    free = any(isinstance(op, MidMeasure) for op in tape.operations)
    for shots, part in zip(copies, parts, strict=True):
        count = len(tape.measurements)
        values = [part] if count == 1 else _parts(part, count, "measurements")
        if not free:
            for measurement, value in zip(tape.measurements, values, strict=True):
                _check(measurement, value, shots, len(tape.wires) if wires is None else wires)


def _parts(result: Any, expected: int, what: str) -> tuple | list:
    if not isinstance(result, tuple | list) or len(result) != expected:
        received = len(result) if isinstance(result, tuple | list) else type(result).__name__
        raise InvalidResult(f"expected results of {expected} {what}, received {received}")
    return result


def _check(measurement: MeasurementProcess, value: Any, shots: int | None, wires: int) -> None:
    kind = type(measurement).__name__
    if kind == "CountsMP":
        return _check_counts(measurement, value, shots)
    if isinstance(value, tuple | list | dict):
        raise InvalidResult(f"{measurement!r}: expected an array, received a {type(value).__name__}")
    array = np.asarray(qml.math.to_numpy(value))
    _check_shape(measurement, array, shots, wires)
    if array.dtype.kind not in "biufc" or not np.isfinite(array).all():
        raise InvalidResult(f"{measurement!r}: expected finite numbers, received {array!s:.80}")
    if rule := RULES.get(kind):
        rule(measurement, array)


def _check_shape(measurement: MeasurementProcess, array: np.ndarray, shots: int | None, wires: int) -> None:
    """Axes of length 1 do not count: devices differ in them."""
    try:
        expected = measurement.shape(shots, wires)
    except qml.exceptions.QuantumFunctionError:  # one whose shape PennyLane does not know
        return
    if isinstance(measurement, StateMP) and array.ndim == 2:  # of a device of density matrices
        expected = (expected[0], expected[0])
    if [n for n in array.shape if n != 1] != [n for n in expected if n != 1]:
        raise InvalidResult(f"{measurement!r}: expected shape {tuple(expected)}, received {array.shape}")


def _check_within(measurement: MeasurementProcess, array: np.ndarray, low: float, high: float) -> None:
    slack = TOLERANCE * max(1.0, abs(low), abs(high))
    if array.dtype.kind == "c" and np.abs(array.imag).max() > slack:
        raise InvalidResult(f"{measurement!r}: expected a real value, received {array!s:.80}")
    if array.real.min() < low - slack or array.real.max() > high + slack:
        raise InvalidResult(f"{measurement!r}: expected a value in [{low}, {high}], received {array!s:.80}")


def _check_expval(measurement: MeasurementProcess, array: np.ndarray) -> None:
    if (bounds := _bounds(measurement)) is not None:
        _check_within(measurement, array, *bounds)


def _check_var(measurement: MeasurementProcess, array: np.ndarray) -> None:
    low, high = _bounds(measurement) or (-np.inf, np.inf)
    largest = ((high - low) / 2) ** 2  # Popoviciu's inequality
    _check_within(measurement, array, 0.0, largest if np.isfinite(largest) else np.finfo(float).max)


def _check_probs(measurement: MeasurementProcess, array: np.ndarray) -> None:
    _check_within(measurement, array, 0.0, 1.0)
    if abs(array.sum() - 1) > TOLERANCE:
        raise InvalidResult(f"{measurement!r}: expected probabilities of sum 1, received {array.sum()}")


def _check_state(measurement: MeasurementProcess, array: np.ndarray) -> None:
    norm = np.linalg.norm(array) if array.ndim == 1 else np.trace(array)
    if abs(norm - 1) > TOLERANCE:
        what = "norm" if array.ndim == 1 else "trace"
        raise InvalidResult(f"{measurement!r}: expected a state of {what} 1, received {what} {norm}")


def _check_sample(measurement: MeasurementProcess, array: np.ndarray) -> None:
    of_bits = measurement.obs is None and measurement.eigvals() is None
    if of_bits and not np.isin(array, (0, 1)).all():
        raise InvalidResult(f"{measurement!r}: expected bits 0 and 1, received {array!s:.80}")


def _check_counts(measurement: MeasurementProcess, value: Any, shots: int | None) -> None:
    if not isinstance(value, dict):
        raise InvalidResult(f"{measurement!r}: expected a dict of counts, received {type(value).__name__}")
    counts = list(value.values())
    if any(not float(n).is_integer() or n < 0 for n in counts):
        raise InvalidResult(f"{measurement!r}: expected counts of 0 and up, received {counts!s:.80}")
    if sum(counts) != shots:
        raise InvalidResult(f"{measurement!r}: expected {shots} counts, received {sum(counts)}")
    length = len(measurement.wires)
    of_bits = measurement.obs is None and length and measurement.eigvals() is None
    if of_bits and not all(re.fullmatch(f"[01]{{{length}}}", str(key)) for key in value):
        raise InvalidResult(f"{measurement!r}: expected keys of {length} bits, received {list(value)!s:.80}")


def _bounds(measurement: MeasurementProcess) -> tuple[float, float] | None:
    """The range of the observable's eigenvalues, or a wider one; None where it is not known."""
    observable = measurement.obs
    if observable is None:
        values = measurement.eigvals()
        return None if values is None else (float(np.min(values)), float(np.max(values)))
    if observable.pauli_rep is not None:
        terms = observable.pauli_rep
        constant = sum(np.real(c) for word, c in terms.items() if not len(word))
        most = sum(abs(c) for word, c in terms.items() if len(word))
        return float(constant - most), float(constant + most)
    if len(observable.wires) > MOST_EIGENVALUES:
        return None
    values = np.real(observable.eigvals())
    return float(values.min()), float(values.max())


RULES: dict[str, Callable[[MeasurementProcess, np.ndarray], None]] = {
    "ExpectationMP": _check_expval,
    "VarianceMP": _check_var,
    "ProbabilityMP": _check_probs,
    "StateMP": _check_state,
    "DensityMatrixMP": _check_state,
    "SampleMP": _check_sample,
}
