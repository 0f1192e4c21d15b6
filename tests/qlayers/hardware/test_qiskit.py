"""The runner on Qiskit's simulators and the noise of an IBM processor; needs the packages of `hardware`."""

from pathlib import Path

import numpy as np
import pennylane as qml
import pytest
import torch
from qiskit_aer.noise import NoiseModel
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

from qlayers import Circuit, QuantumLayer
from qlayers.hardware import Budget, BudgetExceeded, ReadoutMitigation, Runner, ZeroNoise

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Qiskit's and its plugin's own
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
DEVICES = {
    "aer": lambda: qml.device("qiskit.aer", wires=2),
    "noisy aer": lambda: qml.device(
        "qiskit.aer", wires=2, noise_model=NoiseModel.from_backend(FakeManilaV2()), optimization_level=0
    ),
    "fake processor": lambda: qml.device("qiskit.remote", wires=2, backend=FakeManilaV2()),
}
SHOTS = 4000


def tape(x: float):
    gates = [qml.RX(x, 0), qml.CNOT([0, 1]), qml.RY(0.3, 1)]
    return qml.tape.QuantumScript(gates, [qml.expval(qml.Z(0) @ qml.Z(1)), qml.probs(wires=[0])])


TAPES = [tape(x) for x in (0.1, 0.8, 1.5)]
EXACT = qml.execute(TAPES, qml.device("default.qubit"), diff_method=None)


def error(results) -> float:
    """The mean distance of all values from exact ones."""
    return float(np.abs(flat(results) - flat(EXACT)).mean())


def flat(results) -> np.ndarray:
    return np.concatenate([np.ravel(value) for values in results for value in values])


@pytest.mark.parametrize("name", DEVICES)
def test_results_are_those_of_the_circuits(name: str) -> None:
    with Runner(DEVICES[name](), shots=SHOTS) as runner:
        estimate = runner.estimate(TAPES)
        assert error(runner.run(TAPES)) < (0.02 if name == "aer" else 0.1)
        assert runner.spent() == estimate.cost


@pytest.mark.parametrize("name", ["noisy aer", "fake processor"])
def test_readout_mitigation_helps(name: str) -> None:
    with Runner(DEVICES[name](), shots=8 * SHOTS) as runner:
        assert error(ReadoutMitigation(runner).run(TAPES)) < 0.6 * error(runner.run(TAPES))


def test_mitigations_together() -> None:
    with Runner(DEVICES["noisy aer"](), shots=8 * SHOTS) as runner:
        both = ZeroNoise(ReadoutMitigation(runner), factors=(1, 3))
        assert error(both.run(TAPES)) < 0.6 * error(runner.run(TAPES))


def train(runner: Runner, steps: int) -> float:
    x = 0.4
    for _ in range(steps):
        plus, minus = (values[0] for values in runner.run([tape(x + s * np.pi / 2) for s in (1, -1)]))
        x = float(x - 0.4 * (plus - minus) / 2)
    return x


@pytest.mark.parametrize("name", ["noisy aer", "fake processor"])
def test_a_training_stops_at_its_budget_and_goes_on(name: str, tmp_path: Path) -> None:
    """The rest is paid by a greater budget; what was paid is replayed."""
    options = {"shots": 200, "journal": tmp_path / "run.db"}
    with Runner(DEVICES[name](), budget=Budget(circuits=7), **options) as runner:
        with pytest.raises(BudgetExceeded):
            train(runner, 4)
        spent = runner.spent().circuits
        assert 0 < spent <= 7
    with Runner(DEVICES[name](), budget=Budget(circuits=40), **options) as runner:
        end = train(runner, 4)
        assert runner.spent().circuits == 4 * runner.estimate([tape(0.1), tape(0.2)]).circuits
    with Runner(DEVICES[name](), budget=Budget(circuits=0), **options) as runner:
        assert train(runner, 4) == end


# Layers

CIRCUIT = Circuit.parse("weights w(2)\nRX(x0) 0\nRY(w[0]*x0) 1\nCRX(w[1]) 0 1\nexpval Z(1)\nexpval Z(0)@X(1)")
X = torch.linspace(-1.2, 1.4, 3, dtype=torch.float64).unsqueeze(-1)


def layers(runner) -> tuple[QuantumLayer, QuantumLayer]:
    """One on the runner, and the exact one with its weights."""
    torch.manual_seed(4)
    layer = QuantumLayer(CIRCUIT, runner=runner).double()
    exact = QuantumLayer(CIRCUIT).double()
    exact.load_state_dict(layer.state_dict())
    return layer, exact


def slopes(layer: QuantumLayer) -> torch.Tensor:
    """The gradients of inputs and weights."""
    x = X.clone().requires_grad_()
    found = torch.autograd.grad(layer(x).square().sum(), (x, layer.w))
    return torch.cat([one.reshape(-1) for one in found])


def test_gradients_of_inputs_and_weights() -> None:
    layer, exact = layers(Runner(DEVICES["aer"](), shots=20_000))
    assert (slopes(layer) - slopes(exact)).abs().max() < 0.1


def test_training_with_mitigation(tmp_path: Path) -> None:
    """The loss falls, the layer's values are nearer to exact ones than bare values, and the budget holds."""
    device, budget = DEVICES["noisy aer"](), Budget(circuits=1000)
    runner = Runner(device, shots=SHOTS, journal=tmp_path / "run.db", budget=budget)
    with runner:
        mitigated = ReadoutMitigation(runner, shots=8 * SHOTS)
        layer, exact = layers(mitigated)
        goal = torch.tensor([[0.6, -0.2], [0.4, 0.1], [0.5, 0.3]], dtype=torch.float64)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.4)
        estimate = mitigated.estimate(layer, X).step.cost
        losses = []
        for _ in range(4):
            before = runner.spent().circuits
            optimizer.zero_grad()
            loss = (layer(X) - goal).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            assert runner.spent().circuits - before in (estimate.circuits, estimate.circuits - 2)
        assert losses[-1] < losses[0] - 0.02
        exact.load_state_dict(layer.state_dict())
        bare = QuantumLayer(CIRCUIT, runner=runner, shots=8 * SHOTS).double()
        bare.load_state_dict(layer.state_dict())
        layer.shots = 8 * SHOTS
        with torch.no_grad():
            distances = [(one(X) - exact(X)).abs().mean() for one in (layer, bare)]
        assert distances[0] < distances[1]
