"""Batch normalisation of a token convolution, folded into its weight and bias."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from biolayers.ops import token_pair_counts
from shared.errors import UserError

Geometry = tuple[int, int, int]  # stride, padding, dilation


class Moments(NamedTuple):
    """Mean and variance of each filter's output over all positions of a batch, (out,) each."""

    mean: Tensor
    var: Tensor  # of the batch itself: divided by n
    n: int


def moments(counts: Tensor, n: int, weight: Tensor, bias: Tensor | None) -> Moments:
    """The moments of a token convolution, exact and differentiable, without the convolution.

    With G the counts and m their diagonal, the mean of a filter w is w . m / n + bias, and its variance
    w^T (G / n - m m^T / n^2) w. Both are computed in float64: the difference loses digits.

    Args:
        counts: (channels k, channels k), of `biolayers.ops.token_pair_counts`.
        n: positions, of all sequences together.
        weight: (out, channels, k).
        bias: (out,), or None.
    """
    filters = weight.flatten(1).double()  # (out, channels k)
    joint = counts / torch.tensor(n, dtype=torch.float64, device=counts.device)
    share = joint.diagonal()
    covariance = joint - torch.outer(share, share)
    mean = filters @ share
    var = ((filters @ covariance) * filters).sum(1)
    return Moments(mean if bias is None else mean + bias, var, n)


def folded(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    norm: nn.BatchNorm1d | nn.BatchNorm2d,
    geometry: Geometry,
) -> tuple[Tensor, Tensor]:
    """Weight and bias that convolve and normalise at once; running statistics move as in `norm(x)`.

    Raises:
        UserError: there is only one value per channel to take statistics of.
    """
    if norm.training or norm.running_mean is None:
        found = _of_batch(tokens, weight, bias, geometry)
        if norm.training and norm.track_running_stats:
            norm.num_batches_tracked.add_(1)
            part = 1.0 / norm.num_batches_tracked.double() if norm.momentum is None else norm.momentum
            _track(norm.running_mean, norm.running_var, part, found)
        mean, var = found.mean, found.var
    else:
        mean, var = norm.running_mean, norm.running_var
    return _normalising(weight, bias, mean, var, norm.weight, norm.bias, norm.eps)


def folded_by(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    geometry: Geometry,
) -> tuple[Tensor, Tensor]:
    """`folded` with the arguments of `torch.nn.functional.batch_norm`.

    Raises:
        UserError: there is only one value per channel to take statistics of.
    """
    if not training:
        return _normalising(weight, bias, running_mean, running_var, scale, shift, eps)
    found = _of_batch(tokens, weight, bias, geometry)
    if running_mean is not None:
        _track(running_mean, running_var, momentum, found)
    return _normalising(weight, bias, found.mean, found.var, scale, shift, eps)


def _normalising(
    weight: Tensor,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    gain: Tensor | None,
    offset: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    scale = (var + eps).rsqrt()
    if gain is not None:
        scale = scale * gain
    shift = -mean if bias is None else bias - mean
    shift = shift * scale
    if offset is not None:
        shift = shift + offset
    return weight * scale.to(weight.dtype)[:, None, None], shift.to(weight.dtype)


def _of_batch(tokens: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Moments:
    stride, padding, dilation = geometry
    _, channels, k = weight.shape
    counts = token_pair_counts(tokens, channels, k, *geometry)
    n = tokens.shape[0] * ((tokens.shape[1] + 2 * padding - dilation * (k - 1) - 1) // stride + 1)
    if n == 1:
        raise UserError(
            "batch normalisation: expected more than one value per channel in training, received one "
            "sequence with one position; use a larger batch, or eval()"
        )
    return moments(counts, n or 1, weight, bias)  # of an empty batch nothing comes out, and nothing moves


@torch.no_grad()
def _track(mean: Tensor, var: Tensor, part: float | Tensor, found: Moments) -> None:
    """Move running statistics towards those of the batch, as `torch.nn.functional.batch_norm` does."""
    if found.n == 1:  # an empty batch
        return
    mean.copy_(mean + part * (found.mean - mean))
    var.copy_(var + part * (found.var * (found.n / (found.n - 1)) - var))
