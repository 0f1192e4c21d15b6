"""Numbers with infinitesimal parts, on tensors: the arithmetic of mixed derivatives.

A jet of order r is x = sum_B x_B eps^B over the subsets B of r directions, with eps_i^2 = 0 and eps^B the
product of its members: a dual number, r times nested. f(x) has the coefficient D_v1 ... D_vr f at the full
subset when x = x_0 + sum_i eps_i v_i. As a tensor a jet has 2^r rows; bit i of the row's number says whether
eps_i is in the subset, so the second half of the rows is the infinitesimal part of the last direction.
"""

import torch
from torch import Tensor


def halves(jet: Tensor) -> tuple[Tensor, Tensor]:
    """Value and slope along the last direction, both jets of one order less."""
    middle = jet.shape[0] // 2
    return jet[:middle], jet[middle:]


def times(a: Tensor, b: Tensor) -> Tensor:
    """The product of two jets: (c, ...) and (c, ...).

    Example:
        >>> times(torch.tensor([2.0, 1.0]), torch.tensor([3.0, 0.0]))  # (2 + eps) 3
        tensor([6., 3.])
    """
    if a.shape[0] == 1:
        return a * b
    (a0, a1), (b0, b1) = halves(a), halves(b)
    return torch.cat([times(a0, b0), times(a0, b1) + times(a1, b0)])


def cos_sin(jet: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of a jet."""
    if jet.shape[0] == 1:
        return torch.cos(jet), torch.sin(jet)
    value, slope = halves(jet)
    c, s = cos_sin(value)
    return torch.cat([c, -times(slope, s)]), torch.cat([s, times(slope, c)])
