"""Exact results of the device against default.qubit."""

import numpy as np
import pennylane as qml
import pytest
import torch

from qlayers.device.analytic import results_of

ALL = "expval expval expval var probs probs_all probs_basis state density purity entropy mutual"
WIRES = {"integers": [0, 1, 2, 3], "labels": ["a", "b", 3, "c"], "shuffled": [2, 0, 3, 1]}


def on(name, tapes, wires=None, **options):
    return qml.execute(tapes, qml.device(name, wires=wires), **options)


def assert_same(tapes, wires=None):
    for ours, theirs, tape in zip(
        on("qbio.simulator", tapes, wires), on("default.qubit", tapes, wires), tapes, strict=True
    ):
        single = len(tape.measurements) == 1
        for a, b in zip(*[(x,) if single else x for x in (ours, theirs)], strict=True):
            assert np.shape(a) == np.shape(b)
            np.testing.assert_allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("labels", WIRES)
@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("seed", range(20))
def test_random_tapes(making, seed, batch, labels):
    count = seed % 4 + 1
    wires = sorted(WIRES[labels][:count]) if labels == "integers" else WIRES[labels][:count]
    tapes = [making(100 * seed + i, wires, batch).tape(ALL) for i in range(2)]
    assert_same(tapes, wires if seed % 2 else None)


def test_parts_of_a_larger_device():
    tape = qml.tape.QuantumScript([qml.RX(0.4, 2), qml.CNOT([2, 0])], [qml.state(), qml.probs()])
    assert_same([tape], 4)


@pytest.mark.parametrize(
    "operations",
    [
        [qml.StronglyEntanglingLayers(np.arange(9.0).reshape(1, 3, 3), wires=range(3))],
        [qml.BasisState([1, 0, 1], wires=range(3)), qml.GroverOperator(wires=range(3))],
        [qml.AmplitudeEmbedding(np.arange(1.0, 9), wires=range(3), normalize=True), qml.QFT(range(3))],
        [qml.RX(0.3, 0), qml.StatePrep([0.6, 0.8], wires=1), qml.CNOT([0, 1])],
        [qml.Hadamard(0), qml.CNOT([0, 1]), qml.StatePrep([0.6, 0.8], wires=2)],
        [qml.TrotterProduct(qml.X(0) @ qml.Y(1) + 0.3 * qml.Z(0), 0.7, n=3)],
        [qml.MultiControlledX(wires=range(6)), qml.X(0)],
        [qml.exp(qml.X(0) @ qml.Z(1), 0.4j), qml.pow(qml.RX(0.3, 0), 0.5)],
        [qml.Barrier([0, 1]), qml.Snapshot(), qml.Identity(2), qml.WireCut(0), qml.RY(0.3, 1)],
    ],
)
def test_templates_and_special_operations(operations):
    assert_same([qml.tape.QuantumScript(operations, [qml.state(), qml.expval(qml.Y(1))])])


@pytest.mark.parametrize("wires", [2, 9])
def test_sparse_hamiltonians(wires):
    sparse = qml.SparseHamiltonian(
        sum(0.3 * qml.X(i) @ qml.Z((i + 1) % wires) for i in range(wires)).sparse_matrix(range(wires)),
        range(wires),
    )
    for angle in (0.4, np.array([0.4, 0.7])):
        operations = [qml.RY(angle + i, i) for i in range(wires)]
        assert_same([qml.tape.QuantumScript(operations, [qml.expval(sparse), qml.probs([0])])])


def test_measurements_that_only_pennylane_processes():
    class Overlap(qml.measurements.StateMeasurement):
        """The probability of |0...0>."""

        numeric_type = float

        def shape(self, shots=None, num_device_wires=0):
            return ()

        def process_state(self, state, wire_order):
            return qml.math.abs(state[..., 0]) ** 2

    operations = [qml.RY([0.4, 0.5], 0), qml.CNOT([0, 1]), qml.RX(0.3, 1)]
    assert_same([qml.tape.QuantumScript(operations, [Overlap(), qml.expval(qml.Z(0))])])


@pytest.mark.parametrize("wires", [None, 2, 5])
def test_measurements_in_the_middle(wires):
    def circuit():
        qml.RX(0.7, 0)
        first = qml.measure(0)
        qml.cond(first, qml.RY)(0.9, 1)
        second = qml.measure(1, reset=True)
        qml.RX(0.4, 1)
        of_outcomes = qml.expval(first), qml.var(2 * first + second), qml.probs(op=[first, second])
        return (*of_outcomes, qml.expval(qml.Z(1)), qml.probs([0, 1]))

    ours = qml.QNode(circuit, qml.device("qbio.simulator", wires=wires))()
    theirs = qml.QNode(circuit, qml.device("default.qubit"))()
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_probabilities_of_all_wires_leave_out_those_that_deferral_adds():
    def circuit():
        qml.RX(0.3, 0)
        qml.measure(0)
        qml.RX(0.5, 0)
        return qml.probs()

    found = qml.QNode(circuit, qml.device("qbio.simulator"))()
    zero = (1 + np.cos(0.3) * np.cos(0.5)) / 2
    np.testing.assert_allclose(found, [zero, 1 - zero], atol=1e-12)


def test_postselection():
    def circuit():
        qml.RX(1.0, 0)
        qml.CNOT([0, 1])
        qml.measure(0, postselect=1)
        qml.RY(0.3, 0)
        return qml.probs([0, 1])

    ours, theirs = (qml.QNode(circuit, qml.device(name))() for name in ("qbio.simulator", "default.qubit"))
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_results_are_numpy_numbers_without_an_interface():
    tape = qml.tape.QuantumScript([qml.RX(0.3, 0)], [qml.expval(qml.Z(0)), qml.state()])
    value, state = on("qbio.simulator", [tape])[0]
    assert isinstance(value, float)
    assert state.dtype == np.complex128


def test_single_precision_parameters_are_computed_in_double(making):
    angle = torch.tensor(0.3, dtype=torch.float32, requires_grad=True)
    tape = qml.tape.QuantumScript([qml.RX(angle, 0)], [qml.expval(qml.Z(0))])
    (value,) = on("qbio.simulator", [tape], diff_method="backprop")
    assert value.dtype == torch.float64
    (slope,) = torch.autograd.grad(value, angle)
    assert slope.dtype == torch.float32
    assert float(slope) == pytest.approx(-np.sin(0.3), abs=1e-7)


def test_constants_beside_torch_numbers_keep_their_precision():
    angle = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    tape = qml.tape.QuantumScript([qml.RX(angle, 0), qml.RX(0.1, 0)], [qml.expval(qml.Z(0))])
    (value,), *_ = results_of([tape])
    assert value.item() == pytest.approx(np.cos(0.4), abs=1e-15)


def test_snapshots():
    def circuit():
        qml.RX(0.3, 0)
        qml.Snapshot("first")
        qml.CNOT([0, 1])
        return qml.expval(qml.Z(0))

    qnode = qml.QNode(circuit, qml.device("qbio.simulator", wires=2))
    with pytest.warns(UserWarning, match="a tape will be created for each snapshot"):
        found = qml.snapshots(qnode)()
    expected = qml.snapshots(qml.QNode(circuit, qml.device("default.qubit", wires=2)))()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=1e-12)
