"""The selective scan: a linear recurrence whose decay and input depend on the sequence.

With state h[b, t, d, n] of n numbers for each channel d,
h[t] = exp(delta[t] a) h[t - 1] + delta[t] x[t] b[t], and y[t] = sum_n c[t] h[t], where h[0] has only its
second term (Gu & Dao, "Mamba: linear-time sequence modeling with selective state spaces", 2023).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from shared import Cost, op
from shared.derive import loop_rule
from shared.errors import UserError


@op("biolayers::selective_scan")
def selective_scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Scan sequences with states that decay, and take in and give out, as the sequence says.

    The reference holds all states; the kernel holds one at a time, and for the derivative those of a few
    dozen positions.

    Args:
        x: (batch, l, d) floating: the input.
        delta: (batch, l, d): step sizes, as a rule positive.
        a: (d, n): rates, as a rule negative, so that states decay.
        b: (batch, l, n): how much of the input each state takes.
        c: (batch, l, n): how much of each state is given out.

    Returns:
        (batch, l, d) contiguous.

    Raises:
        UserError: Shapes do not fit.

    Example:
        >>> import torch
        >>> from biolayers.ops import selective_scan
        >>> x, one = torch.tensor([[[8.0], [0], [0]]]), torch.ones(1, 3, 1)
        >>> selective_scan(x, one, torch.tensor([[0.5]]).log(), one, one).flatten()
        tensor([8., 4., 2.])
    """
    check("selective_scan", x, delta, a, b, c)
    states = _states(*_steps(x, delta, a, b))
    return (states * c.unsqueeze(2)).sum(-1)


@op("biolayers::selective_scan_backward")
def selective_scan_backward(
    x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of `selective_scan` with respect to its five arguments, for that of its output.

    With u = exp(delta a), the costate g[t] = c[t] grad[t] + u[t + 1] g[t + 1] runs backwards; all gradients
    are sums of products with it.

    Args:
        x: As in the forward call.
        delta: As in the forward call.
        a: As in the forward call.
        b: As in the forward call.
        c: As in the forward call.
        grad: (batch, l, d).

    Returns:
        Of the shapes of x, delta, a, b, c.

    Raises:
        UserError: Shapes do not fit.

    Example:
        >>> import torch
        >>> from biolayers.ops import selective_scan_backward
        >>> x, one = torch.tensor([[[8.0], [0], [0]]]), torch.ones(1, 3, 1)
        >>> found = selective_scan_backward(x, one, torch.tensor([[0.5]]).log(), one, one, one)
        >>> found[0].flatten()
        tensor([1.7500, 1.5000, 1.0000])
    """
    check("selective_scan_backward", x, delta, a, b, c, grad)
    decay, taken = _steps(x, delta, a, b)
    states = _states(decay, taken)
    before = F.pad(states, (0, 0, 0, 0, 1, 0))[:, :-1]
    given = grad.unsqueeze(-1) * c.unsqueeze(2)
    later = F.pad(decay, (0, 0, 0, 0, 0, 1))[:, 1:]
    costates = _states(later.flip(1), given.flip(1)).flip(1)
    rates = costates * before * decay  # the gradient with respect to delta a
    share = (costates * b.unsqueeze(2)).sum(-1)
    return (
        share * delta,
        (rates * a).sum(-1) + share * x,
        (rates * delta.unsqueeze(-1)).sum((0, 1)),
        (costates * (delta * x).unsqueeze(-1)).sum(2),
        (states * grad.unsqueeze(-1)).sum(2),
    )


def _steps(x: Tensor, delta: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """What each position keeps of the states, and adds to them: (batch, l, d, n); the first keeps nothing."""
    decay = F.pad((delta[:, 1:].unsqueeze(-1) * a).exp(), (0, 0, 0, 0, 1, 0))
    return decay, (delta * x).unsqueeze(-1) * b.unsqueeze(2)


def _states(decay: Tensor, taken: Tensor) -> Tensor:
    """h[t] = decay[t] h[t - 1] + taken[t], by spans of 1, 2, 4, ... positions that are joined in pairs."""
    span, length = 1, taken.shape[1]
    while span < max(2, length):  # once at least: the gradient of unused decays is zeros, not missing
        joined = taken[:, span:] + decay[:, span:] * taken[:, :-span]
        decay = torch.cat([decay[:, :span], decay[:, span:] * decay[:, :-span]], 1)
        taken = torch.cat([taken[:, :span], joined], 1)
        span *= 2
    return taken


def check(name: str, x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, *grads: Tensor) -> None:
    """Check everything that the ops expect.

    Raises:
        UserError: See `selective_scan`.
    """
    if x.ndim != 3 or x.shape[1] < 1 or x.shape[2] < 1:
        raise UserError(f"{name}: expected x (batch, l, d) with l, d from 1 on, received {tuple(x.shape)}")
    if a.ndim != 2 or a.shape[0] != x.shape[2] or a.shape[1] < 1:
        raise UserError(f"{name}: expected a ({x.shape[2]}, n), received {tuple(a.shape)}")
    expected = [("delta", delta, x.shape), *(("grad", grad, x.shape) for grad in grads)]
    expected += [(key, value, (*x.shape[:2], a.shape[1])) for key, value in (("b", b), ("c", c))]
    for key, value, shape in expected:
        if value.shape != shape:
            raise UserError(f"{name}: expected {key} {tuple(shape)}, received {tuple(value.shape)}")


@selective_scan.fake
def _(x, delta, a, b, c):
    check("selective_scan", x, delta, a, b, c)
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@selective_scan_backward.fake
def _(x, delta, a, b, c, grad):
    check("selective_scan_backward", x, delta, a, b, c, grad)
    return tuple(torch.empty_like(v, memory_format=torch.contiguous_format) for v in (x, delta, a, b, c))


@selective_scan.derivative(saves=lambda x, delta, a, b, c: (x, delta, a, b, c))
def _(saved, needs, grad):
    return selective_scan_backward(*saved, grad)


@selective_scan.batch
def _(again, dims, *args):
    return _fold(again, dims, args)


@selective_scan_backward.batch
def _(again, dims, *args):
    return loop_rule(again, _size(dims, args), dims, args)


def _size(dims, args) -> int:
    return next(value.shape[d] for value, d in zip(args, dims, strict=True) if d is not None)


def _fold(again, dims, args):
    """The mapped axis becomes part of the batch, unless `a` has it too."""
    size = _size(dims, args)
    if dims[2] is not None or size == 0:
        return loop_rule(again, size, dims, args)
    folded = [
        value if i == 2
        else (value.expand(size, *value.shape) if d is None else value.movedim(d, 0)).flatten(0, 1)
        for i, (value, d) in enumerate(zip(args, dims, strict=True))
    ]  # fmt: skip
    return again(*folded).unflatten(0, (size, -1) if folded[0].shape[0] else (size, 0)), 0


_NUMBA = "biolayers.kernels.numba.selective_scan"
for _op, _name in ((selective_scan, "forward"), (selective_scan_backward, "backward")):
    _op.kernel(
        "numba", device="cpu", dtypes=(torch.float32, torch.float64), needs=("numba",),
        target=f"{_NUMBA}:{_name}",
    )  # fmt: skip
    _op.autocast(cpu=torch.float32, cuda=torch.float32)


@selective_scan.cost
def _(x, delta, a, b, c):
    """For each state and position an exponential (about 16 operations), two products and sums."""
    check("selective_scan", x, delta, a, b, c)
    moved = sum(value.numel() * value.element_size() for value in (x, delta, a, b, c, x))
    return Cost(flops=20 * x.numel() * a.shape[1], bytes=moved)


@selective_scan_backward.cost
def _(x, delta, a, b, c, grad):
    """The states twice over, and about eight products and sums for each."""
    check("selective_scan_backward", x, delta, a, b, c, grad)
    moved = sum(2 * value.numel() * value.element_size() for value in (x, delta, a, b, c))
    return Cost(flops=56 * x.numel() * a.shape[1], bytes=moved + grad.numel() * grad.element_size())


_SAMPLES = ((2, 5, 3, 2), (3, 1, 1, 1), (2, 4, 9, 3))  # batch, l, d, n


def _sample(batch: int, l: int, d: int, n: int) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(0)
    shapes = ((batch, l, d), (batch, l, d), (d, n), (batch, l, n), (batch, l, n), (batch, l, d))
    x, delta, a, *rest = (torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in shapes)
    return x, delta.abs(), -a.abs(), *rest


@selective_scan.samples(batch_axes={"x": 0, "delta": 0, "b": 0, "c": 0})
def _():
    for sizes in _SAMPLES:
        yield _sample(*sizes)[:5]


@selective_scan_backward.samples(batch_axes={"x": 0, "delta": 0, "b": 0, "c": 0, "grad": 0})
def _():
    for sizes in _SAMPLES:
        yield _sample(*sizes)
