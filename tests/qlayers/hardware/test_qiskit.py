"""The runner on Qiskit's simulators and the noise of an IBM processor; needs the packages of `hardware`."""

from pathlib import Path

import numpy as np
import pennylane as qml
import pytest
from qiskit_aer.noise import NoiseModel
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

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
