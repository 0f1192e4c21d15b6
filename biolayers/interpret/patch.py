"""What mutants of one sequence have of their own: a window around each mutation, the rest is the base's."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


class Base:
    """The activation of the unchanged sequence: as a model sees it, and with a row for each position."""

    def __init__(self, columns: Tensor) -> None:
        self.columns = columns  # (1, c, l)

    @property
    def length(self) -> int:
        """How many positions there are."""
        return self.columns.shape[2]

    @cached_property
    def rows(self) -> Tensor:
        """(l, c), contiguous."""
        return self.columns[0].T.contiguous()

    def around(self, start: Tensor, width: int) -> Tensor:
        """The base's part of windows from `start` (p,) on: (w, p, 1, c); over the ends, the last row."""
        places = _places(start, width).clamp(0, self.length - 1)  # (w, p)
        return self.rows.index_select(0, places.flatten()).view(width, len(start), 1, -1)


@dataclass(frozen=True)
class Patch:
    """Mutants of `p` positions with `m` letters each, as windows of one width; outside they equal the base.

    A window may hang over the ends of the sequence; what lies there is zero as a difference, the base's
    clamped row as a value. So it adds nothing to any later layer.

    Args:
        base: The unchanged activation.
        start: (p,) integers: where each position's windows begin.
        data: (w, p, m, c): positions first, so that a shift is a slice and a layer one matrix product.
        is_difference: Whether `data` is counted from the base, or is the value itself.
    """

    base: Base
    start: Tensor
    data: Tensor
    is_difference: bool

    @property
    def width(self) -> int:
        """Of a window."""
        return self.data.shape[0]

    @property
    def count(self) -> int:
        """How many mutants there are."""
        return self.data.shape[1] * self.data.shape[2]

    def difference(self) -> Tensor:
        """The windows, counted from the base."""
        return self.data if self.is_difference else self.data - self.base.around(self.start, self.width)

    def value(self) -> Tensor:
        """The windows as they are."""
        return self.data + self.base.around(self.start, self.width) if self.is_difference else self.data

    def outside(self) -> Tensor:
        """Which places of the windows lie beyond the sequence: (w, p)."""
        places = _places(self.start, self.width)
        return (places < 0) | (places >= self.base.length)

    def settled(self) -> "Patch":
        """The same, with nothing beyond the ends of the sequence, and no wider than it."""
        outside = self.outside()
        if outside.any():
            data = self.data.clone()
            if self.is_difference:
                data[outside] = 0
            else:
                data[outside] = self.base.around(self.start, self.width).expand_as(data)[outside]
            return replace(self, data=data).trimmed()
        return self.trimmed()

    def trimmed(self) -> "Patch":
        """The same, with windows that are no wider than the sequence."""
        if self.width <= self.base.length:
            return self
        return self.moved(torch.zeros_like(self.start), self.base.length)

    def moved(self, start: Tensor, width: int) -> "Patch":
        """The same mutants on other windows; what these leave out is lost."""
        return replace(self, start=start, data=self._placed(start, width))

    def _placed(self, start: Tensor, width: int) -> Tensor:
        p, m, c = self.data.shape[1:]
        if self.is_difference:
            data = self.data.new_zeros(width, p, m, c)
        else:
            data = self.base.around(start, width).expand(width, p, m, c).clone()
        rows = _places(self.start - start, self.width)  # (w, p): the place of each row in its new window
        inside = (rows >= 0) & (rows < width)
        target = (rows * p + torch.arange(p, device=rows.device)).flatten()
        source = self.data.reshape(-1, m * c)
        if not inside.all():
            target, source = target[inside.flatten()], source[inside.flatten()]
        data.view(-1, m * c).index_copy_(0, target, source)
        return data

    def dense(self) -> Tensor:
        """All mutants in full: (n, c, l), mutants of one position next to each other."""
        whole = replace(self, data=self.value(), is_difference=False)
        whole = whole.moved(torch.zeros_like(self.start), self.base.length)
        return whole.data.permute(1, 2, 3, 0).flatten(0, 1).contiguous()


def _places(start: Tensor, width: int) -> Tensor:
    """(w, p): the places that windows cover."""
    return start + torch.arange(width, device=start.device).unsqueeze(1)
