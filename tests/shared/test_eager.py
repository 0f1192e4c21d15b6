"""The short way round the dispatcher: when it is taken, and that what it leaves out is not missed."""

import contextlib
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import shared
from shared import eager


@shared.op("eager::product")
def product(x: Tensor, w: Tensor, scale: float = 2.0) -> Tensor:
    """Fast on one device, with a derivative that keeps its inputs."""
    return torch.sin(x) * w * scale


@product.kernel("fast", device="cpu")
def _(x, w, scale):
    return torch.sin(x.detach()) * w.detach() * scale


@product.derivative(saves=lambda x, w, scale: (x, w, scale))
def _(saved, needs, grad):
    x, w, scale = saved
    # cos(x) = sin(x + pi/2): the derivative calls the op in turn
    return grad * product(x + torch.pi / 2, w, scale), grad * torch.sin(x) * scale, None


@product.cost
def _(x, w, scale):
    return shared.Cost(flops=7, bytes=0)


product.autocast(cpu=torch.float32)


def plain(x, w, scale=2.0):
    return torch.sin(x) * w * scale


@pytest.fixture
def args():
    x, w = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    return x, w


@pytest.fixture
def dispatched(monkeypatch):
    """The calls that went through PyTorch's dispatcher."""
    calls = []

    class Watched:
        def __call__(self, *args):
            calls.append(args)
            return overload(*args)

    overload = product.overload
    monkeypatch.setattr(product, "overload", Watched())
    return calls


def gradients(function, x, w, **options):
    return torch.autograd.grad(function(x, w).square().sum(), (x, w), **options)


def test_this_pytorch_is_known(args):
    """Where a private name has gone, all stays right but becomes slow: then `shared.eager` wants a look."""
    assert eager.AVAILABLE
    assert eager.is_plain((*args, None, nn.Parameter(torch.ones(2)), torch.ones(2, dtype=torch.int64)))
    with torch.no_grad():
        assert eager.is_plain(args)
    with torch.inference_mode():
        assert eager.is_plain((*args, torch.ones(2)))
    assert not eager.records_gradient((torch.ones(2), 3))
    assert eager.records_gradient((torch.ones(2), args[0]))


class Modes(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(function)
        return function(*args, **(kwargs or {}))


class Functions(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(function)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Modes, Functions])
def test_modes_see_the_op(args, mode):
    with mode() as seen:
        product(*args)
    assert product.overload in seen.seen


@pytest.mark.parametrize(
    "surroundings",
    [
        lambda: torch.autocast("cpu"),
        lambda: torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]),
        torch.autograd.profiler.profile,
        forward_ad.dual_level,
        lambda: FlopCounterMode(display=False),
        lambda: torch.device("cpu"),
    ],
)
def test_what_surrounds_a_call_is_not_passed_over(args, surroundings):
    with surroundings():
        assert not eager.is_plain(args)
    assert eager.is_plain(args)


def test_transforms_and_tracing_are_not_plain(args):
    seen = []

    def look(x):
        seen.append(eager.is_plain((x,)))
        return x * 2

    x = args[0].detach()
    torch.func.vmap(look)(x)
    torch.func.grad(lambda x: look(x).sum())(x)
    torch.func.functionalize(look)(x)
    make_fx(look)(x)
    make_fx(look, tracing_mode="fake")(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # jit.trace is deprecated, and in use
        torch.jit.trace(look, x, check_trace=False)
    assert seen == [False] * 6


def dead_wrapper(x):
    kept = []
    torch.func.grad(lambda x: (kept.append(x), x.sum())[1])(x)
    return kept[0]


SPECIAL = {
    "negated": lambda x: torch.conj(torch.complex(x, -x)).imag,
    "zeros without memory": lambda x: torch._efficientzerotensor(x.shape, dtype=x.dtype),
    "of a transform that has ended": dead_wrapper,
    "meta": lambda x: x.to("meta"),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_tensors_that_only_look_ordinary(args, kind):
    x = SPECIAL[kind](args[0].detach())
    assert type(x) is Tensor
    assert not eager.is_plain((x,))
    w = args[1].detach().to(x.device)
    torch.testing.assert_close(product(x, w), plain(x, w))


def test_subclasses_are_not_plain(args):
    class Sub(Tensor):
        pass

    x = args[0].detach().as_subclass(Sub)
    assert not eager.is_plain((x,))
    assert isinstance(product(x, args[1]), Sub)


def test_inference_tensors(args):
    with torch.inference_mode():
        out = product(*args)
        assert product(torch.ones(3), torch.ones(3)).is_inference()
    assert out.is_inference()
    assert product(out, args[1].detach()).is_inference() is False


def test_autocast_casts(args):
    with torch.autocast("cpu"):
        assert product(args[0].bfloat16(), args[1].bfloat16()).dtype == torch.float32
    assert product(args[0].bfloat16(), args[1].bfloat16()).dtype == torch.bfloat16


def test_profiler_names_the_op(args):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        gradients(product, *args)
    assert "eager::product" in {event.key for event in profile.key_averages()}


def test_flops_are_counted(args):
    with FlopCounterMode(display=False) as counter:
        product(*args)
    assert counter.get_total_flops() == 7


def test_without_private_names_all_is_the_same(args, dispatched, monkeypatch):
    expected = product(*args), *gradients(product, *args)
    assert dispatched == []
    monkeypatch.setattr(eager, "AVAILABLE", False)
    received = product(*args), *gradients(product, *args)
    assert len(dispatched) == 3
    torch.testing.assert_close(received, expected)


# autograd around a plain call


def test_one_node_and_no_graph_where_none_is_wanted(args):
    out = product(*args)
    assert {f for f, _ in out.grad_fn.next_functions if f} == {
        x.expand_as(x).grad_fn.next_functions[0][0] for x in args
    }
    with torch.no_grad():
        assert not product(*args).requires_grad
    assert not product(*(a.detach() for a in args)).requires_grad


def test_derivatives_of_second_order(args):
    first = gradients(product, *args, create_graph=True)
    expected = gradients(plain, *args, create_graph=True)
    torch.testing.assert_close(first, expected)
    received = torch.autograd.grad(sum(g.sin().sum() for g in first), args)
    torch.testing.assert_close(received, torch.autograd.grad(sum(g.sin().sum() for g in expected), args))


def test_a_graph_serves_twice_only_if_retained(args):
    out = product(*args).sum()
    first = torch.autograd.grad(out, args, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(out, args), first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(out, args)


def test_change_in_place_is_noticed(args):
    x = args[0].clone()
    out = product(x, args[1])
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_saved_tensor_hooks(args):
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        out = product(*args)
    assert len(packed) == 2
    torch.testing.assert_close(
        torch.autograd.grad(out.sum(), args), torch.autograd.grad(plain(*args).sum(), args)
    )


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoint(args, reentrant):
    received = gradients(lambda x, w: checkpoint(product, x, w, use_reentrant=False), *args)
    torch.testing.assert_close(received, gradients(plain, *args))
    if reentrant:
        x, w = (a.detach().clone().requires_grad_() for a in args)
        checkpoint(product, x, w, use_reentrant=True).square().sum().backward()
        torch.testing.assert_close((x.grad, w.grad), received)


def test_many_gradients_at_once(args):
    cotangents = torch.eye(3, dtype=torch.float64)
    received = torch.autograd.grad(product(*args), args, cotangents, is_grads_batched=True)
    torch.testing.assert_close(
        received, torch.autograd.grad(plain(*args), args, cotangents, is_grads_batched=True)
    )


def test_hooks_and_anomaly_mode(args):
    seen = []
    out = product(*args)
    out.register_hook(lambda grad: seen.append(grad.sum().item()))
    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anomaly mode announces itself
        stack.enter_context(torch.autograd.detect_anomaly(check_nan=True))
        out.sum().backward()
    assert seen == [3.0]


def test_compiled_backward_of_a_plain_call(args):
    """Compiled autograd traces the node's derivative."""
    expected = gradients(plain, *args)
    for x in args:
        x.grad = None
    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch looks at the gradients of tensors that are no leaves
        stack.enter_context(torch._dynamo.compiled_autograd._enable(torch.compile(backend="aot_eager")))
        product(*args).square().sum().backward()
    torch.testing.assert_close(tuple(x.grad for x in args), expected)
