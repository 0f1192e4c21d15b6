"""PennyLane's layer under `torch.compile(backend="qbio")`: whole graphs, and its own way elsewhere."""

import gc

import pennylane as qml
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from qlayers.passes import compiled


def torch_layer(gate=qml.RY, *, branch=False, layers=1):
    @qml.qnode(qml.device("default.qubit", wires=2))
    def circuit(inputs, weights):
        qml.AngleEmbedding(inputs, wires=range(2))
        if branch and (weights > 0).all():
            qml.X(0)
        for row in weights:
            gate(row[0], wires=0)
            qml.CNOT([0, 1])
            gate(row[1], wires=1)
        return [qml.expval(qml.Z(wire)) for wire in range(2)]

    return qml.qnn.TorchLayer(circuit, {"weights": (layers, 2)})


def model(**options):
    return nn.Sequential(nn.Linear(3, 2), torch_layer(**options), nn.Linear(2, 1))


def gradients(module, over, x):
    return torch.autograd.grad(module(x).square().sum(), list(over.parameters()))


@pytest.fixture(autouse=True)
def _from_anew():
    torch._dynamo.reset()


def test_whole_graphs_that_train():
    plain = model()
    better = torch.compile(plain, backend="qbio", fullgraph=True, dynamic=True, options={"inner": "eager"})
    for batch in (4, 7):
        x = torch.rand(batch, 3)
        assert_close(better(x), plain(x))
        assert_close(gradients(better, plain, x), gradients(plain, plain, x))
    assert_close(better(torch.rand(2, 5, 3)).shape, (2, 5, 1))


def test_weights_that_change_are_seen():
    plain, x = model(), torch.rand(4, 3)
    better = torch.compile(plain, backend="qbio", fullgraph=True, options={"inner": "eager"})
    better(x)
    with torch.no_grad():
        plain[1].weights.add_(1.0)
    assert_close(better(x), plain(x))
    plain[1].qnode = torch_layer(qml.RX).qnode
    assert_close(better(x), plain(x))


def test_other_backends_go_through_pennylane():
    compiled.let_compilers_through()
    for backend in ("eager", lambda graph, _: graph):
        with pytest.raises(torch._dynamo.exc.Unsupported, match=r"pennylane.qnn.torch\.py"):
            torch.compile(torch_layer(), backend=backend, fullgraph=True)(torch.rand(3, 2))


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of Dynamo, at any break of a graph
def test_what_one_op_cannot_run_is_pennylanes():
    plain, x = model(branch=True), torch.rand(4, 3)
    better = torch.compile(plain, backend="qbio", options={"inner": "eager"})
    assert_close(better(x), plain(x))
    assert_close(gradients(better, plain, x), gradients(plain, plain, x))


def test_circuits_go_with_their_layers():
    before = len(vars(compiled._programs))
    layer = torch_layer(layers=2)
    name = compiled.name_of_program(layer, layer.qnode, 2)
    assert name == compiled.name_of_program(layer, layer.qnode, 2)
    assert len(vars(compiled._programs)) == before + 1
    del layer
    gc.collect()
    assert len(vars(compiled._programs)) == before
