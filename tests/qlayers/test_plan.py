"""Plans against a dense simulation of the same circuit in NumPy."""

import numpy as np
import pennylane as qml
import pytest
import torch
from torch.testing import assert_close

from qlayers import Circuit
from qlayers.gates import gate
from shared.errors import UserError

LETTERS = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}


def dense(letters: dict, wires) -> np.ndarray:
    matrix = np.eye(1)
    for wire in wires:
        matrix = np.kron(matrix, LETTERS[letters.get(wire, "I")])
    return matrix


def simulate(circuit: Circuit) -> list[float]:
    """The outputs of a circuit whose angles and coefficients are constants."""
    value = [row[1] for row in circuit.nodes]
    state = np.eye(2 ** len(circuit.wires))[0].astype(complex)
    for name, wires, parameters, _ in circuit.operations:
        for word, angle in gate(name, len(wires)).turns:
            t = angle.offset + (
                0 if angle.parameter is None else angle.scale * value[parameters[angle.parameter]]
            )
            axis = dense(dict(zip(wires, word, strict=True)), circuit.wires)
            state = np.cos(t / 2) * state - 1j * np.sin(t / 2) * axis @ state
    return [
        sum(
            value[c] * (state.conj() @ dense({w: p for p, w in word}, circuit.wires) @ state).real
            for c, word in terms
        )
        for terms in (measurement.terms for measurement in circuit.measurements)
    ]


CIRCUITS = {
    "bell": ["H 0", "CNOT 0 1", "expval X(0)@X(1)", "expval Y(0)@Y(1)", "expval Z(0)"],
    "rotations between cliffords": [
        *("RX(0.3) 0", "H 0", "RY(1.1) 1", "CNOT 0 1", "T 1", "ISWAP 1 0", "RZ(0.7) 0", "S 0", "expval X(0)"),
    ],
    "sums": [
        *("RY(0.4) 0", "CZ 0 1", "RX(2.0) 1", "expval 3.0*I", "expval Y(1)"),
        "expval 0.5*Z(0) + -1.5*X(1)@Z(0) + 0.25*I",
    ],
    "string wires": ['wires "b" 0', "RX(0.3) 0", 'CRY(0.9) 0 "b"', 'expval Z("b")', "expval Z(0)"],
    "repeated word": ["RX(0.3) 0", "expval Z(0) + 2.0*Z(0)", "expval Z(0)"],
    "only identity": ["expval 2.0*I"],
    "many gates": [
        *("H 0", "SX 1", "ECR 0 1", "Toffoli 0 1 2", "CSWAP 2 0 1", "PSWAP(0.4) 1 2", "U3(0.1,0.2,0.3) 0"),
        *("PauliRot[XYZ](0.8) 2 0 1", "C0(SISWAP) 0 1 2", "Adjoint(CH) 1 0", "FermionicSWAP(0.3) 0 1"),
        *("expval Z(0)@Y(2)", "expval X(1)", "expval Y(0)@Z(1)@X(2)"),
    ],
}


def parsed(name: str) -> Circuit:
    return Circuit.parse("\n".join(CIRCUITS[name]))


@pytest.mark.parametrize("name", CIRCUITS)
def test_plan_is_the_circuit(name):
    circuit = parsed(name)
    tables = circuit.plan().tables(torch.device("cpu"), torch.float64)
    out = tables.run(torch.zeros(2, 0, dtype=torch.float64), [])
    assert_close(
        out, torch.tensor(simulate(circuit), dtype=torch.float64).expand(2, -1), rtol=1e-12, atol=1e-12
    )


def test_clifford_gates_cost_nothing():
    gates = "H 0\nCNOT 0 1\nS 1\nSWAP 1 2\nISWAP 0 2\nECR 1 0\nSX 2\nCY 0 1\nX 0\nAdjoint(S) 1\n"
    plan = Circuit.parse(gates + "expval Z(0)\nexpval X(1)@Y(2)").plan(simplify=False)
    assert plan.rotations == ()
    assert plan.absorbed > 10
    plan = Circuit.parse(gates + f"RX({np.pi / 2!r}) 0\nRX(0.5) 0\nexpval Z(0)").plan(simplify=False)
    assert len(plan.rotations) == 1


def test_rotations_about_nothing_are_dropped():
    plan = Circuit.parse("PauliRot[I](x0) 0\nGlobalPhase(x1) 0\nRX(x0) 0\nexpval Z(0)").plan()
    assert len(plan.rotations) == 1


def test_equal_angles_share_a_column():
    plan = Circuit.parse("RX(x0) 0\nRX(x0) 1\nRY(2.0*x0) 0\nexpval Z(0)").plan(simplify=False)
    assert [rotation[3] for rotation in plan.rotations] == [0, 0, 1]


def test_common_case_needs_no_work():
    def function(inputs, w):
        qml.AngleEmbedding(inputs, wires=range(4))
        qml.BasicEntanglerLayers(w, wires=range(4))
        return [qml.expval(qml.Z(wire)) for wire in range(4)]

    plan = Circuit.from_function(function, {"w": (2, 4)}).plan()
    assert plan.schedule.steps == ()
    assert plan.schedule.finals[0] == plan.schedule.finals[1]
    assert plan.schedule.finals[0].index is None
    assert plan.tables(torch.device("cpu"), torch.float32).matrix is None
    assert str(plan).startswith("Plan: 4 wires, 12 rotations, 4 words, 4 outputs; ")


def test_plans_compare():
    assert parsed("sums").plan() == parsed("sums").plan()
    assert parsed("sums").plan() != parsed("bell").plan()
    assert hash(parsed("bell").plan())


def test_trainable_coefficients():
    circuit = Circuit.parse(
        "weights w(2)\nRX(x0) 0\nexpval w[0]*Z(0) + x1*I + 0.5*Z(0)\nexpval (w[1]*x1)*Y(0)"
    )
    tables = circuit.plan().tables(torch.device("cpu"), torch.float64)
    x, w = torch.randn(3, 2, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    cos, sin = torch.cos(x[:, 0]), torch.sin(x[:, 0])
    expected = torch.stack([(w[0] + 0.5) * cos + x[:, 1], -w[1] * x[:, 1] * sin], -1)
    assert_close(tables.run(x, [w]), expected)


def test_too_many_wires():
    circuit = Circuit.parse("\n".join(f"RX(x0) {i}" for i in range(63)) + "\nexpval Z(0)")
    with pytest.raises(UserError, match="up to 62 wires"):
        circuit.plan()
