"""Capture: what PennyLane functions become, and what is refused with which words."""

import random
import subprocess
import sys

import numpy as np
import pennylane as qml
import pytest
import torch
from torch.testing import assert_close

from qlayers import Circuit, QuantumLayer
from shared.errors import UserError


def names(circuit: Circuit) -> list[str]:
    return [operation.gate for operation in circuit.operations]


def test_wires_keep_their_labels_and_the_device_order():
    @qml.qnode(qml.device("default.qubit", wires=["z", "unused", 4]))
    def function(inputs):
        qml.RX(inputs[..., 0], wires=4)
        qml.CNOT([4, "z"])
        return qml.expval(qml.Z("z") @ qml.X(4))

    circuit = Circuit.from_function(function, {})
    assert circuit.wires == ("z", 4)
    assert str(
        circuit
    ) == 'wires "z" 4\nfeatures 1\nRX(x0) 4\nCNOT 4 "z"\nsingle expval X(4)@Z("z")\n' or "Z(" in str(circuit)


def test_user_transforms_are_applied():
    @qml.transforms.cancel_inverses
    @qml.qnode(qml.device("default.qubit", wires=1))
    def function(inputs):
        qml.Hadamard(0)
        qml.Hadamard(0)
        qml.RX(inputs[..., 0], wires=0)
        return qml.expval(qml.Z(0))

    assert names(Circuit.from_function(function, {})) == ["RX"]


def test_names_of_symbolic_operators():
    def function(inputs):
        x = inputs[..., 0]
        qml.adjoint(qml.S)(0)
        qml.adjoint(qml.RX(x, wires=0))
        qml.ctrl(qml.RX(x, wires=0), control=[1, 2], control_values=[0, 1])
        qml.ctrl(qml.PhaseShift, control=1)(x, wires=0)
        qml.PauliRot(x, "XY", wires=[0, 2])
        qml.MultiRZ(x, wires=[2, 1, 0])
        qml.Barrier(wires=[0, 1])
        qml.Snapshot("here")
        qml.GlobalPhase(x)
        qml.Identity(0)
        return qml.expval(qml.Z(0))

    expected = ["Adjoint(S)", "Adjoint(RX)", "C0(C(RX))", "ControlledPhaseShift", "PauliRot[XY]", "MultiRZ"]
    circuit = Circuit.from_function(function, {})
    assert names(circuit) == expected
    assert circuit.operations[2].wires == (1, 2, 0)


def test_templates_and_matrices_are_decomposed():
    def function(inputs):
        qml.IQPEmbedding(inputs, wires=range(3))
        qml.QubitUnitary(np.array([[1, 1], [1, -1]]) / np.sqrt(2), wires=0)
        qml.MultiControlledX(wires=range(3))
        qml.QFT(wires=range(3))
        return [qml.expval(qml.Z(i)) for i in range(3)]

    layer = QuantumLayer(function, {}, features=3).double()
    assert layer.circuit.features == 3
    x = torch.rand(4, 3, dtype=torch.float64)
    node = qml.QNode(function, qml.device("default.qubit", wires=3))
    assert_close(layer(x), torch.stack(node(x), -1))


@pytest.mark.parametrize("time", [lambda inputs, w: 0.7, lambda inputs, w: w])
def test_evolution_under_commuting_words(time):
    def function(inputs, w):
        qml.AngleEmbedding(inputs, wires=range(3))
        qml.evolve(0.5 * qml.X(0) @ qml.Y(1) - qml.Z(2) + 0.1 * qml.I(0), time(inputs, w))
        return [qml.expval(qml.Z(0)), qml.expval(qml.X(2))]

    layer = QuantumLayer(function, {"w": ()}, features=3).double()
    if "called anew" not in repr(layer):  # PennyLane multiplies the time by 1j, which cannot be traced
        assert names(layer.circuit)[3:] == ["PauliRot[XY]", "PauliRot[Z]"]
    x = torch.rand(2, 3, dtype=torch.float64)
    node = qml.QNode(function, qml.device("default.qubit", wires=3))
    assert_close(layer(x), torch.stack([torch.stack(node(inputs=sample, w=layer.w)) for sample in x]))


def one_gate(make):
    def function(inputs):
        qml.RX(inputs[..., 0], wires="a")
        make()
        return qml.expval(qml.Z("a"))

    return function


class Strange(qml.operation.Operation):
    num_wires = 1


class StrangeNoise(qml.operation.Channel):
    num_wires = 1

    @staticmethod
    def compute_kraus_matrices():
        return [np.eye(2)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Strange(wires="a"), r"Strange on wires \['a'\].*cannot decompose"),
        (
            lambda: StrangeNoise(wires="a"),
            r"StrangeNoise on wires \['a'\]: expected a channel that the circuit language knows",
        ),
        (lambda: qml.pauli_measure("X", wires="a"), "expected a measurement in the computational basis"),
        (lambda: qml.RX(0.3, wires=1.5), "Wire labels must be integers or strings"),
    ],
)
def test_gates_that_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        QuantumLayer(one_gate(make), {})


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda: qml.sample(qml.Z(0)), "needs finite shots"),
        (lambda: qml.counts(), "needs finite shots"),
        (lambda: qml.classical_shadow([0]), "which a layer does not take"),
    ],
)
def test_measurements_of_samples_without_shots_are_refused(returned, message):
    def function(inputs):
        qml.RX(inputs[..., 0], wires=0)
        return returned()

    with pytest.raises(UserError, match=message):
        QuantumLayer(function, {})


def test_interfaces_and_several_circuits_are_refused():
    def function(inputs):
        qml.RX(inputs[..., 0], wires=0)
        return qml.expval(qml.Z(0))

    device = qml.device("default.qubit", wires=1)
    with pytest.raises(UserError, match="interface must be"):
        QuantumLayer(qml.QNode(function, device, interface="autograd"), {})

    split = qml.transforms.split_non_commuting(qml.QNode(lambda inputs: _two(inputs), device))
    with pytest.raises(UserError, match="leave out transforms"):
        QuantumLayer(split, {}, features=1)


def _two(inputs):
    qml.RX(inputs[..., 0], wires=0)
    return [qml.expval(qml.Z(0)), qml.expval(qml.X(0))]


OBSERVABLES = {
    "product": lambda: qml.Z(0) @ qml.X(1),
    "sum": lambda: 0.5 * qml.Z(0) + qml.X(1) @ qml.Y(0) - 2 * qml.I(0),
    "hamiltonian": lambda: qml.Hamiltonian([0.3, -0.7], [qml.Z(0), qml.X(0) @ qml.Y(1)]),
    "hermitian": lambda: qml.Hermitian(np.array([[1.0, 2 - 1j], [2 + 1j, -0.5]]), wires=1),
    "projector": lambda: qml.Projector([0, 1], wires=[0, 1]),
    "mixed": lambda: qml.Hermitian(np.diag([1.0, 3.0]), wires=0) @ qml.X(1),
    "hadamard": lambda: qml.Hadamard(0) @ qml.Z(1),
}


@pytest.mark.parametrize("name", OBSERVABLES)
def test_observables(name):
    def function(inputs):
        qml.AngleEmbedding(inputs, wires=range(2), rotation="Y")
        qml.IsingXY(0.7, wires=[0, 1])
        return qml.expval(OBSERVABLES[name]())

    layer = QuantumLayer(function, {}).double()
    x = torch.rand(2, 2, dtype=torch.float64)
    node = qml.QNode(function, qml.device("default.qubit", wires=2))
    assert_close(layer(x), torch.stack([node(sample) for sample in x]))


def test_trainable_coefficients():
    def function(inputs, w):
        qml.RX(inputs[..., 0], wires=0)
        return qml.expval(qml.Hamiltonian([w[0], 0.5], [qml.Z(0), qml.Y(0)]))

    layer = QuantumLayer(function, {"w": 2}).double()
    assert "0.5*<Y(0)>" in layer.circuit.draw()
    x = torch.rand(3, 1, dtype=torch.float64)
    assert_close(layer(x), layer.w[0] * torch.cos(x[:, 0]) - 0.5 * torch.sin(x[:, 0]))


def test_one_sample_functions():
    def function(inputs, w):
        for i in range(len(inputs)):
            qml.RX(inputs[i] * w, wires=i)
        qml.CNOT([0, 1])
        return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]

    layer = QuantumLayer(function, {"w": ()}, features=2)
    assert len(layer.circuit.operations) == 3
    x = torch.rand(4, 2)
    cos = torch.cos(x * layer.w)
    assert_close(layer(x), torch.stack([cos[:, 0], cos.prod(1)], -1))


@pytest.mark.parametrize("source", [random.random, np.random.rand, lambda: torch.rand(()).item()])
def test_chance_is_not_frozen(source):
    def function(inputs):
        qml.RX(inputs[..., 0] + source(), wires=0)
        return qml.expval(qml.Z(0))

    layer = QuantumLayer(function, {}, features=1)
    assert "from call to call" in repr(layer)
    x = torch.rand(1, 1)
    assert layer(x) != layer(x)


def test_capture_leaves_the_generator_alone():
    def function(inputs):
        qml.RX(inputs[..., 0] + torch.rand(()), wires=0)
        return qml.expval(qml.Z(0))

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with pytest.raises(UserError, match="not fixed"):
        Circuit.from_function(function, {}, features=1)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("function", "features"),
    [
        (lambda inputs: _measured(qml.AngleEmbedding(inputs, wires=range(3))), 3),
        (lambda inputs: _measured(qml.RX(inputs[..., 4], wires=0)), 5),
        (lambda inputs: _measured([qml.RX(inputs[..., i], wires=i) for i in (0, 1)]), 2),
        (lambda inputs: _measured(qml.RX(0.1, wires=0)), 1),
    ],
)
def test_number_of_features_is_judged(function, features):
    assert Circuit.from_function(function, {}).features == features


@pytest.mark.parametrize("features", [None, 3])
@pytest.mark.parametrize(
    "index",
    [
        lambda inputs, i: inputs[..., i],
        lambda inputs, i: inputs.T[i],
        lambda inputs, i: inputs.unbind(-1)[i],
        lambda inputs, i: 2 * inputs[..., i],
    ],
)
def test_a_function_is_called_twice(index, features):
    seen = []

    def function(inputs, w):
        seen.append(tuple(inputs.shape))
        for i in range(3):
            qml.RX(index(inputs, i) * w[i], wires=i)
        return _measured(None)

    circuit = Circuit.from_function(function, {"w": 3}, features=features)
    assert (circuit.features, len(circuit.operations)) == (3, 3)
    assert len(seen) == 2
    assert seen[0][0] != seen[1][0]


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (lambda inputs: 1 / inputs.shape[-1], "0.5*x1"),  # it may depend on the number of features
        (lambda inputs: 1 / inputs.shape[0], None),  # but not on the number of samples
        (lambda inputs: 1 / inputs.numel(), None),
        (lambda inputs: random.random(), None),
    ],
)
def test_what_the_guess_of_features_saw_is_confirmed(scale, expected):
    def function(inputs):
        qml.RX(inputs[..., 1] * scale(inputs), wires=0)
        return _measured(None)

    layer = QuantumLayer(function, {})
    if expected is None:
        assert "called anew at each forward, since its angles change" in repr(layer)
    else:
        assert expected in layer.circuit.draw()


def test_angles_that_are_elements_load_no_part_of_torch():
    """The first call of torch's dispatcher with a tensor of ours takes half a second."""
    code = """
import sys, pennylane as qml, torch
from qlayers import QuantumLayer
def function(inputs, weights):
    qml.AngleEmbedding(inputs, wires=range(2))
    qml.StronglyEntanglingLayers(weights, wires=range(2))
    return qml.expval(qml.Z(0))
print(QuantumLayer(function, {"weights": (2, 2, 3)}))
assert "torch.distributed.tensor" not in sys.modules
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "2 features" in found.stdout, found.stderr


def _measured(_):
    return qml.expval(qml.Z(0))


def test_numbers_of_the_surroundings_are_read_once():
    scale = {"value": 2.0}

    def function(inputs):
        qml.RX(inputs[..., 0] * scale["value"], wires=0)
        return qml.expval(qml.Z(0))

    layer = QuantumLayer(function, {})
    scale["value"] = 5.0
    x = torch.rand(2, 1)
    assert_close(layer(x), torch.cos(2 * x[:, 0]))


def test_parameters_of_the_surroundings_stay_live():
    scale = torch.tensor(2.0, requires_grad=True)

    def function(inputs):
        qml.RX(inputs[..., 0] * scale, wires=0)
        return qml.expval(qml.Z(0))

    layer = QuantumLayer(function, {})
    x = torch.rand(2, 1)
    (slope,) = torch.autograd.grad(layer(x).sum(), scale)
    assert_close(slope, (-torch.sin(2 * x) * x).sum())
