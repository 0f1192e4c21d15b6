"""Layers whose circuits are noisy: what they have in common with all others."""

import copy
import pickle

import pennylane as qml
import pytest
import torch
from torch.testing import assert_close

from qlayers import QuantumLayer
from qlayers.sampling import Spsa

STRENGTHS = {"a": 0.07, "b": 0.2}


def gates(inputs, weights):
    """A circuit without noise."""
    qml.RX(inputs[..., 0], wires=0)
    qml.RY(weights[0] * inputs[..., 1], wires=1)
    qml.CNOT(wires=[0, 1])
    qml.RX(weights[1], wires=1)
    return [qml.expval(qml.Z(0)), qml.expval(qml.Z(0) @ qml.X(1)), qml.var(qml.Z(1))]


def noisy(inputs, weights):
    """The same with a channel after each rotation about X."""
    qml.RX(inputs[..., 0], wires=0)
    qml.AmplitudeDamping(STRENGTHS["a"], wires=0)
    qml.RY(weights[0] * inputs[..., 1], wires=1)
    qml.CNOT(wires=[0, 1])
    qml.RX(weights[1], wires=1)
    qml.AmplitudeDamping(STRENGTHS["a"], wires=1)
    return [qml.expval(qml.Z(0)), qml.expval(qml.Z(0) @ qml.X(1)), qml.var(qml.Z(1))]


def layer_of(function, **options):
    return QuantumLayer(
        function, {"weights": (2,)}, {"weights": torch.tensor([0.4, 1.1])}, **options
    ).double()


@pytest.fixture
def x():
    return torch.rand(5, 2, dtype=torch.float64, requires_grad=True)


def slopes(layer, x):
    """The gradient of a sum of outputs, of inputs and weights."""
    factors = torch.arange(1.0, 4.0, dtype=torch.float64)
    return torch.autograd.grad((layer(x) * factors).sum(), (x, layer.weights))


def test_a_noise_model_inserts_its_channels(x):
    damped = qml.noise.partial_wires(qml.AmplitudeDamping, STRENGTHS["a"])
    model = qml.NoiseModel({qml.noise.op_eq(qml.RX): damped})
    ours, wanted = layer_of(gates, noise_model=model), layer_of(noisy)
    assert "4 features" not in repr(ours)
    assert_close(ours(x), wanted(x))
    assert_close(slopes(ours, x), slopes(wanted, x))


def test_parameter_shifts_of_a_noisy_circuit_are_exact(x):
    assert_close(slopes(layer_of(noisy, diff_method="parameter-shift"), x), slopes(layer_of(noisy), x))


def test_shots_of_a_noisy_circuit_have_its_mean(x):
    torch.manual_seed(0)
    exact, measured = layer_of(noisy), layer_of(noisy, shots=200_000)
    assert_close(measured(x), exact(x), atol=0.015, rtol=0)
    assert_close(slopes(measured, x), slopes(exact, x), atol=0.06, rtol=0)


def test_trajectories_have_its_mean_and_a_seed_repeats_them(x):
    exact, sampled = layer_of(noisy), layer_of(noisy, trajectories=4000)
    torch.manual_seed(1)
    first = sampled(x)
    assert_close(first, exact(x), atol=0.05, rtol=0)
    assert not torch.equal(sampled(x), first)
    torch.manual_seed(1)
    assert torch.equal(sampled(x), first)


@pytest.mark.parametrize("options", [{}, {"trajectories": 50}, {"shots": 40, "diff_method": Spsa(2, 0.2)}])
@pytest.mark.parametrize("how", ["file", "pickle", "copy"])
def test_what_is_kept_runs_alike(x, options, how, tmp_path):
    layer = layer_of(noisy, **options)
    layer(x)
    if how == "file":
        layer.save(tmp_path / "layer.pt")
        again = QuantumLayer.load(tmp_path / "layer.pt")
    else:
        again = pickle.loads(pickle.dumps(layer)) if how == "pickle" else copy.deepcopy(layer)
    found = []
    for each in (layer, again):
        torch.manual_seed(3)
        found.append(each(x))
    assert torch.equal(*found)
