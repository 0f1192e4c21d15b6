"""Convolution straight from tokens: the first layer of a sequence model, without the one-hot tensor.

With x the one-hot columns of the tokens, (b, channels, l), zero for every token that is not below `channels`,
y[b, o, p] = bias[o] + sum_{c, j} weight[o, c, j] x[b, c, p * stride + j * dilation - padding], which is
`torch.nn.functional.conv1d(x, weight, bias, stride, padding, dilation)`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from shared import Cost, op
from shared.derive import loop_rule
from shared.errors import UserError

FLOATS = (torch.float32, torch.float64)


@op("biolayers::token_conv1d")
def token_conv1d(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """Convolve tokens as if they were one-hot columns; same values and layout as `F.conv1d` on those.

    A token that is not below `channels` (N, other IUPAC letters, gaps, `PAD`) is a column of zeros, as the
    padding at both ends is. The arguments come in the order of `torch.nn.functional.conv1d`; there is no
    `groups`, because one-hot columns of a few letters have nothing to divide.

    Args:
        tokens: (b, l) uint8.
        weight: (out, channels, k) floating; channels is the number of letters: 4 for DNA, 20 for protein.
        bias: (out,) of the same dtype, or None.
        stride: steps between output positions, at least 1.
        padding: empty columns at each end, at least 0.
        dilation: steps between taps, at least 1.

    Returns:
        (b, out, l') contiguous, l' = (l + 2 padding - dilation (k - 1) - 1) // stride + 1.

    Raises:
        UserError: an argument has another shape or dtype, or the sequence is shorter than the taps.

    Example:
        >>> import torch
        >>> from biolayers.ops import token_conv1d
        >>> tokens = torch.tensor([[0, 1, 2, 3, 4]], dtype=torch.uint8)  # A C G T N
        >>> weight = torch.arange(8.0).reshape(1, 4, 2)  # (1, 4, 2)
        >>> token_conv1d(tokens, weight)
        tensor([[[ 3.,  7., 11.,  6.]]])
    """
    check(tokens, weight, bias, stride, padding, dilation)
    return F.conv1d(columns(tokens, weight.shape[1], weight), weight, bias, stride, padding, dilation)


@op("biolayers::token_conv1d_backward")
def token_conv1d_backward(
    tokens: Tensor, grad: Tensor, channels: int, k: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> tuple[Tensor, Tensor]:
    """The gradients of `token_conv1d` with respect to weight and bias, for the gradient of its output.

    grad_weight[o, c, j] = sum_{b, p} grad[b, o, p] x[b, c, p * stride + j * dilation - padding], with x the
    one-hot columns; grad_bias is the sum of grad over b and p. Both are linear in grad.

    Args:
        tokens: (b, l) uint8.
        grad: (b, out, l') floating.
        channels: of the weight.
        k: taps of the weight.
        stride: as in the forward call.
        padding: as in the forward call.
        dilation: as in the forward call.

    Returns:
        grad_weight (out, channels, k) and grad_bias (out,).

    Raises:
        UserError: an argument has another shape or dtype than a forward call would give it.

    Example:
        >>> import torch
        >>> from biolayers.ops import token_conv1d_backward
        >>> tokens = torch.tensor([[0, 1, 1]], dtype=torch.uint8)  # A C C
        >>> token_conv1d_backward(tokens, torch.tensor([[[1.0, 10.0]]]), 2, 2)
        (tensor([[[ 1.,  0.],
                 [10., 11.]]]), tensor([11.]))
    """
    check_grad(tokens, grad, channels, k, stride, padding, dilation)
    x = F.pad(columns(tokens, channels, grad), (padding, padding))  # (b, channels, l + 2 padding)
    last = (grad.shape[-1] - 1) * stride + 1
    taps = [
        torch.einsum("bop,bcp->oc", grad, x[:, :, j * dilation : j * dilation + last : stride])
        for j in range(k)
    ]
    return torch.stack(taps, -1), grad.sum((0, 2))


def check(
    tokens: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, dilation: int
) -> int:
    """The output's length, after a check of everything that `token_conv1d` expects.

    Raises:
        UserError: see `token_conv1d`.
    """
    if weight.ndim != 3:
        raise UserError(f"token_conv1d: expected weight (out, channels, k), received {tuple(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise UserError(
            f"token_conv1d: expected bias ({weight.shape[0]},), one per output channel of weight, "
            f"received {tuple(bias.shape)}"
        )
    return _output_length(tokens, *weight.shape, stride, padding, dilation)


def check_grad(
    tokens: Tensor, grad: Tensor, channels: int, k: int, stride: int, padding: int, dilation: int
) -> None:
    """Check everything that `token_conv1d_backward` expects.

    Raises:
        UserError: see `token_conv1d_backward`.
    """
    if grad.ndim != 3 or tokens.ndim != 2 or grad.shape[0] != tokens.shape[0]:
        raise UserError(
            f"token_conv1d_backward: expected grad (b, out, l') for tokens (b, l) {tuple(tokens.shape)}, "
            f"received {tuple(grad.shape)}"
        )
    length = _output_length(tokens, grad.shape[1], channels, k, stride, padding, dilation)
    if grad.shape[2] != length:
        raise UserError(
            f"token_conv1d_backward: expected grad of length {length}, received {grad.shape[2]}; "
            "give stride, padding and dilation as in the forward call"
        )


def _output_length(
    tokens: Tensor, out: int, channels: int, k: int, stride: int, padding: int, dilation: int
) -> int:
    if tokens.dtype != torch.uint8 or tokens.ndim != 2:
        raise UserError(
            f"token_conv1d: expected tokens (b, l) of dtype uint8, received {tuple(tokens.shape)} of dtype "
            f"{str(tokens.dtype).removeprefix('torch.')}; encode text with an Alphabet, e.g. biolayers.DNA"
        )
    sizes = (("out", out), ("channels", channels), ("k", k), ("stride", stride), ("dilation", dilation))
    for name, size in sizes:
        if size < 1:
            raise UserError(f"token_conv1d: expected {name} of at least 1, received {size}")
    if padding < 0:
        raise UserError(f"token_conv1d: expected padding of at least 0, received {padding}")
    span = dilation * (k - 1) + 1
    if tokens.shape[1] + 2 * padding < span:
        raise UserError(
            f"token_conv1d: expected sequences of at least {span - 2 * padding} tokens for {k} taps with "
            f"dilation {dilation} and padding {padding}, received {tokens.shape[1]}; "
            "use fewer taps or more padding"
        )
    return (tokens.shape[1] + 2 * padding - span) // stride + 1


def columns(tokens: Tensor, channels: int, like: Tensor) -> Tensor:
    """One-hot columns (b, channels, l) of `tokens`, zero where a token is not below `channels`."""
    letters = torch.arange(channels, device=tokens.device).unsqueeze(-1)
    return (tokens.unsqueeze(1) == letters).to(like.dtype)


# the derivatives are each other, and each op is its own tangent: a convolution is linear in weight and bias,
# and so is its gradient in `grad`


@token_conv1d.derivative(
    saves=lambda tokens, weight, bias, stride, padding, dilation: (
        tokens,
        weight.shape[1],
        weight.shape[2],
        bias is not None,
        (stride, padding, dilation),
    )
)
def _(saved, needs, grad):
    tokens, channels, k, biased, geometry = saved
    grad_weight, grad_bias = token_conv1d_backward(tokens, grad, channels, k, *geometry)
    return None, grad_weight, grad_bias if biased else None, None, None, None


@token_conv1d_backward.derivative(
    saves=lambda tokens, grad, channels, k, stride, padding, dilation: (tokens, stride, padding, dilation)
)
def _(saved, needs, grad_weight, grad_bias):
    tokens, *geometry = saved
    return None, token_conv1d(tokens, grad_weight, grad_bias, *geometry), None, None, None, None, None


@token_conv1d.tangent
def _(args, tangents):
    tokens, weight, _, *geometry = args
    _, along_weight, along_bias, *_ = tangents
    return token_conv1d(
        tokens, torch.zeros_like(weight) if along_weight is None else along_weight, along_bias, *geometry
    )


@token_conv1d_backward.tangent
def _(args, tangents):
    tokens, _, *plain = args
    return token_conv1d_backward(tokens, tangents[1], *plain)


@token_conv1d.batch
def _(again, dims, tokens, weight, bias, stride, padding, dilation):
    over_tokens, over_weight, over_bias = dims[:3]
    geometry = (stride, padding, dilation)
    if over_tokens is not None and over_weight is None and over_bias is None:
        tokens = tokens.movedim(over_tokens, 0)  # (v, b, l)
        found = again(tokens.flatten(0, 1), weight, bias, *geometry)
        return found.unflatten(0, tokens.shape[:2]), 0
    if over_tokens is None and over_weight is not None:
        weight = weight.movedim(over_weight, 0)  # (v, out, channels, k)
        v, out = weight.shape[:2]
        if bias is not None:
            bias = (bias.expand(v, out) if over_bias is None else bias.movedim(over_bias, 0)).flatten()
        if v > 0:
            return again(tokens, weight.flatten(0, 1), bias, *geometry).unflatten(1, (v, out)), 1
    sizes = [a.shape[d] for a, d in zip((tokens, weight, bias), dims[:3], strict=True) if d is not None]
    return loop_rule(again, sizes[0], dims, (tokens, weight, bias, *geometry))


@token_conv1d_backward.batch
def _(again, dims, tokens, grad, channels, k, stride, padding, dilation):
    over_tokens, over_grad = dims[:2]
    plain = (channels, k, stride, padding, dilation)
    if over_tokens is None and over_grad is not None and grad.shape[over_grad] > 0:
        grad = grad.movedim(over_grad, 1)  # (b, v, out, l')
        found = again(tokens, grad.flatten(1, 2), *plain)
        return tuple(part.unflatten(0, grad.shape[1:3]) for part in found), (0, 0)
    size = grad.shape[over_grad] if over_tokens is None else tokens.shape[over_tokens]
    return loop_rule(again, size, dims, (tokens, grad, *plain))


token_conv1d.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="biolayers.kernels.numba.token_conv1d:forward",
)
token_conv1d_backward.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="biolayers.kernels.numba.token_conv1d:backward",
)
token_conv1d.autocast(cpu=torch.float32, cuda=torch.float32)
token_conv1d_backward.autocast(cpu=torch.float32, cuda=torch.float32)


@token_conv1d.cost
def _(tokens, weight, bias, stride, padding, dilation):
    """One addition per tap and output; the output is written once, tokens and weights are read."""
    length = check(tokens, weight, bias, stride, padding, dilation)
    outputs = tokens.shape[0] * weight.shape[0] * length
    moved = tokens.numel() + (outputs + weight.numel()) * weight.element_size()
    return Cost(flops=outputs * weight.shape[2], bytes=moved)


@token_conv1d_backward.cost
def _(tokens, grad, channels, k, stride, padding, dilation):
    """One addition per tap and element of grad, which is read once."""
    written = grad.shape[1] * (channels * k + 1)
    moved = tokens.numel() + (grad.numel() + written) * grad.element_size()
    return Cost(flops=grad.numel() * k, bytes=moved)


# (b, l, out, channels, k, biased, stride, padding, dilation): squares of SIMD lines, and what is left over
_SAMPLES = (
    (2, 18, 9, 4, 3, True, 1, 0, 1),
    (3, 7, 2, 4, 7, False, 1, 2, 1),
    (2, 11, 3, 5, 2, True, 2, 1, 3),
    (2, 5, 1, 1, 1, True, 3, 0, 1),
)


def _sample(seed: int, b: int, l: int, out: int, channels: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, channels + 2, (b, l), generator=rng).to(torch.uint8)  # some without a column
    weight = torch.randn(out, channels, k, generator=rng, dtype=torch.float64)
    return tokens, weight, torch.randn(out, generator=rng, dtype=torch.float64)


@token_conv1d.samples(batch_axes={"tokens": 0})
def _():
    for seed, (b, l, out, channels, k, biased, *geometry) in enumerate(_SAMPLES):
        tokens, weight, bias = _sample(seed, b, l, out, channels, k)
        yield (tokens, weight, bias if biased else None, *geometry)


@token_conv1d_backward.samples(batch_axes={"tokens": 0, "grad": 0})
def _():
    for seed, (b, l, out, channels, k, _, *geometry) in enumerate(_SAMPLES):
        tokens, weight, bias = _sample(seed, b, l, out, channels, k)
        grad = torch.cos(F.conv1d(columns(tokens, channels, weight), weight, bias, *geometry))
        yield (tokens, grad, channels, k, *geometry)
