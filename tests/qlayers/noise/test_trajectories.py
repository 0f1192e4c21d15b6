"""Trajectories: means and mean gradients against exact ones, for every channel, by z-tests."""

import copy
import pickle

import pennylane as qml
import pytest
import torch
from default_mixed import CHANNELS, FLIPS
from torch.testing import assert_close

from qlayers import Circuit, QuantumLayer
from qlayers.noise import jumps
from qlayers.noise.flips import FlipPlan
from qlayers.noise.jumps import JumpPlan
from qlayers.program import Captured
from shared.errors import UserError

MOST = 5.0  # standard errors; fixed seeds make every run the same


def circuit_with(name: str) -> Circuit:
    """A circuit in which a channel acts twice, with numbers of a weight and of an input."""
    count, span, make = CHANNELS[name]

    def function(inputs, w):
        qml.RX(inputs[..., 0], 0)
        qml.RY(w[0], 1)
        make([0.3 * torch.sigmoid(w[1])] * count, [0, 1][:span])
        qml.CNOT([0, 1])
        qml.RZ(w[0], 1)
        qml.Hadamard(0)
        make([0.1 + 0.2 * torch.sigmoid(inputs[..., 1])] * count, [1, 0][:span])
        qml.RX(0.7, 1)
        qml.CRY(w[2], [1, 0])
        return (
            qml.expval(qml.Z(0)),
            qml.expval(0.5 * qml.X(0) @ qml.Y(1) + w[2] * qml.Z(1)),
            qml.probs(wires=[1, 0]),
        )

    return Circuit.from_function(function, {"w": 3}, features=2)


def leaves(batch=1):
    x = torch.tensor([[0.4, -0.3]], dtype=torch.float64).repeat(batch, 1).requires_grad_()
    return x, torch.tensor([0.9, 0.5, -0.6], dtype=torch.float64).repeat(batch, 1).requires_grad_()


@pytest.mark.parametrize("name", CHANNELS)
def test_means_and_mean_gradients(name):
    """Batches of trajectories are samples of a distribution whose mean is the exact result."""
    circuit = circuit_with(name)
    torch.manual_seed(3)
    exact, few = Captured.of(circuit, 2), Captured.of(circuit, 2, trajectories=300)
    assert isinstance(few.plan, FlipPlan if name in FLIPS else JumpPlan)
    x, w = leaves()
    weights = torch.linspace(-1, 1, circuit.shape[0], dtype=torch.float64)

    def run(program):
        out = program.run(x, [w[0]])
        slopes = torch.autograd.grad((out[0] * weights).sum(), [x, w])
        return torch.cat([out[0].detach(), *(slope.reshape(-1) for slope in slopes)])

    found = torch.stack([run(few) for _ in range(40)])
    wanted = run(exact)
    error = found.std(0) / len(found) ** 0.5
    z = (found.mean(0) - wanted) / error.clamp(min=1e-9)
    assert z.abs().max() < MOST, (z, wanted, found.mean(0))
    assert (error > 0).any() or name.startswith("Qubit")


@pytest.mark.thorough
def test_second_derivatives_have_the_exact_mean():
    """The mean over trajectories is differentiated as a whole."""
    circuit = Circuit.parse(
        "weights w(2)\nRX(w[0]) 0\nBitFlip(w[1]) 0\nRY(0.4) 0\nPhaseFlip(w[1]) 0\nRX(0.3) 0\nexpval Z(0)"
    )
    for prefix in ("", "AmplitudeDamping(0.0) 0\n"):  # by signs, and by states
        circuit = Circuit.parse(str(circuit).replace("RX(w[0]) 0\n", f"RX(w[0]) 0\n{prefix}"))
        found = []
        for trajectories in (None, 40_000):
            program = Captured.of(circuit, 0, trajectories=trajectories)
            w = torch.tensor([0.8, 0.3], dtype=torch.float64, requires_grad=True)
            (first,) = torch.autograd.grad(program.run(w.new_zeros(1, 0), [w]).sum(), w, create_graph=True)
            found.append(torch.stack([torch.autograd.grad(g, w, retain_graph=True)[0] for g in first]))
        assert_close(found[1], found[0], rtol=0, atol=0.08)


@pytest.mark.parametrize("name", ["DepolarizingChannel", "AmplitudeDamping"])
def test_repeatable_from_the_seed(name):
    program = Captured.of(circuit_with(name), 2, trajectories=5)
    x, w = leaves(4)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        out = program.run(x, [w[0]])
        first = torch.autograd.grad(out.sum(), [x, w], retain_graph=True)
        again = torch.autograd.grad(out.sum(), [x, w])
        assert_close(first, again, rtol=0, atol=0)  # the draws are fixed during backward
        runs.append((out.detach(), *first))
    assert_close(runs[0], runs[1], rtol=0, atol=0)
    assert not torch.equal(runs[0][0], runs[2][0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "channel", ["BitFlip(0.0)", "DepolarizingChannel(x2)", "AmplitudeDamping(0.0)", "ResetError(x2,0.0)"]
)
def test_noise_without_strength_is_no_noise(channel, dtype):
    lines = "features 3\nRX(x0) 0\n{} 0\nCNOT 0 1\nRY(x1) 1\nprobs 0 1\nexpval X(0)@Z(1)"
    pure = Captured.of(Circuit.parse(lines.replace("{} 0\n", "")), 3)
    x = torch.randn(5, 3, dtype=dtype) * torch.tensor([1.0, 1.0, 0.0], dtype=dtype)
    for trajectories in (None, 3):
        noisy = Captured.of(Circuit.parse(lines.format(channel)), 3, trajectories=trajectories)
        assert_close(noisy.run(x, []), pure.run(x, []))


def test_pieces_that_run_twice(monkeypatch):
    """Trajectories that do not fit the memory together give what they give together."""
    program = Captured.of(circuit_with("AmplitudeDamping"), 2, trajectories=7)
    x, w = leaves(3)
    found = []
    for held in (jumps.HELD_BYTES, 1):
        monkeypatch.setattr(jumps, "HELD_BYTES", held)
        torch.manual_seed(0)
        out = program.run(x, [w[0]])
        found.append((out.detach(), *torch.autograd.grad(out.sin().sum(), [x, w])))
    assert_close(*found)


def test_postselection():
    """Means are divided by the mean probability of what was kept."""
    lines = "RX(x0) 0\nAmplitudeDamping(0.3) 0\nCRY(x1) 0 1\nProjector[1] 1\nDepolarizingChannel(0.2) 0\n"
    lines += "probs 0\nexpval X(0)"
    x = torch.tensor([[1.2, 2.0]], dtype=torch.float64)
    exact = Captured.of(Circuit.parse(lines), 2).run(x, [])
    torch.manual_seed(0)
    found = Captured.of(Circuit.parse(lines), 2, trajectories=20_000).run(x, [])
    assert_close(found, exact, rtol=0, atol=0.02)
    assert_close(exact[:, :2].sum(-1), torch.ones(1, dtype=torch.float64))


def test_prepared_states_and_matrices():
    lines = (
        "features 2\nStatePrep[0.6,0,0,0.8j] 0 1\nStatePrep(cos(x0),sin(x0)) 2\n"
        "RX(x1) 1\nDiagonalQubitUnitary[1,1j,1,-1j,1,1,1j,1] 2 0 1\nBitFlip(0.1) 2\nprobs 0 1 2\npurity 0 1"
    )
    circuit, x = Circuit.parse(lines), torch.tensor([[0.3, 0.8], [1.0, -0.4]], dtype=torch.float64)
    exact = Captured.of(circuit, 2).run(x, [])
    torch.manual_seed(0)
    assert_close(Captured.of(circuit, 2, trajectories=20_000).run(x, []), exact, rtol=0, atol=0.02)


def test_beyond_the_wires_of_a_density_matrix():
    lines = "\n".join(f"RX(x0) {i}\nDepolarizingChannel(0.02) {i}\nCNOT {i} {i + 1}" for i in range(15))
    circuit = Circuit.parse(f"{lines}\nexpval Z(15)")
    with pytest.raises(UserError, match=r"16 wires: expected at most 12 .* pass trajectories="):
        Captured.of(circuit, 1)
    x = torch.tensor([[0.3]], requires_grad=True)
    out = Captured.of(circuit, 1, trajectories=50).run(x, [])
    assert torch.isfinite(torch.autograd.grad(out.sum(), x)[0]).all()


def test_a_layer_keeps_its_trajectories():
    layer = QuantumLayer(circuit_with("BitFlip"), {"w": 3}, trajectories=4)
    assert layer(torch.zeros(0, 2)).shape == (0, 6)
    x = torch.rand(3, 2)
    found = []
    for one in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.manual_seed(5)
        found.append(one(x))
    assert_close(found[1], found[0])
    assert_close(found[2], found[0])


@pytest.mark.parametrize("count", [0, -1, True])
def test_numbers_of_trajectories(count):
    with pytest.raises(UserError, match="trajectories: expected a"):
        Captured.of(Circuit.parse("BitFlip(0.1) 0\nexpval Z(0)"), 0, trajectories=count)


def test_a_circuit_without_noise_needs_no_trajectories():
    circuit = Circuit.parse("RX(x0) 0\nexpval Z(0)")
    assert Captured.of(circuit, 1, trajectories=3).plan == Captured.of(circuit, 1).plan
