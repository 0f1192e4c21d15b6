"""Long convolution with gates: every position sees the whole sequence, at the cost of a Fourier transform."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from biolayers.ops import long_conv
from shared.errors import UserError

_SHORT = 3  # taps of the convolution before the gates
_FASTEST, _SLOWEST = 0.3, 1.5  # of the sequence's length: where windows have fallen to 1 %


class LongConv(nn.Module):
    """The Hyena operator of order two: gate, convolve with a filter as long as the sequence, gate again.

    With p, q, v three projections of the input, each smoothed by a short convolution of its own channels:
    y = out(q * (h * v p + bias v p)), where `*` with h is a convolution. The filter h is not stored: a small
    network with sines makes it from the position, under windows that decay at a rate for each channel, so the
    number of parameters does not depend on the length (Poli et al., "Hyena hierarchy", ICML 2023).

    Args:
        channels: Of input and output.
        causal: Whether an output sees only positions up to its own; otherwise the filter reaches both ways.
        length: The length that positions are counted by: at another, the filter stays what it is. Take the
            length of training.
        features: Sines and cosines of the position that the network gets, in pairs.
        width: Of the network's two inner layers.
        frequency: Of the network's sines.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        UserError: A size is below 1.

    Example:
        >>> import torch
        >>> from biolayers.layers import LongConv
        >>> LongConv(8, length=100)(torch.randn(2, 8, 100)).shape
        torch.Size([2, 8, 100])
    """

    rates: Tensor

    def __init__(
        self,
        channels: int,
        *,
        causal: bool = False,
        length: int = 1024,
        features: int = 8,
        width: int = 32,
        frequency: float = 10.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        sizes = {"channels": channels, "length": length, "features": features, "width": width}
        for name, size in sizes.items():
            if size < 1:
                raise UserError(f"LongConv: expected {name} of at least 1, received {size}")
        options = {"device": device, "dtype": dtype}
        self.channels, self.causal, self.length = channels, causal, length
        self.features, self.frequency = features, frequency
        self.project = nn.Conv1d(channels, 3 * channels, 1, **options)
        self.short = nn.Conv1d(3 * channels, 3 * channels, _SHORT, groups=3 * channels, **options)
        self.filter = nn.ModuleList(
            [
                nn.Linear(1 + 2 * features, width, **options),
                nn.Linear(width, width, **options),
                nn.Linear(width, channels, bias=False, **options),
            ]
        )
        self.bias = nn.Parameter(torch.zeros(channels, 1, **options))
        self.out = nn.Conv1d(channels, channels, 1, **options)
        rates = math.log(100) / torch.linspace(_FASTEST, _SLOWEST, channels, **options)
        self.register_buffer("rates", rates)

    def forward(self, x: Float[Tensor, "b channels l"]) -> Float[Tensor, "b channels l"]:
        """Apply the layer to (b, channels, l), of any length."""
        front = _SHORT - 1 if self.causal else _SHORT // 2
        smooth = self.short(nn.functional.pad(self.project(x), (front, _SHORT - 1 - front)))
        p, q, v = smooth.chunk(3, 1)
        v = v * p
        offset = 0 if self.causal else x.shape[2] - 1
        return self.out(q * (long_conv(v, self.kernel(x.shape[2]), offset) + self.bias * v))

    def kernel(self, length: int) -> Float[Tensor, "channels k"]:
        """The filter for sequences of this length: (channels, l), or (channels, 2 l - 1) if not causal."""
        first = 0 if self.causal else 1 - length
        place = torch.arange(first, length, device=self.bias.device, dtype=self.bias.dtype) / self.length
        turns = torch.arange(1, self.features + 1, device=place.device, dtype=place.dtype) * math.pi
        waves = place.unsqueeze(1) * turns  # (k, features)
        inner = torch.cat([place.unsqueeze(1), waves.sin(), waves.cos()], 1)
        for layer in self.filter[:-1]:
            inner = (self.frequency * layer(inner)).sin()
        window = torch.exp(-place.abs() * self.rates.unsqueeze(1))  # (channels, k)
        return self.filter[-1](inner).T * window / math.sqrt(self.length)

    def extra_repr(self) -> str:
        return f"{self.channels}, causal={self.causal}, length={self.length}"
