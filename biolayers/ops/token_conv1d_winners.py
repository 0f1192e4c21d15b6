"""What `token_conv1d_max_pool` is with its winners held fixed: linear in weight and bias; and its adjoint.

Both differentiate into each other, and the pooled op into them, to any order; none of them needs the
activation before pooling.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from biolayers.ops.token_conv1d import FLOATS, columns, token_conv1d_backward
from biolayers.ops.token_conv1d_pooling import check_pool, turned
from shared import Cost, op
from shared.errors import UserError


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
    places, alive = _places(turned(winners, channels_last), y.shape[2], pool_size, pool_stride)
    return turned(torch.where(alive, y.gather(2, places), 0), channels_last)


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
    grad = turned(grad, channels_last)  # (b, out, q)
    places, alive = _places(turned(winners, channels_last), length, pool_size, pool_stride)
    dense = grad.new_zeros(*grad.shape[:2], length).scatter_add(2, places, torch.where(alive, grad, 0))
    return token_conv1d_backward.reference(tokens, dense, channels, k, stride, padding, dilation)


def winner_dtype(pool_size: int) -> torch.dtype:
    """The integers that hold 0 to pool_size."""
    return torch.uint8 if pool_size < 256 else torch.int32


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


def _places(winners: Tensor, length: int, pool_size: int, pool_stride: int) -> tuple[Tensor, Tensor]:
    """Positions (b, out, q) of the winners before pooling, and which of them ReLU left alive."""
    starts = torch.arange(winners.shape[2], device=winners.device) * pool_stride
    return (winners + starts).clamp(max=length - 1), winners < pool_size


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


@token_conv1d_winners.tangent
def _(args, tangents):
    tokens, winners, weight, _, *options = args
    along = torch.zeros_like(weight) if tangents[2] is None else tangents[2]
    return token_conv1d_winners(tokens, winners, along, tangents[3], *options)


@token_conv1d_winners_backward.tangent
def _(args, tangents):
    tokens, winners, _, *plain = args
    return token_conv1d_winners_backward(tokens, winners, tangents[2], *plain)


for _op, _name in ((token_conv1d_winners, "at_winners"), (token_conv1d_winners_backward, "backward")):
    _op.kernel(
        "numba",
        device="cpu",
        dtypes=FLOATS,
        needs=("numba",),
        target=f"biolayers.kernels.numba.token_conv1d_max_pool:{_name}",
    )
    _op.autocast(cpu=torch.float32, cuda=torch.float32)


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


# (b, l, out, channels, k, biased, stride, padding, dilation, pool_size, pool_stride, channels_last)
_SAMPLES = (
    (2, 22, 9, 4, 3, True, 1, 0, 1, 5, 5, False),
    (3, 9, 2, 4, 7, False, 1, 2, 1, 3, 2, True),
    (2, 11, 3, 5, 2, True, 2, 1, 3, 2, 3, True),
    (2, 5, 1, 1, 1, True, 1, 0, 1, 1, 1, False),
)


def _sample(seed: int, b: int, l: int, out: int, channels: int, k: int, biased: bool, *options: int):
    """Tokens, winners of every kind, weight, bias or None."""
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, channels + 2, (b, l), generator=rng).to(torch.uint8)  # some without a column
    weight = torch.randn(out, channels, k, generator=rng, dtype=torch.float64)
    bias = torch.randn(out, generator=rng, dtype=torch.float64) if biased else None
    *geometry, size, step, last = options
    windows = check_pool(tokens, weight, bias, *geometry, size, step)
    shape = (b, windows, out) if last else (b, out, windows)
    winners = torch.randint(0, size + 1, shape, generator=rng).to(winner_dtype(size))
    return tokens, winners, weight, bias


@token_conv1d_winners.samples(batch_axes={"tokens": 0, "winners": 0})
def _():
    for seed, sample in enumerate(_SAMPLES):
        yield (*_sample(seed, *sample), *sample[6:])


@token_conv1d_winners_backward.samples(batch_axes={"tokens": 0, "winners": 0, "grad": 0})
def _():
    for seed, sample in enumerate(_SAMPLES):
        tokens, winners, weight, _ = _sample(seed, *sample)
        grad = torch.cos(torch.arange(winners.numel(), dtype=torch.float64)).view(winners.shape)
        yield (tokens, winners, grad, *weight.shape[1:], *sample[6:])
