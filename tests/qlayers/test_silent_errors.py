"""Errors that other quantum layers make without a word: each shown on PennyLane 0.45, and right here.

Where the peer that is wrong is not PennyLane, only ours is tested.
"""

import copy
import warnings

import pennylane as qml
import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils.parametrize import register_parametrization
from torch.testing import assert_close

import shared
from qlayers import Circuit, QuantumLayer, TorchLayer
from qlayers.gates import CONTROLLED, TABLE, gate
from qlayers.hardware import ExecutionFailed, Retries, Runner
from qlayers.plan import PlanTables
from shared.errors import UserError

Upstream = qml.qnn.TorchLayer
X = torch.linspace(-1.0, 1.5, 6).reshape(3, 2)


def of(returned, kind=TorchLayer, **options):
    """A layer of two wires that returns what `returned` makes."""

    @qml.qnode(qml.device("default.qubit", wires=2), **options)
    def circuit(inputs, w):
        qml.AngleEmbedding(inputs, wires=range(2))
        qml.BasicEntanglerLayers(w, wires=range(2))
        return returned()

    return kind(circuit, {"w": (2, 2)})


def z() -> list:
    return [qml.expval(qml.Z(wire)) for wire in range(2)]


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5)


class Zero(nn.Module):
    def forward(self, w):
        return 0 * w


def by_functional_call(kind) -> bool:
    layer, other = of(z, kind), of(z, kind)
    return same(functional_call(layer, dict(other.named_parameters()), (X,)), other(X))


def by_assignment(kind) -> bool:
    layer, other = of(z, kind), of(z, kind)
    layer.load_state_dict(other.state_dict(), assign=True)
    return same(layer(X), other(X))


def by_parametrization(kind) -> bool:
    layer, other = of(z, kind), of(z, kind)
    register_parametrization(layer, "w", Zero())
    with torch.no_grad():
        other.w.zero_()
    return same(layer(X), other(X))


def by_an_ensemble(kind) -> bool:
    layers = [of(z, kind) for _ in range(3)]
    weights, _ = stack_module_state(layers)
    found = vmap(lambda p: functional_call(layers[0], p, (X,)))(weights)
    return same(found, torch.stack([layer(X) for layer in layers]))


REPLACED = [by_functional_call, by_assignment, by_parametrization, by_an_ensemble]


@pytest.mark.parametrize("computes_with_replaced_parameters", REPLACED)
def test_parameters_that_are_replaced(computes_with_replaced_parameters):
    assert not computes_with_replaced_parameters(Upstream)
    assert computes_with_replaced_parameters(TorchLayer)


@pytest.mark.parametrize("kind", [Upstream, TorchLayer], ids=["upstream", "ours"])
def test_renaming_the_input_leaves_other_layers_alone(kind):
    layer = of(z, kind)
    before = layer(X)
    kind.set_input_argument("data")
    try:
        if kind is Upstream:
            with pytest.raises(TypeError, match="unexpected keyword argument 'data'"):
                layer(X)
        else:
            assert_close(layer(X), before)
    finally:
        kind.set_input_argument()


def test_complex_outputs_keep_their_imaginary_part():
    layer = of(qml.state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says, once a process, that the imaginary part is dropped
        upstream = of(qml.state, Upstream)(X)
    assert not upstream.is_complex()
    found = layer(X)
    assert found.is_complex()
    assert found.imag.abs().max() > 0.1
    exact = layer.qnode(X.double(), layer.w.detach().double())
    assert_close(found.to(torch.complex128), exact, atol=1e-5, rtol=1e-5)


def curvature(kind, **options) -> float:
    """The second derivative of cos(tanh(1.7 x + 0.2)) at 0.3."""

    @qml.qnode(qml.device("default.qubit", wires=1), **options)
    def circuit(inputs):
        qml.RX(torch.tanh(1.7 * inputs[..., 0] + 0.2), wires=0)
        return qml.expval(qml.Z(0))

    layer, x = kind(circuit, {}), torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(layer(x), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    return second.item()


@pytest.mark.parametrize("method", ["adjoint", "parameter-shift"])
def test_second_derivatives(method):
    assert curvature(Upstream, diff_method=method) == pytest.approx(1.269, abs=1e-3)
    assert curvature(TorchLayer, diff_method=method) == pytest.approx(0.338, abs=1e-3)


@pytest.mark.parametrize("provider", ["numba", "numba-single", "numba-gemm", "reference"])
def test_derivatives_of_every_engine(provider):
    layer = of(z).double()
    x = X.double().requires_grad_()
    w = layer.w.detach().clone().requires_grad_()
    with shared.prefer(provider):
        assert torch.autograd.gradcheck(lambda x, w: functional_call(layer, {"w": w}, (x,)), (x, w))
        assert torch.autograd.gradgradcheck(lambda x, w: functional_call(layer, {"w": w}, (x,)), (x, w))


def test_tuple_of_measurements_has_the_shape_of_a_list():
    assert of(lambda: tuple(z()), Upstream)(X).shape == (2, 3, 1)
    torch.manual_seed(0)
    layer = of(lambda: tuple(z()))
    torch.manual_seed(0)
    assert layer(X).shape == (3, 2)
    assert_close(layer(X), of(z)(X))


def test_single_precision_stays_single():
    layer = of(qml.state)
    assert layer.qnode(X, layer.w).dtype == torch.complex128
    assert layer(X).dtype == torch.complex64


@pytest.mark.parametrize("returned", [z, qml.state])
def test_double_precision_is_not_cut(returned):
    layer = of(returned).double()
    exact = layer.qnode(X.double(), layer.w)
    exact = torch.stack(exact, -1) if isinstance(exact, list) else exact
    assert_close(layer(X.double()), exact, atol=1e-12, rtol=0)  # dtypes as well


def test_integer_inputs_are_refused_not_cut():
    x = torch.tensor([[1, 2]])
    assert of(z, Upstream)(x).dtype == torch.int64  # all fractions lost
    with pytest.raises(UserError, match=r"use inputs\.float\(\)"):
        of(z)(x)


@pytest.mark.parametrize("returned", [z, lambda: qml.probs(wires=[0])], ids=["expval", "probs"])
def test_backward_twice(returned):
    layer, x = of(returned), X.clone().requires_grad_()
    total = layer(x).square().sum()
    first = torch.autograd.grad(total, (x, layer.w), retain_graph=True)
    again = torch.autograd.grad(total, (x, layer.w))
    assert_close(first, again, rtol=0, atol=0)


def test_state_holds_weights_and_no_data():
    layer = of(z)
    before = copy.deepcopy(layer.state_dict())
    layer(X).sum().backward()
    after = layer.state_dict()
    assert list(after) == list(before) == ["w"]
    assert_close(after["w"], before["w"], rtol=0, atol=0)
    assert after._metadata == before._metadata


def test_layers_that_begin_alike_do_not_share_their_weights():
    node = of(z).qnode
    for kind, shares in ((Upstream, True), (TorchLayer, False)):
        given = torch.rand(2, 2)
        layers = [kind(node, {"w": (2, 2)}, {"w": given}) for _ in range(2)]
        with torch.no_grad():
            layers[0].w.zero_()
        assert torch.equal(layers[0].w, layers[1].w) == shares


def test_outputs_are_where_the_inputs_are():
    layer = of(z).to("meta")
    assert layer(X.to("meta")).device.type == "meta"
    assert layer(X.to("meta")).shape == (3, 2)


GATES = sorted((name, gate(name, n)) for name in (*TABLE, *CONTROLLED) for n in (1, 2, 3) if gate(name, n))


@pytest.mark.parametrize(("name", "found"), GATES, ids=[name for name, _ in GATES])
def test_vmap_of_every_gate(name, found):
    angles = ", ".join(f"x{i}" for i in range(found.parameters))
    wires = range(found.wires)
    lines = [f"RY(x{i % 3}) {i}" for i in wires]
    lines.append(f"{name}{f'({angles})' if angles else ''} {' '.join(map(str, wires))}")
    layer = QuantumLayer(Circuit.parse("\n".join(["features 3", *lines, *(f"expval X({i})" for i in wires)])))
    x = torch.rand(4, 3)
    assert_close(vmap(layer)(x), layer(x))
    assert_close(torch.stack([layer(sample) for sample in x]), layer(x))


def test_a_batch_is_one_call(monkeypatch):
    device = qml.device("lightning.qubit", wires=2)

    @qml.qnode(device, diff_method="adjoint")
    def circuit(inputs, w):
        qml.AngleEmbedding(inputs, wires=range(2))
        qml.BasicEntanglerLayers(w, wires=range(2))
        return z()

    x = torch.rand(16, 2, requires_grad=True)
    with qml.Tracker(device) as tracker:
        Upstream(circuit, {"w": (2, 2)})(x).sum().backward()
    assert tracker.totals["executions"] >= 16  # a circuit for each sample
    sizes, run = [], PlanTables.run

    def counted(self, inputs, weights):
        sizes.append(len(inputs))
        return run(self, inputs, weights)

    monkeypatch.setattr(PlanTables, "run", counted)
    TorchLayer(circuit, {"w": (2, 2)})(x).sum().backward()
    assert sizes == [16]


class Unreachable(qml.devices.DefaultQubit):
    """A device whose service never answers."""

    tries = 0

    def execute(self, *args, **options):
        type(self).tries += 1
        raise TimeoutError("no answer")


@pytest.mark.parametrize("tries", [1, 3])
def test_a_device_that_always_fails_ends_in_an_error(tries):
    runner = Runner(Unreachable(wires=2), retries=Retries(tries=tries, first_wait=0.0, jitter=0.0))
    layer = QuantumLayer(Circuit.parse("RX(x0) 0\nRX(x1) 1\nexpval Z(0)"), runner=runner)
    Unreachable.tries = 0
    with pytest.raises(ExecutionFailed, match=rf"received after {tries} tr\w+ TimeoutError: no answer"):
        layer(X)
    assert Unreachable.tries == tries


def test_inputs_have_gradients_without_being_asked():
    layer, x = of(z), X.clone().requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def with_shots(kind, shots: int = 200, **options):
    """A layer of expectation values with finite shots."""
    node = qml.set_shots(of(z, **options).qnode, shots)
    return kind(node, {"w": (2, 2)}, {"w": torch.full((2, 2), 0.7)})


def test_shots_follow_the_seed_of_torch():
    def twice(layer) -> bool:
        found = []
        for _ in range(2):
            torch.manual_seed(0)
            found.append(layer(X))
        return torch.equal(*found)

    assert not twice(with_shots(Upstream))
    assert twice(with_shots(TorchLayer))
    assert not torch.equal(*[with_shots(TorchLayer)(X) for _ in range(2)])


def test_sampled_expectation_values_have_gradients():
    layer, exact, x = with_shots(TorchLayer), of(z), X.clone().requires_grad_()
    exact.load_state_dict(layer.state_dict())
    torch.manual_seed(0)
    assert layer(x).requires_grad
    found = torch.stack([torch.cat(gradients(layer, x)) for _ in range(80)])
    score = (found.mean(0) - torch.cat(gradients(exact, x))) / (found.std(0) / 80**0.5)
    assert score.abs().max() < 4


def gradients(layer, x) -> list[torch.Tensor]:
    return [part.reshape(-1) for part in torch.autograd.grad(layer(x)[:, 0].sum(), (x, layer.w))]


@pytest.mark.parametrize("trajectories", [None, 20])
def test_noise_keeps_probabilities_and_vanishes_with_its_strength(trajectories):
    def function(inputs, p):
        qml.AngleEmbedding(inputs, wires=range(2))
        for channel in (qml.AmplitudeDamping, qml.PhaseDamping, qml.DepolarizingChannel, qml.BitFlip):
            channel(p, wires=0)
        qml.CNOT([0, 1])
        qml.PauliError("YX", p, wires=[0, 1])
        qml.ResetError(p, p / 2, wires=1)
        return qml.probs(wires=[0, 1])

    def pure(inputs):
        qml.AngleEmbedding(inputs, wires=range(2))
        qml.CNOT([0, 1])
        return qml.probs(wires=[0, 1])

    noisy = QuantumLayer(function, {"p": ()}, {"p": torch.tensor(0.3)}, features=2, trajectories=trajectories)
    assert_close(noisy(X).sum(-1), torch.ones(3))
    exact = QuantumLayer(pure, {}, features=2)(X)
    assert not torch.allclose(noisy(X), exact, atol=1e-2)
    with torch.no_grad():
        noisy.p.zero_()
    assert_close(noisy(X), exact)
