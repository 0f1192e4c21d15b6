"""Convolution of both strands at once, straight from tokens: filters and their reverse complements.

With W (out, channels, k), the filters of the result are W, and then W reversed along all three axes: in
reversed order, the complement of each letter, read backwards. Channel o and channel 2 out - 1 - o are the two
strands of one filter, so the reverse complement of the input gives the output flipped along channels and
positions. That is the pairing of Zhou, Shrikumar and Kundaje (2022), "Towards a better understanding of
reverse-complement equivariance for deep learning models in genomics", and of the "RCPS" layers of Caduceus
(Schiff et al., 2024).
"""

import torch
from torch import Tensor

from biolayers.ops.token_conv1d import FLOATS, check, token_conv1d, token_conv1d_backward
from shared import Cost, op
from shared.derive import loop_rule
from shared.errors import UserError


@op("biolayers::rc_token_conv1d")
def rc_token_conv1d(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """Convolve tokens with filters and with their reverse complements, in one pass over the tokens.

    The reverse complement of a row of tokens gives the output flipped along channels and positions, exactly:
    `f(rc(x)) == f(x).flip(1, 2)`. The weights of the two strands are tied, and so are their gradients. Letter
    c must pair with letter channels - 1 - c, as in A C G T; a token that is not below `channels` (N, other
    IUPAC letters, gaps, `PAD`) is a column of zeros on both strands.

    With a stride, the last window must end where the sequence (with its padding) ends: otherwise the windows
    of the other strand would lie elsewhere, and the call is refused.

    Args:
        tokens: (b, l) uint8.
        weight: (out, channels, k) floating; channels is 4 for DNA and RNA.
        bias: (out,) of the same dtype, or None.
        stride: steps between output positions, at least 1; must divide l + 2 padding - dilation (k - 1) - 1.
        padding: empty columns at each end, at least 0.
        dilation: steps between taps, at least 1.

    Returns:
        (b, 2 out, l') contiguous, l' = (l + 2 padding - dilation (k - 1) - 1) // stride + 1; channel o is
        filter o on the given strand, channel 2 out - 1 - o the same filter on the other strand.

    Raises:
        UserError: an argument has another shape or dtype, the sequence is shorter than the taps, or the
            stride leaves a rest.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> from biolayers.ops import rc_token_conv1d
        >>> weight = DNA.one_hot(DNA.tokens("GAT")).unsqueeze(0)  # one filter, (1, 4, 3)
        >>> rc_token_conv1d(DNA.tokens(["GATC"]), weight)  # GAT at 0, and its reverse complement ATC at 1
        tensor([[[3., 0.],
                 [0., 3.]]])
    """
    check_pair(tokens, weight, bias, stride, padding, dilation)
    return token_conv1d.reference(
        tokens, both_strands(weight), _both_or_none(bias), stride, padding, dilation
    )


def both_strands(weight: Tensor) -> Tensor:
    """Filters (out, ...) with their reverse complements behind them, (2 out, ...): tied parameters of pairs.

    Example:
        >>> both_strands(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[1., 2., 3.],
                [3., 2., 1.]])
    """
    return torch.cat((weight, weight.flip(tuple(range(weight.ndim)))))


def fold_strands(grad: Tensor) -> Tensor:
    """The adjoint of `both_strands`: (2 out, ...) to (out, ...), the two strands' parts added."""
    out = grad.shape[0] // 2
    return grad[:out] + grad[out:].flip(tuple(range(grad.ndim)))


def check_pair(
    tokens: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, dilation: int
) -> int:
    """The output's length, after a check of everything that `rc_token_conv1d` expects.

    Raises:
        UserError: see `rc_token_conv1d`.
    """
    length = check(tokens, weight, bias, stride, padding, dilation)
    check_windows("rc_token_conv1d", tokens.shape[-1], weight.shape[-1], stride, padding, dilation)
    return length


def check_windows(
    name: str, length: int | torch.SymInt, k: int, stride: int, padding: int, dilation: int
) -> None:
    """Refuse windows that would lie elsewhere if they were laid from the other end.

    Raises:
        UserError: the stride leaves a rest.
    """
    rest = (length + 2 * padding - dilation * (k - 1) - 1) % stride if stride > 1 else 0
    if rest:
        raise UserError(
            f"{name}: expected a length that windows of {k} with stride {stride}, dilation {dilation} and "
            f"padding {padding} tile from both ends alike, received {length}; crop the sequences by {rest}, "
            f"lengthen them by {stride - rest}, or change the padding"
        )


def _both_or_none(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else both_strands(bias)


# the derivative and the tangent: a convolution is linear in weight and bias, and so is the tie of the strands


@rc_token_conv1d.derivative(
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
    return None, fold_strands(grad_weight), fold_strands(grad_bias) if biased else None, None, None, None


@rc_token_conv1d.tangent
def _(args, tangents):
    tokens, weight, _, *geometry = args
    _, along_weight, along_bias, *_ = tangents
    return rc_token_conv1d(
        tokens, torch.zeros_like(weight) if along_weight is None else along_weight, along_bias, *geometry
    )


@rc_token_conv1d.batch
def _(again, dims, tokens, weight, bias, stride, padding, dilation):
    over_tokens, over_weight, over_bias = dims[:3]
    geometry = (stride, padding, dilation)
    if over_tokens is not None and over_weight is None and over_bias is None:
        tokens = tokens.movedim(over_tokens, 0)  # (v, b, l)
        found = again(tokens.flatten(0, 1), weight, bias, *geometry)
        return found.unflatten(0, tokens.shape[:2]), 0
    if over_tokens is None and over_weight is not None and weight.shape[over_weight] > 0:
        weight = weight.movedim(over_weight, 0)  # (v, out, channels, k)
        v, out = weight.shape[:2]
        if bias is not None:
            bias = (bias.expand(v, out) if over_bias is None else bias.movedim(over_bias, 0)).flatten()
        found = again(tokens, weight.flatten(0, 1), bias, *geometry).unflatten(1, (2, v, out))
        return torch.cat((found[:, 0], found[:, 1].flip(1)), 2), 1  # the other strands come last model first
    sizes = [a.shape[d] for a, d in zip((tokens, weight, bias), dims[:3], strict=True) if d is not None]
    return loop_rule(again, sizes[0], dims, (tokens, weight, bias, *geometry))


rc_token_conv1d.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="biolayers.kernels.numba.rc_token_conv1d:forward",
)
rc_token_conv1d.autocast(cpu=torch.float32, cuda=torch.float32)


@rc_token_conv1d.cost
def _(tokens, weight, bias, stride, padding, dilation):
    """One addition per tap and output; the output is written once, tokens and weights are read."""
    length = check_pair(tokens, weight, bias, stride, padding, dilation)
    outputs = tokens.shape[0] * 2 * weight.shape[0] * length
    moved = tokens.numel() + (outputs + weight.numel()) * weight.element_size()
    return Cost(flops=outputs * weight.shape[2], bytes=moved)


# (b, l, out, channels, k, biased, stride, padding, dilation)
_SAMPLES = (
    (2, 18, 5, 4, 3, True, 1, 0, 1),
    (3, 7, 2, 4, 7, False, 1, 2, 1),
    (2, 12, 3, 4, 2, True, 2, 1, 3),
    (2, 5, 1, 4, 1, True, 4, 0, 1),
)


@rc_token_conv1d.samples(batch_axes={"tokens": 0})
def _():
    for seed, (b, l, out, channels, k, biased, *geometry) in enumerate(_SAMPLES):
        rng = torch.Generator().manual_seed(seed)
        tokens = torch.randint(0, channels + 2, (b, l), generator=rng).to(torch.uint8)
        weight = torch.randn(out, channels, k, generator=rng, dtype=torch.float64)
        bias = torch.randn(out, generator=rng, dtype=torch.float64)
        yield (tokens, weight, bias if biased else None, *geometry)
