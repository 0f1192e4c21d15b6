"""Initial states, matrices and mid-circuit measurements against default.qubit, captured and re-traced."""

import numpy as np
import pennylane as qml
import pytest
import torch
from torch.testing import assert_close

from qlayers import QuantumLayer
from shared.errors import UserError

RANDOM = np.random.default_rng(0)


def unitary(size):
    return np.linalg.qr(RANDOM.normal(size=(size, size)) + 1j * RANDOM.normal(size=(size, size)))[0]


V = unitary(4)[0]
U1, U2, U3 = unitary(2), unitary(4), unitary(8)
D = np.exp(1j * RANDOM.normal(size=8))


def gates(x, w):
    qml.Hadamard(0)
    qml.AngleEmbedding(x, wires=range(3))
    qml.CNOT([0, 1])
    qml.Rot(w[1], w[2], w[3], 2)
    qml.ISWAP([0, 2])
    qml.CRX(w[4], [2, 0])


def rotation(angle):
    """The matrix of RX, (..., 2, 2)."""
    c, s = torch.cos(angle / 2) + 0j, -1j * torch.sin(angle / 2)
    return torch.stack([torch.stack([c, s], -1), torch.stack([s, c], -1)], -2)


def features(x):
    return torch.cat([x, x[..., :1]], -1)


BEFORE = {  # the numbers of the circuit's states, matrices and phases, before and after `gates`
    "basis state": lambda x, w: qml.BasisState(np.array([1, 0, 1]), wires=[0, 1, 2]),
    "basis embedding": lambda x, w: qml.BasisEmbedding([1, 0, 1], wires=[0, 1, 2]),
    "state": lambda x, w: qml.StatePrep(V, wires=[2, 0]),
    "two states": lambda x, w: (qml.StatePrep(V, wires=[2, 0]), qml.StatePrep([0.6, 0.8j], wires=1)),
    "padded": lambda x, w: qml.AmplitudeEmbedding(x, wires=[1, 0], pad_with=0.3),
    "normalised": lambda x, w: qml.AmplitudeEmbedding(features(x), wires=[1, 0], normalize=True),
    "weights": lambda x, w: qml.AmplitudeEmbedding(w[:4], wires=[1, 0], normalize=True),
}
AFTER = {
    "late state": lambda x, w: qml.StatePrep(V, wires=[2, 0]),
    "unitary on one": lambda x, w: qml.QubitUnitary(U1, wires=1),
    "unitary on two": lambda x, w: qml.QubitUnitary(U2, wires=[2, 0]),
    "unitary on three": lambda x, w: qml.QubitUnitary(U3, wires=[2, 0, 1]),
    "adjoint unitary": lambda x, w: qml.adjoint(qml.QubitUnitary(U2, wires=[2, 0])),
    "controlled unitary": lambda x, w: qml.ctrl(qml.QubitUnitary(U2, wires=[2, 0]), 1, control_values=[0]),
    "diagonal": lambda x, w: qml.DiagonalQubitUnitary(D, wires=[2, 0, 1]),
    "controlled diagonal": lambda x, w: qml.ctrl(qml.DiagonalQubitUnitary(D[:4], wires=[2, 0]), control=1),
    "phases": lambda x, w: (qml.GlobalPhase(w[0]), qml.ctrl(qml.GlobalPhase(x[..., 0]), control=[1])),
    "adjoint": lambda x, w: (qml.adjoint(qml.Rot)(w[0], w[1], w[2], 0), qml.adjoint(qml.SX)(0)),
    "controlled": lambda x, w: (
        qml.ctrl(qml.RX, [0, 1])(w[3], 2),
        qml.ctrl(qml.adjoint(qml.S(0)), control=[1]),
    ),
    "power": lambda x, w: qml.pow(qml.SX(1), 0.5),
    "fixed gates": lambda x, w: (
        *(qml.Toffoli([0, 1, 2]), qml.CSWAP([2, 0, 1]), qml.CCZ([0, 1, 2]), qml.ECR([0, 1])),
        *(qml.SISWAP([1, 2]), qml.CH([0, 1]), qml.CY([2, 0]), qml.T(1), qml.Y(2), qml.S(0)),
        *(qml.PSWAP(0.3, [0, 1]), qml.FermionicSWAP(w[0], [1, 2]), qml.MultiControlledX([0, 1, 2], [0, 1])),
    ),
    "templates": lambda x, w: (
        qml.QFT(range(3)),
        qml.Permute([2, 0, 1], range(3)),
        qml.PauliRot(w[0], "XYZ", range(3)),
    ),
}
RETRACED = {
    "complex weights": lambda x, w: qml.StatePrep(
        (w[:4] + 1j * w[1:5]) / torch.linalg.norm(w[:4] + 1j * w[1:5]), wires=[1, 0]
    ),
    "checked state": lambda x, w: qml.AmplitudeEmbedding(
        torch.stack([torch.cos(x[..., 0]), torch.sin(x[..., 0])], -1), wires=[1]
    ),
    "unitary of weights": lambda x, w: (gates(x, w), qml.QubitUnitary(rotation(w[0]), wires=1)),
    "unitary of inputs": lambda x, w: (gates(x, w), qml.QubitUnitary(rotation(x[..., 0]), wires=1)),
    "diagonal of weights": lambda x, w: (
        gates(x, w),
        qml.DiagonalQubitUnitary(torch.exp(1j * w[:4]), [2, 0]),
    ),
}
MEASURED = {
    "state": lambda: qml.state(),
    "expval": lambda: qml.expval(qml.Z(0) @ qml.X(1) + 0.3 * qml.Y(2)),
}


def compare(function, *, captured=True, rows=4):
    layer = QuantumLayer(function, {"w": (6,)}, features=3).double()
    assert ("anew at each forward" not in repr(layer)) == captured, repr(layer)
    x = torch.randn(rows, 3, dtype=torch.float64, requires_grad=True)
    found, wanted = layer(x), qml.QNode(function, qml.device("default.qubit"))(x, layer.w)
    assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    factors = torch.randn(found.shape, dtype=found.dtype)
    gradients = [
        torch.autograd.grad(
            (out * factors).real.sum(), [x, layer.w], allow_unused=True, materialize_grads=True
        )
        for out in (found, wanted)
    ]
    assert_close(*gradients, rtol=1e-8, atol=1e-10)
    return layer


@pytest.mark.parametrize("measured", MEASURED)
@pytest.mark.parametrize("name", [*BEFORE, *AFTER])
def test_captured(name, measured):
    def function(inputs, w):
        if name in AFTER:
            gates(inputs, w)
        (BEFORE | AFTER)[name](inputs, w)
        gates(inputs, w)
        return MEASURED[measured]()

    compare(function)


@pytest.mark.parametrize("measured", MEASURED)
@pytest.mark.parametrize("name", RETRACED)
def test_retraced(name, measured):
    def function(inputs, w):
        RETRACED[name](inputs, w)
        gates(inputs, w)
        return MEASURED[measured]()

    compare(function, captured=False)


def test_retraced_measurements():
    """A function that decides by a value serves the same measurements."""

    def function(inputs, w):
        gates(inputs, w)
        if w[0] > 0:
            qml.RX(w[0], 0)
        return qml.probs(wires=[0, 1]), qml.var(qml.Z(0)), qml.vn_entropy([2])

    layer = QuantumLayer(function, {"w": (6,)}, features=3).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    parts = qml.QNode(function, qml.device("default.qubit"))(x, layer.w)
    assert_close(layer(x), torch.cat([part.reshape(4, -1) for part in parts], -1))


PHASED = ["RX", "RY", "RZ", "PhaseShift", "Hadamard", "S", "SX", "T", "PauliX", "PauliY", "PauliZ"]
PHASED_PAIRS = [
    "CNOT",
    "CY",
    "CZ",
    "SWAP",
    "ISWAP",
    "SISWAP",
    "ECR",
    "CRX",
    "IsingXX",
    "ControlledPhaseShift",
]


@pytest.mark.parametrize("seed", range(20))
def test_phase_of_random_circuits(seed):
    def function(inputs):
        draw = np.random.default_rng(seed)
        for _ in range(25):
            pair = draw.random() < 0.5
            name = draw.choice(PHASED_PAIRS if pair else PHASED)
            wires = draw.choice(3, 2 if pair else 1, replace=False).tolist()
            gate = getattr(qml, name)
            angle = (
                draw.choice([np.pi / 2, np.pi, -np.pi / 2, 0.7]) if draw.random() < 0.7 else inputs[..., 0]
            )
            made = gate(angle, wires=wires) if gate.num_params else gate(wires=wires)
            if draw.random() < 0.2:
                qml.adjoint(made)
        qml.RX(inputs[..., 0], 0)
        return qml.state()

    form = qml.QNode(function, qml.device("default.qubit", wires=3))
    x = torch.randn(2, 1, dtype=torch.float64)
    assert_close(QuantumLayer(form, {}, features=1)(x), form(x))


def measured_in_between(x, w, *, reset=False, postselect=None):
    qml.RX(x[..., 0], 0)
    qml.RY(w[0], 1)
    qml.CNOT([0, 1])
    qml.RY(x[..., 1], 2)
    first = qml.measure(0, reset=reset, postselect=postselect)
    qml.cond(first, qml.RX)(w[1], 2)
    qml.CRY(w[2], [2, 1])
    qml.RX(w[3], 0)
    second = qml.measure(1)
    qml.cond((first + second) == 1, qml.RY, qml.RZ)(w[4], 0)
    qml.cond(second == 0, qml.RY)(x[..., 2], 2)
    return first, second


RESULTS = {
    "expval": lambda a, b: qml.expval(qml.Z(0) @ qml.Z(2)),
    "probs": lambda a, b: qml.probs(wires=[1, 2]),
    "density": lambda a, b: qml.density_matrix([2]),
    "entropy": lambda a, b: qml.vn_entropy([2]),
    "expval of an outcome": lambda a, b: qml.expval(a),
    "var of an outcome": lambda a, b: qml.var(b),
    "probs of outcomes": lambda a, b: qml.probs(op=[b, a]),
    "expval of a sum": lambda a, b: qml.expval(2 * a + 3 * b + 1),
    "var of a product": lambda a, b: qml.var(a * b),
}


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize(
    "options", [{}, {"reset": True}, {"postselect": 1}, {"reset": True, "postselect": 0}]
)
def test_measurements_in_between(name, options):
    def function(inputs, w):
        return RESULTS[name](*measured_in_between(inputs, w, **options))

    compare(function)


def test_probs_of_all_wires_do_not_show_the_added_ones():
    def function(inputs):
        qml.RX(inputs[..., 0], 0)
        qml.measure(0)
        qml.RY(inputs[..., 0], 0)
        return qml.probs()

    x = torch.tensor([[0.4]])
    p = torch.sin(x / 2) ** 2
    q = torch.sin(x / 2) ** 2
    assert_close(
        QuantumLayer(function, {}, features=1)(x), torch.cat([1 - p - q + 2 * p * q, p + q - 2 * p * q], -1)
    )


def test_broadcast_weights():
    def function(inputs, w):
        qml.RX(inputs[..., 0], 0)
        qml.RY(w, 0)
        return qml.expval(qml.Z(0))

    layer = QuantumLayer(function, {"w": (5,)}, features=1).double()
    x = torch.randn(5, 1, dtype=torch.float64)
    assert_close(layer(x), torch.cos(x[:, 0]) * torch.cos(layer.w))
    with pytest.raises(UserError, match="fixes the size of the batch"):
        layer(x[:4])


def test_basis_embedding_of_inputs():
    def function(inputs):
        qml.BasisEmbedding(inputs, wires=range(2))
        qml.CNOT([0, 1])
        return qml.probs(wires=[0, 1])

    layer = QuantumLayer(function, {}, features=2)
    assert_close(layer(torch.tensor([[1.0, 0.0], [0.0, 1.0]])), torch.tensor([[0.0, 0, 0, 1], [0, 1, 0, 0]]))
    with pytest.raises(UserError, match=r"BasisEmbedding on wires \[0, 1\]: expected bits"):
        layer(torch.tensor([[0.5, 0.0]]))


def rx(inputs):
    qml.RX(inputs[..., 0], 0)


MISTAKES = {
    "CNOT on wires \\[0, 0\\]: expected different wires": lambda x: qml.CNOT([0, 0]),
    "CNOT on wires \\[0\\]: expected as many wires": lambda x: qml.CNOT([0]),
    "Rot: expected the parameters of its signature.*'omega'": lambda x: qml.Rot(0.1, 0.2, wires=0),
    "QubitUnitary on wires \\[0\\]: expected a unitary matrix U, received": lambda x: qml.QubitUnitary(
        np.array([[1, 1], [0, 1]]), wires=0
    ),
    "StatePrep on wires \\[1\\]: expected a state of norm 1, received one of norm 1.41": lambda x: (
        qml.StatePrep(np.array([1, 1]), wires=1)
    ),
    "AmplitudeEmbedding on wires \\[1\\]: expected a state of norm 1": lambda x: qml.AmplitudeEmbedding(
        np.array([1, 1]), wires=1
    ),
    "BasisState on wires .*: expected bits 0 and 1": lambda x: qml.BasisState(np.array([2]), wires=[1]),
    "BitFlip on wires .*: expected a probability p from 0 to 1": lambda x: qml.BitFlip(1.1, wires=0),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes(message):
    def function(inputs):
        rx(inputs)
        MISTAKES[message](inputs)
        return qml.expval(qml.Z(0))

    with pytest.raises(UserError, match=message):
        QuantumLayer(function, {})


def test_a_matrix_of_weights_that_is_not_unitary():
    def function(inputs, w):
        rx(inputs)
        qml.QubitUnitary(torch.stack([w, w.flip(0)]), wires=0)
        return qml.expval(qml.Z(0))

    with pytest.raises(UserError, match="expected a unitary matrix"):
        QuantumLayer(function, {"w": (2,)}, features=1)(torch.zeros(1, 1))


def test_more_wires_than_memory():
    def function(inputs):
        for wire in range(50):
            qml.RX(inputs[..., 0], wire)
        return qml.state()

    with pytest.raises(UserError, match=r"50 wires.*GiB are needed and .* GiB are available"):
        QuantumLayer(function, {}, features=1)(torch.zeros(1, 1))


def test_a_state_after_a_measurement_is_refused():
    def function(inputs):
        rx(inputs)
        qml.measure(0)
        return qml.state()

    with pytest.raises(UserError, match="density_matrix"):
        QuantumLayer(function, {})


@pytest.mark.parametrize("idle", [qml.Identity, lambda wires: qml.GlobalPhase(0.3, wires=wires)])
def test_states_span_wires_without_effect(idle):
    def circuit(inputs, w):
        qml.RX(inputs[..., 0], 0)
        qml.RY(w, 1)
        idle(wires=2)
        return qml.state()

    x, w = torch.tensor([[0.3], [1.1]], dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    layer = QuantumLayer(circuit, {"w": ()}, {"w": w}).double()
    node = qml.QNode(circuit, qml.device("default.qubit"), interface="torch")
    torch.testing.assert_close(layer(x), node(inputs=x, w=w))
