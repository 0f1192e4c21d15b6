"""Convolutions as ONNX has them: letters compared once, then one `Conv`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biolayers.ops import token_conv1d_max_pool
from shared.export.lowering import Given

_BYTES = 255  # letters that a token of eight bits can name


class _Convolution(nn.Module):
    """`biolayers.ops.token_conv1d` with known weights."""

    def __init__(self, weight: Tensor, bias: Tensor | None, geometry: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("letters", torch.arange(weight.shape[1], dtype=torch.uint8).unsqueeze(-1))
        self._geometry = geometry

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, out, l') of tokens (b, l) uint8."""
        columns = (tokens.unsqueeze(1) == self.letters).to(self.weight.dtype)  # no token is compared as int64
        return F.conv1d(columns, self.weight, self.bias, *self._geometry)


class _Pooled(nn.Module):
    """`biolayers.ops.token_conv1d_max_pool` with known weights."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, geometry: tuple[int, int, int], *options: Any
    ) -> None:
        super().__init__()
        self.convolution, self._geometry, self._options = (
            _Convolution(weight, bias, geometry),
            geometry,
            options,
        )

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Values and winners; the winners, which inference hardly asks for, by the reference."""
        relu, size, step, channels_last = self._options
        y = self.convolution(tokens)
        values = F.max_pool1d(F.relu(y) if relu else y, size, step)
        own = self.convolution
        _, winners = token_conv1d_max_pool.reference(
            tokens, own.weight, own.bias, *self._geometry, *self._options
        )
        return values.transpose(1, 2) if channels_last else values, winners


class _LongConvolution(nn.Module):
    """`biolayers.ops.long_conv` as one convolution with a channel per group, its kernel known or not."""

    def __init__(self, kernel: Tensor | None, offset: int) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel)
        self._offset = offset

    def forward(self, x: Tensor, kernel: Tensor | None = None) -> Tensor:
        """(b, c, l) of x (b, c, l) and kernel (c, k)."""
        taps = self.kernel if kernel is None else kernel
        taps = taps[:, : x.shape[2] + self._offset]  # later ones look before the sequence
        padded = F.pad(x, (taps.shape[1] - 1 - min(self._offset, taps.shape[1] - 1), self._offset))
        found = F.conv1d(padded, taps.flip(1).unsqueeze(1), groups=taps.shape[0])
        return found[..., -x.shape[2] :]


def lower_token_conv1d(
    tokens: Any, weight: Any, bias: Any, stride: int, padding: int, dilation: int
) -> nn.Module | None:
    """`biolayers::token_conv1d`; None where the weights are not known."""
    if not _known(tokens, weight, bias):
        return None
    return _Convolution(weight, bias, (stride, padding, dilation))


def lower_max_pool(
    tokens: Any, weight: Any, bias: Any, stride: int, padding: int, dilation: int, *options: Any
) -> nn.Module | None:
    """`biolayers::token_conv1d_max_pool`; None where the weights are not known."""
    if not _known(tokens, weight, bias):
        return None
    return _Pooled(weight, bias, (stride, padding, dilation), *options)


def lower_long_conv(x: Any, kernel: Any, offset: int) -> nn.Module | None:
    """`biolayers::long_conv`; None where x is known, which no model has."""
    if isinstance(x, Tensor):
        return None
    return _LongConvolution(kernel if isinstance(kernel, Tensor) else None, offset)


def _known(tokens: Any, weight: Any, bias: Any) -> bool:
    fits = isinstance(weight, Tensor) and weight.shape[1] <= _BYTES
    return fits and isinstance(tokens, Given) and not isinstance(bias, Given)
