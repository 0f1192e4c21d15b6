"""Training a layer on a device: dry runs, budgets, mitigation, and what remains when it fails."""

import threading
from decimal import Decimal
from pathlib import Path

import pennylane as qml
import pytest
import torch
from faulty import Faulty
from torch import nn
from torch.testing import assert_close

from qlayers import Circuit, QuantumLayer
from qlayers.hardware import (
    Budget,
    BudgetExceeded,
    ExecutionFailed,
    ReadoutMitigation,
    Retries,
    Runner,
    ZeroNoise,
)
from qlayers.sampling import Spsa
from shared.errors import UserError

QUICK = Retries(first_wait=0.0, jitter=0.0, tries=9)
CIRCUIT = Circuit.parse("""
    wires 0 1
    features 2
    weights w(3)
    RX(x0) 0
    RY(x1) 1
    RX(w[0]) 0
    CRY(w[1]) 0 1
    RX(w[2]) 1
    expval Z(0)@Z(1)
    expval Z(1)
""")
X = torch.linspace(-1.0, 1.0, 10, dtype=torch.float64).reshape(5, 2)


def layer_on(runner, **options) -> QuantumLayer:
    torch.manual_seed(0)
    return QuantumLayer(CIRCUIT, runner=runner, **options).double()


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "record"


# Dry runs


def mitigations(runner: Runner) -> list:
    return [runner, ReadoutMitigation(runner, shots=30), ZeroNoise(ReadoutMitigation(runner), (1, 3))]


@pytest.mark.parametrize("of_inputs", [True, False])
@pytest.mark.parametrize("method", ["best", Spsa(directions=3)])
@pytest.mark.parametrize("kind", range(3))
def test_an_estimate_is_what_a_step_then_costs(record: Path, kind: int, method, of_inputs: bool) -> None:
    device = Faulty(record)
    prices = {"price_per_circuit": Decimal("0.3"), "price_per_shot": Decimal("0.001"), "price_per_job": 1}
    runner = Runner(device, shots=20, budget=Budget(circuits=10_000, **prices), circuits_per_job=7)
    outermost = mitigations(runner)[kind]
    layer = layer_on(outermost, diff_method=method)
    x = X[[0, 1, 2, 0]].requires_grad_(of_inputs)
    estimate = runner.estimate(layer, x)
    assert runner.spent() == (0, 0, 0)
    out = layer(x)
    assert runner.spent() == estimate.forward.cost
    assert len(device.submissions) == estimate.forward.submissions
    out.sum().backward()
    assert runner.spent() == estimate.step.cost
    assert len(device.submissions) == estimate.step.submissions
    assert estimate.fits


def test_an_estimate_of_a_model_leaves_no_trace(record: Path) -> None:
    runner = Runner(Faulty(record), shots=20)
    generator = torch.Generator().manual_seed(3)
    layer = layer_on(runner, diff_method="spsa", generator=generator)
    model = nn.Sequential(
        nn.Linear(4, 2), nn.BatchNorm1d(2), nn.Dropout(0.2), layer, nn.Linear(2, 1)
    ).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = torch.get_rng_state(), generator.get_state()
    estimate = runner.estimate(model, torch.rand(6, 4, dtype=torch.float64, generator=torch.Generator()))
    assert (estimate.forward.cost.circuits, estimate.step.cost.circuits) == (6, 18)
    assert_close(dict(model.state_dict()), before)
    assert_close((torch.get_rng_state(), generator.get_state()), states)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not record.exists()


def test_an_estimate_by_the_number_of_samples(record: Path) -> None:
    runner = Runner(Faulty(record), shots=20)
    assert runner.estimate(layer_on(runner), 8).step.circuits == 8 * (1 + 4 + 2 + 2)
    layer = layer_on(runner).requires_grad_(False)
    assert runner.estimate(layer, 8).step == runner.estimate(layer, 8).forward
    with pytest.raises(UserError, match="expected a batch of inputs for Sequential, received the number 3"):
        runner.estimate(nn.Sequential(layer), 3)
    with pytest.raises(UserError, match="expected a layer that runs on it, received QuantumLayer"):
        Runner(Faulty(record)).estimate(layer, 3)


def test_an_estimate_knows_the_journal(record: Path, tmp_path: Path) -> None:
    options = {"shots": 10, "journal": tmp_path / "run.db", "budget": Budget(circuits=100)}
    with Runner(Faulty(record), **options) as runner:
        layer_on(runner)(X).sum().backward()
        spent = runner.spent().circuits
    with Runner(Faulty(record), **options) as runner:
        estimate = runner.estimate(layer_on(runner), X)
        assert (estimate.step.known, estimate.step.cost.circuits) == (spent, 0)
        assert estimate.step.left == {"circuits": 100 - spent}
        layer_on(runner)(X).sum().backward()
        assert runner.spent().circuits == spent
        assert runner.estimate(layer_on(runner), X).step.known == 0  # the second step is a repetition


# Budgets and failures


def train(layer: nn.Module, steps: int, x: torch.Tensor = X) -> torch.Tensor:
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        (layer(x) - 0.5).square().sum().backward()
        optimizer.step()
    return torch.cat([parameter.detach().reshape(-1) for parameter in layer.parameters()])


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("limit", [0, 44, 45, 100])
def test_no_circuit_beyond_the_budget(record: Path, jobs: int, limit: int) -> None:
    """A step takes 5 circuits and then 40; either all of a call are submitted or none."""
    device = Faulty(record)
    with Runner(device, shots=5, budget=Budget(circuits=limit), jobs=jobs, circuits_per_job=3) as runner:
        layer = layer_on(runner)
        with pytest.raises(BudgetExceeded):
            train(layer, 3)
        executed = len(device.service.executions())
        assert executed == runner.spent().circuits == max(n for n in (0, 5, 45, 50, 90, 95) if n <= limit)


def test_no_circuit_beyond_the_budget_of_two_threads(record: Path) -> None:
    device, errors = Faulty(record, faults=["time-out after", "", "refused", "time-out before"] * 20), []
    with Runner(
        device, shots=5, budget=Budget(circuits=120), jobs=2, circuits_per_job=2, retries=QUICK
    ) as runner:

        def run(x: torch.Tensor) -> None:
            try:
                train(layer_on(runner), 3, x)
            except BudgetExceeded as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(X + shift,)) for shift in (0.0, 0.1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors
        assert len(device.service.executions()) <= runner.spent().circuits <= 120


def test_a_training_goes_on_where_it_failed(record: Path, tmp_path: Path) -> None:
    """The weights are those of a training without faults, and nothing is executed twice."""
    steady = train(layer_on(Runner(Faulty(tmp_path / "steady", seed=1), shots=20, circuits_per_job=9)), 3)
    options = {"shots": 20, "journal": tmp_path / "run.db", "circuits_per_job": 9, "retries": QUICK}
    failures = 0
    while True:
        device = Faulty(record, seed=1, faults=["", "time-out after", "", "nan", "", "broken"])
        with Runner(device, **options) as runner:
            try:
                weights = train(layer_on(runner), 3)
                break
            except ExecutionFailed:
                failures += 1
    assert failures > 1
    assert_close(weights, steady, rtol=0, atol=0)
    assert len(device.service.executions()) >= 3 * 45


# Noise and its mitigation


def noisy_device(depolarized: float, misread: float):
    """Depolarises each gate, and flips each bit before it is read."""
    device = qml.device("default.mixed", wires=2)
    condition = qml.noise.op_in([qml.RX, qml.RY, qml.CRY])

    def depolarize(op, **_) -> None:
        for wire in op.wires:
            qml.DepolarizingChannel(depolarized, wire)

    device = qml.noise.add_noise(device, qml.NoiseModel({condition: depolarize})) if depolarized else device
    return qml.noise.insert(device, qml.BitFlip, misread, position="end") if misread else device


def distance(make, device) -> float:
    """How far the layer is from its goal on a perfect device, after a training on another one."""
    layer = layer_on(make(Runner(device)))
    x, goal = X[:2], torch.tensor([[0.5, -0.2], [0.1, 0.3]], dtype=torch.float64)
    optimizer = torch.optim.LBFGS(layer.parameters(), lr=0.5, max_iter=12)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        total = (layer(x) - goal).square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    exact = QuantumLayer(CIRCUIT).double()
    exact.load_state_dict(layer.state_dict())
    return (exact(x) - layer(x)).abs().mean().item()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("depolarized", "misread", "make"),
    [
        (0.0, 0.08, ReadoutMitigation),
        (0.01, 0.0, ZeroNoise),
        (0.01, 0.05, lambda runner: ZeroNoise(ReadoutMitigation(runner))),
    ],
    ids=["readout", "zero noise", "both"],
)
def test_mitigation_within_training(depolarized: float, misread: float, make) -> None:
    bare = distance(lambda runner: runner, noisy_device(depolarized, misread))
    assert bare > 0.01
    assert distance(make, noisy_device(depolarized, misread)) < 0.3 * bare


def test_gradients_through_mitigation_are_exact(record: Path) -> None:
    exact = QuantumLayer(CIRCUIT).double()
    layer = layer_on(ReadoutMitigation(Runner(noisy_device(0.0, 0.1))))
    exact.load_state_dict(layer.state_dict())
    for one in (layer, exact):
        one(X).square().sum().backward()
    assert_close(layer.w.grad, exact.w.grad, atol=1e-6, rtol=0)
