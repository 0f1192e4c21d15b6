"""Ways through a map that holds both strands: any module on each of them, around it, and out of it."""

import torch
from torch import Tensor, nn

from shared.errors import UserError

_MODES = ("mean", "max", "both")
_POOLS = (None, "mean", "max")


class RCTied(nn.Module):
    """Apply one module to each strand, read in its own direction: makes any module equivariant.

    The two strands are two members of the batch of one call, so the module's weights are shared; batch
    statistics, if it has any, are shared too. Unlike `RCConv1d` it does not mix the strands. This is the
    wrapper by which Caduceus (Schiff et al., 2024) makes a sequence model equivariant.

    Args:
        module: from (b, c, l) to (b, c', l'); with it the layer maps (b, 2c, l) to (b, 2c', l').

    Raises:
        UserError: in a call: an odd number of channels.

    Example:
        >>> import torch
        >>> from biolayers.layers import RCTied
        >>> layer, x = RCTied(torch.nn.Conv1d(3, 5, 4)), torch.randn(2, 6, 20)
        >>> torch.allclose(layer(x.flip(1, 2)), layer(x).flip(1, 2), atol=1e-6)
        True
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:  # (b, 2c, l) -> (b, 2c', l')
        given, other = strands(x, "RCTied")
        axes = tuple(range(1, x.ndim))
        given, other = self.module(torch.cat((given, other.flip(axes)))).chunk(2)
        return torch.cat((given, other.flip(tuple(range(1, other.ndim)))), 1)


class RCResidual(nn.Sequential):
    """Add what the modules in it make of a map to that map, cropped at both ends alike where it is shorter.

    Args:
        modules: run in turn, as in `torch.nn.Sequential`; equivariant ones keep the sum equivariant.

    Raises:
        UserError: in a call: the modules changed the channels, or shortened the map by an odd number.

    Example:
        >>> import torch
        >>> from biolayers.layers import RCConv1d, RCResidual
        >>> block = RCResidual(RCConv1d(3, 3, 5), torch.nn.ReLU())
        >>> block(torch.randn(2, 6, 20)).shape
        torch.Size([2, 6, 16])
    """

    def forward(self, x: Tensor) -> Tensor:  # (b, c, l) -> (b, c, l')
        y = super().forward(x)
        lost = x.shape[-1] - y.shape[-1]
        if lost < 0 or lost % 2 or x.shape[1] != y.shape[1]:
            raise UserError(
                f"RCResidual: expected modules that keep the channels of {tuple(x.shape)} and shorten it by "
                f"an even number, received {tuple(y.shape)}; use an odd kernel_size"
            )
        return x[..., lost // 2 : x.shape[-1] - lost // 2] + y


class RCInvariant(nn.Module):
    """Combine the two strands of each feature, so that the result does not depend on the strand.

    Args:
        mode: "mean" or "max" over the two strands, or "both": the means, then the maxima.
        pool: "mean" or "max" over positions, after the strands are combined. None keeps positions: those of
            the reverse complement then come in reversed order, values unchanged.

    Raises:
        UserError: an option is unknown; in a call: an odd number of channels, or nothing to pool.

    Example:
        >>> import torch
        >>> from biolayers.layers import RCInvariant
        >>> head, x = RCInvariant("max", pool="mean"), torch.randn(2, 6, 20)
        >>> torch.allclose(head(x.flip(1, 2)), head(x), atol=1e-6), head(x).shape
        (True, torch.Size([2, 3]))
    """

    def __init__(self, mode: str = "mean", *, pool: str | None = None) -> None:
        super().__init__()
        for name, value, known in (("mode", mode, _MODES), ("pool", pool, _POOLS)):
            if value not in known:
                raise UserError(
                    f"RCInvariant: expected {name} to be one of {', '.join(map(repr, known))}, "
                    f"received {value!r}"
                )
        self.mode, self.pool = mode, pool

    def forward(self, x: Tensor) -> Tensor:  # (b, 2c) or (b, 2c, l) -> (b, c), (b, c, l); twice c for "both"
        given, other = strands(x, "RCInvariant")
        other = other.flip(1)
        mean, largest = (given + other) / 2, torch.maximum(given, other)
        y = {"mean": mean, "max": largest}.get(self.mode)
        y = torch.cat((mean, largest), 1) if y is None else y
        if self.pool is None:
            return y
        if y.ndim != 3 or y.shape[2] == 0:
            raise UserError(
                f"RCInvariant: expected positions to pool, (b, 2c, l), received {tuple(x.shape)}; "
                "use pool=None"
            )
        return y.mean(2) if self.pool == "mean" else y.amax(2)

    def extra_repr(self) -> str:
        return repr(self.mode) + (f", pool={self.pool!r}" if self.pool else "")


def strands(x: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """The channels of the given strand and those of the other one, whose features come in reversed order.

    Raises:
        UserError: the number of channels is odd.
    """
    if x.ndim not in (2, 3) or x.shape[1] % 2:
        raise UserError(
            f"{name}: expected both strands of each feature, (b, 2c) or (b, 2c, l), received {tuple(x.shape)}"
        )
    given, other = x.chunk(2, 1)
    return given, other
