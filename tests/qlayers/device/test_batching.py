"""How many calls of the engine serve a batch of tapes: one for each structure."""

import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp

from qlayers.device import batch


@pytest.fixture
def calls(monkeypatch):
    """The number of rows of each call of the engine."""
    found = []
    run = batch._run

    def counting(prepared, inputs, weights):
        found.append(len(inputs))
        return run(prepared, inputs, weights)

    monkeypatch.setattr(batch, "_run", counting)
    return found


def tape(angle, other=0.2, *, gate=qml.RY, shots=None):
    return qml.tape.QuantumScript(
        [qml.RX(angle, 0), gate(other, 1), qml.CNOT([0, 1])], [qml.expval(qml.Z(1))], shots=shots
    )


def test_tapes_of_one_structure_are_one_call(calls):
    device = qml.device("qbio.simulator")
    found = device.execute([tape(angle) for angle in (0.1, 0.2, 0.3)])
    assert calls == [3]
    np.testing.assert_allclose(found, np.cos([0.1, 0.2, 0.3]) * np.cos(0.2))


def test_other_structures_are_other_calls_in_the_right_order(calls):
    device = qml.device("qbio.simulator")
    found = device.execute([tape(0.1), tape(0.2, gate=qml.RZ), tape(0.3)])
    assert sorted(calls) == [1, 2]
    np.testing.assert_allclose(found, [np.cos(0.1) * np.cos(0.2), np.cos(0.2), np.cos(0.3) * np.cos(0.2)])


def test_broadcast_tapes_are_one_call(calls):
    device = qml.device("qbio.simulator")
    angles = np.linspace(0, 1, 5)
    np.testing.assert_allclose(device.execute(tape(angles)), np.cos(angles) * np.cos(0.2))
    assert calls == [5]
    calls.clear()
    found = device.execute([tape(angles), tape(angles[:3], 0.4)])
    assert calls == [8]
    np.testing.assert_allclose(found[1], np.cos(angles[:3]) * np.cos(0.4))


def test_a_parameter_shift_is_one_call(calls):
    @qml.set_shots(100)
    @qml.qnode(qml.device("qbio.simulator", wires=2), diff_method="parameter-shift")
    def circuit(w):
        qml.RX(w[0], 0)
        qml.RY(w[1], 1)
        qml.CNOT([0, 1])
        return qml.expval(qml.Z(1))

    qml.grad(circuit)(pnp.array([0.1, 0.2], requires_grad=True))
    assert calls == [1, 4]


def test_products_with_vectors_are_one_call(calls):
    device = qml.device("qbio.simulator")
    tapes = [tape(angle) for angle in (0.1, 0.2, 0.3)]
    found = device.compute_vjp(tapes, [1.0, 1.0, 2.0])
    assert calls == [3]
    for angle, factor, slopes in zip((0.1, 0.2, 0.3), (1.0, 1.0, 2.0), found, strict=True):
        assert slopes[0] == pytest.approx(-factor * np.sin(angle) * np.cos(0.2))


def test_values_do_not_make_new_plans():
    device = qml.device("qbio.simulator")
    device.execute(tape(0.123))
    before = batch._prepared.cache_info()
    device.execute([tape(0.456, 0.789), tape(np.pi / 2, 0.0)])
    after = batch._prepared.cache_info()
    assert (after.misses, after.hits) == (before.misses, before.hits + 1)


def test_prepared_states_do_not_make_new_plans():
    def prepared(state):
        return qml.tape.QuantumScript([qml.StatePrep(state, [0])], [qml.probs([0])])

    device = qml.device("qbio.simulator")
    device.execute(prepared([0.6, 0.8]))
    before = batch._prepared.cache_info().misses
    found = device.execute([prepared([0.8, 0.6]), prepared([1.0, 0.0])])
    assert batch._prepared.cache_info().misses == before
    np.testing.assert_allclose(found, [[0.64, 0.36], [1.0, 0.0]])


def test_many_large_states_run_in_parts(monkeypatch, calls):
    monkeypatch.setattr(batch, "MOST_AMPLITUDES", 8)
    batch._prepared.cache_clear()
    angles = np.linspace(0, 1, 5)
    found = qml.device("qbio.simulator").execute(
        qml.tape.QuantumScript([qml.RX(angles, 0), qml.CNOT([0, 1])], [qml.state()])
    )
    batch._prepared.cache_clear()
    assert found.shape == (5, 4)
    np.testing.assert_allclose(found[:, 0], np.cos(angles / 2))
