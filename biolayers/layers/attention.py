"""Attention that knows distances by rotation."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from shared.errors import UserError


class RotaryAttention(nn.Module):
    """Multi-head self-attention with rotary positions, through PyTorch's fused attention.

    Queries and keys are turned by an angle that grows with their position, so that their product depends on
    the distance alone (Su et al., "RoFormer", 2021). There is no table of positions: any length works.

    Args:
        channels: Of input and output.
        heads: That share the channels.
        causal: Whether an output sees only positions up to its own.
        dropout: Share of attention weights that training drops.
        bias: Whether the projections have a bias.
        base: Of the wavelengths: they run from 2 pi to almost 2 pi base positions.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        UserError: A size is out of range, or channels are not an even number for each head; in a call: a mask
            of another shape.

    Example:
        >>> import torch
        >>> from biolayers.layers import RotaryAttention
        >>> layer = RotaryAttention(16, 4)
        >>> layer(torch.randn(2, 10, 16), mask=torch.arange(10).expand(2, 10) < 7).shape
        torch.Size([2, 10, 16])
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        causal: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
        base: float = 10_000.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if channels < 1 or heads < 1 or channels % (2 * heads):
            raise UserError(
                f"RotaryAttention: expected an even number of channels for each head, received {channels} "
                f"channels and {heads} heads"
            )
        if not 0 <= dropout < 1:
            raise UserError(f"RotaryAttention: expected dropout from 0 up to 1, received {dropout}")
        self.channels, self.heads, self.causal, self.dropout, self.base = (
            channels, heads, causal, dropout, base,
        )  # fmt: skip
        self.enter = nn.Linear(channels, 3 * channels, bias=bias, device=device, dtype=dtype)
        self.leave = nn.Linear(channels, channels, bias=bias, device=device, dtype=dtype)

    def forward(
        self, x: Float[Tensor, "b l channels"], mask: Tensor | None = None
    ) -> Float[Tensor, "b l channels"]:
        """Apply the layer to (b, l, channels); `mask` (b, l) is true where there is a letter.

        What the mask leaves out is not looked at; a position with nothing to look at gets zeros from the
        attention.
        """
        if mask is not None and (mask.shape != x.shape[:2] or mask.dtype != torch.bool):
            raise UserError(
                f"RotaryAttention: expected mask {tuple(x.shape[:2])} of booleans, received "
                f"{tuple(mask.shape)} of {str(mask.dtype).removeprefix('torch.')}"
            )
        q, k, v = self.enter(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (b, h, l, d)
        found = F.scaled_dot_product_attention(
            rotated(q, self.base), rotated(k, self.base), v,
            attn_mask=None if mask is None else self._seen(mask),
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=self.causal and mask is None,
        )  # fmt: skip
        if mask is not None:  # PyTorch's kernels differ in what they make of an empty row
            found = found.masked_fill(~self._seen(mask).any(-1, keepdim=True), 0)
        return self.leave(found.transpose(1, 2).flatten(2))

    def _seen(self, mask: Tensor) -> Tensor:
        """(b, 1, l, l): which position may look at which."""
        length = mask.shape[1]
        seen = mask[:, None, None, :].expand(-1, -1, length, -1)
        return seen.tril() if self.causal else seen

    def extra_repr(self) -> str:
        return f"{self.channels}, heads={self.heads}, causal={self.causal}"


def rotated(x: Tensor, base: float = 10_000.0) -> Tensor:
    """Turn pairs of numbers (i, i + d / 2) at position t by t base^(-2 i / d): (..., l, d).

    Example:
        >>> import torch
        >>> rotated(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))[1]  # cos 1, sin 1
        tensor([0.5403, 0.8415])
    """
    half = x.shape[-1] // 2
    wide = torch.promote_types(x.dtype, torch.float32)
    speeds = base ** (-torch.arange(half, device=x.device, dtype=wide) / half)
    angles = torch.arange(x.shape[-2], device=x.device, dtype=wide).unsqueeze(1) * speeds  # (l, d / 2)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
