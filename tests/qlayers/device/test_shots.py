"""Finite shots: distributions, shapes, seeds, postselection."""

import numpy as np
import pennylane as qml
import pytest

KINDS = "expval expval expval var probs probs_all probs_basis"
SHOTS = 40_000
SIGMAS = 5.0


def run(tapes, seed=1, name="qbio.simulator", wires=None, **options):
    return qml.execute(tapes, qml.device(name, wires=wires, seed=seed), **options)


def largest(observable) -> float:
    """No eigenvalue of an observable is larger than this."""
    if observable is None:
        return 1.0
    if observable.pauli_rep is not None:
        return float(sum(map(abs, observable.pauli_rep.values())))
    return float(np.abs(observable.eigvals()).max())


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("seed", range(25))
def test_random_tapes_have_the_right_distribution(making, seed, batch):
    made = making(seed, [0, "b", 2][: seed % 3 + 1], batch)
    tape = made.tape(KINDS)
    exact = run([tape])[0]
    found = run([tape.copy(shots=SHOTS)], seed=seed)[0]
    single = len(tape.measurements) == 1
    for process, a, b in zip(
        tape.measurements, *[(x,) if single else x for x in (found, exact)], strict=True
    ):
        assert np.shape(a) == np.shape(b)
        # the standard deviation of one shot is at most the largest eigenvalue, or its square for a variance
        power = 2 if type(process).__name__ == "VarianceMP" else 1
        bound = SIGMAS * largest(process.obs) ** power / np.sqrt(SHOTS)
        np.testing.assert_allclose(a, b, atol=bound)


def means(count, shots, **circuit):
    """The estimates of many independent runs, as samples of one broadcast tape."""
    angles = np.full(count, 0.8)
    tape = qml.tape.QuantumScript([qml.RX(angles, 0)], [qml.expval(qml.Z(0))], shots=shots)
    return run([tape], **circuit)[0]


@pytest.mark.parametrize("shots", [1, 7, 100])  # fewer shots than outcomes are drawn another way
def test_the_spread_of_an_expectation_value(shots):
    found = means(20_000, shots)
    assert len(np.unique(found)) <= shots + 1
    sigma = np.sin(0.8) / np.sqrt(shots)
    assert found.mean() == pytest.approx(np.cos(0.8), abs=SIGMAS * sigma / np.sqrt(len(found)))
    assert found.std() == pytest.approx(sigma, rel=0.05)


def test_probabilities_of_many_outcomes_and_few_shots():
    operations = [qml.Hadamard(i) for i in range(6)]
    tape = qml.tape.QuantumScript(operations, [qml.probs(range(6))], shots=20)
    found = run([tape])[0]
    assert found.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(found * 20, np.round(found * 20), atol=1e-12)
    average = np.mean([run([tape], seed=i)[0] for i in range(200)], 0)
    np.testing.assert_allclose(average, 1 / 64, atol=SIGMAS * np.sqrt(1 / 64 / 4000))


def test_commuting_observables_share_their_shots():
    operations = [qml.Hadamard(0), qml.CNOT([0, 1])]
    words = [qml.Z(0), qml.Z(1), qml.Z(0) @ qml.Z(1)]
    tape = qml.tape.QuantumScript(operations, [*map(qml.expval, words), qml.probs([0])], shots=11)
    first, second, product, probabilities = run([tape])[0]
    assert first == second
    assert product == 1.0
    assert probabilities[0] - probabilities[1] == pytest.approx(first)


def test_samples_agree_with_the_estimates_beside_them():
    tape = qml.tape.QuantumScript(
        [qml.RX(0.8, "a"), qml.RY([0.3, 0.9], "b")],
        [qml.sample(wires=["b", "a"]), qml.expval(qml.Z("a")), qml.counts(qml.Z("b")), qml.var(qml.Z("b"))],
        shots=50,
    )
    samples, means_a, counts, variances = run([tape])[0]
    assert samples.shape == (2, 50, 2)
    np.testing.assert_allclose(means_a, 1 - 2 * samples[..., 1].mean(-1))
    for bits, count, variance in zip(samples[..., 0], counts, variances, strict=True):
        assert count.get(-1.0, 0) == bits.sum()
        assert variance == pytest.approx(4 * bits.mean() * (1 - bits.mean()))


@pytest.mark.parametrize(
    ("process", "outcomes"),
    [
        (qml.sample(qml.X(0)), {1.0}),
        (qml.sample(qml.Hermitian(np.array([[0.0, 2.0], [2.0, 0.0]]), 0)), {2.0}),
        (qml.sample(3 * qml.X(0) @ qml.Z(1)), {3.0}),
        (qml.sample(qml.Projector([0], wires=1)), {1.0}),
        (qml.sample(qml.X(0) + qml.Z(1)), {2.0}),
        (qml.sample(wires=[1]), {0}),
    ],
)
def test_samples_of_eigenstates(process, outcomes):
    tape = qml.tape.QuantumScript([qml.Hadamard(0), qml.Identity(1)], [process], shots=30)
    assert {round(float(value), 12) for value in np.ravel(run([tape])[0])} == outcomes


def test_counts_of_all_outcomes():
    tape = qml.tape.QuantumScript(
        [qml.X(0), qml.Identity(1)], [qml.counts(), qml.counts(wires=[1], all_outcomes=True)], shots=9
    )
    first, second = run([tape])[0]
    assert first == {"10": 9}
    assert second == {"0": 9, "1": 0}


def test_shot_vectors():
    processes = [qml.expval(qml.Z(0)), qml.sample(wires=0), qml.probs([0])]
    tape = qml.tape.QuantumScript([qml.RX(0.8, 0)], processes, shots=(5, (7, 2)))
    found = run([tape])[0]
    assert [len(samples) for _, samples, _ in found] == [5, 7, 7]
    for value, samples, probabilities in found:
        assert value == pytest.approx(1 - 2 * samples.mean())
        assert probabilities[1] == pytest.approx(samples.mean())


def test_seeds():
    def draws(seed, calls=2):
        device = qml.device("qbio.simulator", wires=1, seed=seed)
        qnode = qml.set_shots(qml.QNode(lambda: (qml.Hadamard(0), qml.sample(wires=0))[1], device), 64)
        return [qnode().ravel().tolist() for _ in range(calls)]

    first, second = draws(7)
    assert first != second
    assert draws(7) == [first, second]
    assert draws(8) != [first, second]
    assert draws(np.random.default_rng(7)) == [first, second]
    np.random.seed(3)
    by_global = draws("global")
    np.random.seed(3)
    assert draws("global") == by_global
    assert draws(None) != draws(None)


def middle():
    qml.RX(0.7, 0)
    first = qml.measure(0)
    qml.cond(first, qml.RY)(0.9, 1)
    second = qml.measure(1, reset=True)
    qml.RX(0.4, 1)
    of_outcomes = qml.expval(first), qml.var(2 * first + second), qml.probs(op=[first, second])
    return (*of_outcomes, qml.expval(qml.Z(1)), qml.probs([0, 1]))


def test_measurements_in_the_middle():
    device = qml.device("qbio.simulator", wires=2, seed=3)
    exact = qml.QNode(middle, device)()
    found = qml.set_shots(qml.QNode(middle, device), SHOTS)()
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_allclose(a, b, atol=SIGMAS * 2 / np.sqrt(SHOTS))


def test_counts_and_samples_of_outcomes():
    def circuit():
        qml.Hadamard(0)
        qml.CNOT([0, 1])
        first, second = qml.measure(0), qml.measure(1)
        return qml.counts([first, second]), qml.sample(first + second), qml.counts(first)

    device = qml.device("qbio.simulator", wires=2, seed=3)
    both, total, first = qml.set_shots(qml.QNode(circuit, device), 40)()
    assert set(both) == {"00", "11"}
    assert both["11"] == (total == 2).sum() == first[1]


@pytest.mark.parametrize(("mode", "all_kept"), [(None, False), ("hw-like", False), ("fill-shots", True)])
def test_postselection_loses_shots(mode, all_kept):
    def circuit():
        qml.RX(1.0, 0)
        qml.CNOT([0, 1])
        qml.measure(0, postselect=1)
        qml.RY(0.5, 0)
        qml.measure(0, postselect=0)
        return qml.sample(wires=[0, 1])

    device = qml.device("qbio.simulator", wires=2, seed=3)
    found = qml.set_shots(qml.QNode(circuit, device, postselect_mode=mode), 10_000)()
    np.testing.assert_array_equal(found[:, 1], 1)
    if all_kept:
        assert len(found) == 10_000
    else:
        kept = np.sin(0.5) ** 2 * np.sin(0.25) ** 2
        assert len(found) == pytest.approx(10_000 * kept, abs=SIGMAS * np.sqrt(10_000 * kept))


def test_postselection_on_what_does_not_happen():
    def circuit():
        qml.RX(0.0, 0)
        qml.measure(0, postselect=1)
        return qml.expval(qml.Z(0)), qml.sample(wires=0)

    value, samples = qml.set_shots(qml.QNode(circuit, qml.device("qbio.simulator", wires=1)), 10)()
    assert np.isnan(value)
    assert len(samples) == 0


def test_shadows():
    def circuit():
        qml.Hadamard(0)
        qml.CNOT([0, 1])
        return qml.classical_shadow([0, 1], seed=1), qml.shadow_expval(qml.X(0) @ qml.X(1), seed=2)

    found = [
        qml.set_shots(qml.QNode(circuit, qml.device(name, wires=2, seed=4)), 3000)()
        for name in ("qbio.simulator", "default.qubit")
    ]
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_parameter_shift_is_unbiased():
    @qml.qnode(qml.device("qbio.simulator", wires=2, seed=5), diff_method="parameter-shift")
    def circuit(x, y):
        qml.RX(x, 0)
        qml.CRY(y, [0, 1])
        return qml.expval(qml.Z(1))

    x, y = (qml.numpy.array(v, requires_grad=True) for v in (0.7, 1.1))
    exact = qml.grad(circuit)(x, y)
    noisy = np.array([qml.grad(qml.set_shots(circuit, 100))(x, y) for _ in range(200)])
    error = noisy.std(0) / np.sqrt(len(noisy))
    assert (np.abs(noisy.mean(0) - exact) < SIGMAS * error).all()
    assert (noisy.std(0) > 0.01).all()


def test_torch_parameters_and_shots():
    import torch

    angle = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    qnode = qml.QNode(
        lambda x: (qml.RX(x, 0), qml.expval(qml.Z(0)))[1], qml.device("qbio.simulator", wires=1, seed=2)
    )
    value = qml.set_shots(qnode, SHOTS)(angle)
    (slope,) = torch.autograd.grad(value, angle)
    assert value.item() == pytest.approx(np.cos(0.8), abs=SIGMAS / np.sqrt(SHOTS))
    assert slope.item() == pytest.approx(-np.sin(0.8), abs=SIGMAS / np.sqrt(SHOTS))
