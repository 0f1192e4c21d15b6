"""What trajectories draw: which of a channel's operators acts, and how results average over the draws."""

from collections.abc import Sequence

import torch
from torch import Tensor

from qlayers.evaluate import SHARED
from qlayers.noise.channels import channel, probabilities
from qlayers.noise.maps import check_now

Place = tuple[int, int]  # side and column of a number


def gathered(places: Sequence[Sequence[Place]], shared: Tensor, batched: Tensor) -> Tensor:
    """(1 or b, m, p): numbers at m x p places, without a batch where all are shared."""
    columns = torch.tensor([[column for _, column in row] for row in places], device=shared.device)
    if all(side == SHARED for row in places for side, _ in row):
        return shared[columns].unsqueeze(0)
    sides = torch.tensor([[side == SHARED for side, _ in row] for row in places], device=shared.device)
    both = torch.cat([batched, shared.expand(batched.shape[0], -1)], -1)
    return both[:, columns + batched.shape[1] * sides]


class Chances:
    """How likely each of many flips applies I, X, Y and Z.

    Args:
        flips: (name of the channel, places of its parameters).
    """

    def __init__(self, flips: Sequence[tuple[str, tuple[Place, ...]]]):
        names = dict.fromkeys(name for name, _ in flips)
        self._groups = [(name, [places for own, places in flips if own == name]) for name in names]
        order = [i for name in names for i, (own, _) in enumerate(flips) if own == name]
        self._order = sorted(range(len(order)), key=order.__getitem__)

    def __call__(self, shared: Tensor, batched: Tensor) -> Tensor:
        """(1 or b, C, 4)."""
        found = []
        for name, places in self._groups:
            numbers = gathered(places, shared, batched)
            check_now(name, numbers)
            found.append(probabilities(channel(name), numbers.unbind(-1)))
        rows = max(part.shape[0] for part in found)
        joined = torch.cat([part.expand(rows, -1, -1) for part in found], 1)
        return joined[:, torch.tensor(self._order, device=joined.device)]


def drawn(chances: Tensor, uniform: Tensor) -> Tensor:
    """Which of K outcomes comes: chances (..., K) of any sum, uniform numbers (...) below 1.

    >>> drawn(torch.tensor([0.2, 0.0, 0.8]), torch.tensor([0.1, 0.2, 0.99]).unsqueeze(-1)[:, 0])
    tensor([0, 2, 2])
    """
    until = chances.detach().cumsum(-1)
    return (uniform.unsqueeze(-1) * until[..., -1:] >= until[..., :-1]).sum(-1)


def ratio_of(chances: Tensor, letters: Tensor) -> Tensor | None:
    """(...,): the product of q / q.detach() over the last dimension of letters (..., C).

    q being the chance of what was drawn, this is 1, and the mean over draws of f times it has as derivative
    the sum over outcomes of f dq: unbiased, to any order (the score function of Glynn, 1990, and Williams,
    1992). None where the chances have no slope.
    """
    if not chances.requires_grad:
        return None
    q = chances.expand(*letters.shape, chances.shape[-1]).gather(-1, letters.unsqueeze(-1)).squeeze(-1)
    return (q / q.detach()).prod(-1)


def averaged(values: Tensor, ratio: Tensor | None) -> Tensor:
    """(b, T): the mean over trajectories of values (b, N, T), with the ratios (b, N) of `ratio_of`.

    From each trajectory the mean of the others is taken, times the slope of its ratio: they are independent,
    and the mean of a ratio has no slope, so that this takes away variance and adds no bias.
    """
    if ratio is None:
        return values.mean(1)
    ratio, count = ratio.unsqueeze(-1), values.shape[1]
    others = (values.sum(1, keepdim=True) - values).detach() / max(count - 1, 1)
    return (values * ratio - others * (ratio - 1)).mean(1)
