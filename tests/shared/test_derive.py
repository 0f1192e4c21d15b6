"""The router: each row of its table against plain PyTorch, and which face of the op each situation takes."""

import subprocess
import sys
import textwrap

import pytest
import torch
from torch import Tensor, func, nn
from torch.autograd import forward_ad

import shared
from shared import derive
from shared.check.case import same
from shared.check.compiling import compiled
from shared.check.transforms import TRANSFORMS, Problem


def plain(x: Tensor, w: Tensor, scale: float = 2.0) -> Tensor:
    return torch.sin(x) * torch.exp(w) * scale


calls: list[str] = []


@shared.op("derive::full")
def full(x: Tensor, w: Tensor, scale: float = 2.0) -> Tensor:
    """Everything declared, and every face leaves a trace."""
    if not torch.compiler.is_compiling():
        calls.append("reference")
    return plain(x, w, scale)


@full.kernel("traced")
def _(x, w, scale):
    calls.append("kernel")
    return plain(x, w, scale).contiguous()


@full.fake
def _(x, w, scale):
    return x.new_empty(torch.broadcast_shapes(x.shape, w.shape))


@full.derivative(saves=lambda x, w, scale, output: (x, w, scale, output))
def _(saved, needs, grad):
    x, w, scale, output = saved
    return grad * torch.cos(x) * torch.exp(w) * scale, (grad * output).sum_to_size(w.shape), None


@full.batch
def _(again, dims, x, w, scale):
    if dims[1] is not None or dims[0] is None:
        size = next(a.shape[d] for a, d in zip((x, w), dims, strict=False) if d is not None)
        return derive.loop_rule(again, size, dims, (x, w, scale))
    return again(x.movedim(dims[0], 0), w, scale), 0


@shared.op("derive::bare")
def bare(x: Tensor, w: Tensor, scale: float = 2.0) -> Tensor:
    """Nothing declared but the reference."""
    return plain(x, w, scale)


@shared.op("derive::pair")
def pair(x: Tensor, w: Tensor, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Two outputs, one of them independent of an argument."""
    return plain(x, w, scale), torch.cos(x)


def plain_pair(x, w, scale=2.0):
    return plain(x, w, scale), torch.cos(x)


OPS = {"full": (full, plain), "bare": (bare, plain), "pair": (pair, plain_pair)}


@pytest.fixture
def args():
    return torch.randn(2, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64), 2.0


@pytest.fixture(params=OPS)
def both(request):
    return OPS[request.param]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_equal_plain_pytorch(both, args, name):
    op, reference = both
    received, expected = (TRANSFORMS[name](Problem(f, args, (0, 1))) for f in (op, reference))
    same(received, expected, name)


NESTED = {
    "grad": lambda f: lambda x, w: func.grad(lambda *a: total(f, *a), (0, 1))(x, w),
    "vmap": lambda f: lambda x, w: func.vmap(f, (0, None))(x, w),
    "vmap(grad)": lambda f: lambda x, w: func.vmap(func.grad(lambda *a: total(f, *a)), (0, None))(x, w),
    "jacrev": lambda f: lambda x, w: func.jacrev(f, 1)(x, w),
    "jacfwd": lambda f: lambda x, w: func.jacfwd(f, 1)(x, w),
    "hessian": lambda f: lambda x, w: func.hessian(lambda *a: total(f, *a), 1)(x, w),
    "grad over grad": lambda f: (
        lambda x, w: func.grad(lambda v: func.grad(lambda *a: total(f, *a), 1)(x, v).square().sum())(w)
    ),
    "grad over vjp": lambda f: (
        lambda x, w: func.grad(lambda v: func.vjp(lambda u: total(f, x, u), v)[1](x.new_ones(()))[0].sum())(w)
    ),
}


def total(f, *args):
    outputs = f(*args)
    return sum(torch.sin(o).sum() for o in (outputs if isinstance(outputs, tuple) else (outputs,)))


@pytest.mark.parametrize("name", NESTED)
def test_transforms_inside_compile(both, args, name):
    op, reference = both
    x, w, _ = args
    same(compiled(NESTED[name](op))(x, w), NESTED[name](reference)(x, w), name)


def test_compiled_jvp(tmp_path):
    """In a process of its own: a jvp that fails to compile leaves its dual level open."""
    script = tmp_path / "compiled_jvp.py"
    script.write_text(
        textwrap.dedent("""
        import torch, shared
        from torch import Tensor

        @shared.op("derive::process")
        def op(x: Tensor) -> Tensor:
            return torch.sin(x) * x

        x, t = torch.randn(3), torch.randn(3)
        f = torch.compile(lambda x, t: torch.func.jvp(op, (x,), (t,)), fullgraph=True, backend="aot_eager")
        value, tangent = f(x, t)
        torch.testing.assert_close(value, torch.sin(x) * x)
        torch.testing.assert_close(tangent, (torch.cos(x) * x + torch.sin(x)) * t)
        """)
    )
    subprocess.run([sys.executable, script], check=True, env={"PYTHONPATH": ":".join(sys.path)}, timeout=120)


# which face


def test_eager_takes_the_registered_op(args):
    calls.clear()
    full(*args)
    x = args[0].clone().requires_grad_()
    full(x, *args[1:]).sum().backward()
    assert calls == ["kernel", "kernel"]


def test_forward_mode_takes_the_reference(args):
    calls.clear()
    with forward_ad.dual_level():
        full(forward_ad.make_dual(args[0], args[0]), *args[1:])
    func.jvp(lambda x: full(x, *args[1:]), (args[0],), (args[0],))
    assert calls == ["reference", "reference"]


def test_func_takes_the_kernel_in_eager_mode(args):
    calls.clear()
    func.grad(lambda x: full(x, *args[1:]).sum())(args[0])
    func.vmap(full, (0, None, None))(args[0], *args[1:])
    assert calls == ["kernel", "kernel"]


def graph_of(function, *args):
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled(function, backend=backend)(*args)
    return {node.target for graph in graphs for node in graph.graph.nodes}


def test_compile_sees_one_opaque_node(args):
    targets = graph_of(lambda *a: full(*a), *args)
    assert full.overload in targets or full.overload.overloadpacket in targets
    assert torch.sin not in targets


def test_compiled_func_sees_the_reference(args):
    targets = graph_of(lambda x, w: func.grad(lambda x: full(x, w).sum())(x), *args[:2])
    assert full.overload not in targets
    assert torch.sin in targets


def test_export_keeps_the_op(args):
    class Module(nn.Module):
        def forward(self, x, w):
            return full(x, w)

    graph = torch.export.export(Module(), args[:2]).graph
    assert [node.target for node in graph.nodes if node.op == "call_function"] == [full.overload]


# the derivative's contract


def test_trailing_defaults_do_not_confuse_the_derivative(args):
    """The dispatcher drops arguments that equal their defaults before autograd sees them."""
    x, w = (a.clone().requires_grad_() for a in args[:2])
    for scale in ((), (2.0,), (3.0,)):
        received = torch.autograd.grad(full(x, w, *scale).sum(), (x, w))
        expected = torch.autograd.grad(plain(x, w, *scale).sum(), (x, w))
        torch.testing.assert_close(received, expected)


def test_needs_tells_each_argument(args):
    seen = []

    @shared.op("derive::needs")
    def f(x: Tensor, w: Tensor, power: int = 2) -> Tensor:
        return x**power * w

    @f.derivative(saves=lambda x, w, power: (x, w, power))
    def _(saved, needs, grad):
        seen.append(needs)
        x, w, power = saved
        return grad * power * x ** (power - 1) * w, (grad * x**power).sum(0), None

    x, w = args[0].clone().requires_grad_(), args[1]
    f(x, w).sum().backward()
    f(x, w.clone().requires_grad_(), 3).sum().backward()
    f(x.detach(), w.clone().requires_grad_()).sum().backward()
    assert seen == [(True, False, False), (True, True, False), (False, True, False)]


def test_a_derivative_with_the_wrong_number_of_gradients_is_named(args):
    @shared.op("derive::miscounted")
    def f(x: Tensor, w: Tensor) -> Tensor:
        return x * w

    f.derivative(saves=lambda x, w: (x, w))(lambda saved, needs, grad: grad * saved[1])
    with pytest.raises(
        TypeError, match=r"derive::miscounted: the derivative must return .* 2 arguments, it returned 1"
    ):
        f(args[0].clone().requires_grad_(), args[1]).sum().backward()


@pytest.mark.parametrize("attempt", ["backward", "func"])
def test_an_op_without_derivative_says_so(attempt, args):
    @shared.op("derive::none", differentiable=False)
    def f(x: Tensor) -> Tensor:
        return torch.floor(x)

    assert torch.equal(f(args[0]), torch.floor(args[0]))
    attempts = {
        "backward": lambda x: f(x.clone().requires_grad_()).sum().backward(),
        "func": func.grad(lambda x: f(x).sum()),
    }
    with pytest.raises(
        RuntimeError, match="derive::none has no derivative; detach its inputs, or declare one"
    ):
        attempts[attempt](args[0])


def test_integer_outputs_beside_floating_ones(args):
    @shared.op("derive::peak")
    def peak(x: Tensor) -> tuple[Tensor, Tensor]:
        value, index = x.max(-1)
        return value, index

    x = args[0].clone().requires_grad_()
    value, index = peak(x)
    assert not index.requires_grad
    value.sum().backward()
    assert torch.equal(x.grad, torch.nn.functional.one_hot(index, 3).double())
    assert torch.equal(func.grad(lambda x: peak(x)[0].sum())(args[0]), x.grad)
    assert torch.equal(func.vmap(peak)(args[0])[1], index)


def test_an_optional_tensor_may_miss(args):
    @shared.op("derive::optional")
    def f(x: Tensor, bias: Tensor | None = None) -> Tensor:
        return torch.sin(x) if bias is None else torch.sin(x) + bias

    x, w = (a.clone().requires_grad_() for a in args[:2])
    f(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.cos(x).detach())
    f(x, w).sum().backward()
    assert torch.equal(w.grad, torch.full((3,), 2.0).double())
    torch.testing.assert_close(func.vmap(f)(args[0]), torch.sin(args[0]))
    torch.testing.assert_close(func.vmap(f, (0, None))(*args[:2]), torch.sin(args[0]) + args[1])


# mapping without a rule


def test_loop_rule_over_nothing(both):
    op, reference = both
    x, w = torch.randn(0, 2, 3), torch.randn(3)
    received = func.vmap(op, (0, None))(x, w)
    expected = func.vmap(reference, (0, None))(x, w)
    assert [o.shape for o in as_tuple(received)] == [o.shape for o in as_tuple(expected)]


@pytest.mark.parametrize("dims", [(0, 0), (-1, None), (None, 0), (1, 0)])
def test_loop_rule_over_any_axis(both, dims):
    op, reference = both
    x = torch.randn(3, 3, 3) if dims[0] is not None else torch.randn(3, 3)
    w = torch.randn(3, 3) if dims[1] is not None else torch.randn(3)
    torch.testing.assert_close(func.vmap(op, dims)(x, w), func.vmap(reference, dims)(x, w))


def as_tuple(output):
    return output if isinstance(output, tuple) else (output,)
