"""A pass as one node of autograd, against the same pass in ordinary torch calls."""

import contextlib
import warnings

import pytest
import torch

import shared
from qlayers import Circuit, QuantumLayer
from shared import eager

CIRCUITS = {  # lines end at semicolons
    "in order": "weights w(2); RX(w[0]) 0; RY(x0) 0; RY(w[1]) 1; CNOT 0 1; RX(x1) 1; expval Z(0)",
    "scaled and shifted": """weights w(3); RX(2.0*w[2]) 0; RY(0.5*x1 + 0.3) 0; CRX(w[0]) 0 1;
        expval Z(0); expval Z(1)""",
    "gathered": """weights w(9); RX(w[7]) 0; RY(x3) 0; RX(3.0*w[7] + 1.0) 0; RX(-x3) 1; CNOT 0 1; RY(x3) 1;
        expval X(1)""",
    "several weights": """weights a(2) b(1,2) c(); RX(b[0,1]) 0; RY(a[0]) 0; RX(c) 0; RY(b[0,0]) 1; CNOT 0 1;
        RX(x0) 0; expval Z(0)""",
    "constants": """weights w(2); RX(0.7) 0; RY(w[0]) 0; RX(0.4) 1; RY(x0) 1; CNOT 0 1;
        expval Z(0); expval X(1)""",
    "sums": """weights w(2); RX(w[0]) 0; RY(x0) 1; CNOT 0 1; RX(w[1]) 1;
        expval 0.5*Z(0) + -2.0*Y(1) + 3.0*I; expval -1.0*Z(1)""",
    "no weights": "RX(x0) 0; RY(x1) 1; CNOT 0 1; RX(0.3) 1; expval Z(1)",
    "no inputs": "weights w(2); RX(w[0]) 0; RY(w[1]) 0; expval Z(0)",
    "nothing": "weights w(2); RZ(w[0]) 0; RX(x0) 1; expval Z(0)",
}


def layer_of(name):
    return QuantumLayer(Circuit.parse("\n".join(CIRCUITS[name].split(";")))).double()


@pytest.fixture(params=CIRCUITS)
def layer(request):
    return layer_of(request.param)


def inputs_for(layer, batch=3):
    return torch.randn(batch, max(4, layer.circuit.features_used), dtype=torch.float64, requires_grad=True)


@contextlib.contextmanager
def in_torch_calls():
    """The ordinary way, for comparison."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eager, "AVAILABLE", False)
        yield


def derivatives(layer, x, order=1):
    """The outputs, and the gradients of a function of them, of its gradients, ..."""
    wanted = (x, *layer.parameters())
    found = [layer(x)]
    for _ in range(order):
        total = sum(value.sin().sum() for value in found)
        found = torch.autograd.grad(
            total, wanted, create_graph=True, allow_unused=True, materialize_grads=True
        )
    return found


def is_one_node(layer, x):
    out = layer(x)
    node = out.grad_fn.next_functions[0][0] if "Squeeze" in out.grad_fn.name() else out.grad_fn
    return "_Pass" in node.name()


def test_it_is_one_node(layer):
    x = inputs_for(layer)
    assert is_one_node(layer, x)
    with in_torch_calls():
        assert not is_one_node(layer, x)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_derivatives(layer, order):
    x = inputs_for(layer)
    received = derivatives(layer, x, order)
    with in_torch_calls():
        expected = derivatives(layer, x, order)
    assert [r.shape for r in received] == [e.shape for e in expected]
    torch.testing.assert_close(list(received), list(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches(layer, batch):
    x = inputs_for(layer, batch)
    received = derivatives(layer, x)
    with in_torch_calls():
        torch.testing.assert_close(list(received), list(derivatives(layer, x)))


@pytest.mark.parametrize("frozen", ["inputs", "weights", "one weight"])
def test_gradients_only_where_wanted(frozen):
    layer = layer_of("several weights")
    x = inputs_for(layer)
    for number, tensor in enumerate((x, *layer.parameters())):
        if {"inputs": number == 0, "weights": number > 0, "one weight": number == 1}[frozen]:
            tensor.requires_grad_(False)
    wanted = [tensor for tensor in (x, *layer.parameters()) if tensor.requires_grad]
    received = torch.autograd.grad(layer(x).square().sum(), wanted)
    with in_torch_calls():
        torch.testing.assert_close(received, torch.autograd.grad(layer(x).square().sum(), wanted))


def test_weights_that_are_computed():
    layer = layer_of("several weights")
    x, a = inputs_for(layer), torch.randn(2, 2, dtype=torch.float64, requires_grad=True)

    def of_seed():
        return (
            torch.func.functional_call(layer, {"a": a.sin()[:, 0], "b": (2 * a).exp()[:1]}, (x,))
            .square()
            .sum()
        )

    received = torch.autograd.grad(of_seed(), (x, a))
    with in_torch_calls():
        torch.testing.assert_close(received, torch.autograd.grad(of_seed(), (x, a)))


def test_gradients_of_parameters_can_be_added_in_place():
    layer = layer_of("several weights")
    x = inputs_for(layer)
    for _ in range(2):
        layer(x).sum().backward()
    twice = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    layer(x).sum().backward()
    torch.testing.assert_close(twice, [2 * p.grad for p in layer.parameters()])


def test_many_gradients_at_once(layer):
    x = inputs_for(layer)
    received = torch.autograd.functional.jacobian(layer, x, vectorize=True)
    with in_torch_calls():
        torch.testing.assert_close(received, torch.autograd.functional.jacobian(layer, x))


def test_a_weight_that_changed_is_noticed(layer):
    x = inputs_for(layer)
    out = layer(x).sum()
    for tensor in (*layer.parameters(), x):
        with torch.no_grad():
            tensor.mul_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_angles_of_steps_are_no_node():
    layer = QuantumLayer(Circuit.parse("weights w(1)\nRX(w[0]*x0) 0\nexpval Z(0)"))
    assert not is_one_node(layer, torch.randn(2, 1))


def test_compiled_backward(layer):
    x = inputs_for(layer)
    wanted = (x, *layer.parameters())
    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch looks at the gradients of tensors that are no leaves
        stack.enter_context(torch._dynamo.compiled_autograd._enable(torch.compile(backend="aot_eager")))
        layer(x).sin().sum().backward()
    received = [torch.zeros_like(t) if t.grad is None else t.grad for t in wanted]
    torch.testing.assert_close(received, list(derivatives(layer, x)))


@pytest.mark.parametrize("name", ["in order", "sums"])
def test_first_use_in_inference_mode(name):
    layer = layer_of(name)
    x = inputs_for(layer)
    layer._programs.clear()
    with torch.inference_mode():
        out = layer(x)
    assert out.is_inference()
    received = layer(x)
    torch.testing.assert_close(received, out.clone())
    received.sum().backward()


def test_what_one_engine_kept_is_not_given_to_another():
    circuit = Circuit.parse(
        "weights w(8)\n"
        + "".join(f"RX(x{i}) {i}\nRY(w[{i}]) {i}\n" for i in range(8))
        + "CNOT 0 7\nexpval X(7)"
    )
    layer = QuantumLayer(circuit)
    x = torch.randn(20, 8, requires_grad=True)
    wanted = torch.autograd.grad(layer(x).sum(), (x, layer.w))
    with shared.prefer("numba"):
        out = layer(x).sum()
    with shared.prefer("numba-single"):
        found = torch.autograd.grad(out, (x, layer.w))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)
