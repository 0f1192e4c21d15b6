"""Convolution and linear map of maps that hold both strands."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biolayers.layers.rc_filters import PairedFilters, both_of
from shared.errors import UserError


class RCConv1d(PairedFilters):
    """Convolve a map of both strands; the reverse complement of the input flips the output likewise.

    A map of both strands is (b, 2c, l) where channels i and 2c - 1 - i are the two strands of one feature, as
    `RCTokenConv1d` makes it; the reverse complement of the sequence flips it along channels and positions. A
    filter sees the channels of both strands. Weights are tied as in Shrikumar, Greenside and Kundaje (2017),
    "Reverse-complement parameter sharing improves deep learning models for genomics".

    Args:
        in_channels: pairs of channels of the input, which has `2 * in_channels`.
        out_channels: filters; the output has `2 * out_channels` channels.
        kernel_size: taps per filter.
        stride: steps between output positions; must leave no rest, see `biolayers.ops.rc_token_conv1d`.
        padding: zeros at each end; `"valid"` for none, `"same"` for an output as long as the input (stride 1
            and an even number of zeros only).
        dilation: steps between taps.
        bias: whether a learnable bias is added, the same on both strands.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        UserError: a size is out of range; in a call: another number of channels, too few positions, or a
            stride that leaves a rest.

    Example:
        >>> import torch
        >>> from biolayers.layers import RCConv1d
        >>> layer, x = RCConv1d(3, 5, 7, padding="same"), torch.randn(2, 6, 40)
        >>> layer(x).shape
        torch.Size([2, 10, 40])
        >>> torch.allclose(layer(x.flip(1, 2)), layer(x).flip(1, 2), atol=1e-6)
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | str = 0,
        dilation: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            2 * in_channels, out_channels, kernel_size, stride, padding, dilation, bias, device, dtype
        )

    def forward(self, x: Tensor) -> Tensor:  # (b, 2 in, l) -> (b, 2 out, l')
        return self.convolve(x, self.weight, self.bias)


class RCLinear(nn.Module):
    """Map features of both strands linearly, so that their order flips with the input's.

    Args:
        in_features: pairs of input features, whose last axis has `2 * in_features`.
        out_features: pairs of output features.
        bias: whether a learnable bias is added, the same on both strands.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        UserError: a size is below 1; in a call: another number of features.

    Example:
        >>> import torch
        >>> from biolayers.layers import RCLinear
        >>> layer, x = RCLinear(3, 2), torch.randn(5, 6)
        >>> torch.allclose(layer(x.flip(-1)), layer(x).flip(-1), atol=1e-6)
        True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(in_features, out_features) < 1:
            raise UserError(
                f"RCLinear: expected at least 1 pair of features, received {in_features} and {out_features}"
            )
        self.weight = nn.Parameter(torch.empty(out_features, 2 * in_features, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias from U(-1/sqrt(n), 1/sqrt(n)), n = 2 in_features, as `Linear`."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:  # (..., 2 in) -> (..., 2 out)
        if x.shape[-1] != self.weight.shape[1]:
            raise UserError(
                f"RCLinear: expected (..., {self.weight.shape[1]}), both strands of each feature, received "
                f"{tuple(x.shape)}"
            )
        return F.linear(x, *both_of(self.weight, self.bias))

    def extra_repr(self) -> str:
        out, both = self.weight.shape
        return f"2 x {both // 2} -> 2 x {out}, bias={self.bias is not None}"
