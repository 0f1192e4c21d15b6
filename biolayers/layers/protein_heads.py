"""Heads on the features of residues: one prediction for each, or for each pair."""

import torch
from torch import Tensor, nn

from shared.errors import UserError

MASKED = -1e4  # the logit of pairs that are left out: a probability of zero, finite in half precision too


class PerResidueHead(nn.Module):
    """Predict something for each position: secondary structure, disorder, a binding site.

    Args:
        in_channels: of the features.
        classes: outputs per position.
        hidden: channels of a hidden layer with GELU; None for a linear head.
        kernel_size: positions that a prediction sees, odd.
        dropout: share of the features that training drops.
        channels_last: whether features and result are (b, l, c) instead of (b, c, l).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        UserError: a size is out of range; in a call: another shape.

    Example:
        >>> import torch
        >>> from biolayers.layers import PerResidueHead
        >>> PerResidueHead(16, 3)(torch.randn(2, 16, 50)).shape  # logits, as cross_entropy wants them
        torch.Size([2, 3, 50])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        hidden: int | None = None,
        kernel_size: int = 1,
        dropout: float = 0.0,
        channels_last: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(in_channels, classes, hidden or 1, kernel_size) < 1 or kernel_size % 2 == 0:
            raise UserError(
                "PerResidueHead: expected sizes of at least 1 and an odd kernel_size, received in_channels "
                f"{in_channels}, classes {classes}, hidden {hidden}, kernel_size {kernel_size}"
            )
        room = {"device": device, "dtype": dtype}
        first = nn.Conv1d(in_channels, hidden or classes, kernel_size, padding=kernel_size // 2, **room)
        parts = [nn.Dropout(dropout), first]
        if hidden is not None:
            parts += [nn.GELU(), nn.Dropout(dropout), nn.Conv1d(hidden, classes, 1, **room)]
        self.body = nn.Sequential(*parts)
        self.in_channels, self.channels_last = in_channels, channels_last

    def forward(self, x: Tensor) -> Tensor:  # (b, c, l) -> (b, classes, l)
        x = features(x, self.in_channels, channels_last=self.channels_last, name="PerResidueHead")
        y = self.body(x)
        return y.transpose(1, 2) if self.channels_last else y


class ContactMapHead(nn.Module):
    """Predict for each pair of positions whether they touch: a symmetric map of logits.

    Features are projected to queries and keys of several heads, whose scaled products are made symmetric,
    corrected for what a position has in common with all others (`average_product_correction`), and weighed by
    a logistic regression: what Rao et al. (2021), "Transformer protein language models are unsupervised
    structure learners", do with the attention maps of a language model. `from_maps` takes such maps instead.

    Args:
        in_channels: of the features.
        heads: maps that are weighed.
        head_dim: size of a query and of a key.
        apc: whether the average product correction is applied.
        separation: pairs nearer than this along the sequence get a logit of -10,000.
        channels_last: whether features are (b, l, c) instead of (b, c, l).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        UserError: a size is out of range; in a call: another shape.

    Example:
        >>> import torch
        >>> from biolayers.layers import ContactMapHead
        >>> logits = ContactMapHead(16)(torch.randn(2, 16, 50))
        >>> logits.shape, torch.equal(logits, logits.mT)
        (torch.Size([2, 50, 50]), True)
    """

    def __init__(
        self,
        in_channels: int,
        *,
        heads: int = 8,
        head_dim: int = 32,
        apc: bool = True,
        separation: int = 6,
        channels_last: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(in_channels, heads, head_dim) < 1 or separation < 0:
            raise UserError(
                "ContactMapHead: expected in_channels, heads and head_dim of at least 1 and separation of at "
                f"least 0, received {in_channels}, {heads}, {head_dim} and {separation}"
            )
        room = {"device": device, "dtype": dtype}
        self.query = nn.Conv1d(in_channels, heads * head_dim, 1, **room)
        self.key = nn.Conv1d(in_channels, heads * head_dim, 1, **room)
        self.weigh = nn.Linear(heads, 1, **room)
        self.in_channels, self.heads, self.head_dim = in_channels, heads, head_dim
        self.apc, self.separation, self.channels_last = apc, separation, channels_last

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (b, c, l) to logits (b, l, l); positions where `mask` (b, l) is False touch nothing."""
        x = features(x, self.in_channels, channels_last=self.channels_last, name="ContactMapHead")
        query, key = (
            part(x).unflatten(1, (self.heads, self.head_dim)).mT for part in (self.query, self.key)
        )  # (b, heads, l, head_dim)
        return self.from_maps(query @ key.mT / self.head_dim**0.5, mask)

    def from_maps(self, maps: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps (b, heads, l, l), of attention for one, to logits (b, l, l).

        Raises:
            UserError: the maps are not square, or are of another number.
        """
        if maps.ndim != 4 or maps.shape[1] != self.heads or maps.shape[2] != maps.shape[3]:
            raise UserError(
                f"ContactMapHead: expected maps (b, {self.heads}, l, l), received {tuple(maps.shape)}"
            )
        if mask is not None and (mask.dtype != torch.bool or mask.shape != (maps.shape[0], maps.shape[2])):
            raise UserError(
                f"ContactMapHead: expected a mask of bool {(maps.shape[0], maps.shape[2])}, received "
                f"{mask.dtype} {tuple(mask.shape)}"
            )
        maps = maps + maps.mT
        if self.apc:
            maps = average_product_correction(maps, mask)
        logits = self.weigh(maps.movedim(1, -1))[..., 0]
        logits = (logits + logits.mT) / 2  # symmetric to the last bit
        place = torch.arange(maps.shape[2], device=maps.device)
        wanted = (place.unsqueeze(-1) - place).abs() >= self.separation  # (l, l)
        if mask is not None:
            wanted = wanted & mask.unsqueeze(1) & mask.unsqueeze(2)
        return logits.masked_fill(~wanted, MASKED)


def average_product_correction(maps: Tensor, mask: Tensor | None = None) -> Tensor:
    """Take from each score what its row and column explain: s[i, j] - s[i, .] s[., j] / s[., .].

    A dot is the sum over an index. This is the correction of Dunn, Wahl and Gloor (2008), "Mutual information
    without the influence of phylogeny or entropy dramatically improves residue contact prediction". Where the
    sum of all scores is zero, nothing is taken.

    Args:
        maps: (..., l, l).
        mask: (b, l) bool for maps (b, ..., l, l): pairs with a position that is False are zeros and do not
            count.

    Example:
        >>> average_product_correction(torch.tensor([[1.0, 1.0], [1.0, 5.0]]))
        tensor([[ 0.5000, -0.5000],
                [-0.5000,  0.5000]])
    """
    if mask is not None:
        shape = (mask.shape[0], *(1,) * (maps.ndim - 3), mask.shape[1])
        rows = mask.reshape(shape)
        maps = maps.masked_fill(~(rows.unsqueeze(-1) & rows.unsqueeze(-2)), 0)
    total = maps.sum((-2, -1), keepdim=True)
    common = maps.sum(-1, keepdim=True) * maps.sum(-2, keepdim=True)
    return maps - torch.where(total == 0, 0.0, common / torch.where(total == 0, 1.0, total))


def features(x: Tensor, channels: int, *, channels_last: bool, name: str) -> Tensor:
    """Features as (b, c, l).

    Raises:
        UserError: they have another shape.
    """
    expected = f"(b, l, {channels})" if channels_last else f"(b, {channels}, l)"
    if x.ndim != 3 or x.shape[2 if channels_last else 1] != channels:
        raise UserError(f"{name}: expected features {expected}, received {tuple(x.shape)}")
    return x.transpose(1, 2) if channels_last else x
