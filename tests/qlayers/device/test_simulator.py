"""The device among PennyLane's: how it is found and configured, and what it refuses."""

import subprocess
import sys

import numpy as np
import pennylane as qml
import pytest
from pennylane.devices import ExecutionConfig, MCMConfig
from pennylane.exceptions import DeviceError, WireError

from qlayers.device import Simulator
from shared.errors import UserError


def run(operations, processes=None, wires=None, **options):
    tape = qml.tape.QuantumScript(operations, processes or [qml.expval(qml.Z(0))], **options)
    return qml.execute([tape], Simulator(wires=wires))[0]


def test_it_is_a_plugin():
    device = qml.device("qbio.simulator", wires=["a", "b"])
    assert isinstance(device, Simulator)
    assert device.name == "qbio.simulator"
    assert list(device.wires) == ["a", "b"]


def test_the_layers_do_not_need_it():
    code = "import sys, qlayers; assert not {'pennylane', 'qlayers.device'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_left_open_is_decided():
    config = Simulator().setup_execution_config(ExecutionConfig(gradient_method="best"))
    assert config.gradient_method == "backprop"
    assert config.use_device_gradient
    assert not config.use_device_jacobian_product
    assert not config.grad_on_execution
    assert config.mcm_config.mcm_method == "deferred"
    config = Simulator().setup_execution_config(ExecutionConfig(gradient_method="device"))
    assert config.use_device_gradient
    assert config.use_device_jacobian_product


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ExecutionConfig(device_options={"max_workers": 3}), "no device options, received .*max_workers"),
        (ExecutionConfig(mcm_config=MCMConfig(mcm_method="one-shot")), "one-shot.*expected 'deferred'"),
    ],
)
def test_configurations_that_are_refused(config, message):
    with pytest.raises(DeviceError, match=message):
        Simulator().setup_execution_config(config)


@pytest.mark.parametrize(
    ("operations", "processes", "error", "message"),
    [
        ([qml.AmplitudeDamping(0.1, 0)], None, DeviceError, "AmplitudeDamping.* not supported with qbio"),
        ([qml.QubitDensityMatrix(np.eye(2) / 2, 0)], None, DeviceError, "not supported with qbio"),
        ([qml.QubitUnitary(np.ones((2, 2)), 0)], None, UserError, "expected a unitary matrix"),
        ([qml.RX(0.1, 7)], None, WireError, "not found on the device"),
        ([], [qml.sample(wires=0)], DeviceError, "not accepted for analytic simulation on qbio.simulator"),
        ([], [qml.classical_shadow([0])], DeviceError, "not accepted for analytic simulation"),
    ],
)
def test_circuits_that_are_refused(operations, processes, error, message):
    with pytest.raises(error, match=message):
        run(operations, processes, wires=2)


def test_states_have_no_shots():
    with pytest.raises(DeviceError, match="not accepted with finite shots"):
        run([], [qml.state()], shots=10)


def test_tracking():
    device = qml.device("qbio.simulator", wires=2)
    tape = qml.tape.QuantumScript([qml.RX(0.1, 0)], [qml.expval(qml.Z(0))], shots=50)
    with qml.Tracker(device) as tracker:
        device.execute([tape, tape])
        device.compute_vjp([tape.copy(shots=None)], [1.0])
    assert tracker.totals["batches"] == 1
    assert tracker.totals["executions"] == 2
    assert tracker.totals["shots"] == 100
    assert tracker.totals["vjps"] == 1


def test_a_single_tape_has_a_bare_result():
    tape = qml.tape.QuantumScript([qml.RX(0.1, 0)], [qml.expval(qml.Z(0))])
    assert Simulator().execute(tape) == pytest.approx(np.cos(0.1))
    assert Simulator().execute((tape,)) == (pytest.approx(np.cos(0.1)),)


@pytest.mark.parametrize("graph", [False, True])
def test_pennylane_decomposes_what_the_engine_has_not(graph):
    with qml.decomposition.toggle_graph_ctx(graph):
        found = run([qml.QFT(range(3)), qml.adjoint(qml.QFT(range(3))), qml.RY(0.3, 0)])
    assert found == pytest.approx(np.cos(0.3))


def test_layers_and_device_agree():
    import torch

    from qlayers import QuantumLayer

    def circuit(inputs, weights):
        qml.AngleEmbedding(inputs, wires=range(3))
        qml.StronglyEntanglingLayers(weights, wires=range(3))
        return qml.probs([0, 2])

    layer = QuantumLayer(circuit, {"weights": (2, 3, 3)}).double()
    inputs = torch.rand(4, 3, dtype=torch.float64)
    found = qml.QNode(circuit, qml.device("qbio.simulator", wires=3))(inputs, layer.weights)
    torch.testing.assert_close(found, layer(inputs))
