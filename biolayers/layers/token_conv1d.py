"""Convolution layer over tokens."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from biolayers.ops import token_conv1d
from shared.errors import UserError

_EMPTY = 255  # a token without a column, whatever the alphabet


class TokenConv1d(nn.Module):
    """Convolve token sequences as `torch.nn.Conv1d` convolves their one-hot columns, without building them.

    Parameters have the names, shapes and initial distribution of `torch.nn.Conv1d`, so the state dicts of the
    two can be exchanged. A token that is not below `in_channels` (N, other IUPAC letters, gaps, `PAD`) is a
    column of zeros. See `biolayers.ops.token_conv1d`.

    Args:
        in_channels: the number of letters: 4 for DNA, 20 for protein.
        out_channels: the number of filters.
        kernel_size: taps per filter.
        stride: steps between output positions.
        padding: empty columns at each end; `"valid"` for none, `"same"` for an output as long as the input
            (with stride 1 only; where an odd number is needed, the odd one is at the end).
        dilation: steps between taps.
        bias: whether a learnable bias is added.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        UserError: a size is out of range, or `"same"` is asked for with a stride.

    Example:
        >>> import torch
        >>> from biolayers.layers import TokenConv1d
        >>> layer = TokenConv1d(4, 8, 3, padding="same")
        >>> layer(torch.tensor([[0, 1, 2, 3, 4]], dtype=torch.uint8)).shape  # A C G T N
        torch.Size([1, 8, 5])
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
    ):
        super().__init__()
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel_size}
        for name, size in (sizes | {"stride": stride, "dilation": dilation}).items():
            if size < 1:
                raise UserError(f"TokenConv1d: expected {name} of at least 1, received {size}")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self._before, self._after = _ends(padding, dilation * (kernel_size - 1), stride)
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels, kernel_size, device=device, dtype=dtype)
        )
        if bias:
            self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias from U(-1/sqrt(n), 1/sqrt(n)), n = in_channels * kernel_size, as `Conv1d`."""
        bound = 1 / math.sqrt(self.in_channels * self.kernel_size)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, tokens: UInt8[Tensor, "b l"]) -> Float[Tensor, "b out length"]:
        """Convolve `tokens` (b, l) to (b, out_channels, l')."""
        if self._after > self._before:
            tokens = F.pad(tokens, (0, self._after - self._before), value=_EMPTY)
        return token_conv1d(tokens, self.weight, self.bias, self.stride, self._before, self.dilation)

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        if self.padding not in (0, "valid"):
            text += f", padding={self.padding!r}"
        if self.dilation != 1:
            text += f", dilation={self.dilation}"
        return text if self.bias is not None else text + ", bias=False"


def _ends(padding: int | str, reach: int, stride: int) -> tuple[int, int]:
    """How many empty columns stand before and after the sequence."""
    if padding == "valid":
        return 0, 0
    if padding == "same" and stride == 1:
        return reach // 2, reach - reach // 2
    if padding == "same":
        raise UserError(
            f'TokenConv1d: expected stride 1 with padding "same", received {stride}; give padding as a number'
        )
    if isinstance(padding, str) or padding < 0:
        raise UserError(
            f'TokenConv1d: expected padding of at least 0, "same" or "valid", received {padding!r}'
        )
    return padding, padding
