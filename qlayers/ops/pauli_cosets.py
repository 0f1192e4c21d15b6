"""Rotations and channels on vectors of Pauli coefficients, in plain PyTorch.

A vector is (b, 4^n), number x 2^n + z being the expectation value of the word with masks x and z (see
`qlayers.ops.pauli`). Nothing here reads the value of a mask, so every transform and compiler can trace it.
"""

import torch
from torch import Tensor

from qlayers.ops.pauli import popcount


def turned(values: Tensor, angle: Tensor, own: Tensor, form: int, wires: int) -> Tensor:
    """exp(-i t/2 P): r_Q becomes cos(t) r_Q + sin(t) r_(-iQP) for words Q that anticommute with P."""
    apart, partner = _partners(values, own, wires)
    return torch.where(apart, torch.cos(angle) * values + torch.sin(angle) * partner, values)


def turn_vjp(before: Tensor, costate: Tensor, angle: Tensor, own: Tensor, form: int, wires: int) -> tuple:
    """The slope of a rotation's angle, and the costate before it."""
    apart, partner = _partners(before, own, wires)
    slope = torch.where(apart, torch.cos(angle) * partner - torch.sin(angle) * before, 0) * costate
    return slope.sum(-1, keepdim=True), turned(costate, -angle, own, form, wires)


def _partners(values: Tensor, own: Tensor, wires: int) -> tuple[Tensor, Tensor]:
    """Which words Q anticommute with the first generator P, (4^n,), and r_(-iQP) for those, (b, 4^n)."""
    index, (x, z, _) = torch.arange(4**wires, device=values.device), own[0].unbind(0)
    apart, minus = _product(index, x, z, wires)
    return apart == 1, (1 - 2 * minus).to(values.dtype) * values.index_select(-1, index ^ ((x << wires) | z))


def mapped(values: Tensor, entries: Tensor, own: Tensor, form: int, wires: int) -> Tensor:
    """A channel: r_Q becomes the sum over e of M[letters of Q, e] r_(Q with the letters e)."""
    letter, source, signs = _cosets(own, abs(form), wires)
    if form < 0:
        return values * entries.index_select(-1, letter)
    size = len(source)
    rows = entries.reshape(-1, size, size).index_select(1, letter)  # (b, 4^n, 4^k)
    moved = values[:, source] * signs.to(values.dtype)  # (b, 4^k, 4^n)
    return (rows.mT * moved).sum(1)


def map_vjp(before: Tensor, costate: Tensor, entries: Tensor, own: Tensor, form: int, wires: int) -> tuple:
    """The slopes of a channel's numbers, and the costate before it, by the transposed map."""
    letter, source, signs = _cosets(own, abs(form), wires)
    size = len(source)
    if form < 0:
        slopes = entries.new_zeros(entries.shape).index_add(-1, letter, before * costate)
        return slopes, mapped(costate, entries, own, form, wires)
    parts = costate.unsqueeze(1) * before[:, source] * signs.to(before.dtype)  # (b, 4^k, 4^n)
    slopes = entries.new_zeros(entries.shape[0], size, size).index_add(-1, letter, parts).mT  # (b, to, from)
    transposed = entries.reshape(-1, size, size).mT.flatten(1)
    return slopes.flatten(1), mapped(costate, transposed, own, form, wires)


def _cosets(own: Tensor, k: int, wires: int) -> tuple[Tensor, Tensor, Tensor]:
    """Every word Q is letters on the channel's wires, in the sense of its generators, times a rest.

    Returns:
        (4^n,) the number of the letters of Q, (4^k, 4^n) which word has the letters e and the same rest, and
        the sign of r there.
    """
    index = torch.arange(4**wires, device=own.device)
    letter = torch.zeros_like(index)
    for x, z in own.unflatten(0, (k, 2)).unbind(0):
        has_z, has_x = (_product(index, word[0], word[1], wires)[0] for word in (x, z))
        letter = 4 * letter + 3 * has_z + has_x - 2 * has_x * has_z
    masks, signs = _elements(own, k, wires)
    rest = index ^ masks[letter]
    at_x, at_z = masks >> wires, masks & (2**wires - 1)
    along = signs.unsqueeze(-1) * (1 - 2 * _product(rest, at_x.unsqueeze(-1), at_z.unsqueeze(-1), wires)[1])
    return letter, rest ^ masks.unsqueeze(-1), along * along.gather(0, letter.unsqueeze(0))


def _elements(own: Tensor, k: int, wires: int) -> tuple[Tensor, Tensor]:
    """(4^k,): the words that stand for I, X, Y and Z of k wires as numbers x 2^n + z, and their signs."""
    numbers, signs = torch.zeros_like(own[:1, 0]), torch.ones_like(own[:1, 0])
    for x, z in own.unflatten(0, (k, 2)).unbind(0):
        at_x, at_z = ((word[0] << wires) | word[1] for word in (x, z))
        minus = _product(at_x, z[0], z[1], wires)[1]  # of -iXZ = -Y
        letters = torch.stack([torch.zeros_like(at_x), at_x, at_x ^ at_z, at_z])
        of_letters = torch.stack([torch.ones_like(at_x), x[2], x[2] * z[2] * (2 * minus - 1), z[2]])
        before, after = numbers.repeat_interleave(4), letters.repeat(len(numbers))
        minus = _product(before, after >> wires, after & (2**wires - 1), wires)[1]
        signs = signs.repeat_interleave(4) * of_letters.repeat(len(signs)) * (1 - 2 * minus)
        numbers = before ^ after
    return numbers, signs


def _product(q: Tensor, x: Tensor, z: Tensor, wires: int) -> tuple[Tensor, Tensor]:
    """Whether words Q, as numbers, anticommute with P, and the sign of -iQP if so, else of QP, as bits.

    QP is i^k times a word, where a wire on which they anticommute adds 1 to k if it has ZX, XY or YZ (of Q
    and P, so that their product is i times a letter), and 3 if it has XZ, YX or ZY.
    """
    qx, qz = q >> wires, q & (2**wires - 1)
    differ = (qx & z) ^ (qz & x)
    against = (x & ~z & qx & qz) | (z & ~x & qx & ~qz) | (x & z & qz & ~qx)
    count = popcount(differ)
    return count & 1, ((count >> 1) + popcount(against)) & 1
