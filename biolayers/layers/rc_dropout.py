"""Dropout of maps that hold both strands."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import UserError


class RCDropout(nn.Module):
    """Drop each value together with its mirror image on the other strand, and scale up the others.

    The mask is the same for channel i at position p and channel 2c - 1 - i at position l - 1 - p, which the
    reverse complement exchanges: with the same random state, the reverse complement of the input flips the
    output likewise, in training too.

    Args:
        p: the probability that a value is dropped, 0 to 1.
        channels: whether whole channels are dropped, as by `torch.nn.Dropout1d`.

    Raises:
        UserError: `p` is not a probability; in a call: an odd number of channels.

    Example:
        >>> import torch
        >>> from biolayers.layers import RCDropout
        >>> y = RCDropout(0.5)(torch.ones(1, 4, 6))
        >>> torch.equal(y, y.flip(1, 2))
        True
    """

    def __init__(self, p: float = 0.5, *, channels: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise UserError(f"RCDropout: expected p from 0 to 1, received {p}")
        self.p, self.channels = p, channels

    def forward(self, x: Tensor) -> Tensor:  # (b, 2c) or (b, 2c, l) -> the same
        if x.ndim not in (2, 3) or x.shape[1] % 2:
            raise UserError(f"RCDropout: expected (b, 2c) or (b, 2c, l), received {tuple(x.shape)}")
        if not self.training or self.p == 0:
            return x
        half = x[:, : x.shape[1] // 2]
        if self.channels:
            half = half[:, :, :1]
        mask = F.dropout(torch.ones_like(half), self.p)
        return x * torch.cat((mask, mask.flip(tuple(range(1, x.ndim)))), 1)

    def extra_repr(self) -> str:
        return f"p={self.p}" + (", channels=True" if self.channels else "")
