"""Convolution of tokens, ReLU and max-pooling in one op: what a motif detector computes.

The op returns the largest value of each window, and which position of the window it came from, its winner.
With the winners held fixed the values are linear in weight and bias: see `token_conv1d_winners`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from biolayers.ops.token_conv1d import FLOATS, columns
from biolayers.ops.token_conv1d_pooling import check_pool, turned
from biolayers.ops.token_conv1d_winners import (
    token_conv1d_winners,
    token_conv1d_winners_backward,
    winner_dtype,
)
from shared import Cost, op
from shared.derive import loop_rule


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
    return turned(values, channels_last), turned(winners, channels_last)


# with fixed winners everything is linear: the derivatives need no values, and differentiate again


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


@token_conv1d_max_pool.tangent
def _(args, tangents):
    tokens, weight, _, stride, padding, dilation, _, *pooling = args
    _, winners = token_conv1d_max_pool(*args)
    along = torch.zeros_like(weight) if tangents[1] is None else tangents[1]
    options = (stride, padding, dilation, *pooling)
    return token_conv1d_winners(tokens, winners, along, tangents[2], *options), None


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


token_conv1d_max_pool.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="biolayers.kernels.numba.token_conv1d_max_pool:forward",
)
token_conv1d_max_pool.autocast(cpu=torch.float32, cuda=torch.float32)


@token_conv1d_max_pool.cost
def _(tokens, weight, bias, stride, padding, dilation, relu, pool_size, pool_stride, channels_last):
    """One addition per tap, position and channel; only the pooled values and winners are written."""
    windows = check_pool(tokens, weight, bias, stride, padding, dilation, pool_size, pool_stride)
    outputs = tokens.shape[0] * weight.shape[0] * windows
    written = outputs * (weight.element_size() + winner_dtype(pool_size).itemsize)
    moved = tokens.numel() + weight.numel() * weight.element_size() + written
    return Cost(flops=outputs * pool_size * weight.shape[2], bytes=moved)


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
