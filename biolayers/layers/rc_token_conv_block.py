"""Convolution, batch normalisation, activation and pooling of the tokens of both strands, as one block."""

import torch
from torch import Tensor, nn

from biolayers.layers.batch_moments import folded
from biolayers.layers.rc_norm import RCBatchNorm1d
from biolayers.layers.rc_token_conv1d import RCTokenConv1d
from biolayers.ops.rc_token_conv1d import check_pair


class RCTokenConvBlock(nn.Module):
    """`RCTokenConv1d`, `RCBatchNorm1d`, an activation and pooling, from tokens, fused in training too.

    The submodules `conv` and `norm` hold the parameters and running statistics. As in `TokenConvBlock`, the
    batch statistics follow from the weights and from how often two letters occur together, here on both
    strands; normalisation so becomes part of weight and bias, and with max-pooling whose windows tile the
    positions the activation before pooling is never written. Columns of floats take the plain way through
    `conv` and `norm`, and so does everything once `norm` is replaced by another module, or one of the two has
    hooks. The block is equivariant: the reverse complement of the tokens gives the output flipped along
    channels and positions.

    Args:
        in_channels: the number of letters, 4 for DNA and RNA; letter c pairs with in_channels - 1 - c.
        out_channels: filters; the output has twice as many channels.
        kernel_size: taps per filter.
        stride: steps between positions of the convolution.
        padding: as in `RCTokenConv1d`.
        dilation: steps between taps.
        bias: whether the convolution has a bias, which batch normalisation takes away again.
        eps: of the normalisation, added to the variance.
        momentum: of the running statistics; None for their plain mean over all batches.
        activation: None, "relu", "gelu" or "exp".
        pool: None, "max" or "avg".
        pool_size: positions per window (only with pooling).
        pool_stride: steps between windows, by default pool_size.
        channels_last: whether the output is (b, l', 2 out_channels).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        UserError: an option is out of range; in a call: as `RCTokenConv1d`.

    Example:
        >>> from biolayers import DNA
        >>> from biolayers.layers import RCTokenConvBlock
        >>> block = RCTokenConvBlock(4, 8, 5, pool_size=3)
        >>> block(DNA.tokens(["ACGTNNACC"])).shape
        torch.Size([1, 16, 3])
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
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        activation: str | None = "relu",
        pool: str | None = "max",
        pool_size: int = 2,
        pool_stride: int | None = None,
        channels_last: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        pooling = {} if pool is None else {"pool": pool, "pool_size": pool_size, "pool_stride": pool_stride}
        self.conv = RCTokenConv1d(
            in_channels, out_channels, kernel_size, stride, padding, dilation, bias, device, dtype,
            activation=activation, channels_last=channels_last, **pooling,
        )  # fmt: skip
        self.norm = RCBatchNorm1d(out_channels, eps=eps, momentum=momentum, device=device, dtype=dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (b, l) uint8, or float columns (b, in_channels, l), to (b, 2 out_channels, l')."""
        conv = self.conv
        if not self._folds(tokens):
            return conv.follow_up(self.norm(conv.convolve(tokens, conv.weight, conv.bias)))
        check_pair(tokens, conv.weight, conv.bias, *conv.geometry)  # before statistics move
        both = torch.cat((tokens, other_strand(tokens, conv.weight.shape[1])))  # the batch of the statistics
        weight, bias = folded(both, conv.weight, conv.bias, self.norm, conv.geometry)
        return conv.evaluate(tokens, weight, bias)

    def _folds(self, tokens: Tensor) -> bool:
        """Whether the normalisation can be folded into the convolution, whose output nobody then sees."""
        hooks = (
            m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in (self.conv, self.norm)
        )
        plain = type(self.norm) is RCBatchNorm1d and not any(hooks)
        return plain and not tokens.is_floating_point() and len(tokens) > 0


def other_strand(tokens: Tensor, letters: int) -> Tensor:
    """Rows (b, l) read from the end, letter c as letters - 1 - c; other tokens as they are.

    Example:
        >>> other_strand(torch.tensor([[0, 1, 1, 9]], dtype=torch.uint8), 4)
        tensor([[9, 2, 2, 3]], dtype=torch.uint8)
    """
    return torch.where(tokens < letters, letters - 1 - tokens, tokens).flip(-1)
