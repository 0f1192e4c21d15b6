"""The metric tensor against PennyLane, and against derivatives of dense states."""

import functools

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pennylane import numpy as pnp

from qlayers import Circuit, QuantumLayer, metric_tensor
from qlayers.metric import metric_vector_product
from shared import UserError

GATES = (qml.RX, qml.RY, qml.RZ, qml.IsingXX, qml.IsingZZ, qml.CNOT, qml.Hadamard, qml.S)


@st.composite
def recipes(draw, wires=3):
    """(gate, wires) rows, each rotation with a weight of its own."""
    gates = draw(st.lists(st.sampled_from(range(len(GATES))), min_size=1, max_size=12))
    return [(GATES[i], draw(st.permutations(range(wires)))[: GATES[i].num_wires]) for i in gates]


def of_recipe(recipe, inputs, weights):
    """A quantum function's body: the first feature turns every wire, then the gates."""
    for wire in range(3):
        qml.RY(inputs[..., 0] + wire, wires=wire)
    used = 0
    for gate, wires in recipe:
        if gate.num_params:
            gate(weights[used] * 1.3, wires=wires)
            used += 1
        else:
            gate(wires=wires)
    return qml.expval(qml.Z(0))


def rotations_of(recipe):
    return sum(gate.num_params for gate, _ in recipe)


def state_metric(state, weights):
    """(P, P) of a function from weights (P,) to a complex state, by automatic differentiation."""
    slopes = torch.autograd.functional.jacobian(lambda w: torch.view_as_real(state(w)), weights)
    slopes = torch.view_as_complex(slopes.movedim(-1, 1).contiguous())  # (2^n, P)
    psi = state(weights)
    along = psi.conj() @ slopes
    return (slopes.mH @ slopes - along.conj()[:, None] * along).real


@given(recipes(), st.integers(0, 2))
@settings(max_examples=12)
def test_metric_equals_pennylanes(recipe, seed):
    count = rotations_of(recipe)
    if not count:
        return
    generator = np.random.default_rng(seed)
    weights, inputs = generator.normal(size=count), generator.normal(size=1)
    node = qml.QNode(functools.partial(of_recipe, recipe), qml.device("default.qubit", wires=3))
    expected = qml.adjoint_metric_tensor(node)(
        pnp.array(inputs, requires_grad=False), pnp.array(weights, requires_grad=True)
    )
    circuit = Circuit.from_function(
        lambda inputs, weights: of_recipe(recipe, inputs, weights), {"weights": (count,)}, features=1
    )
    found = metric_tensor(circuit, torch.from_numpy(inputs), {"weights": torch.from_numpy(weights)})
    torch.testing.assert_close(
        found, torch.from_numpy(np.array(expected)).reshape(count, count), atol=1e-9, rtol=0
    )


@pytest.mark.parametrize("approx", ["block-diag", "diag"])
def test_approximations_equal_pennylanes(approx):
    def ansatz(inputs, weights):
        for wire in range(3):
            qml.RY(inputs[..., 0], wires=wire)
        for layer in range(2):
            for wire in range(3):
                qml.RX(weights[layer, 0, wire], wires=wire)
            for wire in range(3):
                qml.RY(weights[layer, 1, wire], wires=wire)
            qml.CNOT(wires=[0, 1])
            qml.CNOT(wires=[1, 2])
        return qml.expval(qml.Z(0))

    weights, inputs = np.random.default_rng(0).normal(size=(2, 2, 3)), np.array([0.4])
    node = qml.QNode(ansatz, qml.device("default.qubit", wires=3))
    expected = qml.metric_tensor(node, approx=approx)(
        pnp.array(inputs, requires_grad=False), pnp.array(weights, requires_grad=True)
    )
    layer = QuantumLayer(ansatz, {"weights": (2, 2, 3)}, features=1).double()
    with torch.no_grad():
        layer.weights.copy_(torch.from_numpy(weights))
    found = metric_tensor(layer, torch.from_numpy(inputs), approx=approx)
    torch.testing.assert_close(
        found, torch.from_numpy(np.array(expected)).reshape(12, 12), atol=1e-10, rtol=0
    )
    whole = metric_tensor(layer, torch.from_numpy(inputs))
    kept = found != 0
    torch.testing.assert_close(found[kept], whole[kept], atol=1e-10, rtol=0)


def classical_turns(inputs, a, b):
    """Weights inside functions, products with features, one weight in several gates, one in none."""
    qml.RX(torch.sin(a[0]) * inputs[..., 0], wires=0)
    qml.RY(b * inputs[..., 1] + a[0], wires=1)
    qml.CRZ(a[1], wires=[0, 1])
    qml.RX(a[1] ** 2, wires=1)


def classical(inputs, a, b):
    classical_turns(inputs, a, b)
    return qml.expval(qml.Z(0))


@pytest.fixture
def layer():
    return QuantumLayer(classical, {"a": (3,), "b": ()}, features=2).double()


def test_chain_rule_and_average(layer):
    inputs = torch.rand(2, 5, 2, dtype=torch.float64)
    flat = torch.cat([layer.a.detach(), layer.b.detach().reshape(1)])

    def state(weights, sample):
        device = qml.device("default.qubit", wires=2)

        @qml.qnode(device, interface="torch", diff_method="backprop")
        def node():
            classical_turns(sample, weights[:3], weights[3])
            return qml.state()

        return node()

    each = metric_tensor(layer, inputs, per_sample=True)
    assert each.shape == (2, 5, 4, 4)
    for sample, found in zip(inputs.reshape(-1, 2), each.reshape(-1, 4, 4), strict=True):
        expected = state_metric(lambda w, sample=sample: state(w, sample), flat)
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(metric_tensor(layer, inputs), each.mean((0, 1)))
    assert not each.requires_grad
    assert each[..., 2].eq(0).all()  # a[2] turns nothing


def test_vector_product(layer):
    inputs = torch.rand(7, 2, dtype=torch.float64)
    vector = torch.randn(4, dtype=torch.float64)
    expected = metric_tensor(layer, inputs) @ vector
    torch.testing.assert_close(metric_vector_product(layer, vector, inputs), expected, atol=1e-12, rtol=0)


def test_samples_are_taken_in_chunks(layer, monkeypatch):
    inputs = torch.rand(9, 2, dtype=torch.float64)
    expected = metric_tensor(layer, inputs, per_sample=True)
    monkeypatch.setattr("qlayers.metric._NUMBERS_AT_ONCE", 1)
    torch.testing.assert_close(metric_tensor(layer, inputs, per_sample=True), expected)


def test_what_no_observable_sees_counts():
    """Simplification removes RX on wire 1 from the expectation value; it moves the state all the same."""
    circuit = Circuit.parse("weights w(2)\nRX(w[0]) 0\nRX(w[1]) 1\nexpval Z(0)")
    found = metric_tensor(circuit, weights={"w": torch.tensor([0.1, 0.2])})
    torch.testing.assert_close(found, torch.eye(2) / 4)


def test_natural_gradient_step_is_the_shortest():
    """RZ(w0) RX(w1) on |0>: w0 has no effect at w1 = 0, and the metric knows."""
    circuit = Circuit.parse("weights w(2)\nRX(w[1]) 0\nRZ(w[0]) 0\nexpval X(0)")
    for angle in (0.0, 0.5, 1.2):
        found = metric_tensor(circuit, weights={"w": torch.tensor([0.3, angle], dtype=torch.float64)})
        expected = torch.tensor([np.sin(angle) ** 2 / 4, 0.25], dtype=torch.float64)
        torch.testing.assert_close(found, torch.diag(expected), atol=1e-12, rtol=0)


def test_sizes_and_dtypes(layer):
    assert metric_tensor(layer, torch.rand(0, 2), per_sample=True).shape == (0, 4, 4)
    assert metric_tensor(layer.float(), torch.rand(2, 2)).dtype == torch.float32
    assert metric_tensor(layer.bfloat16(), torch.rand(2, 2, dtype=torch.bfloat16)).dtype == torch.float32
    nothing = Circuit.parse("RX(x0) 0\nexpval Z(0)")
    assert metric_tensor(nothing, torch.rand(3, 1)).shape == (0, 0)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda layer: metric_tensor(layer, torch.rand(2, 2), approx="block"),
            "'block-diag' or 'diag', not 'block'",
        ),
        (lambda layer: metric_tensor(layer, torch.ones(2, 2, dtype=torch.int64)), "floating inputs"),
        (
            lambda layer: metric_tensor(layer, torch.rand(2, 2), {"a": torch.zeros(2)}),
            r"'a' has shape \(3,\), rec",
        ),
        (lambda layer: metric_vector_product(layer, torch.zeros(5), torch.rand(2, 2)), r"expected \(4,\)"),
        (lambda layer: metric_tensor(layer.circuit, torch.rand(2, 2)), "received none; pass weights="),
    ],
    ids=["approx", "integer inputs", "weight shape", "vector", "no weights"],
)
def test_errors(layer, call, text):
    with pytest.raises(UserError, match=text):
        call(layer)
