"""A layer on PennyLane's devices: the values and first derivatives of the exact layer, on any of them."""

import copy
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest
import torch
from agreement import assert_agree, pair
from faulty import Faulty
from torch.func import functional_call, grad, jacrev, vmap
from torch.testing import assert_close

from qlayers import Circuit, QuantumLayer, TorchLayer
from qlayers.hardware import Runner
from qlayers.sampling import Spsa
from shared.errors import UserError

DEVICES = ["default.qubit", "default.mixed", "lightning.qubit", "qbio.simulator", "reference.qubit"]
SHAPES = {"weights": (1, 3, 3), "h": 2}
HERMITIAN = np.array([[1, 2j], [-2j, 0.5]])


def ansatz(inputs, weights) -> None:
    qml.AngleEmbedding(inputs, wires=range(3))
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    qml.CRY(inputs[..., 0] * weights[0, 0, 0], wires=[0, 1])
    qml.ctrl(qml.Rot(weights[0, 0, 0], inputs[..., 1] ** 2, 0.2, wires=2), 0)


def circuit(inputs, weights, h):
    ansatz(inputs, weights)
    return [
        qml.expval(qml.Hamiltonian([1.0, 2.0, 0.5], [qml.Z(0), qml.X(1) @ qml.Y(2), qml.I(0)])),
        qml.expval(h[0] * qml.X(0) + h[1] * qml.Z(0) @ qml.Z(1)),
        qml.var(qml.Z(0)),
        qml.var(h[0] * qml.X(0) + h[1] * qml.Z(0) @ qml.Z(1) + 2.0 * qml.X(2)),
        qml.probs(wires=[2, 0]),
    ]


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 1, 3)])
def test_values_and_gradients(name: str, shape: tuple) -> None:
    exact, layer = pair(circuit, SHAPES, device=qml.device(name, wires=3))
    tolerance = 1e-6 if name == "lightning.qubit" else 1e-9
    assert_agree(exact, layer, torch.rand(shape, dtype=torch.float64), tolerance)


@pytest.mark.parametrize("device", ["default.qubit", qml.device("default.mixed", wires=["a", 7, 1])])
def test_devices_by_name_and_with_other_wires(device) -> None:
    def function(inputs, w):
        qml.RX(inputs[..., 0], wires="a")
        qml.CRX(w, wires=["a", 7])
        return qml.expval(qml.Z(7))

    assert_agree(*pair(function, {"w": ()}, device=device), torch.rand(3, 1, dtype=torch.float64))


MEASUREMENTS = {
    "expval": lambda: qml.expval(qml.Y(1)),
    "constant": lambda: qml.expval(3.0 * qml.I(0)),
    "matrix": lambda: qml.expval(qml.Hermitian(HERMITIAN, 1)),
    "projector": lambda: qml.expval(qml.Projector([0, 1], wires=[2, 0])),
    "sum": lambda: qml.expval(0.5 * qml.Hermitian(HERMITIAN, 0) + 2.0 * qml.X(1) @ qml.Z(2)),
    "var": lambda: qml.var(qml.X(0) @ qml.Y(2)),
    "var of a matrix": lambda: qml.var(qml.Hermitian(HERMITIAN, 1)),
    "var of a projector": lambda: qml.var(qml.Projector([1], wires=[2])),
    "var of a sum": lambda: qml.var(qml.Z(0) - 0.5 * qml.X(1) + 0.25 * qml.Z(1) @ qml.Z(0) + qml.I(0)),
    "var of matrices": lambda: qml.var(qml.Hermitian(HERMITIAN, 0) - 2.0 * qml.X(1) + 0.5 * qml.I(0)),
    "probs": lambda: qml.probs(wires=[2, 1]),
    "all probs": lambda: qml.probs(),
    "probs of a word": lambda: qml.probs(op=qml.X(0) @ qml.Y(2)),
    "probs of a matrix": lambda: qml.probs(op=qml.Hadamard(1)),
    "density": lambda: qml.density_matrix([1]),
}
WITHOUT_SHIFTS = {
    "state": qml.state,
    "purity": lambda: qml.purity([0]),
    "entropy": lambda: qml.vn_entropy([0, 1], log_base=2),
    "mutual_info": lambda: qml.mutual_info([0], [2]),
}


def returning(measurement):
    def function(inputs, weights):
        ansatz(inputs, weights)
        return measurement()

    return function


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measurements(name: str) -> None:
    function = returning(MEASUREMENTS[name])
    exact, layer = pair(function, {"weights": (1, 3, 3)}, device=qml.device("default.qubit", wires=3))
    assert_agree(exact, layer, torch.rand(2, 3, dtype=torch.float64))


@pytest.mark.parametrize("name", WITHOUT_SHIFTS)
def test_measurements_without_shift_rules(name: str) -> None:
    function = returning(WITHOUT_SHIFTS[name])
    exact, layer = pair(function, {"weights": (1, 3, 3)}, device=qml.device("default.qubit", wires=3))
    x = torch.rand(2, 3, dtype=torch.float64)
    assert_close(layer(x), exact(x))
    with pytest.raises(UserError, match=rf"linear in the state, received {name}"):
        layer(x).abs().sum().backward()


def test_values_of_an_outcome() -> None:
    """A function of bits, which is measured by its wires' probabilities."""

    def function(inputs):
        qml.RX(inputs[..., 0], wires=0)
        outcome = qml.measure(0)
        qml.RY(inputs[..., 1], wires=1)
        return qml.expval(2.0 * outcome + 1.0), qml.var(3.0 * outcome)

    assert_agree(*pair(function, {}, device="default.qubit"), torch.rand(3, 2, dtype=torch.float64))


# How it behaves in torch


@pytest.fixture
def wave() -> tuple[QuantumLayer, QuantumLayer]:
    return pair(Circuit.parse("weights w()\nRX(w*x0) 0\nexpval Z(0)"), None, device="default.qubit")


def test_transforms(wave) -> None:
    exact, layer = wave
    x, w = torch.rand(3, 1, dtype=torch.float64), {"w": torch.tensor([0.3, 0.5], dtype=torch.float64)}
    assert_close(vmap(layer)(x.unsqueeze(1)), exact(x.unsqueeze(1)))
    assert_close(jacrev(layer)(x), jacrev(exact)(x))
    for frozen in (False, True):
        layer.requires_grad_(not frozen)

        def total(weights, one):
            return vmap(lambda p: functional_call(one, p, (x,)))(weights).sum()

        assert_close(grad(total)(w, layer), grad(total)(w, exact))
        assert_close(grad(lambda x: layer(x).sum())(x), grad(lambda x: exact(x).sum())(x))


def test_second_derivatives_are_refused(wave) -> None:
    _, layer = wave
    x = torch.rand(3, 1, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    with pytest.raises(UserError, match="first derivatives only"):
        torch.autograd.grad(first.sum(), x)
    with pytest.raises(UserError, match="first derivatives only"):
        grad(lambda x: grad(lambda x: layer(x).sum())(x).sum())(x.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtypes_and_empty_batches(wave, dtype: torch.dtype) -> None:
    _, layer = wave
    x = torch.rand(0, 5, 1, dtype=dtype, requires_grad=True)
    out = layer.to(dtype)(x)
    out.sum().backward()
    assert (out.shape, out.dtype, x.grad.shape) == ((0, 5, 1), dtype, (0, 5, 1))
    assert layer(torch.rand(2, 1, dtype=dtype)).dtype == dtype


def test_torch_layer_and_copies() -> None:
    @qml.qnode(qml.device("default.qubit", wires=2))
    def node(inputs, w):
        qml.RX(inputs[..., 0] * w, wires=0)
        return [qml.expval(qml.Z(0)), qml.expval(qml.X(0))]

    with Runner(qml.device("lightning.qubit", wires=2)) as runner:
        layer = TorchLayer(node, {"w": ()}, runner=runner).double()
        other = copy.deepcopy(layer)
        x = torch.rand(3, 1, dtype=torch.float64)
        assert_close(other(x), TorchLayer(node, {"w": ()}, {"w": layer.w.detach()}).double()(x))
        assert runner.spent().circuits == 3  # copies pay together


# What it costs


def submissions(text: str, x: torch.Tensor, record: Path) -> list[int]:
    """The sizes of the submissions of a forward and a backward."""
    device = Faulty(record)
    layer = QuantumLayer(Circuit.parse(text), runner=Runner(device, shots=10)).double()
    layer(x).sum().backward()
    return device.submissions


def test_a_step_is_two_submissions(tmp_path) -> None:
    text = "weights w(2)\nRX(x0) 0\nCRY(w[0]) 0 1\nRX(w[1]) 1\nRZ(w[1]) 0\nexpval Z(1)\nexpval Z(0)@X(1)"
    x = torch.rand(5, 1, dtype=torch.float64)
    found = submissions(text, x, tmp_path / "weights")
    assert found == [5, 5 * (4 + 2 + 2)]  # samples, and terms of rules; none for the inputs
    found = submissions(text, x.requires_grad_(), tmp_path / "inputs")
    assert found == [5, 5 * (4 + 2 + 2 + 2)]


def test_only_what_is_asked_for_is_paid(tmp_path) -> None:
    x = torch.rand(4, 1, dtype=torch.float64)
    outside = "weights w()\nRX(x0) 0\nRY(w) 1\nRX(w) 0\nexpval Z(0)"  # of the light cone: RY
    assert submissions(outside, x, tmp_path / "cone") == [4, 8]
    detached = "weights w() v(2)\nRX(x0) 0\nRX(w) 0\nexpval v[0]*Z(0) + v[1]*X(0)"
    assert submissions(detached, x, tmp_path / "coefficients") == [4, 8]
    device = Faulty(tmp_path / "flat")
    layer = QuantumLayer(
        Circuit.parse("weights w()\nRX(w*x0) 0\nexpval Z(0)"), runner=Runner(device)
    ).double()
    (layer(x) * torch.tensor([[0.0], [1.0], [0.0], [0.0]])).sum().backward()
    assert device.submissions == [4, 2]
    with torch.no_grad():
        layer(x)
    layer.requires_grad_(False)
    layer(x)
    assert device.submissions == [4, 2, 4, 4]


def test_equal_samples_are_executed_once(tmp_path) -> None:
    x = torch.tensor([[0.3], [0.3], [0.4]], dtype=torch.float64)
    assert submissions("weights w()\nRX(w*x0) 0\nexpval Z(0)", x, tmp_path / "record") == [2, 4]


# Shots


@pytest.mark.parametrize("method", ["parameter-shift", Spsa(directions=2, step=0.02)])
def test_gradients_with_shots_are_right_on_average(method) -> None:
    text = "weights w()\nRX(w*x0) 0\nRY(x1) 1\nCNOT 0 1\nexpval Z(0)@Z(1)\nvar X(1)"
    device, count = qml.device("default.qubit", wires=2, seed=7), 400
    shots = None if isinstance(method, Spsa) else 200
    runner = Runner(device, shots=shots, deduplicate=False)
    exact, layer = pair(Circuit.parse(text), None, runner=runner, diff_method=method)
    for one in (exact, layer):
        torch.nn.init.constant_(one.w, 0.9)
    x = torch.tensor([[0.4, 1.1]], dtype=torch.float64)
    wanted, found = x.clone().requires_grad_(), x.repeat(count, 1).requires_grad_()
    exact(wanted).sum().backward()
    torch.manual_seed(0)
    layer(found).sum().backward()
    error = found.grad.std(0) / count**0.5
    assert ((found.grad.mean(0) - wanted.grad[0]).abs() < 4 * error + 1e-3).all()
    assert error.max() < 0.1


def test_shots_of_layer_runner_and_device() -> None:
    text = Circuit.parse("RX(x0) 0\nexpval Z(0)")
    x = torch.tensor([[1.2]], dtype=torch.float64)
    runner = Runner(qml.device("default.qubit", wires=1, seed=3), shots=100)
    for shots, expected in ((None, 100), (50, 50)):
        before = runner.spent().shots
        value = QuantumLayer(text, runner=runner, shots=shots)(x).item()
        assert runner.spent().shots - before == expected
        assert value * expected == pytest.approx(round(value * expected))
    assert "100 shots" in QuantumLayer(text, runner=runner)._backend.describe()


@pytest.mark.parametrize("kind", ["state", "purity 0", "density 0"])
def test_what_shots_cannot_show_is_refused(kind: str) -> None:
    layer = QuantumLayer(Circuit.parse(f"RX(x0) 0\n{kind}"), device="default.qubit", shots=10)
    with pytest.raises(UserError, match=r"measurements that 10 shots can show, received \w+"):
        layer(torch.rand(1, 1))


# Errors


ONE = Circuit.parse("RX(x0) 0\nexpval Z(0)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "default.qubit", "runner": Runner(qml.device("default.qubit"))}, "received both"),
        ({"runner": qml.device("default.qubit")}, "expected a Runner or a mitigation"),
        ({"device": "default.qubit", "diff_method": "adjoint"}, "no other method works without the state"),
        ({"device": 3}, "expected a PennyLane device"),
    ],
)
def test_wrong_arguments(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        QuantumLayer(ONE, **options)


def test_circuits_that_no_device_runs() -> None:
    def by_value(inputs):
        qml.RX(inputs[..., 0], wires=0)
        if (inputs > 0).all():
            qml.Hadamard(0)
        return qml.expval(qml.Z(0))

    with pytest.raises(UserError, match="On a device a layer needs a fixed circuit"):
        QuantumLayer(by_value, {}, features=1, device="default.qubit")(torch.rand(2, 1))

    def selected(inputs):
        qml.RX(inputs[..., 0], wires=0)
        qml.measure(0, postselect=1)
        return qml.expval(qml.Z(0))

    with pytest.raises(UserError, match="postselected measurement"):
        QuantumLayer(selected, {}, features=1, device="default.qubit")(torch.rand(2, 1))


@pytest.mark.parametrize("kind", ["sample", "counts"])
def test_single_shots_are_refused(kind: str) -> None:
    def function(inputs):
        qml.RX(inputs[..., 0], wires=0)
        return getattr(qml, kind)(wires=0)

    with pytest.raises(UserError, match=rf"qml.{kind}: expected a layer on its own simulator"):
        QuantumLayer(function, {}, features=1, device="default.qubit", shots=10)(torch.rand(2, 1))


def test_several_numbers_of_shots_are_refused() -> None:
    layer = QuantumLayer(ONE, runner=Runner(qml.device("default.qubit"), shots=(10, 10)))
    with pytest.raises(UserError, match="expected one number of shots"):
        layer(torch.rand(1, 1))
