"""PennyLane measurements as those of `qlayers.measure`, with coefficients as the function computed them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from qlayers.defer import outcomes
from qlayers.measure import Block, Measurement, Term
from qlayers.read_gates import MOST_DENSE_WIRES, label, labels, real
from shared.errors import UserError

SHADOWS = ("ClassicalShadowMP", "ShadowExpvalMP")


def measurements(tape, returned) -> list:
    """The measurement processes of a tape, checked to be what the function returned."""
    flat = list(returned) if isinstance(returned, list | tuple) else [returned]
    if not flat or len(flat) != len(tape.measurements):
        raise UserError(
            "The quantum function must return one measurement or a list of them, for example "
            f"[qml.expval(qml.Z(w)) for w in range(n)]; it returned {returned!r}."
        )
    return tape.measurements


def read(process, kept_on: dict) -> Measurement:
    """One measurement; `kept_on` says which wire keeps the outcome of each mid-circuit measurement."""
    name = type(process).__name__
    if name in SHADOWS:
        raise UserError(
            f"The function returns {process!r}, which a layer does not take; use qml.sample or qml.expval "
            "here, and shadows on a device."
        )
    reader = READERS.get(name) or OF_SHOTS.get(name)
    if reader is None:
        raise UserError(
            f"The function returns {process!r}; expected one of qml.expval, var, probs, state, "
            "density_matrix, purity, vn_entropy and mutual_info, or, with shots, of qml.sample and counts."
        )
    return reader(process, kept_on)


def _observed(process, kept_on: dict) -> Measurement:
    kind = {"ExpectationMP": "expval", "VarianceMP": "var"}[type(process).__name__]
    if process.mv is not None:
        wires, values = outcomes(process.mv, kept_on)
        entries = tuple(float(value) for _, value in values)
        return Measurement(kind, (Block(1.0, "diagonal", labels(wires), entries),))
    if process.obs is None:
        raise UserError(f"{kind} of {process!r}: expected an observable; use qml.{kind}(qml.Z(0)).")
    return Measurement(kind, tuple(terms(process.obs)))


def _probs(process, kept_on: dict) -> Measurement:
    if process.mv is not None:
        values = process.mv if isinstance(process.mv, Sequence) else [process.mv]
        wires = tuple(label(kept_on[m.meas_uid]) for value in values for m in value.measurements)
        return Measurement("probs", wires=wires)
    if process.obs is None:
        return Measurement("probs", wires=labels(process.wires))
    return Measurement("probs", wires=labels(process.obs.wires), basis=basis_of(process.obs))


def basis_of(observable) -> str | tuple[complex, ...]:
    """The eigenbasis of an observable: letters of a Pauli word, else the unitary that leads to it."""
    import pennylane as qml

    sentence = observable.pauli_rep
    if sentence is not None and len(sentence) == 1:
        (word,) = sentence
        if len(word) == len(observable.wires):
            letters = "".join(word[wire] for wire in observable.wires)
            return "" if set(letters) == {"Z"} else letters
    with qml.QueuingManager.stop_recording():
        gates = observable.diagonalizing_gates()
    if not gates:
        return ""
    matrix = qml.matrix(qml.tape.QuantumScript(gates), wire_order=observable.wires)
    return tuple(np.asarray(matrix, dtype=complex).reshape(-1).tolist())


def _state(process, kept_on: dict) -> Measurement:
    if kept_on:
        raise UserError(
            "The function returns qml.state() after a mid-circuit measurement, which leaves no pure state; "
            "return qml.density_matrix(wires) instead."
        )
    return Measurement("state")


def _subsystem(process, kept_on: dict) -> Measurement:
    kind = {"DensityMatrixMP": "density", "PurityMP": "purity", "VnEntropyMP": "entropy"}
    base = getattr(process, "log_base", None)
    return Measurement(
        kind[type(process).__name__], wires=labels(process.wires), base=None if base is None else float(base)
    )


def _mutual_info(process, kept_on: dict) -> Measurement:
    first, second = process.raw_wires
    base = None if process.log_base is None else float(process.log_base)
    return Measurement("mutual_info", wires=labels(first), others=labels(second), base=base)


READERS = {
    "ExpectationMP": _observed,
    "VarianceMP": _observed,
    "ProbabilityMP": _probs,
    "StateMP": _state,
    "DensityMatrixMP": _subsystem,
    "PurityMP": _subsystem,
    "VnEntropyMP": _subsystem,
    "MutualInfoMP": _mutual_info,
}


def _drawn(process, kept_on: dict) -> Measurement:
    kind = "sample" if type(process).__name__ == "SampleMP" else "counts"
    if getattr(process, "all_outcomes", False):
        kind = "all_counts"
    if process.mv is not None and not isinstance(process.mv, Sequence):
        wires, values = outcomes(process.mv, kept_on)
        entries = tuple(float(value) for _, value in values)
        return Measurement(kind, (Block(1.0, "diagonal", labels(wires), entries),))
    if process.obs is not None:
        return Measurement(kind, tuple(terms(process.obs)))
    return _probs(process, kept_on)._replace(kind=kind)


OF_SHOTS = {"SampleMP": _drawn, "CountsMP": _drawn}


def terms(observable, factor: Any = 1.0) -> Iterator[Term | Block]:
    """Factor * observable as a sum of Pauli words where that is its form, and of matrices."""
    import pennylane as qml

    sentence = observable.pauli_rep
    if sentence is not None:
        yield from _words(sentence, observable, factor)
    elif isinstance(observable, qml.ops.Sum):
        for part in observable.operands:
            yield from terms(part, factor)
    elif isinstance(observable, qml.ops.SProd):
        yield from terms(observable.base, factor * real(observable.scalar, observable))
    elif observable.name == "Projector" and len(observable.parameters[0]) == len(observable.wires):
        bits = tuple(int(bit) for bit in observable.parameters[0])
        yield Block(factor, "projector", labels(observable.wires), bits)
    else:
        yield from _matrix(observable, factor)


def _words(sentence, observable, factor) -> Iterator[Term]:
    for word, coefficient in sentence.items():
        letters = tuple((letter, label(wire)) for wire, letter in word.items())
        yield Term(factor * real(coefficient, observable), letters)


def _matrix(observable, factor) -> Iterator[Term | Block]:
    import pennylane as qml

    if (
        not (observable.has_matrix or observable.has_sparse_matrix)
        or len(observable.wires) > MOST_DENSE_WIRES
    ):
        raise UserError(
            f"The observable {observable!r} has no form as a sum of Pauli words and no matrix on at most "
            f"{MOST_DENSE_WIRES} wires; build it from qml.X, qml.Y, qml.Z with +, @ and real factors."
        )
    if observable.has_matrix:
        matrix = qml.matrix(observable, wire_order=observable.wires)
    else:
        matrix = observable.sparse_matrix().toarray()
    if isinstance(matrix, Tensor) and matrix.requires_grad:
        sentence = qml.pauli_decompose(matrix, wire_order=list(observable.wires), pauli=True)
        yield from _words(sentence, observable, factor)
        return
    entries = tuple(np.asarray(matrix).reshape(-1).tolist())
    yield Block(factor, "hermitian", labels(observable.wires), entries)
