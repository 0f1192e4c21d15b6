"""Convolution of tokens, ReLU and max-pooling in one op: what a motif detector computes.

The op returns the largest value of each window, and which position of the window it came from, its winner.
With the winners held fixed the values are linear in weight and bias; `token_conv1d_winners` is that linear
function, and `token_conv1d_winners_backward` its adjoint. The three are each other's derivatives, and none of
them needs the activation before pooling.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from biolayers.ops.token_conv1d import FLOATS, check, columns, token_conv1d_backward
from shared import Cost, op
from shared.derive import loop_rule
from shared.errors import UserError


@op("biolayers::token_conv1d_max_pool")
def token_conv1d_max_pool(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    relu: bool = False,
    pool_size: int = 1,
    pool_stride: int = 1,
    channels_last: bool = False,
) -> tuple[Tensor, Tensor]:
    """The largest values of `token_conv1d` in windows along the sequence, and where they stand.

    Equal to `F.max_pool1d(F.conv1d(x, ...), pool_size, pool_stride)` of the one-hot columns x, with `F.relu`
    before it if asked for. Of equal values the first wins.

    Args:
        tokens: (b, l) uint8.
        weight: (out, channels, k) floating.
        bias: (out,) of the same dtype, or None.
        stride: as in `token_conv1d`.
        padding: as in `token_conv1d`.
        dilation: as in `token_conv1d`.
        relu: whether values below zero become zero.
        pool_size: positions in a window, at least 1.
        pool_stride: steps between windows, at least 1.
        channels_last: whether the results are (b, q, out) instead of (b, out, q).

    Returns:
        values (b, out, q) and winners (b, out, q), for the q = (l' - pool_size) // pool_stride + 1 windows
        of the l' positions of `token_conv1d`. A winner counts from the start of its window; it is pool_size
        where ReLU cut the value off. Winners are uint8, or int32 for windows of 256 positions and more.

    Raises:
        UserError: an argument has another shape or dtype, or no window fits.

    Example:
        >>> import torch
        >>> from biolayers.ops import token_conv1d_max_pool
        >>> tokens = torch.tensor([[0, 1, 2, 3, 1, 0]], dtype=torch.uint8)  # A C G T C A
        >>> weight = torch.tensor([[[-1.0], [3.0], [2.0], [1.0]]])  # of A, C, G, T; one tap
        >>> token_conv1d_max_pool(tokens, weight, pool_size=3, pool_stride=3)
        (tensor([[[3., 3.]]]), tensor([[[1, 1]]], dtype=torch.uint8))
    """
    check_pool(tokens, weight, bias, stride, padding, dilation, pool_size, pool_stride)
    y = F.conv1d(columns(tokens, weight.shape[1], weight), weight, bias, stride, padding, dilation)
    values, winners = y.unfold(2, pool_size, pool_stride).max(-1)  # (b, out, q)
    if relu:
        winners = torch.where(values <= 0, pool_size, winners)
        values = values.relu()
    winners = winners.to(winner_dtype(pool_size))
    return _turned(values, channels_last), _turned(winners, channels_last)


@op("biolayers::token_conv1d_winners")
def token_conv1d_winners(
    tokens: Tensor,
    winners: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    pool_size: int = 1,
    pool_stride: int = 1,
    channels_last: bool = False,
) -> Tensor:
    """The values of `token_conv1d` at given winners, zero at those that ReLU cut off.

    Args:
        tokens: (b, l) uint8.
        winners: as `token_conv1d_max_pool` returns them, for the same shapes and options.
        weight: (out, channels, k) floating.
        bias: (out,) of the same dtype, or None.
        stride: as in `token_conv1d`.
        padding: as in `token_conv1d`.
        dilation: as in `token_conv1d`.
        pool_size: as in `token_conv1d_max_pool`.
        pool_stride: as in `token_conv1d_max_pool`.
        channels_last: as in `token_conv1d_max_pool`.

    Returns:
        The values, in the shape of winners.

    Raises:
        UserError: an argument has another shape or dtype.

    Example:
        >>> import torch
        >>> from biolayers.ops import token_conv1d_winners
        >>> tokens = torch.tensor([[0, 1, 2, 3]], dtype=torch.uint8)  # A C G T
        >>> weight = torch.tensor([[[-1.0], [3.0], [2.0], [1.0]]])  # of A, C, G, T; one tap
        >>> winners = torch.tensor([[[0, 2]]], dtype=torch.uint8)  # the first of A C, none of G T
        >>> token_conv1d_winners(tokens, winners, weight, pool_size=2, pool_stride=2)
        tensor([[[-1.,  0.]]])
    """
    windows = check_pool(tokens, weight, bias, stride, padding, dilation, pool_size, pool_stride)
    _check_winners(winners, tokens.shape[0], weight.shape[0], windows, pool_size, channels_last)
    y = F.conv1d(columns(tokens, weight.shape[1], weight), weight, bias, stride, padding, dilation)
    places, alive = _places(_turned(winners, channels_last), y.shape[2], pool_size, pool_stride)
    return _turned(torch.where(alive, y.gather(2, places), 0), channels_last)


@op("biolayers::token_conv1d_winners_backward")
def token_conv1d_winners_backward(
    tokens: Tensor,
    winners: Tensor,
    grad: Tensor,
    channels: int,
    k: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    pool_size: int = 1,
    pool_stride: int = 1,
    channels_last: bool = False,
) -> tuple[Tensor, Tensor]:
    """The gradients of `token_conv1d_winners` with respect to weight and bias, linear in grad.

    Args:
        tokens: (b, l) uint8.
        winners: as in the forward call.
        grad: of the values, in the shape of winners.
        channels: of the weight.
        k: taps of the weight.
        stride: as in the forward call.
        padding: as in the forward call.
        dilation: as in the forward call.
        pool_size: as in the forward call.
        pool_stride: as in the forward call.
        channels_last: as in the forward call.

    Returns:
        grad_weight (out, channels, k) and grad_bias (out,).

    Raises:
        UserError: an argument has another shape or dtype than a forward call would give it.

    Example:
        >>> import torch
        >>> from biolayers.ops import token_conv1d_winners_backward
        >>> tokens = torch.tensor([[0, 1, 2, 3]], dtype=torch.uint8)  # A C G T
        >>> winners = torch.tensor([[[0, 1]]], dtype=torch.uint8)  # the first of A C, the second of G T
        >>> grad = torch.tensor([[[1.0, 10.0]]])
        >>> token_conv1d_winners_backward(tokens, winners, grad, 4, 1, pool_size=2, pool_stride=2)
        (tensor([[[ 1.],
                 [ 0.],
                 [ 0.],
                 [10.]]]), tensor([11.]))
    """
    length = check_winners_grad(
        tokens, winners, grad, channels, k, stride, padding, dilation, pool_size, pool_stride, channels_last
    )
    grad = _turned(grad, channels_last)  # (b, out, q)
    places, alive = _places(_turned(winners, channels_last), length, pool_size, pool_stride)
    dense = grad.new_zeros(*grad.shape[:2], length).scatter_add(2, places, torch.where(alive, grad, 0))
    return token_conv1d_backward.reference(tokens, dense, channels, k, stride, padding, dilation)


def winner_dtype(pool_size: int) -> torch.dtype:
    """The integers that hold 0 to pool_size."""
    return torch.uint8 if pool_size < 256 else torch.int32


def check_pool(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
    pool_size: int,
    pool_stride: int,
) -> int:
    """The number of windows, after a check of everything that a pooled convolution expects.

    Raises:
        UserError: see `token_conv1d_max_pool`.
    """
    length = check(tokens, weight, bias, stride, padding, dilation)
    for name, size in (("pool_size", pool_size), ("pool_stride", pool_stride)):
        if size < 1:
            raise UserError(f"token_conv1d: expected {name} of at least 1, received {size}")
    if length < pool_size:
        raise UserError(
            f"token_conv1d: expected at least {pool_size} positions for windows of {pool_size}, received "
            f"{length}; use a smaller window, more padding, or longer sequences"
        )
    return (length - pool_size) // pool_stride + 1


def check_winners(
    tokens: Tensor,
    winners: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
    pool_size: int,
    pool_stride: int,
    channels_last: bool,
) -> int:
    """The number of windows, after a check of everything that `token_conv1d_winners` expects."""
    windows = check_pool(tokens, weight, bias, stride, padding, dilation, pool_size, pool_stride)
    _check_winners(winners, tokens.shape[0], weight.shape[0], windows, pool_size, channels_last)
    return windows


def check_winners_grad(
    tokens: Tensor,
    winners: Tensor,
    grad: Tensor,
    channels: int,
    k: int,
    stride: int,
    padding: int,
    dilation: int,
    pool_size: int,
    pool_stride: int,
    channels_last: bool,
) -> int:
    """The positions before pooling, after a check of everything that the adjoint expects."""
    if winners.ndim != 3 or grad.shape != winners.shape:
        raise UserError(
            f"token_conv1d_winners_backward: expected winners and grad of one shape (b, out, q), received "
            f"{tuple(winners.shape)} and {tuple(grad.shape)}"
        )
    out = winners.shape[2 if channels_last else 1]
    weight = grad.new_empty(1).expand(out, max(0, channels), max(0, k))  # stands in for its shape
    windows = check_pool(tokens, weight, None, stride, padding, dilation, pool_size, pool_stride)
    _check_winners(winners, tokens.shape[0], out, windows, pool_size, channels_last)
    return (tokens.shape[1] + 2 * padding - dilation * (k - 1) - 1) // stride + 1


def _check_winners(
    winners: Tensor, batch: int, out: int, windows: int, pool_size: int, channels_last: bool
) -> None:
    shape = (batch, windows, out) if channels_last else (batch, out, windows)
    dtype = winner_dtype(pool_size)
    if winners.shape != shape or winners.dtype != dtype:
        raise UserError(
            f"token_conv1d_winners: expected winners {shape} of dtype {str(dtype).removeprefix('torch.')}, "
            f"received {tuple(winners.shape)} of dtype {str(winners.dtype).removeprefix('torch.')}; give the "
            "options of the call of token_conv1d_max_pool that they come from"
        )


def _turned(x: Tensor, channels_last: bool) -> Tensor:
    """From (b, out, q) to (b, q, out) and back, if channels come last."""
    return x.transpose(1, 2).contiguous() if channels_last else x


def _places(winners: Tensor, length: int, pool_size: int, pool_stride: int) -> tuple[Tensor, Tensor]:
    """Positions (b, out, q) of the winners before pooling, and which of them ReLU left alive."""
    starts = torch.arange(winners.shape[2], device=winners.device) * pool_stride
    return (winners + starts).clamp(max=length - 1), winners < pool_size


# with fixed winners everything is linear: the derivatives below need no values, and differentiate again


@token_conv1d_max_pool.derivative(
    saves=lambda tokens, weight, bias, stride, padding, dilation, relu, *pooling, output: (
        tokens,
        output[1],
        weight.shape[1],
        weight.shape[2],
        bias is not None,
        (stride, padding, dilation, *pooling),
    )
)
def _(saved, needs, grad, _):
    tokens, winners, channels, k, biased, options = saved
    grad_weight, grad_bias = token_conv1d_winners_backward(tokens, winners, grad, channels, k, *options)
    return None, grad_weight, grad_bias if biased else None, *(None,) * 7


@token_conv1d_winners.derivative(
    saves=lambda tokens, winners, weight, bias, *options: (
        tokens,
        winners,
        weight.shape[1],
        weight.shape[2],
        bias is not None,
        options,
    )
)
def _(saved, needs, grad):
    tokens, winners, channels, k, biased, options = saved
    grad_weight, grad_bias = token_conv1d_winners_backward(tokens, winners, grad, channels, k, *options)
    return None, None, grad_weight, grad_bias if biased else None, *(None,) * 6


@token_conv1d_winners_backward.derivative(
    saves=lambda tokens, winners, grad, channels, k, *options: (tokens, winners, options)
)
def _(saved, needs, grad_weight, grad_bias):
    tokens, winners, options = saved
    along = token_conv1d_winners(tokens, winners, grad_weight, grad_bias, *options)
    return None, None, along, *(None,) * 8


@token_conv1d_max_pool.tangent
def _(args, tangents):
    tokens, weight, _, stride, padding, dilation, _, *pooling = args
    _, winners = token_conv1d_max_pool(*args)
    along = torch.zeros_like(weight) if tangents[1] is None else tangents[1]
    options = (stride, padding, dilation, *pooling)
    return token_conv1d_winners(tokens, winners, along, tangents[2], *options), None


@token_conv1d_winners.tangent
def _(args, tangents):
    tokens, winners, weight, _, *options = args
    along = torch.zeros_like(weight) if tangents[2] is None else tangents[2]
    return token_conv1d_winners(tokens, winners, along, tangents[3], *options)


@token_conv1d_winners_backward.tangent
def _(args, tangents):
    tokens, winners, _, *plain = args
    return token_conv1d_winners_backward(tokens, winners, tangents[2], *plain)


@token_conv1d_max_pool.batch
def _(again, dims, tokens, weight, bias, *options):
    over_tokens, over_weight, over_bias = dims[:3]
    if over_tokens is not None and over_weight is None and over_bias is None:
        tokens = tokens.movedim(over_tokens, 0)  # (v, b, l)
        found = again(tokens.flatten(0, 1), weight, bias, *options)
        return tuple(part.unflatten(0, tokens.shape[:2]) for part in found), (0, 0)
    if over_tokens is None and over_weight is not None and weight.shape[over_weight] > 0:
        weight = weight.movedim(over_weight, 0)  # (v, out, channels, k)
        v, out = weight.shape[:2]
        if bias is not None:
            bias = (bias.expand(v, out) if over_bias is None else bias.movedim(over_bias, 0)).flatten()
        axis = 2 if options[-1] else 1
        found = again(tokens, weight.flatten(0, 1), bias, *options)
        return tuple(part.unflatten(axis, (v, out)) for part in found), (axis, axis)
    sizes = [a.shape[d] for a, d in zip((tokens, weight, bias), dims[:3], strict=True) if d is not None]
    return loop_rule(again, sizes[0], dims, (tokens, weight, bias, *options))


_KERNELS = {
    token_conv1d_max_pool: "forward",
    token_conv1d_winners: "at_winners",
    token_conv1d_winners_backward: "backward",
}
for _op, _name in _KERNELS.items():
    _op.kernel(
        "numba",
        device="cpu",
        dtypes=FLOATS,
        needs=("numba",),
        target=f"biolayers.kernels.numba.token_conv1d_max_pool:{_name}",
    )
    _op.autocast(cpu=torch.float32, cuda=torch.float32)


@token_conv1d_max_pool.cost
def _(tokens, weight, bias, stride, padding, dilation, relu, pool_size, pool_stride, channels_last):
    """One addition per tap, position and channel; only the pooled values and winners are written."""
    windows = check_pool(tokens, weight, bias, stride, padding, dilation, pool_size, pool_stride)
    outputs = tokens.shape[0] * weight.shape[0] * windows
    written = outputs * (weight.element_size() + winner_dtype(pool_size).itemsize)
    moved = tokens.numel() + weight.numel() * weight.element_size() + written
    return Cost(flops=outputs * pool_size * weight.shape[2], bytes=moved)


@token_conv1d_winners.cost
def _(tokens, winners, weight, bias, stride, padding, dilation, pool_size, pool_stride, channels_last):
    """One addition per tap and value."""
    moved = (winners.numel() + weight.numel()) * weight.element_size() + tokens.numel()
    return Cost(flops=winners.numel() * weight.shape[2], bytes=moved + winners.nbytes)


@token_conv1d_winners_backward.cost
def _(tokens, winners, grad, channels, k, stride, padding, dilation, pool_size, pool_stride, channels_last):
    """One addition per tap and element of grad, which is read once."""
    out = winners.shape[2 if channels_last else 1]
    moved = (grad.numel() + out * (channels * k + 1)) * grad.element_size() + winners.nbytes
    return Cost(flops=grad.numel() * k, bytes=moved + tokens.numel())


# (b, l, out, channels, k, biased, stride, padding, dilation, relu, pool_size, pool_stride, channels_last)
_SAMPLES = (
    (2, 22, 9, 4, 3, True, 1, 0, 1, True, 5, 5, False),
    (3, 9, 2, 4, 7, False, 1, 2, 1, False, 3, 2, True),
    (2, 11, 3, 5, 2, True, 2, 1, 3, True, 2, 3, True),
    (2, 5, 1, 1, 1, True, 1, 0, 1, False, 1, 1, False),
)


def _sample(seed: int, b: int, l: int, out: int, channels: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, channels + 2, (b, l), generator=rng).to(torch.uint8)  # some without a column
    weight = torch.randn(out, channels, k, generator=rng, dtype=torch.float64)
    return tokens, weight, torch.randn(out, generator=rng, dtype=torch.float64)


@token_conv1d_max_pool.samples(batch_axes={"tokens": 0})
def _():
    for seed, (b, l, out, channels, k, biased, *options) in enumerate(_SAMPLES):
        tokens, weight, bias = _sample(seed, b, l, out, channels, k)
        yield (tokens, weight, bias if biased else None, *options)


def _winners():
    """Each sample of the op, its winners, and what both linear ops take as options."""
    for args in token_conv1d_max_pool.sample_arguments():
        values, winners = token_conv1d_max_pool.reference(*args)
        yield args, values, winners, (*args[3:6], *args[7:])


@token_conv1d_winners.samples(batch_axes={"tokens": 0, "winners": 0})
def _():
    for args, _, winners, options in _winners():
        yield (args[0], winners, args[1], args[2], *options)


@token_conv1d_winners_backward.samples(batch_axes={"tokens": 0, "winners": 0, "grad": 0})
def _():
    for (tokens, weight, *_), values, winners, options in _winners():
        yield (tokens, winners, torch.cos(values), *weight.shape[1:], *options)
