"""Mitigated results against exact ones, on simulated devices whose noise is known."""

import functools

import numpy as np
import pennylane as qml
import pytest

from qlayers.hardware import Budget, BudgetExceeded, ReadoutMitigation, Runner, ZeroNoise
from shared.errors import UserError

MEASUREMENTS = [
    [qml.expval(qml.Z(0))],
    [qml.expval(qml.Z(2) @ qml.Z(0)), qml.probs(wires=[1, 0])],
    [qml.expval(qml.X(0) @ qml.Y(1)), qml.expval(qml.Z(0) @ qml.Z(1)), qml.expval(qml.I(0))],
    [qml.expval(0.5 * qml.Z(0) @ qml.X(2) - 2.0 * qml.Y(1) + 3.0 * qml.I(0))],
    [qml.probs(wires=[2])],
]


def gates(x) -> list:
    weights = np.random.default_rng(1).normal(size=(2, 3, 3))
    return [qml.AngleEmbedding(x, range(3)), qml.StronglyEntanglingLayers(weights, range(3))]


def tapes() -> list:
    inputs = np.random.default_rng(2).normal(size=(len(MEASUREMENTS), 3))
    single = [qml.tape.QuantumScript(gates(x), m) for x, m in zip(inputs, MEASUREMENTS, strict=True)]
    return [*single, qml.tape.QuantumScript(gates(inputs[:4]), MEASUREMENTS[1])]


def exact(batch: list):
    return qml.execute(batch, qml.device("default.qubit", wires=3), diff_method=None)


def flat(results) -> np.ndarray:
    if isinstance(results, tuple | list):
        return np.concatenate([flat(one) for one in results])
    return np.ravel(results)


def misread(device, probability: float):
    """Flips each bit before it is read."""
    return qml.noise.insert(device, qml.BitFlip, probability, position="end")


@pytest.fixture
def misreading():
    return misread(qml.device("default.mixed", wires=3), 0.08)


def test_readout_errors_are_undone(misreading) -> None:
    batch = tapes()
    bare, mitigated = Runner(misreading).run(batch), ReadoutMitigation(Runner(misreading)).run(batch)
    assert np.abs(flat(bare) - flat(exact(batch))).max() > 0.1
    np.testing.assert_allclose(flat(mitigated), flat(exact(batch)), atol=1e-7)
    assert [np.shape(one) for one in flat_shapes(mitigated)] == [np.shape(one) for one in flat_shapes(bare)]


def flat_shapes(results) -> list:
    if isinstance(results, tuple | list):
        return [shape for one in results for shape in flat_shapes(one)]
    return [results]


def test_calibration_is_measured_once_in_the_first_submission(misreading) -> None:
    tape = qml.tape.QuantumScript(gates(np.ones(3)), MEASUREMENTS[1])
    runner = Runner(misreading, shots=50)
    mitigation = ReadoutMitigation(runner, shots=200)
    assert mitigation.estimate([tape]).cost[:2] == (3, 450)
    mitigation.run([tape])
    assert (mitigation.spent().circuits, mitigation.spent().shots) == (3, 450)
    mitigation.run([tape])
    assert mitigation.spent().circuits == 4
    mitigation.recalibrate()
    mitigation.run([tape])
    assert mitigation.spent().circuits == 7


@pytest.mark.parametrize("clip", [True, False])
def test_clipped_probabilities_are_probabilities(misreading, clip: bool) -> None:
    tape = qml.tape.QuantumScript([qml.X(0)], [qml.probs(wires=[0, 1, 2])])
    results = []
    for _ in range(10):
        (result,) = ReadoutMitigation(Runner(misreading, shots=30), clip=clip).run([tape])
        results.append(result)
    np.testing.assert_allclose(np.sum(results, axis=1), 1, atol=1e-12)
    assert bool(np.min(results) >= 0) is clip


def test_a_wire_that_shows_nothing_is_named() -> None:
    device = misread(qml.device("default.mixed", wires=1), 0.49)
    with pytest.raises(RuntimeError, match="expected wire 0 to show 0 and 1 differently"):
        ReadoutMitigation(Runner(device)).run([qml.tape.QuantumScript([], [qml.expval(qml.Z(0))])])


@pytest.mark.parametrize(
    "measurement", [qml.var(qml.Z(0)), qml.probs(), qml.expval(qml.Projector([0], 0)), qml.counts(wires=0)]
)
def test_readout_of_others_is_refused(misreading, measurement) -> None:
    with pytest.raises(UserError, match="ReadoutMitigation: expected"):
        ReadoutMitigation(Runner(misreading)).run([qml.tape.QuantumScript([], [measurement])])


def noisy():
    """Depolarises each rotation a little."""
    condition = qml.noise.op_in([qml.RX, qml.RY, qml.RZ, qml.Rot, qml.CNOT])

    def depolarise(op, **_):
        for wire in op.wires:
            qml.DepolarizingChannel(0.002, wire)

    model = qml.NoiseModel({condition: depolarise})
    return qml.noise.add_noise(qml.device("default.mixed", wires=3), model)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"factors": (1, 3)},
        {"extrapolate": functools.partial(qml.noise.poly_extrapolate, order=1), "factors": (1, 1.5, 2)},
    ],
)
def test_noise_is_extrapolated_away(options: dict) -> None:
    batch = tapes()
    reference = flat(exact(batch))
    bare = np.abs(flat(Runner(noisy()).run(batch)) - reference)
    mitigation = ZeroNoise(Runner(noisy()), **options)
    assert mitigation.estimate(batch).tapes == len(mitigation.factors) * len(batch)
    mitigated = np.abs(flat(mitigation.run(batch)) - reference)
    assert bare.max() > 0.02
    assert mitigated.mean() < 0.4 * bare.mean()


def test_both_together() -> None:
    batch = tapes()
    reference = flat(exact(batch))
    device = misread(noisy(), 0.05)
    bare = np.abs(flat(Runner(device).run(batch)) - reference)
    mitigated = np.abs(flat(ZeroNoise(ReadoutMitigation(Runner(device))).run(batch)) - reference)
    assert mitigated.mean() < 0.1 * bare.mean()


def test_prepared_states_are_not_folded() -> None:
    state = np.arange(1, 9) / np.linalg.norm(np.arange(1, 9))
    tape = qml.tape.QuantumScript([qml.StatePrep(state, range(3)), *gates(np.ones(3))], MEASUREMENTS[0])
    mitigation = ZeroNoise(Runner(qml.device("default.qubit", wires=3)))
    np.testing.assert_allclose(mitigation.run([tape]), exact([tape]), atol=1e-9)


@pytest.mark.parametrize("factors", [(1,), (1, 1), (0.5, 1)])
def test_wrong_factors_are_refused(factors: tuple) -> None:
    with pytest.raises(UserError, match="two or more different factors"):
        ZeroNoise(Runner(qml.device("default.qubit")), factors)


@pytest.mark.parametrize(
    ("ops", "measurement"),
    [
        ([qml.BitFlip(0.1, 0)], qml.expval(qml.Z(0))),
        ([], qml.counts(wires=0)),
        ([], qml.sample(wires=0)),
    ],
)
def test_circuits_that_cannot_be_folded_are_refused(ops: list, measurement) -> None:
    with pytest.raises(UserError, match="ZeroNoise: expected gates"):
        ZeroNoise(Runner(qml.device("default.mixed", wires=1))).run(
            [qml.tape.QuantumScript(ops, [measurement], shots=10)]
        )


def test_the_budget_holds_for_mitigations() -> None:
    device = qml.device("default.qubit", wires=3)
    with pytest.raises(BudgetExceeded):
        ZeroNoise(Runner(device, budget=Budget(circuits=2))).run(tapes()[:1])
