"""Convolution layer over the tokens of both strands."""

import torch
from torch import Tensor

from biolayers.layers.rc_filters import PairedFilters, both_of
from biolayers.layers.rc_pool import rc_pool
from biolayers.layers.token_conv1d import ACTIVATIONS, check_follow_up
from biolayers.ops.rc_token_conv1d import check_pair, rc_token_conv1d
from biolayers.ops.token_conv1d_max_pool import token_conv1d_max_pool
from shared.errors import UserError

_RISING = (None, "relu", "exp")  # activations that commute with a maximum


class RCTokenConv1d(PairedFilters):
    """Convolve tokens with filters and their reverse complements, without building one-hot columns.

    The output has two channels per filter, i and `2 * out_channels - 1 - i`, one for each strand. The reverse
    complement of the tokens gives the output flipped along channels and positions, exactly. The weights of
    the strands are tied. See `biolayers.ops.rc_token_conv1d`; `RCConv1d` and its kin continue, `RCInvariant`
    ends with what does not depend on the strand.

    Args:
        in_channels: the number of letters, 4 for DNA and RNA; letter c pairs with in_channels - 1 - c.
        out_channels: filters; the output has twice as many channels.
        kernel_size: taps per filter.
        stride: steps between output positions; must leave no rest.
        padding: empty columns at each end; `"valid"` for none, `"same"` for an output as long as the input
            (stride 1 and an even number of columns only).
        dilation: steps between taps.
        bias: whether a learnable bias is added, the same on both strands.
        device: of the parameters.
        dtype: of the parameters.
        activation: None, "relu", "gelu" or "exp", after the bias.
        pool: None, "max" or "avg", after the activation; windows lie alike on both strands (`RCMaxPool1d`).
        pool_size: positions per window.
        pool_stride: steps between windows, `pool_size` by default.
        channels_last: whether the output is (b, l', 2 out_channels) instead of (b, 2 out_channels, l').

    Raises:
        UserError: an option is out of range; in a call: another dtype or shape, too few tokens, or a stride
            that leaves a rest.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> from biolayers.layers import RCTokenConv1d
        >>> layer = RCTokenConv1d(4, 8, 5, activation="relu", pool="max", pool_size=2)
        >>> tokens = DNA.tokens(["ACGTNRYGGATTA"])
        >>> y, other = layer(tokens), layer(DNA.reverse_complement(tokens))
        >>> y.shape, torch.allclose(other, y.flip(1, 2), atol=1e-6)
        (torch.Size([1, 16, 4]), True)
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
        *,
        activation: str | None = None,
        pool: str | None = None,
        pool_size: int = 1,
        pool_stride: int | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, bias, device, dtype
        )
        check_follow_up("RCTokenConv1d", activation, pool, pool_size)
        if pool_size < 1 or (pool_stride is not None and pool_stride < 1):
            raise UserError(
                f"RCTokenConv1d: expected pool_size and pool_stride of at least 1, received {pool_size} and "
                f"{pool_stride}"
            )
        self.activation, self.pool = activation, pool
        self.pool_size, self.pool_stride, self.channels_last = pool_size, pool_stride, channels_last

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (b, l) uint8, or float columns (b, in_channels, l), to (b, 2 out_channels, l')."""
        return self.evaluate(tokens, self.weight, self.bias)

    def evaluate(self, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The whole layer with parameters that stand in for its own."""
        if tokens.is_floating_point() or not self._fuses(tokens):
            return self.follow_up(self.convolve(tokens, weight, bias))
        relu, pooling = self.activation == "relu", (self.pool_size, self._step, self.channels_last)
        values, _ = token_conv1d_max_pool(tokens, *both_of(weight, bias), *self.geometry, relu, *pooling)
        return values.exp() if self.activation == "exp" else values

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution alone, of tokens or of columns, with parameters that stand in for the layer's."""
        if x.is_floating_point():
            return super().convolve(x, weight, bias)
        return rc_token_conv1d(x, weight, bias, *self.geometry)

    def follow_up(self, y: Tensor) -> Tensor:
        """Activation, pooling and layout of what was convolved, (b, 2 out_channels, l')."""
        y = ACTIVATIONS[self.activation](y)
        if self.pool is not None:
            y = rc_pool(y, self.pool, self.pool_size, self.pool_stride)
        return y.transpose(1, 2).contiguous() if self.channels_last else y

    def _fuses(self, tokens: Tensor) -> bool:
        """Whether one op can convolve, activate and pool: the windows of a maximum tile the positions."""
        if self.pool != "max" or self.activation not in _RISING:
            return False
        length = check_pair(tokens, self.weight, self.bias, *self.geometry)
        return length >= self.pool_size and (length - self.pool_size) % self._step == 0

    @property
    def _step(self) -> int:
        return self.pool_stride or self.pool_size

    def extra_repr(self) -> str:
        text = super().extra_repr()
        text += f", activation={self.activation!r}" if self.activation else ""
        if self.pool:
            text += f", pool={self.pool!r}, pool_size={self.pool_size}"
            text += f", pool_stride={self.pool_stride}" if self.pool_stride else ""
        return text + (", channels_last=True" if self.channels_last else "")
