"""Derivatives on the device: by every method, in every interface, of every measurement."""

import numpy as np
import pennylane as qml
import pytest
import torch
from pennylane import numpy as pnp
from pennylane.devices import ExecutionConfig
from pennylane.exceptions import QuantumFunctionError

KINDS = "expval expval expval var probs probs_all probs_basis state density purity"
METHODS = ["best", "backprop", "adjoint", "device"]


def simulator(wires=None, **options):
    return qml.device("qbio.simulator", wires=wires, **options)


def trainable(tape) -> list[int]:
    """The real parameters of operations; the reference cannot differentiate every observable."""
    operations = tape.get_parameters(trainable_only=False, operations_only=True)
    return [i for i, p in enumerate(operations) if np.asarray(p).dtype.kind == "f"]


def slopes_of(tape, device, method, seed=0):
    """The gradient of a random real function of all results, by torch."""
    places = trainable(tape)
    numbers = tape.get_parameters(trainable_only=False)
    leaves = [torch.tensor(np.asarray(numbers[i], dtype=float), requires_grad=True) for i in places]
    bound = tape.bind_new_parameters(leaves, places)
    (results,) = qml.execute([bound], device, diff_method=method)
    results = (results,) if len(tape.measurements) == 1 else results
    rng = np.random.default_rng(seed)
    loss = 0.0
    for result in results:
        weights = rng.normal(size=result.shape) + 1j * rng.normal(size=result.shape)
        loss = loss + (torch.tensor(weights) * result).sum().real
    return torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("seed", range(25))
def test_random_tapes(making, seed, batch):
    made = making(seed, ["a", 1, 0][: seed % 3 + 1], batch)
    tape = made.tape(KINDS, gates=6)
    while not trainable(tape):
        tape = made.tape(KINDS, gates=6)
    expected = slopes_of(tape, qml.device("default.qubit"), "backprop")
    for method in ("backprop", "adjoint"):
        for ours, theirs in zip(slopes_of(tape, simulator(), method), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("seed", range(12))
def test_products_agree_with_the_jacobian(making, seed, batch):
    made = making(seed, range(seed % 3 + 1), batch)
    tape = made.tape(KINDS, gates=5)
    while not trainable(tape) or "SpecialUnitary" in str(tape.operations):  # which has to be decomposed
        tape = made.tape(KINDS, gates=5)
    tape.trainable_params = trainable(tape)
    rng, one = np.random.default_rng(seed), len(tape.measurements) == 1
    device = simulator()
    results, jacobian = device.execute_and_compute_derivatives(tape)
    results, jacobian = ((results,), (jacobian,)) if one else (results, jacobian)
    jacobian = [(row,) if len(tape.trainable_params) == 1 else row for row in jacobian]
    tangents = [rng.normal(size=np.shape(p)) for p in tape.get_parameters()]
    cotangents = [rng.normal(size=np.shape(r)) + 1j * rng.normal(size=np.shape(r)) for r in results]

    values, along = device.execute_and_compute_jvp(tape, tangents)
    for r, value, slope, row in zip(
        results, *[(x,) if one else x for x in (values, along)], jacobian, strict=True
    ):
        total = sum(np.tensordot(part, t, axes=np.ndim(t)) for part, t in zip(row, tangents, strict=True))
        np.testing.assert_allclose(value, r, atol=1e-12)
        np.testing.assert_allclose(slope, total, atol=1e-10)

    values, back = device.execute_and_compute_vjp(tape, cotangents[0] if one else cotangents)
    for k, slope in enumerate(back):
        total = sum(
            np.tensordot(c, row[k], axes=np.ndim(c)) for c, row in zip(cotangents, jacobian, strict=True)
        )
        np.testing.assert_allclose(slope, np.real(total), atol=1e-10)


def circuit(x, y):
    qml.RX(x, 0)
    qml.CNOT([0, 1])
    qml.CRY(x * y, [1, 2])
    qml.Rot(y, 0.4, x, 0)
    return qml.expval(qml.Z(0) @ qml.X(2)), qml.probs([1, 2])


def cost(qnode, math):
    def total(x, y):
        value, probabilities = qnode(x, y)
        return math.sum(math.sin(value)) + math.sum(probabilities**2)

    return total


def reference():
    return cost(qml.QNode(circuit, qml.device("default.qubit"), diff_method="backprop"), torch)


@pytest.mark.parametrize("method", [*METHODS, "parameter-shift", "finite-diff"])
@pytest.mark.parametrize("x", [0.3, [0.3, 0.7]])
def test_torch(method, x):
    if isinstance(x, list) and method in ("parameter-shift", "finite-diff"):
        x = x[0]  # PennyLane has no gradient of broadcast parameters by these
    x, y = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (x, 0.9))
    ours = torch.autograd.grad(
        cost(qml.QNode(circuit, simulator(3), diff_method=method), torch)(x, y), (x, y)
    )
    theirs = torch.autograd.grad(reference()(x, y), (x, y))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", [*METHODS, "parameter-shift", "finite-diff"])
@pytest.mark.parametrize("x", [0.3, [0.3, 0.7]])
def test_autograd(method, x):
    if isinstance(x, list) and method in ("parameter-shift", "finite-diff"):
        x = x[0]
    x, y = pnp.array(x, requires_grad=True), pnp.array(0.9, requires_grad=True)
    ours = qml.grad(cost(qml.QNode(circuit, simulator(3), diff_method=method), pnp))(x, y)
    theirs = qml.grad(cost(qml.QNode(circuit, qml.device("default.qubit")), pnp))(x, y)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_second_derivatives_by_torch():
    x, y = (torch.tensor(v, dtype=torch.float64) for v in (0.3, 0.9))
    ours = torch.autograd.functional.hessian(cost(qml.QNode(circuit, simulator(3)), torch), (x, y))
    theirs = torch.autograd.functional.hessian(reference(), (x, y))
    np.testing.assert_allclose(ours, theirs, atol=1e-10)


@pytest.mark.parametrize("transform", [torch.func.jacfwd, torch.func.jacrev, torch.func.hessian])
def test_transforms_of_torch(transform):
    def one(x):
        qml.RX(x, 0)
        qml.RY(x**2, 0)
        return qml.expval(qml.Z(0))

    x = torch.tensor([0.3, 0.8], dtype=torch.float64)
    ours, theirs = (
        torch.func.vmap(transform(qml.QNode(one, device)))(x)
        for device in (simulator(1), qml.device("default.qubit"))
    )
    torch.testing.assert_close(ours, theirs)


def test_third_derivatives_by_autograd():
    def third(device):
        @qml.qnode(device)
        def one(x):
            qml.RX(x, 0)
            qml.RY(x**2, 0)
            return qml.expval(qml.Z(0))

        return qml.grad(qml.grad(qml.grad(one)))(pnp.array(0.4, requires_grad=True))

    assert third(simulator(1)) == pytest.approx(third(qml.device("default.qubit", wires=1)), abs=1e-10)


def test_states_by_autograd():
    def total(device):
        @qml.qnode(device)
        def one(x):
            qml.RX(x, 0)
            qml.RZ(0.3 * x, 0)
            return qml.state()

        return lambda x: pnp.real(one(x)[0] * pnp.conj(one(x)[1]) * (1 + 2j))

    x = pnp.array(0.4, requires_grad=True)
    ours, theirs = (qml.grad(total(device))(x) for device in (simulator(1), qml.device("default.qubit")))
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_trainable_coefficients_and_matrices():
    def losses(device):
        phases = torch.tensor([0.3, -0.8], dtype=torch.float64, requires_grad=True)
        factor = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

        @qml.qnode(device)
        def one(phases, factor):
            qml.RX(0.4, 0)
            qml.QubitUnitary(qml.math.diag(torch.exp(1j * phases)), 0)
            qml.DiagonalQubitUnitary(torch.exp(1j * phases), 0)
            return qml.expval(qml.dot([factor, 0.2], [qml.Y(0), qml.X(0)]))

        return torch.autograd.grad(one(phases, factor), (phases, factor))

    for a, b in zip(losses(simulator(1)), losses(qml.device("default.qubit", wires=1)), strict=True):
        torch.testing.assert_close(a, b)


def test_results_that_depend_on_nothing_have_gradient_zero():
    x = torch.tensor(0.3, requires_grad=True)

    @qml.qnode(simulator(2), diff_method="adjoint")
    def one(x):
        qml.RX(x, 0)
        return qml.expval(qml.Z(1))

    (slope,) = torch.autograd.grad(one(x), x)
    assert slope == 0.0


def test_vector_jacobian_products_need_no_jacobian(monkeypatch):
    device = simulator(3)
    monkeypatch.setattr(type(device), "compute_derivatives", None)
    monkeypatch.setattr(type(device), "execute_and_compute_derivatives", None)
    x, y = (pnp.array(v, requires_grad=True) for v in (0.3, 0.9))
    found = qml.grad(cost(qml.QNode(circuit, device, diff_method="adjoint"), pnp))(x, y)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("method", ["backprop", "adjoint", "device"])
def test_no_method_of_the_device_has_shots(method):
    qnode = qml.set_shots(qml.QNode(circuit, simulator(3), diff_method=method), 10)
    with pytest.raises(QuantumFunctionError, match=f"does not support {method}"):
        qnode(pnp.array(0.3, requires_grad=True), 0.4)


@pytest.mark.parametrize("method", ["adjoint", "device"])
def test_second_order_is_refused_where_it_would_be_wrong(method):
    qnode = qml.QNode(circuit, simulator(3), diff_method=method, max_diff=2)
    with pytest.raises(QuantumFunctionError, match=f"does not support {method}"):
        qnode(pnp.array(0.3, requires_grad=True), 0.4)


def test_what_is_supported():
    device = simulator(1)
    exact = qml.tape.QuantumScript([], [qml.expval(qml.Z(0))])
    shots = qml.tape.QuantumScript([], [qml.expval(qml.Z(0))], shots=3)
    assert device.supports_derivatives()
    assert not device.supports_derivatives(ExecutionConfig(gradient_method="parameter-shift"))
    for method in METHODS:
        config = ExecutionConfig(gradient_method=method)
        for supports in (device.supports_derivatives, device.supports_vjp, device.supports_jvp):
            assert supports(config, exact)
            assert not supports(config, shots)
