"""Forward mode of the circuit op: a direction is one more row of a jet.

A circuit's value and its derivative along a direction are the two rows of its jet of order 1 (see
`qlayers.ops.duals`), and what has a direction already gets the next one by a jet of one order more. So
forward mode runs in the kernels that serve the derivatives of reverse mode, alone, nested, or mixed with it.
"""

import torch
from torch import Tensor

from qlayers.ops.duals import halves
from qlayers.ops.pauli_expval import pauli_expval, pauli_expval_vjp
from qlayers.ops.pauli_jet import pauli_expval_jet, pauli_expval_jet_vjp


def _raised(value: Tensor, along: Tensor | None) -> Tensor:
    """(2c, ...): the jet value + eps along of two jets (c, ...); None stands for 0."""
    return torch.cat([value, torch.zeros_like(value) if along is None else along])


@pauli_expval_jet.tangent
def _along(args, tangents):
    shared, batched, *tables = args
    raised = pauli_expval_jet(_raised(shared, tangents[0]), _raised(batched, tangents[1]), *tables)
    return halves(raised)[1]


@pauli_expval_jet_vjp.tangent
def _vjp_along(args, tangents):
    shared, batched, *tables, grad = args
    along_shared, along_batched, *_, along_grad = tangents
    if along_shared is None and along_batched is None:  # it is linear in grad
        return pauli_expval_jet_vjp(shared, batched, *tables, along_grad)
    # the slope of <grad, values along the direction> + <along_grad, values>
    grads = torch.cat([torch.zeros_like(grad) if along_grad is None else along_grad, grad])
    slopes = pauli_expval_jet_vjp(
        _raised(shared, along_shared), _raised(batched, along_batched), *tables, grads
    )
    return tuple(halves(slope)[0] for slope in slopes)


# a plain value is a jet of order 0, which has one row


@pauli_expval.tangent
def _(args, tangents):
    return _along(*map(_as_jets, (args, tangents)))[0]


@pauli_expval_vjp.tangent
def _(args, tangents):
    args, tangents = map(_as_jets, (args, tangents))
    return tuple(slope[0] for slope in _vjp_along(args, tangents))


def _as_jets(args):
    """The arguments of `pauli_expval` or its product, or their tangents, as jets."""
    shared, batched, rotations, words, wires, *grad = args
    angles = (None if angle is None else angle[None] for angle in (shared, batched))
    return *angles, rotations, words, wires, *(None if g is None else g[None] for g in grad)
