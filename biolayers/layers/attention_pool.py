"""Pooling by learned attention."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import UserError


class AttentionPool(nn.Module):
    """Average each channel over a window of positions with weights that the layer learns to choose.

    The weights of a window are the softmax over its positions of a linear map of the channels, for each
    channel on its own: the softmax pooling of Enformer (Avsec et al., Nature Methods 18, 2021). The map
    starts as `sharpness` times the identity: between the mean (0) and the maximum (large).

    Args:
        channels: of the input.
        window: positions per window; a last, shorter window takes what is left over. None: all positions, and
            the result has no axis of positions.
        sharpness: of the weights at the start.
        per_channel: whether each channel has weights of its own; otherwise one set serves all channels, the
            map has one output, and starts at zero: the mean.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        UserError: a size is below 1; in a call: another number of channels, or a mask of another shape.

    Example:
        >>> import torch
        >>> from biolayers.layers import AttentionPool
        >>> AttentionPool(8, window=2)(torch.randn(3, 8, 11)).shape
        torch.Size([3, 8, 6])
        >>> AttentionPool(8)(torch.randn(3, 8, 11), mask=torch.arange(11) < 9).shape
        torch.Size([3, 8])
    """

    def __init__(
        self,
        channels: int,
        *,
        window: int | None = None,
        sharpness: float = 2.0,
        per_channel: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if channels < 1 or (window is not None and window < 1):
            raise UserError(
                f"AttentionPool: expected channels and window of at least 1, received {channels}, {window}"
            )
        self.window, self.sharpness = window, sharpness
        rows = channels if per_channel else 1
        self.weight = nn.Parameter(torch.empty(rows, channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the map to `sharpness` times the identity, or to zero if all channels share it."""
        with torch.no_grad():
            self.weight.zero_()
            if len(self.weight) > 1:
                self.weight.fill_diagonal_(self.sharpness)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool (b, c, l) to (b, c), or (b, c, windows); positions where `mask` (b, l) is False do not count.

        A window without any position that counts gives zeros.
        """
        self._check(x, mask)
        window = self.window or max(1, x.shape[2])
        windows = -(-x.shape[2] // window) if self.window else 1
        counts = x.new_ones(x.shape[2], dtype=torch.bool) if mask is None else mask
        x = x.masked_fill(~counts.unsqueeze(-2), 0)
        scores = torch.einsum("rc,bcl->brl", self.weight, x)
        rest = windows * window - x.shape[2]
        x, scores, counts = (
            F.pad(t, (0, rest)).unflatten(-1, (windows, window)) for t in (x, scores, counts)
        )
        counts = counts.unsqueeze(-3)  # (..., 1, windows, window)
        share = scores.masked_fill(~counts, torch.finfo(x.dtype).min).softmax(-1).masked_fill(~counts, 0)
        pooled = (share * x).sum(-1)  # (b, c, windows)
        return pooled if self.window else pooled[..., 0]

    def _check(self, x: Tensor, mask: Tensor | None) -> None:
        if x.ndim != 3 or x.shape[1] != self.weight.shape[1]:
            raise UserError(
                f"AttentionPool: expected (b, {self.weight.shape[1]}, l), received {tuple(x.shape)}"
            )
        if mask is not None and (mask.dtype != torch.bool or mask.shape not in (x[:, 0].shape, x.shape[2:])):
            raise UserError(
                f"AttentionPool: expected a mask of bool (b, l) or (l,) for {tuple(x.shape)}, received "
                f"{mask.dtype} {tuple(mask.shape)}"
            )

    def extra_repr(self) -> str:
        rows, channels = self.weight.shape
        return f"{channels}, window={self.window}" + ("" if rows == channels else ", per_channel=False")
