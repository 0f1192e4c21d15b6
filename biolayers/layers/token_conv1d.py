"""Convolution layer over tokens, with what usually follows it: an activation and pooling."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from biolayers.ops import token_conv1d, token_conv1d_avg_pool, token_conv1d_max_pool
from shared.errors import UserError

_EMPTY = 255  # a token without a column, whatever the alphabet

ACTIVATIONS: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda x: x,
    "relu": F.relu,
    "gelu": F.gelu,
    "exp": torch.exp,
}
_AFTER_POOLING = (None, "relu", "exp")  # they grow with their argument: the largest value stays the largest
POOLS: dict[str | None, Callable[[Tensor, int, int], Tensor]] = {
    None: lambda x, size, step: x,
    "max": F.max_pool1d,
    "avg": F.avg_pool1d,
}


class TokenConv1d(nn.Module):
    """Convolve token sequences as `torch.nn.Conv1d` convolves their one-hot columns, without building them.

    Parameters have the names, shapes and initial distribution of `torch.nn.Conv1d`, so the state dicts of the
    two can be exchanged. A token that is not below `in_channels` (N, other IUPAC letters, gaps, `PAD`) is a
    column of zeros. See `biolayers.ops.token_conv1d`.

    An activation and pooling over windows of positions can follow in the same layer. What comes out equals
    `pool(activation(conv(x)))` of `torch.nn`.

    In place of tokens, the layer takes columns (b, in_channels, l) of floats, one-hot or any other, and then
    computes the same in plain PyTorch: what attribution methods differentiate.

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
        activation: `"relu"`, `"gelu"`, `"exp"`, or None.
        pool: `"max"`, `"avg"`, or None.
        pool_size: positions in a window; windows that would reach beyond the last position are left out, as
            `torch.nn.MaxPool1d` does.
        pool_stride: steps between windows; by default pool_size, so that they do not overlap.
        channels_last: whether the output is (b, l', out_channels), as attention takes it, instead of
            (b, out_channels, l').

    Raises:
        UserError: a size is out of range, `"same"` is asked for with a stride, or a name is unknown.

    Example:
        >>> import torch
        >>> from biolayers.layers import TokenConv1d
        >>> layer = TokenConv1d(4, 8, 3, padding="same")
        >>> layer(torch.tensor([[0, 1, 2, 3, 4]], dtype=torch.uint8)).shape  # A C G T N
        torch.Size([1, 8, 5])
        >>> TokenConv1d(4, 8, 3, activation="relu", pool="max", pool_size=5)
        TokenConv1d(4, 8, kernel_size=3, stride=1, activation='relu', pool='max', pool_size=5)
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
    ):
        super().__init__()
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel_size}
        sizes |= {"stride": stride, "dilation": dilation, "pool_size": pool_size}
        for name, size in (
            sizes | {"pool_stride": pool_size if pool_stride is None else pool_stride}
        ).items():
            if size < 1:
                raise UserError(f"TokenConv1d: expected {name} of at least 1, received {size}")
        check_follow_up("TokenConv1d", activation, pool, pool_size)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.activation, self.pool, self.pool_size = activation, pool, pool_size
        self.pool_stride = pool_size if pool_stride is None else pool_stride
        self.channels_last = channels_last
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

    def forward(
        self, tokens: UInt8[Tensor, "b l"] | Float[Tensor, "b channels l"]
    ) -> Float[Tensor, "b out length"] | Float[Tensor, "b length out"]:
        """Convolve `tokens` (b, l) to (b, out_channels, l'), or to (b, l', out_channels)."""
        return self.evaluate(tokens, self.weight, self.bias)

    def evaluate(self, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The whole layer with parameters that stand in for its own."""
        pooling = self.pool_size, self.pool_stride, self.channels_last
        if self.pool == "avg" and not tokens.is_floating_point():
            options = *self.geometry, self.activation, *pooling
            return token_conv1d_avg_pool(self.padded(tokens), weight, bias, *options)
        if tokens.is_floating_point() or self.pool != "max" or self.activation not in _AFTER_POOLING:
            return self.follow_up(self.convolve(tokens, weight, bias))
        relu = self.activation == "relu"
        values, _ = token_conv1d_max_pool(self.padded(tokens), weight, bias, *self.geometry, relu, *pooling)
        return values if self.activation != "exp" else values.exp()

    def convolve(self, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution alone, of tokens or of columns, with parameters that stand in for the layer's."""
        convolve = F.conv1d if tokens.is_floating_point() else token_conv1d
        return convolve(self.padded(tokens), weight, bias, *self.geometry)

    def follow_up(self, x: Tensor) -> Tensor:
        """Activation, pooling and layout of what was convolved, (b, out_channels, l')."""
        check_room(x.shape[-1], self.pool, self.pool_size)
        x = POOLS[self.pool](ACTIVATIONS[self.activation](x), self.pool_size, self.pool_stride)
        return x.transpose(1, 2).contiguous() if self.channels_last else x

    @property
    def geometry(self) -> tuple[int, int, int]:
        """Stride, padding and dilation that the op gets, after `padded`."""
        return self.stride, self._before, self.dilation

    def padded(self, tokens: Tensor) -> Tensor:
        """Tokens or columns with what `"same"` needs at the end alone, where it needs an odd number."""
        if self._after == self._before:
            return tokens
        empty = 0.0 if tokens.is_floating_point() else _EMPTY
        return F.pad(tokens, (0, self._after - self._before), value=empty)

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        if self.padding not in (0, "valid"):
            text += f", padding={self.padding!r}"
        if self.dilation != 1:
            text += f", dilation={self.dilation}"
        if self.bias is None:
            text += ", bias=False"
        for name, usual in (("activation", None), ("pool", None), ("channels_last", False)):
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)!r}"
            if name == "pool" and self.pool is not None:
                text += f", pool_size={self.pool_size}"
                if self.pool_stride != self.pool_size:
                    text += f", pool_stride={self.pool_stride}"
        return text


def check_follow_up(who: str, activation: str | None, pool: str | None, pool_size: int) -> None:
    """Check the names of what follows a convolution.

    Raises:
        UserError: a name is unknown, or a window is asked for without pooling.
    """
    for what, name, known in (("activation", activation, ACTIVATIONS), ("pool", pool, POOLS)):
        if name not in known:
            raise UserError(f"{who}: expected {what} among {', '.join(map(repr, known))}, received {name!r}")
    if pool is None and pool_size != 1:
        raise UserError(
            f'{who}: expected pool="max" or pool="avg" with pool_size={pool_size}, received pool=None'
        )


def check_room(length: int, pool: str | None, pool_size: int) -> None:
    """Check that one window fits.

    Raises:
        UserError: there are fewer positions than a window has.
    """
    if pool is not None and length < pool_size:
        raise UserError(
            f"token convolution: expected at least {pool_size} positions for pool_size={pool_size}, received "
            f"{length}; use a smaller window, more padding, or longer sequences"
        )


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
