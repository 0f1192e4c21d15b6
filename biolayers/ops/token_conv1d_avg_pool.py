"""Convolution of tokens, an activation and average pooling in one op, without the activation in memory.

The backward op makes the slope of the activation again from the tokens, block by block: nothing of the size
before pooling is kept between the passes.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from biolayers.ops.token_conv1d import FLOATS, columns, token_conv1d, token_conv1d_backward
from biolayers.ops.token_conv1d_pooling import check_pool, turned
from shared import Cost, op
from shared.derive import loop_rule
from shared.errors import UserError


def _normal(x: Tensor) -> Tensor:
    """The distribution function of the standard normal distribution."""
    return 0.5 * (1 + torch.erf(x * 0.5**0.5))


def _density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x * x) * (2 * torch.pi) ** -0.5


class Activation(NamedTuple):
    """A function with its first and second derivative, and about how many operations it takes."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    bend: Callable[[Tensor], Tensor]
    flops: int


ACTIVATIONS: dict[str | None, Activation] = {
    None: Activation(lambda x: x, torch.ones_like, torch.zeros_like, 0),
    "relu": Activation(F.relu, lambda x: (x > 0).to(x.dtype), torch.zeros_like, 1),
    "gelu": Activation(
        F.gelu, lambda x: _normal(x) + x * _density(x), lambda x: (2 - x * x) * _density(x), 30
    ),
    "exp": Activation(torch.exp, torch.exp, torch.exp, 15),
}


@op("biolayers::token_conv1d_avg_pool")
def token_conv1d_avg_pool(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    activation: str | None = None,
    pool_size: int = 1,
    pool_stride: int = 1,
    channels_last: bool = False,
) -> Tensor:
    """The means of an activated `token_conv1d` in windows along the sequence.

    Equal to `F.avg_pool1d(f(F.conv1d(x, ...)), pool_size, pool_stride)` of the one-hot columns x, where f is
    the activation.

    Args:
        tokens: (b, l) uint8.
        weight: (out, channels, k) floating.
        bias: (out,) of the same dtype, or None.
        stride: as in `token_conv1d`.
        padding: as in `token_conv1d`.
        dilation: as in `token_conv1d`.
        activation: "relu", "gelu", "exp", or None.
        pool_size: positions in a window, at least 1.
        pool_stride: steps between windows, at least 1.
        channels_last: whether the result is (b, q, out) instead of (b, out, q).

    Returns:
        (b, out, q) contiguous, for the q = (l' - pool_size) // pool_stride + 1 windows of the l' positions of
        `token_conv1d`.

    Raises:
        UserError: an argument has another shape or dtype, no window fits, or the activation is unknown.

    Example:
        >>> import torch
        >>> from biolayers.ops import token_conv1d_avg_pool
        >>> tokens = torch.tensor([[0, 1, 2, 3, 1, 0]], dtype=torch.uint8)  # A C G T C A
        >>> weight = torch.tensor([[[-1.0], [3.0], [2.0], [1.0]]])  # of A, C, G, T; one tap
        >>> token_conv1d_avg_pool(tokens, weight, activation="relu", pool_size=2, pool_stride=2)
        tensor([[[1.5000, 1.5000, 1.5000]]])
    """
    check_avg_pool(tokens, weight, bias, stride, padding, dilation, activation, pool_size, pool_stride)
    y = F.conv1d(columns(tokens, weight.shape[1], weight), weight, bias, stride, padding, dilation)
    return turned(F.avg_pool1d(ACTIVATIONS[activation].value(y), pool_size, pool_stride), channels_last)


@op("biolayers::token_conv1d_avg_pool_backward")
def token_conv1d_avg_pool_backward(
    tokens: Tensor,
    grad: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    activation: str | None = None,
    pool_size: int = 1,
    pool_stride: int = 1,
    channels_last: bool = False,
) -> tuple[Tensor, Tensor]:
    """The gradients of `token_conv1d_avg_pool` with respect to weight and bias; linear in grad.

    Args:
        tokens: (b, l) uint8.
        grad: of the means, in their shape.
        weight: (out, channels, k) floating, of the same dtype.
        bias: (out,) of the same dtype, or None.
        stride: as in the forward call.
        padding: as in the forward call.
        dilation: as in the forward call.
        activation: as in the forward call.
        pool_size: as in the forward call.
        pool_stride: as in the forward call.
        channels_last: as in the forward call.

    Returns:
        grad_weight (out, channels, k) and grad_bias (out,).

    Raises:
        UserError: an argument has another shape or dtype than a forward call would give it.

    Example:
        >>> import torch
        >>> from biolayers.ops import token_conv1d_avg_pool_backward
        >>> tokens = torch.tensor([[0, 1]], dtype=torch.uint8)  # A C
        >>> weight = torch.tensor([[[-1.0], [3.0]]])  # of A, C; one tap
        >>> grad = torch.tensor([[[1.0]]])
        >>> token_conv1d_avg_pool_backward(tokens, grad, weight, activation="relu", pool_size=2)
        (tensor([[[0.0000],
                 [0.5000]]]), tensor([0.5000]))
    """
    check_avg_pool_grad(
        tokens, grad, weight, bias, stride, padding, dilation,
        activation, pool_size, pool_stride, channels_last,
    )  # fmt: skip
    geometry = (stride, padding, dilation)
    y = F.conv1d(columns(tokens, weight.shape[1], weight), weight, bias, *geometry)
    spread = _spread(turned(grad, channels_last), y, pool_size, pool_stride)
    along = spread * ACTIVATIONS[activation].slope(y)
    return token_conv1d_backward.reference(tokens, along, *weight.shape[1:], *geometry)


def _spread(grad: Tensor, y: Tensor, pool_size: int, pool_stride: int) -> Tensor:
    """The adjoint of average pooling of y (b, out, l'): (b, out, q) to the shape of y."""
    windows = grad.shape[2]
    places = torch.arange(windows, device=grad.device).unsqueeze(-1) * pool_stride
    places = (places + torch.arange(pool_size, device=grad.device)).flatten()  # (q * pool_size,)
    shares = (grad / pool_size).unsqueeze(-1).expand(-1, -1, -1, pool_size).flatten(2)
    return torch.zeros_like(y).index_add(2, places, shares)


def check_avg_pool(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
    activation: str | None,
    pool_size: int,
    pool_stride: int,
) -> int:
    """The number of windows, after a check of everything that `token_conv1d_avg_pool` expects.

    Raises:
        UserError: see `token_conv1d_avg_pool`.
    """
    if activation not in ACTIVATIONS:
        known = ", ".join(map(repr, ACTIVATIONS))
        raise UserError(f"token_conv1d_avg_pool: expected activation among {known}, received {activation!r}")
    return check_pool(tokens, weight, bias, stride, padding, dilation, pool_size, pool_stride)


def check_avg_pool_grad(
    tokens: Tensor,
    grad: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
    activation: str | None,
    pool_size: int,
    pool_stride: int,
    channels_last: bool,
) -> int:
    """The number of windows, after a check of everything that the backward op expects.

    Raises:
        UserError: see `token_conv1d_avg_pool_backward`.
    """
    windows = check_avg_pool(
        tokens, weight, bias, stride, padding, dilation, activation, pool_size, pool_stride
    )
    shape = (tokens.shape[0], *((windows, len(weight)) if channels_last else (len(weight), windows)))
    if grad.shape != shape:
        raise UserError(
            f"token_conv1d_avg_pool_backward: expected grad {shape}, received {tuple(grad.shape)}; give the "
            "options of the forward call"
        )
    return windows


@token_conv1d_avg_pool.derivative(
    saves=lambda tokens, weight, bias, *options: (tokens, weight, bias, options)
)
def _(saved, needs, grad):
    tokens, weight, bias, options = saved
    grad_weight, grad_bias = token_conv1d_avg_pool_backward(tokens, grad, weight, bias, *options)
    return None, grad_weight, None if bias is None else grad_bias, *(None,) * 7


@token_conv1d_avg_pool_backward.derivative(
    saves=lambda tokens, grad, weight, bias, *options: (tokens, grad, weight, bias, options)
)
def _(saved, needs, along_weight, along_bias):
    tokens, grad, weight, bias, (*geometry, activation, size, step, channels_last) = saved
    moved = token_conv1d(tokens, along_weight, along_bias, *geometry)  # what the activation is applied to
    if activation is None:
        to_grad, to_weight, to_bias = moved, None, None
    else:
        y = token_conv1d(tokens, weight, bias, *geometry)
        to_grad = ACTIVATIONS[activation].slope(y) * moved
        spread = _spread(turned(grad, channels_last), y, size, step)
        bent = spread * ACTIVATIONS[activation].bend(y) * moved
        to_weight, to_bias = token_conv1d_backward(tokens, bent, *weight.shape[1:], *geometry)
    to_grad = turned(F.avg_pool1d(to_grad, size, step), channels_last)
    return None, to_grad, to_weight, None if bias is None else to_bias, *(None,) * 7


@token_conv1d_avg_pool.tangent
def _(args, tangents):
    tokens, weight, bias, *geometry, activation, size, step, channels_last = args
    _, along_weight, along_bias, *_ = tangents
    along = torch.zeros_like(weight) if along_weight is None else along_weight
    moved = token_conv1d(tokens, along, along_bias, *geometry)
    if activation is not None:
        moved = moved * ACTIVATIONS[activation].slope(token_conv1d(tokens, weight, bias, *geometry))
    return turned(F.avg_pool1d(moved, size, step), channels_last)


@token_conv1d_avg_pool.batch
def _(again, dims, tokens, weight, bias, *options):
    over_tokens, over_weight, over_bias = dims[:3]
    if over_tokens is not None and over_weight is None and over_bias is None:
        tokens = tokens.movedim(over_tokens, 0)  # (v, b, l)
        found = again(tokens.flatten(0, 1), weight, bias, *options)
        return found.unflatten(0, tokens.shape[:2]), 0
    if over_tokens is None and over_weight is not None and weight.shape[over_weight] > 0:
        weight = weight.movedim(over_weight, 0)  # (v, out, channels, k)
        v, out = weight.shape[:2]
        if bias is not None:
            bias = (bias.expand(v, out) if over_bias is None else bias.movedim(over_bias, 0)).flatten()
        axis = 2 if options[-1] else 1
        return again(tokens, weight.flatten(0, 1), bias, *options).unflatten(axis, (v, out)), axis
    sizes = [a.shape[d] for a, d in zip((tokens, weight, bias), dims[:3], strict=True) if d is not None]
    return loop_rule(again, sizes[0], dims, (tokens, weight, bias, *options))


@token_conv1d_avg_pool_backward.fake
def _(
    tokens, grad, weight, bias, stride, padding, dilation, activation, pool_size, pool_stride, channels_last
):
    return torch.empty_like(weight, memory_format=torch.contiguous_format), weight.new_empty(len(weight))


for _op, _name in ((token_conv1d_avg_pool, "forward"), (token_conv1d_avg_pool_backward, "backward")):
    _op.kernel(
        "numba",
        device="cpu",
        dtypes=FLOATS,
        needs=("numba",),
        target=f"biolayers.kernels.numba.token_conv1d_avg_pool:{_name}",
    )
    _op.autocast(cpu=torch.float32, cuda=torch.float32)


@token_conv1d_avg_pool.cost
def _(tokens, weight, bias, stride, padding, dilation, activation, pool_size, pool_stride, channels_last):
    """One addition per tap and position, the activation, and an addition into the mean."""
    windows = check_avg_pool(
        tokens, weight, bias, stride, padding, dilation, activation, pool_size, pool_stride
    )
    outputs = tokens.shape[0] * weight.shape[0] * windows
    each = weight.shape[2] + ACTIVATIONS[activation].flops + 1
    moved = tokens.numel() + (outputs + weight.numel()) * weight.element_size()
    return Cost(flops=outputs * pool_size * each, bytes=moved)


@token_conv1d_avg_pool_backward.cost
def _(
    tokens, grad, weight, bias, stride, padding, dilation, activation, pool_size, pool_stride, channels_last
):
    """The values are made again where a slope depends on them; then one addition per tap and position."""
    again = 0 if activation is None else weight.shape[2] + ACTIVATIONS[activation].flops
    moved = tokens.numel() + (grad.numel() + 2 * weight.numel()) * weight.element_size()
    return Cost(flops=grad.numel() * pool_size * (again + weight.shape[2] + 1), bytes=moved)


# (b, l, out, channels, k, biased), (stride, padding, dilation, activation, pool_size, pool_stride, last)
_SAMPLES = (
    ((2, 22, 9, 4, 3, True), (1, 0, 1, "gelu", 5, 5, False)),
    ((3, 9, 2, 4, 7, False), (1, 2, 1, None, 3, 2, True)),
    ((2, 11, 3, 5, 2, True), (2, 1, 3, "exp", 2, 3, True)),
    ((2, 6, 1, 1, 1, True), (1, 0, 1, "relu", 4, 1, False)),
)


def _sample(seed: int, b: int, l: int, out: int, channels: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, channels + 2, (b, l), generator=rng).to(torch.uint8)  # some without a column
    weight = torch.randn(out, channels, k, generator=rng, dtype=torch.float64)
    return tokens, weight, torch.randn(out, generator=rng, dtype=torch.float64)


@token_conv1d_avg_pool.samples(batch_axes={"tokens": 0})
def _():
    for seed, ((*sizes, biased), options) in enumerate(_SAMPLES):
        tokens, weight, bias = _sample(seed, *sizes)
        yield (tokens, weight, bias if biased else None, *options)


@token_conv1d_avg_pool_backward.samples(batch_axes={"tokens": 0, "grad": 0})
def _():
    for tokens, *rest in token_conv1d_avg_pool.sample_arguments():
        yield (tokens, torch.cos(token_conv1d_avg_pool.reference(tokens, *rest)), *rest)
