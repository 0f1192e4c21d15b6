"""What ops that pool a token convolution have in common: their checks and layouts."""

from torch import Tensor

from biolayers.ops.token_conv1d import check
from shared.errors import UserError


def check_pool(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
    pool_size: int,
    pool_stride: int,
) -> int:
    """The number of windows, after a check of everything that a pooled convolution expects.

    Raises:
        UserError: see `token_conv1d_max_pool`.
    """
    length = check(tokens, weight, bias, stride, padding, dilation)
    for name, size in (("pool_size", pool_size), ("pool_stride", pool_stride)):
        if size < 1:
            raise UserError(f"token_conv1d: expected {name} of at least 1, received {size}")
    if length < pool_size:
        raise UserError(
            f"token_conv1d: expected at least {pool_size} positions for windows of {pool_size}, received "
            f"{length}; use a smaller window, more padding, or longer sequences"
        )
    return (length - pool_size) // pool_stride + 1


def turned(x: Tensor, channels_last: bool) -> Tensor:
    """From (b, out, q) to (b, q, out) and back, if channels come last."""
    return x.transpose(1, 2).contiguous() if channels_last else x
