"""A recurrent layer whose memory decides, letter by letter, what to keep."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from biolayers.ops import selective_scan
from shared.errors import UserError

_SLOW, _FAST = 1e-3, 1e-1  # the first step sizes, drawn evenly on a logarithmic scale


class SelectiveScan(nn.Module):
    """The Mamba block: a short convolution, a selective scan, and a gate; linear in the length.

    Step sizes, and what each state takes in and gives out, are linear maps of the input; see
    `biolayers.ops.selective_scan` (Gu & Dao, 2023). With `bidirectional` a second scan with the same
    parameters runs from the end, and both are added before the gate: DNA has no preferred direction.

    Args:
        channels: Of input and output.
        states: Numbers that each inner channel remembers.
        expand: Inner channels for each of `channels`.
        taps: Of the short convolution.
        rank: Of the map to step sizes; by default channels / 16, rounded up.
        bidirectional: Whether an output also sees what comes after it.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        UserError: A size is below 1.

    Example:
        >>> import torch
        >>> from biolayers.layers import SelectiveScan
        >>> SelectiveScan(8)(torch.randn(2, 100, 8)).shape
        torch.Size([2, 100, 8])
    """

    def __init__(
        self,
        channels: int,
        *,
        states: int = 16,
        expand: int = 2,
        taps: int = 4,
        rank: int | None = None,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        rank = math.ceil(channels / 16) if rank is None else rank
        sizes = {"channels": channels, "states": states, "expand": expand, "taps": taps, "rank": rank}
        for name, size in sizes.items():
            if size < 1:
                raise UserError(f"SelectiveScan: expected {name} of at least 1, received {size}")
        options = {"device": device, "dtype": dtype}
        inner = expand * channels
        self.channels, self.states, self.taps, self.rank = channels, states, taps, rank
        self.bidirectional = bidirectional
        self.enter = nn.Linear(channels, 2 * inner, bias=False, **options)
        self.short = nn.Conv1d(inner, inner, taps, groups=inner, **options)
        self.select = nn.Linear(inner, rank + 2 * states, bias=False, **options)
        self.step = nn.Linear(rank, inner, **options)
        self.log_rates = nn.Parameter(torch.empty(inner, states, **options))
        self.skip = nn.Parameter(torch.empty(inner, **options))
        self.leave = nn.Linear(inner, channels, bias=False, **options)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Rates of -1, -2, ... for the states, step sizes between 0.001 and 0.1, as published."""
        with torch.no_grad():
            self.log_rates.copy_(torch.arange(1, self.states + 1).log().expand_as(self.log_rates))
            self.skip.fill_(1)
            steps = torch.empty_like(self.step.bias).uniform_(math.log(_SLOW), math.log(_FAST)).exp()
            self.step.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # the inverse of softplus
            nn.init.uniform_(self.step.weight, -(self.rank**-0.5), self.rank**-0.5)

    def forward(self, x: Float[Tensor, "b l channels"]) -> Float[Tensor, "b l channels"]:
        """Apply the layer to (b, l, channels), of any length."""
        inner, gate = self.enter(x).chunk(2, -1)
        y = self._scan(inner)
        if self.bidirectional:
            y = y + self._scan(inner.flip(1)).flip(1)
        return self.leave(y * F.silu(gate))

    def _scan(self, x: Tensor) -> Tensor:
        """One direction: (b, l, inner)."""
        x = F.silu(self.short(F.pad(x.transpose(1, 2), (self.taps - 1, 0)))).transpose(1, 2).contiguous()
        low, b, c = self.select(x).split([self.rank, self.states, self.states], -1)
        delta = F.softplus(self.step(low))
        return selective_scan(x, delta, -self.log_rates.exp(), b, c) + self.skip * x

    def extra_repr(self) -> str:
        return f"{self.channels}, states={self.states}, bidirectional={self.bidirectional}"
