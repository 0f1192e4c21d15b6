"""Normalisation of maps that hold both strands."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biolayers.ops.rc_token_conv1d import both_strands
from shared.errors import UserError


class RCBatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation with one statistic, scale and shift for the two strands of a feature.

    All else is as in `torch.nn.BatchNorm1d`, buffers and options included; the two strands count as two
    members of the batch, so the reverse complement of the input flips the output likewise, and a model sees
    the same statistics whichever strand its data come from.

    Args:
        num_features: pairs of channels; the input has `2 * num_features`.
        kwargs: options of `torch.nn.BatchNorm1d`: eps, momentum, affine, track_running_stats, device, dtype.

    Raises:
        UserError: in a call: another number of channels.

    Example:
        >>> import torch
        >>> from biolayers.layers import RCBatchNorm1d
        >>> norm, x = RCBatchNorm1d(3), torch.randn(2, 6, 40)
        >>> torch.allclose(norm(x.flip(1, 2)), norm(x).flip(1, 2), atol=1e-6)
        True
    """

    def forward(self, x: Tensor) -> Tensor:  # (b, 2c) or (b, 2c, l) -> the same
        if x.ndim not in (2, 3) or x.shape[1] != 2 * self.num_features:
            raise UserError(
                f"RCBatchNorm1d: expected (b, {2 * self.num_features}) or (b, {2 * self.num_features}, l), "
                f"received {tuple(x.shape)}"
            )
        if not self.training and self.running_mean is not None:
            parts = (self.running_mean, self.running_var, self.weight, self.bias)
            both = [None if part is None else both_strands(part) for part in parts]
            return F.batch_norm(x, *both, eps=self.eps)
        given, other = x.chunk(2, 1)
        strands = super().forward(torch.cat((given, other.flip(1))))  # (2b, c, l)
        given, other = strands.chunk(2)
        return torch.cat((given, other.flip(1)), 1)
