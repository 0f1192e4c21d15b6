"""Forward mode of the states that a circuit leads to, and with it their second derivatives.

exp(-i theta/2 P) is linear in cos(theta/2) and sin(theta/2), so its derivative is half of the rotation by
theta + pi. A run of s rotations and its derivative along a direction are thereby one evolution of a batch of
1 + s states. A long circuit is cut into such blocks, through which value and slope go side by side: the cost
is that of s + 2 circuits, and no state is kept (but for a gradient of the slope, which is taken through it).
"""

import math

import torch
from torch import Tensor

from qlayers.ops.pauli import zero_state
from qlayers.ops.pauli_evolve import pauli_evolve, pauli_evolve_vjp
from qlayers.ops.pauli_expval import _angles
from shared.derive import reference_vjp

_NUMBERS = 2**20  # of the states of one block, as far as this goes
_LEAST, _MOST = 4, 16  # rotations in a block: fewer are too many calls, more too much arithmetic


@pauli_evolve.tangent
def _(args, tangents):
    return _slope(*args, *map(_or_zeros, tangents[:3], args[:3]))


@pauli_evolve_vjp.derivative(saves=lambda *args: args)
def _(saved, needs, *along):
    *args, grad = saved
    of_args = _product_along(args, along, needs[:3], grad) if any(needs[:3]) else (None, None, None)
    return *of_args, None, None, _slope(*args, *along) if needs[5] else None


@pauli_evolve_vjp.tangent
def _(args, tangents):
    *args, grad = args
    found = []
    if any(along is not None for along in tangents[:3]):
        along = map(_or_zeros, tangents[:3], args[:3])
        found.append(_product_along(args, along, (True, True, True), grad))
    if tangents[5] is not None:  # it is linear in grad
        found.append(pauli_evolve_vjp(*args, tangents[5]))
    return tuple(map(sum, zip(*found, strict=True)))


def _product_along(args, along, needs, grad):
    """The derivative of the vector-Jacobian product along a direction, for the arguments that need it.

    Derivatives commute: it is the gradient of <grad, the states' derivative along the direction>.
    """
    state, shared, batched, rotations, wires = args

    def slope(state, shared, batched, *along):
        return _slope(state, shared, batched, rotations, wires, *along)

    moving = (state, shared, batched, *along)
    return reference_vjp(slope, moving, (*needs, False, False, False), (grad,))[:3]


def _slope(
    state: Tensor,
    shared: Tensor,
    batched: Tensor,
    rotations: Tensor,
    wires: int,
    along_state: Tensor,
    along_shared: Tensor,
    along_batched: Tensor,
) -> Tensor:
    """(b, 2, 2^n): the derivative of `pauli_evolve` along a direction."""
    angles, along = (
        _angles(*each, rotations) for each in ((shared, batched), (along_shared, along_batched))
    )  # (b, K)
    value = _initial(state, angles, wires)
    slope = along_state.expand(value.shape) if state.shape[0] else torch.zeros_like(value)
    size = max(_LEAST, min(_MOST, _NUMBERS // max(1, value.numel())))
    blocks = (rotations[:, :2].split(size), angles.split(size, -1), along.split(size, -1))
    for words, turns, directions in zip(*blocks, strict=True):
        shifted = _evolve(value, _shifts(turns), words, wires)  # (1 + s, b, 2, 2^n)
        moved = (directions.mT[:, :, None, None] * shifted[1:]).sum(0) / 2
        value, slope = shifted[0], _evolve(slope, turns[None], words, wires)[0] + moved
    return slope


def _or_zeros(along: Tensor | None, value: Tensor) -> Tensor:
    return torch.zeros_like(value) if along is None else along


def _initial(state: Tensor, angles: Tensor, wires: int) -> Tensor:
    """(b, 2, 2^n): where each sample begins."""
    if state.shape[0] == 0:
        return torch.stack(zero_state(angles.shape[0], wires, like=angles), 1)
    return state.expand(angles.shape[0], -1, -1)


def _shifts(turns: Tensor) -> Tensor:
    """(1 + s, b, s): the angles (b, s) of a block, then the same with each in turn larger by pi."""
    count = turns.shape[-1]
    none = torch.zeros(1, count, dtype=turns.dtype, device=turns.device)
    each = torch.cat([none, math.pi * torch.eye(count, dtype=turns.dtype, device=turns.device)])
    return turns + each[:, None]


def _evolve(states: Tensor, turns: Tensor, words: Tensor, wires: int) -> Tensor:
    """(v, b, 2, 2^n) after the rotations of a block by angles (v, b, s), from states (b, 2, 2^n)."""
    lanes, batch, count = turns.shape
    column = torch.arange(count, device=words.device)
    rotations = torch.stack([*words.unbind(-1), torch.ones_like(column), column], -1)
    begin = states.expand(lanes, *states.shape).reshape(lanes * batch, *states.shape[1:])
    angles = turns.reshape(lanes * batch, count)
    return pauli_evolve(begin, turns.new_zeros(0), angles, rotations, wires).reshape(lanes, *states.shape)
