"""Convolution, batch normalisation, activation and pooling of tokens, as one block."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from biolayers.layers.batch_moments import folded
from biolayers.layers.token_conv1d import TokenConv1d
from shared.errors import UserError

_NORMS = ("batch", None)


class TokenConvBlock(nn.Module):
    """What `nn.Sequential(Conv1d, BatchNorm1d, ReLU, MaxPool1d)` computes on one-hot columns, from tokens.

    The submodules `conv` (`TokenConv1d`) and `norm` (`torch.nn.BatchNorm1d`) hold the parameters and running
    statistics. The mean and variance of a token convolution over a batch follow exactly from its weights and
    from how often two letters occur together (`biolayers.ops.token_pair_counts`). So normalisation becomes
    part of weight and bias, in training as in evaluation, and with max-pooling the activation before pooling
    is never written. Columns of floats take the plain way through `conv` and `norm`, and so does everything
    once `norm` is replaced by another module, or one of the two has hooks.

    Args:
        in_channels: the number of letters: 4 for DNA, 20 for protein.
        out_channels: the number of filters.
        kernel_size: taps per filter.
        stride: steps between positions of the convolution.
        padding: as in `TokenConv1d`.
        dilation: steps between taps.
        bias: whether the convolution has a bias (batch normalisation takes it away again; published models
            often have it nevertheless).
        norm: `"batch"`, or None.
        eps: of the normalisation, added to the variance.
        momentum: of the running statistics; None for their plain mean over all batches.
        activation: `"relu"`, `"gelu"`, `"exp"`, or None.
        pool: `"max"`, `"avg"`, or None.
        pool_size: positions in a window (only with pooling).
        pool_stride: steps between windows, by default pool_size.
        channels_last: whether the output is (b, l', out_channels).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        UserError: a size is out of range, or a name is unknown.

    Example:
        >>> import torch
        >>> from biolayers.layers import TokenConvBlock
        >>> block = TokenConvBlock(4, 8, 5, pool_size=3)
        >>> block(torch.tensor([[0, 1, 2, 3, 4, 0, 0]], dtype=torch.uint8)).shape  # A C G T N A A
        torch.Size([1, 8, 2])
        >>> sorted(name for name, _ in block.named_parameters())
        ['conv.bias', 'conv.weight', 'norm.bias', 'norm.weight']
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | str = "same",
        dilation: int = 1,
        bias: bool = True,
        norm: str | None = "batch",
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        activation: str | None = "relu",
        pool: str | None = "max",
        pool_size: int = 2,
        pool_stride: int | None = None,
        channels_last: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if norm not in _NORMS:
            raise UserError(f'TokenConvBlock: expected norm="batch" or None, received {norm!r}')
        self.conv = TokenConv1d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            bias,
            device,
            dtype,
            activation=activation,
            pool=pool,
            pool_size=1 if pool is None else pool_size,
            pool_stride=None if pool is None else pool_stride,
            channels_last=channels_last,
        )
        self.norm = (
            None
            if norm is None
            else nn.BatchNorm1d(out_channels, eps=eps, momentum=momentum, device=device, dtype=dtype)
        )

    def forward(
        self, tokens: UInt8[Tensor, "b l"] | Float[Tensor, "b channels l"]
    ) -> Float[Tensor, "b out length"] | Float[Tensor, "b length out"]:
        """Apply the block to `tokens` (b, l), or to columns (b, in_channels, l) of floats."""
        conv = self.conv
        if self.norm is None:
            return conv(tokens)
        if not self._folds(tokens):
            return conv.follow_up(self.norm(conv.convolve(tokens, conv.weight, conv.bias)))
        weight, bias = folded(conv.padded(tokens), conv.weight, conv.bias, self.norm, conv.geometry)
        return conv.evaluate(tokens, weight, bias)

    def _folds(self, tokens: Tensor) -> bool:
        """Whether the normalisation can be folded into the convolution, whose output nobody then sees."""
        plain = type(self.norm) is nn.BatchNorm1d and not any(map(_is_watched, (self.norm, self.conv)))
        return plain and not tokens.is_floating_point() and tokens.shape[0] > 0


def _is_watched(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
