"""A stack of dilated convolutions with residual connections."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import UserError

Conv = Callable[..., nn.Module]  # (in, out, k, padding=, dilation=) -> module on (b, c, l)
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}


class DilatedResidualTower(nn.Module):
    """Add to a map what ever wider convolutions make of it: x + activation(norm(conv(x))), layer by layer.

    The dilation grows by a factor from layer to layer, and the receptive field with it: 9 layers with
    dilations 2, 4, ..., 512 are the body of BPNet (Avsec et al., Nature Genetics 53, 2021).

    Args:
        channels: of the map (pairs of channels with `conv=RCConv1d`).
        layers: how many convolutions.
        kernel_size: taps, odd.
        first_dilation: of the first layer.
        growth: factor from one dilation to the next.
        padding: "same" keeps the positions, with zeros beyond the ends; "valid" uses real positions alone,
            and the map loses `reach` positions at either end.
        norm: None, or a class such as `torch.nn.BatchNorm1d`, made with the number of channels.
        activation: "relu", "gelu" or "silu".
        dropout: share of each layer's addend that training drops, or a module that does it (`RCDropout`).
        conv: the class of the convolutions: `torch.nn.Conv1d`, or `biolayers.layers.RCConv1d`, with
            which (and `RCBatchNorm1d`) the tower is equivariant.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        UserError: an option is out of range; in a call: a map that is shorter than the convolutions reach.

    Example:
        >>> import torch
        >>> from biolayers.layers import DilatedResidualTower
        >>> tower = DilatedResidualTower(8, layers=3, padding="valid")
        >>> tower.reach, tower(torch.randn(2, 8, 100)).shape
        (14, torch.Size([2, 8, 72]))
    """

    def __init__(
        self,
        channels: int,
        *,
        layers: int = 9,
        kernel_size: int = 3,
        first_dilation: int = 2,
        growth: int = 2,
        padding: str = "same",
        norm: Callable[..., nn.Module] | None = None,
        activation: str = "relu",
        dropout: float | nn.Module = 0.0,
        conv: Conv = nn.Conv1d,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = {"channels": channels, "layers": layers, "first_dilation": first_dilation, "growth": growth}
        for name, size in sizes.items():
            if size < 1:
                raise UserError(f"DilatedResidualTower: expected {name} of at least 1, received {size}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(f"DilatedResidualTower: expected an odd kernel_size, received {kernel_size}")
        if padding not in ("same", "valid") or activation not in _ACTIVATIONS:
            raise UserError(
                'DilatedResidualTower: expected padding "same" or "valid" and activation '
                f"{', '.join(map(repr, _ACTIVATIONS))}, received {padding!r} and {activation!r}"
            )
        self.padding, self.activation, self.kernel_size = padding, activation, kernel_size
        self.dilations = [first_dilation * growth**i for i in range(layers)]
        room = {"device": device, "dtype": dtype}
        self.convs = nn.ModuleList(
            conv(channels, channels, kernel_size, padding=padding, dilation=dilation, **room)
            for dilation in self.dilations
        )
        self.norms = nn.ModuleList(
            nn.Identity() if norm is None else norm(channels, **room) for _ in self.dilations
        )
        self.dropout = dropout if isinstance(dropout, nn.Module) else nn.Dropout(dropout)

    @property
    def reach(self) -> int:
        """How many positions to either side an output position sees."""
        return (self.kernel_size - 1) // 2 * sum(self.dilations)

    def forward(self, x: Tensor) -> Tensor:  # (b, c, l) -> (b, c, l) or (b, c, l - 2 reach)
        if self.padding == "valid" and x.shape[-1] <= 2 * self.reach:
            raise UserError(
                f"DilatedResidualTower: expected more than {2 * self.reach} positions, received "
                f'{x.shape[-1]}; use longer sequences, fewer layers, or padding "same"'
            )
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = self.dropout(_ACTIVATIONS[self.activation](norm(conv(x))))
            lost = (x.shape[-1] - y.shape[-1]) // 2
            x = x[..., lost : x.shape[-1] - lost] + y
        return x

    def extra_repr(self) -> str:
        return f"dilations={self.dilations}, padding={self.padding!r}, activation={self.activation!r}"
