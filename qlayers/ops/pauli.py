"""Pauli words on state vectors, in plain PyTorch and real arithmetic.

A Pauli word on n wires is a pair of masks (x, z): P = i^|x & z| X^x Z^z, a product of I, X, Y (both bits) and
Z over the wires; wire w is bit n - 1 - w, so wire 0 is the most significant one. On basis states
P|k> = i^|x & z| (-1)^|z & k| |k xor x>. A state is two real tensors (re, im) of shape (b, 2^n).

Nothing here reads the value of a mask, so every transform and compiler can trace it, and a GPU never waits.
"""

import torch
from torch import Tensor


def popcount(masks: Tensor) -> Tensor:
    """The number of set bits of each (non-negative) int64."""
    counts = masks - ((masks >> 1) & 0x5555555555555555)
    counts = (counts & 0x3333333333333333) + ((counts >> 2) & 0x3333333333333333)
    counts = (counts + (counts >> 4)) & 0x0F0F0F0F0F0F0F0F
    for shift in (8, 16, 32):
        counts = counts + (counts >> shift)
    return counts & 0x7F


def apply_word(re: Tensor, im: Tensor, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """P|state> for the word with masks `x` and `z` (0-dimensional int64)."""
    source = torch.arange(re.shape[-1], device=re.device) ^ x  # (N,): which amplitude arrives at each place
    sign = (1 - 2 * (popcount(source & z) & 1)).to(re.dtype)  # (N,)
    quarter = popcount(x & z) & 3  # the power of i
    cosine = ((quarter == 0).to(re.dtype) - (quarter == 2).to(re.dtype)) * sign
    sine = ((quarter == 1).to(re.dtype) - (quarter == 3).to(re.dtype)) * sign
    from_re, from_im = re.index_select(-1, source), im.index_select(-1, source)
    return cosine * from_re - sine * from_im, cosine * from_im + sine * from_re


def rotate(re: Tensor, im: Tensor, x: Tensor, z: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """exp(-i angle/2 P)|state> = cos(angle/2)|state> - i sin(angle/2) P|state>; `angle` is (b,)."""
    p_re, p_im = apply_word(re, im, x, z)
    c, s = torch.cos(angle / 2).unsqueeze(-1), torch.sin(angle / 2).unsqueeze(-1)
    return c * re + s * p_im, c * im - s * p_re


def zero_state(batch: int, wires: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """|0...0> for each sample, with the dtype and device of `like`."""
    basis = torch.arange(2**wires, device=like.device)
    re = (basis == 0).to(like.dtype).expand(batch, -1)
    return re, torch.zeros_like(re)
