"""PennyLane's layer under `torch.compile(backend="qbio")`: whole graphs, and its own way elsewhere."""

import gc
from unittest import mock

import pennylane as qml
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from qlayers import QuantumLayer
from qlayers.passes import compiled, one_call
from shared.graph import backend


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
    torch._dynamo.reset()  # forgets to prepare, too, until a graph comes to us
    assert qml.qnn.TorchLayer  # imported at the first look
    compiled.let_compilers_through()


def test_whole_graphs_that_train():
    plain = model()
    better = torch.compile(plain, backend="qbio", fullgraph=True, dynamic=True, options={"inner": "eager"})
    for batch in (4, 7):
        x = torch.rand(batch, 3)
        assert_close(better(x), plain(x))
        assert_close(gradients(better, plain, x), gradients(plain, plain, x))
    assert_close(better(torch.rand(2, 5, 3)).shape, (2, 5, 1))


@pytest.mark.parametrize("inner", ["eager", "inductor"])
def test_a_circuit_is_one_call_with_few_guards(inner):
    from torch._dynamo.eval_frame import _debug_get_cache_entry_list

    plain, x = torch_layer(), torch.rand(4, 2, requires_grad=True)
    graphs = []
    hold = backend._hold if inner == "inductor" else backend._in_eager

    def kept(graph):
        found = hold(graph)
        graphs.append(graph)
        return found

    with mock.patch.object(backend, hold.__name__, kept):
        better = torch.compile(plain, backend="qbio", fullgraph=True, dynamic=True, options={"inner": inner})
        for batch in (4, 6):
            x = torch.rand(batch, 2, requires_grad=True)
            ours, theirs = (
                torch.autograd.grad(each(x).square().sum(), [x, plain.weights]) for each in (better, plain)
            )
            assert_close(ours, theirs)
    (graph,) = graphs
    targets = [node.target for node in graph.graph.nodes if node.op.startswith("call_")]
    assert [type(target) for target in targets] == [one_call.OneCall]
    (entry,) = _debug_get_cache_entry_list(type(plain).forward.__code__)
    assert str(entry.guard_manager).count("passes_dot") < 20


def test_layers_of_our_own_are_one_call():
    layer = QuantumLayer(torch_layer().qnode, {"weights": (1, 2)})
    better = torch.compile(layer, backend="qbio", fullgraph=True, dynamic=True, options={"inner": "eager"})
    for dtype in (torch.float32, torch.float64):
        layer.to(dtype)
        for shape in ((4, 2), (3, 5, 2)):
            x = torch.rand(shape, dtype=dtype, requires_grad=True)
            ours, theirs = (
                torch.autograd.grad(each(x).square().sum(), [x, layer.weights]) for each in (better, layer)
            )
            assert_close(ours, theirs)


def test_a_layer_in_place_of_another_with_its_qnode():
    plain, x = model(), torch.rand(4, 3)
    better = torch.compile(plain, backend="qbio", fullgraph=True, options={"inner": "eager"})
    better(x)
    plain[1] = qml.qnn.TorchLayer(plain[1].qnode, {"weights": (1, 2)})
    gc.collect()
    assert_close(better(x), plain(x))
    assert_close(gradients(better, plain, x), gradients(plain, plain, x))


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
    for other in ("eager", lambda graph, _: graph):
        with pytest.raises(torch._dynamo.exc.Unsupported, match=r"pennylane.qnn.torch\.py"):
            torch.compile(torch_layer(), backend=other, fullgraph=True)(torch.rand(3, 2))


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
