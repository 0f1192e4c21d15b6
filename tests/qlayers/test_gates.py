"""The gate table against PennyLane's matrices, phases included."""

import numpy as np
import pennylane as qml
import pytest

from qlayers.gates import CONTROLLED, TABLE, gate

LETTERS = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}
ANGLES = [0.7, -1.3, 2.1]


def word_matrix(word: str) -> np.ndarray:
    matrix = np.eye(1)
    for letter in word:
        matrix = np.kron(matrix, LETTERS[letter])
    return matrix


def value(angle, parameters) -> float:
    return angle.offset + (0.0 if angle.parameter is None else angle.scale * parameters[angle.parameter])


def matrix_of(found, parameters) -> np.ndarray:
    matrix = np.eye(2**found.wires, dtype=complex)
    for word, angle in found.turns:
        half = value(angle, parameters) / 2
        matrix = (np.cos(half) * np.eye(len(matrix)) - 1j * np.sin(half) * word_matrix(word)) @ matrix
    return np.exp(1j * sum(value(angle, parameters) for angle in found.phase)) * matrix


def pennylane_gate(name: str):
    cls = getattr(qml, name)
    found = gate(name, cls.num_wires)
    return cls(*ANGLES[: cls.num_params], wires=range(cls.num_wires)), found


@pytest.mark.parametrize("name", [*TABLE, *CONTROLLED])
def test_row_is_the_matrix(name):
    op, found = pennylane_gate(name)
    assert found.parameters == op.num_params
    np.testing.assert_allclose(matrix_of(found, ANGLES), qml.matrix(op), atol=1e-14)


@pytest.mark.parametrize("name", [*TABLE, *CONTROLLED])
def test_adjoint_and_controls(name):
    op, _ = pennylane_gate(name)
    wires = len(op.wires)
    adjoint = gate(f"Adjoint({name})", wires)
    np.testing.assert_allclose(matrix_of(adjoint, ANGLES), qml.matrix(op).conj().T, atol=1e-14)
    both = gate(f"C(C0({name}))", wires + 2)
    expected = qml.ctrl(op, control=["c", "d"], control_values=[1, 0])
    expected = qml.matrix(expected, wire_order=["c", "d", *op.wires])
    np.testing.assert_allclose(matrix_of(both, ANGLES), expected, atol=1e-14)


@pytest.mark.parametrize("word", ["X", "ZY", "XIZ", "YYXZ"])
def test_pauli_rot(word):
    expected = qml.matrix(qml.PauliRot(0.7, word, wires=range(len(word))))
    np.testing.assert_allclose(matrix_of(gate(f"PauliRot[{word}]", len(word)), ANGLES), expected, atol=1e-14)


@pytest.mark.parametrize("wires", [1, 2, 4])
def test_multi_rz_and_global_phase(wires):
    expected = qml.matrix(qml.MultiRZ(0.7, wires=range(wires)))
    np.testing.assert_allclose(matrix_of(gate("MultiRZ", wires), ANGLES), expected, atol=1e-14)
    assert gate("GlobalPhase", wires).turns == ()
    np.testing.assert_allclose(
        matrix_of(gate("C(GlobalPhase)", 1), ANGLES), qml.matrix(qml.ctrl(qml.GlobalPhase(0.7), 0))
    )


@pytest.mark.parametrize(
    ("name", "wires"), [("Nonsense", 1), ("RX", 2), ("C(RX)", 1), ("PauliRot[XQ]", 2), ("", 1)]
)
def test_unknown_is_none(name, wires):
    assert gate(name, wires) is None
