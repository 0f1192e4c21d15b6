"""The router: each row of its table against plain PyTorch, and which face of the op each situation takes."""

import itertools
import subprocess
import sys
import textwrap

import numpy as np
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


@shared.op("derive::ruled")
def ruled(x: Tensor, w: Tensor, scale: float = 2.0) -> Tensor:
    """Forward and reverse mode by rules, in a kernel that no mode sees through."""
    return plain(x, w, scale)


@shared.op("derive::ruled_slope")
def ruled_slope(x: Tensor, w: Tensor, scale: float = 2.0) -> Tensor:
    return torch.cos(x) * torch.exp(w) * scale


def by_numpy(function):
    def kernel(x, w, scale):
        if not torch.compiler.is_compiling():
            calls.append("kernel")
        return torch.from_numpy(np.ascontiguousarray(function(x.numpy()) * np.exp(w.numpy()) * scale))

    return kernel


def add_rules(op, function, slope, sign):
    """To the op function(x) exp(w) scale, whose derivative with respect to x is sign * the op `slope`."""
    op.kernel("numpy")(by_numpy(function))

    @op.derivative(saves=lambda x, w, scale: (x, w, scale))
    def _(saved, needs, grad):
        return grad * sign * slope(*saved), (grad * op(*saved)).sum_to_size(saved[1].shape), None

    @op.tangent
    def _(args, tangents):
        along_x, along_w, along_scale = tangents
        assert along_scale is None
        parts = [] if along_x is None else [sign * slope(*args) * along_x]
        return sum(parts if along_w is None else [*parts, op(*args) * along_w])

    @op.batch
    def _(again, dims, x, w, scale):
        x, w = (a if d is None else a.movedim(d, 0) for a, d in zip((x, w), dims, strict=False))
        if dims[1] is not None:
            lost = x.ndim - (dims[0] is not None) - (w.ndim - 1)  # axes that x has and w lacks
            w = w.reshape(w.shape[0], *(1,) * lost, *w.shape[1:])
        return again(x, w, scale), 0


add_rules(ruled, np.sin, ruled_slope, 1)
add_rules(ruled_slope, np.cos, ruled, -1)

OPS = {
    "full": (full, plain),
    "bare": (bare, plain),
    "pair": (pair, plain_pair),
    "ruled": (ruled, plain),
}


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


# transforms of transforms of transforms, where a rule of forward mode loses tangents if PyTorch has its way

WRAPPERS = {
    "jacfwd": lambda f: func.jacfwd(f, (0, 1)),
    "jvp": lambda f: lambda x, w: func.jvp(f, (x, w), (torch.cos(x), torch.sin(w))),
    "jvp of one": lambda f: lambda x, w: func.jvp(lambda w: f(x, w), (w,), (torch.cos(w),))[1],
    "vjp": lambda f: lambda x, w: pulled_back(f, x, w),
    "vmap": lambda f: lambda x, w: func.vmap(f, (0, None))(torch.stack([x, 2 * x]), w),
}


def pulled_back(f, x, w):
    output, pull_back = func.vjp(f, x, w)
    return pull_back(torch.utils._pytree.tree_map(torch.cos, output))


@pytest.mark.parametrize("outer", WRAPPERS)
def test_a_rule_of_forward_mode_nests(outer):
    x, w = torch.randn(2, 2, dtype=torch.float64)
    for inner in itertools.chain.from_iterable(itertools.product(WRAPPERS, repeat=n) for n in (0, 1, 2)):
        found, expected = ruled, plain
        for name in (*inner, outer):
            found, expected = WRAPPERS[name](found), WRAPPERS[name](expected)
        same(found(x, w), expected(x, w), " in ".join((*inner, outer)))


@pytest.mark.parametrize("moving", [(0,), (1,), (0, 1), ()])
@pytest.mark.parametrize("no_grad", [False, True])
def test_dual_numbers(moving, no_grad, args):
    """In eager mode: some arguments move, and the tangents have gradients unless nobody wants them."""
    leaves = [a.clone().requires_grad_() for a in args[:2]]
    along = [torch.cos(a).requires_grad_() for a in args[:2]]

    def evaluate(f):
        with forward_ad.dual_level(), torch.set_grad_enabled(not no_grad):
            given = [
                forward_ad.make_dual(a, t) if i in moving else a
                for i, (a, t) in enumerate(zip(leaves, along, strict=True))
            ]
            value, tangent = forward_ad.unpack_dual(f(*given, 3.0))
            assert (tangent is None) == (not moving)
            assert value.requires_grad == (not no_grad)
            if tangent is None:
                return value
            if no_grad:
                return value, tangent
            wanted = [*leaves, *along]
            return value, tangent, torch.autograd.grad(tangent.sum(), wanted, materialize_grads=True)

    calls.clear()
    same(evaluate(ruled), evaluate(plain), f"{moving} moves")
    assert calls


def test_forward_over_an_eager_backward(args):
    """A graph made before the level opens is differentiated along the gradient that arrives."""

    def along(f):
        x = args[0].clone().requires_grad_()
        value = f(x, args[1])
        with forward_ad.dual_level():
            grad = forward_ad.make_dual(torch.ones_like(value), torch.cos(value))
            return forward_ad.unpack_dual(torch.autograd.grad(value, x, grad)[0]).tangent

    same(along(ruled), along(plain), "tangent of the gradient")


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # of any function with constants
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linearize(dtype):
    x, w = torch.randn(2, 3, dtype=dtype)
    value, along = func.linearize(ruled, x, w)
    expected = func.jvp(plain, (x, w), (w, x))
    same((value, along(w, x)), expected, "linearized")


def test_autocast_casts_arguments_and_tangents():
    @shared.op("derive::cast")
    def f(x: Tensor) -> Tensor:
        return x @ x.T

    @f.tangent
    def _(args, tangents):
        (x,), (along,) = args, tangents
        assert x.dtype == along.dtype == torch.float32
        return x @ along.T + along @ x.T

    f.autocast(cpu=torch.float32)
    x = torch.randn(2, 3, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = func.jvp(f, (x,), (torch.cos(x),))
    expected = func.jvp(f.reference, (x.float(),), (torch.cos(x).float(),))
    same(found, expected, "inside autocast")
    assert found[1].dtype == torch.float32


@shared.op("derive::ranked")
def ranked(x: Tensor, by: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A floating output, an integer one, and one that stands still."""
    return x * by, by + 1, torch.ones_like(x)


@ranked.tangent
def _(args, tangents):
    return tangents[0] * args[1], None, torch.zeros_like(args[0])


@pytest.mark.parametrize("transform", [lambda f: f, func.vmap], ids=["plain", "vmap"])
def test_integers_among_arguments_and_outputs(transform):
    x, by = torch.randn(2, 3), torch.arange(6).reshape(2, 3)
    call = transform(lambda x: func.jvp(lambda x: ranked(x, by.sum(0)), (x,), (torch.cos(x),)))
    (value, index, still), (slope, none, nothing) = call(x)
    torch.testing.assert_close(value, x * by.sum(0))
    torch.testing.assert_close(slope, torch.cos(x) * by.sum(0))
    assert torch.equal(index.expand(2, 3), (by.sum(0) + 1).expand(2, 3))
    assert not none.any()
    assert still.all()
    assert not nothing.any()


@pytest.mark.parametrize(
    ("answer", "received"), [(lambda t: (t, t), "a tensor, a tensor"), (lambda t: None, "None")]
)
def test_a_tangent_rule_with_other_tangents_than_outputs_is_named(answer, received, args):
    @shared.op("derive::mistangented")
    def f(x: Tensor) -> Tensor:
        return 2 * x

    f.tangent(lambda args, tangents: answer(tangents[0]))
    with pytest.raises(TypeError, match=f"derive::mistangented: .* expected a tensor, received {received}"):
        func.jvp(f, args[:1], args[:1])


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


def test_forward_mode_takes_the_kernel_where_the_op_has_a_rule(args):
    calls.clear()
    func.jvp(lambda x: ruled(x, *args[1:]), args[:1], args[:1])
    assert calls == ["kernel", "kernel"]  # of the value and of the slope


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
