"""The runner on PennyLane's own devices and ours: the same results as PennyLane's `execute`."""

import numpy as np
import pennylane as qml
import pytest
import torch

from qlayers.hardware import Budget, Runner

DEVICES = ["default.qubit", "default.mixed", "lightning.qubit", "qbio.simulator", "reference.qubit"]
RNG = np.random.default_rng(3)


def ansatz(x, weights) -> list:
    return [qml.AngleEmbedding(x, range(3)), qml.StronglyEntanglingLayers(weights, range(3))]


def tapes() -> list:
    weights = RNG.normal(size=(2, 3, 3))
    measurements = [
        [qml.expval(qml.Z(0)), qml.expval(qml.X(0) @ qml.Y(2))],
        [qml.expval(0.5 * qml.Z(1) + 2.0 * qml.X(0) @ qml.X(1) - qml.I(2))],
        [qml.probs(wires=[2, 0])],
        [qml.var(qml.Y(1)), qml.probs(wires=[1])],
    ]
    return [qml.tape.QuantumScript(ansatz(RNG.normal(size=3), weights), m) for m in measurements]


def assert_close(mine, reference, **tolerance) -> None:
    if isinstance(reference, tuple | list):
        assert len(mine) == len(reference)
        for one, other in zip(mine, reference, strict=True):
            assert_close(one, other, **tolerance)
    else:
        np.testing.assert_allclose(mine, reference, **tolerance)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("jobs", [1, 2])
def test_exact_results(name: str, jobs: int) -> None:
    batch = tapes()
    broadcast = qml.tape.QuantumScript(
        ansatz(RNG.normal(size=(4, 3)), np.ones((1, 3, 3))), [qml.expval(qml.Z(2)), qml.probs(wires=[0, 1])]
    )
    reference = qml.execute([*batch, broadcast], qml.device("default.qubit", wires=3), diff_method=None)
    with Runner(qml.device(name, wires=3), jobs=jobs, circuits_per_job=3) as runner:
        assert_close(runner.run([*batch, broadcast]), reference, atol=1e-6)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("shots", [4000, (4000, 2000)])
def test_shots(name: str, shots) -> None:
    batch = tapes()
    reference = qml.execute(batch, qml.device("default.qubit", wires=3), diff_method=None)
    with Runner(qml.device(name, wires=3), shots=shots, budget=Budget(price_per_shot=1)) as runner:
        estimate = runner.estimate(batch)
        results = runner.run(batch)
        assert runner.spent() == estimate.cost
        assert runner.spent().shots == runner.spent().circuits * int(np.sum(shots))
    for result, exact in zip(results, reference, strict=True):
        for copy in result if isinstance(shots, tuple) else [result]:
            assert_close(copy, exact, atol=0.3)


def test_torch_parameters_are_numbers() -> None:
    angle = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    with Runner(qml.device("default.qubit")) as runner:
        (result,) = runner.run([qml.tape.QuantumScript([qml.RX(angle, 0)], [qml.expval(qml.Z(0))])])
    assert isinstance(result, np.float64)
    assert float(result) == pytest.approx(np.cos(0.3))


@pytest.mark.parametrize("shots", [None, 2000])
def test_mid_circuit_measurements(shots) -> None:
    def tape():
        with qml.queuing.AnnotatedQueue() as queue:
            qml.RX(1.0, 0)
            outcome = qml.measure(0)
            qml.cond(outcome, qml.X)(1)
            qml.expval(qml.Z(1))
            qml.probs(op=outcome)
        return qml.tape.QuantumScript.from_queue(queue)

    with Runner(qml.device("default.qubit", wires=3), shots=shots) as runner:
        ((value, probs),) = runner.run([tape()])
        (again,) = runner.run([tape()])
        assert runner.spent().circuits == 2
    np.testing.assert_allclose(value, np.cos(1.0), atol=0.1)
    np.testing.assert_allclose(probs, [np.cos(0.5) ** 2, np.sin(0.5) ** 2], atol=0.1)
    assert len(again) == 2


class Legacy(qml.devices.LegacyDevice):
    """The smallest device of the old kind: one bit."""

    name, short_name, pennylane_requires, version, author = "Old", "old.device", ">=0.1", "1", "nobody"
    operations, observables = {"PauliX", "RX"}, {"PauliZ"}

    def reset(self):
        self.applied = []

    def apply(self, operation, wires, par):
        self.applied.append(operation)

    def expval(self, observable, wires, par):
        return 1.0 - 2.0 * len(self.applied)


@pytest.mark.parametrize("wrapped", [True, False])
def test_legacy_devices(wrapped: bool) -> None:
    device = Legacy(wires=1, shots=None)
    device = qml.devices.LegacyDeviceFacade(device) if wrapped else device
    with Runner(device) as runner:
        assert runner.run([qml.tape.QuantumScript([qml.X(0)], [qml.expval(qml.Z(0))])]) == [-1.0]


def test_devices_have_names_of_their_own() -> None:
    devices = [qml.device(name, wires=wires) for name in DEVICES[:4] for wires in (2, 3)]
    names = [Runner(device).link.name for device in devices]
    assert len(set(names)) == 8
    assert names == [Runner(device).link.name for device in devices]


def test_gradients_by_parameter_shift() -> None:
    tape = qml.transforms.decompose(tapes()[1])[0][0]
    tape.trainable_params = [0, 1, 5]
    shifted, combine = qml.gradients.param_shift(tape)
    reference = combine(qml.execute(shifted, qml.device("default.qubit"), diff_method=None))
    with Runner(qml.device("lightning.qubit", wires=3)) as runner:
        assert_close(combine(runner.run(shifted)), reference, atol=1e-6)
