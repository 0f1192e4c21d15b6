"""Pooling whose windows lie the same seen from either end."""

import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import UserError

_PLAIN = {"max": F.max_pool1d, "avg": F.avg_pool1d}
_ADAPTIVE = {"max": F.adaptive_max_pool1d, "avg": F.adaptive_avg_pool1d}


def rc_pool(x: Tensor, kind: str, size: int, stride: int | None = None) -> Tensor:
    """Pool (b, c, l) to (b, c, (l - size) // stride + 1), so that a flipped input gives the flipped output.

    Where windows of `size` tile the positions, this is plain pooling. Elsewhere plain pooling drops what is
    left over at the end, which on the other strand are other positions: here the `l // size` windows are then
    those of adaptive pooling, of `size` positions or a few more, spread alike from both ends.

    Args:
        x: (b, c, l).
        kind: "max" or "avg".
        size: positions per window.
        stride: steps between windows; `size` by default.

    Raises:
        UserError: there are fewer than `size` positions, or a stride other than `size` leaves a rest.

    Example:
        >>> import torch
        >>> rc_pool(torch.arange(7.0).reshape(1, 1, 7), "max", 3)  # windows 0..3 and 3..6
        tensor([[[3., 6.]]])
    """
    stride, length = stride or size, x.shape[-1]
    if length < size:
        raise UserError(
            f"pooling: expected at least {size} positions, received {length}; use smaller windows"
        )
    if (length - size) % stride == 0:
        return _PLAIN[kind](x, size, stride)
    if stride == size:
        return _ADAPTIVE[kind](x, length // size)
    raise UserError(
        f"pooling: expected a length that windows of {size} with stride {stride} tile from both ends alike, "
        f"received {length}; crop {(length - size) % stride} positions, or use a stride of {size}"
    )


class _RCPool1d(nn.Module):
    kind: str

    def __init__(self, kernel_size: int, stride: int | None = None) -> None:
        super().__init__()
        if kernel_size < 1 or (stride is not None and stride < 1):
            raise UserError(
                f"{type(self).__name__}: expected kernel_size and stride of at least 1, received "
                f"{kernel_size} and {stride}"
            )
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:  # (b, c, l) -> (b, c, l')
        return rc_pool(x, self.kind, self.kernel_size, self.stride)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}" + (f", stride={self.stride}" if self.stride else "")


class RCMaxPool1d(_RCPool1d):
    """The largest value of each window; windows lie alike on both strands, at any length.

    Where windows of `kernel_size` tile the positions this is `torch.nn.MaxPool1d`; where some are left over,
    windows are a little longer and none is dropped.

    Args:
        kernel_size: positions per window.
        stride: steps between windows, `kernel_size` by default; another one must leave no rest.

    Raises:
        UserError: a size is below 1; in a call: too few positions, or a rest.

    Example:
        >>> import torch
        >>> from biolayers.layers import RCMaxPool1d
        >>> pool, x = RCMaxPool1d(4), torch.randn(2, 6, 11)
        >>> torch.equal(pool(x.flip(1, 2)), pool(x).flip(1, 2))
        True
    """

    kind = "max"


class RCAvgPool1d(_RCPool1d):
    """The mean of each window; windows lie alike on both strands, at any length. See `RCMaxPool1d`.

    Args:
        kernel_size: positions per window.
        stride: steps between windows, `kernel_size` by default; another one must leave no rest.

    Raises:
        UserError: a size is below 1; in a call: too few positions, or a rest.

    Example:
        >>> import torch
        >>> from biolayers.layers import RCAvgPool1d
        >>> RCAvgPool1d(2)(torch.arange(5.0).reshape(1, 1, 5))  # windows 0..2 and 2..4
        tensor([[[1., 3.]]])
    """

    kind = "avg"
