"""Filters of which both strands are used: what `RCTokenConv1d` and `RCConv1d` have in common."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biolayers.ops.rc_token_conv1d import both_strands, check_windows
from shared.errors import UserError


class PairedFilters(nn.Module):
    """Parameters of a convolution whose filters are applied as they are and reverse-complemented.

    `weight` (filters, columns, k) and `bias` (filters,) start as those of `torch.nn.Conv1d` do.

    Args:
        columns: input channels of a filter.
        filters: how many filters; the output has twice as many channels.
        kernel_size: taps per filter.
        stride: steps between output positions.
        padding: empty columns at each end; `"valid"` for none, `"same"` for an output as long as the input.
        dilation: steps between taps.
        bias: whether a learnable bias is added, the same on both strands.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        UserError: a size is out of range, or `"same"` would need different padding at the two ends.
    """

    def __init__(
        self,
        columns: int,
        filters: int,
        kernel_size: int,
        stride: int,
        padding: int | str,
        dilation: int,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": columns, "out_channels": filters, "kernel_size": kernel_size}
        for name, size in (sizes | {"stride": stride, "dilation": dilation}).items():
            if size < 1:
                raise UserError(f"{self._name}: expected {name} of at least 1, received {size}")
        self.kernel_size, self.stride, self.dilation = kernel_size, stride, dilation
        self.padding = self._padding(padding)
        self.weight = nn.Parameter(torch.empty(filters, columns, kernel_size, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(filters, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias from U(-1/sqrt(n), 1/sqrt(n)), n = columns * kernel_size, as `Conv1d`."""
        bound = 1 / math.sqrt(self.weight.shape[1] * self.kernel_size)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    @property
    def geometry(self) -> tuple[int, int, int]:
        """Stride, padding and dilation."""
        return self.stride, self.padding, self.dilation

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Columns (b, columns, l) to (b, 2 filters, l'), with parameters that stand in for the layer's.

        Raises:
            UserError: the columns are of another number, or too short, or the stride leaves a rest.
        """
        self._check(x)
        return F.conv1d(x, *both_of(weight, bias), *self.geometry)

    def _check(self, columns: Tensor) -> None:
        if columns.ndim != 3 or columns.shape[1] != self.weight.shape[1]:
            raise UserError(
                f"{self._name}: expected (b, {self.weight.shape[1]}, l), received {tuple(columns.shape)}"
            )
        shortest = self.dilation * (self.kernel_size - 1) + 1 - 2 * self.padding
        if columns.shape[2] < shortest:
            raise UserError(
                f"{self._name}: expected at least {shortest} positions for {self.kernel_size} taps, "
                f"received {columns.shape[2]}; use fewer taps or more padding"
            )
        check_windows(
            self._name, columns.shape[2], self.kernel_size, self.stride, self.padding, self.dilation
        )

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _padding(self, padding: int | str) -> int:
        reach = self.dilation * (self.kernel_size - 1)
        if padding == "valid":
            return 0
        if padding == "same" and self.stride == 1 and reach % 2 == 0:
            return reach // 2
        if padding == "same":
            raise UserError(
                f'{self._name}: expected stride 1 and an odd kernel_size with padding "same", so that both '
                f"ends get as much, received stride {self.stride}, kernel_size {self.kernel_size} and "
                f"dilation {self.dilation}; give padding as a number"
            )
        if isinstance(padding, str) or padding < 0:
            raise UserError(
                f'{self._name}: expected padding of at least 0, "same" or "valid", received {padding!r}'
            )
        return padding

    def extra_repr(self) -> str:
        filters, columns, _ = self.weight.shape
        text = f"{columns} -> 2 x {filters}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding}" if self.padding else ""
        text += f", dilation={self.dilation}" if self.dilation != 1 else ""
        return text if self.bias is not None else text + ", bias=False"


def both_of(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Weight (2 filters, ...) and bias (2 filters,) of the two strands, if there is a bias."""
    return both_strands(weight), None if bias is None else both_strands(bias)
