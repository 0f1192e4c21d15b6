"""Derivatives of tapes: products with vectors from either side, and whole Jacobians.

All of them are torch's derivatives of the engine: a tape gets torch tensors for its trainable parameters, and
what comes out is differentiated. No Jacobian is formed where a product is wanted.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from qlayers.device.analytic import results_of


class Slopes(tuple):
    """The gradients of one tape's parameters, of different shapes.

    PennyLane's torch interface asks `np.squeeze` for the shape of the whole, to skip tapes without
    parameters; for arrays of different shapes that has no answer unless it is given here.
    """

    __slots__ = ()

    def squeeze(self) -> np.ndarray:
        """An array of the same length."""
        return np.empty(len(self))


def vjp(tapes: Sequence, cotangents: Sequence) -> tuple[Slopes, ...]:
    """For each tape the gradients of sum(cotangent * result) with respect to its trainable parameters.

    Args:
        tapes: `QuantumScript`s with NumPy parameters.
        cotangents: for each tape an array of the shape of its result, or one for each of its results. There
            is no complex conjugation in the sum.

    Returns:
        For each tape one NumPy array per trainable parameter, of its shape.
    """
    with torch.enable_grad():
        leaves = [_leaves(tape) for tape in tapes]
        results = results_of([_bound(*pair) for pair in zip(tapes, leaves, strict=True)])
        outputs, grads = [], []
        for found, given in zip(results, cotangents, strict=True):
            given = (given,) if len(found) == 1 and not _is_nested(given) else given
            for result, cotangent in zip(found, given, strict=True):
                if result.requires_grad:
                    outputs.append(result)
                    grads.append(_as(result, cotangent).conj())  # torch conjugates, PennyLane does not
        flat = list(_all(leaves))
        if outputs:
            slopes = torch.autograd.grad(outputs, flat, grads, materialize_grads=True, allow_unused=True)
        else:
            slopes = tuple(map(torch.zeros_like, flat))
    return _like(slopes, leaves)


def jvp(tapes: Sequence, tangents: Sequence) -> tuple[list, list]:
    """The results of each tape, and their derivatives along a direction.

    Args:
        tapes: `QuantumScript`s with NumPy parameters.
        tangents: for each tape one array per trainable parameter, of its shape.
    """
    with torch.enable_grad(), forward_ad.dual_level():
        bound = []
        for tape, given in zip(tapes, tangents, strict=True):
            leaves = _leaves(tape)  # requiring grad, so that none is taken for a constant
            pairs = zip(leaves, given, strict=True)
            bound.append(_bound(tape, [forward_ad.make_dual(leaf, _as(leaf, t)) for leaf, t in pairs]))
        duals = [[forward_ad.unpack_dual(result) for result in found] for found in results_of(bound)]
        primals = [tuple(dual.primal for dual in found) for found in duals]
        slopes = [
            tuple(torch.zeros_like(d.primal) if d.tangent is None else d.tangent for d in found)
            for found in duals
        ]
    return primals, slopes


def jacobian(tape) -> tuple[tuple[Tensor, ...], tuple[tuple[Tensor, ...], ...]]:
    """The results of a tape, and for each result one array (*result, *parameter) per trainable parameter."""
    with torch.enable_grad():
        leaves = _leaves(tape)
        (results,) = results_of([_bound(tape, leaves)])
        return tuple(r.detach() for r in results), tuple(_jacobian(result, leaves) for result in results)


def _jacobian(result: Tensor, leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
    if not result.requires_grad or not leaves:
        return tuple(result.new_zeros((*result.shape, *leaf.shape)) for leaf in leaves)
    parts = torch.view_as_real(result).unbind(-1) if result.is_complex() else (result,)
    found = [_rows(part, leaves) for part in parts]
    return tuple(torch.complex(*pair) if len(pair) == 2 else pair[0] for pair in zip(*found, strict=True))


def _rows(result: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """The Jacobian of a real result, one row after the other."""
    rows = [
        torch.autograd.grad(element, leaves, retain_graph=True, materialize_grads=True, allow_unused=True)
        for element in result.reshape(-1).unbind()
    ]
    return [
        torch.stack(column).reshape((*result.shape, *leaf.shape))
        for column, leaf in zip(zip(*rows, strict=True), leaves, strict=True)
    ]


def _leaves(tape) -> list[Tensor]:
    """Trainable parameters as new torch tensors that require grad."""
    return [torch.tensor(_floating(p), requires_grad=True) for p in tape.get_parameters()]


def _floating(parameter) -> np.ndarray:
    values = np.asarray(parameter)
    return values if values.dtype.kind == "c" else values.astype(np.float64)


def _bound(tape, leaves: Sequence[Tensor]):
    """The tape with these trainable parameters."""
    return tape.bind_new_parameters(leaves, tape.trainable_params) if leaves else tape


def _as(like: Tensor, values) -> Tensor:
    values = np.asarray(values)
    values = values if like.is_complex() else values.real
    return torch.as_tensor(values).to(like.dtype).reshape(like.shape)


def _is_nested(cotangent) -> bool:
    """Whether it is a sequence of arrays, as for several results, although there is one."""
    return isinstance(cotangent, list | tuple)


def _all(nested: Sequence[Sequence[Tensor]]):
    for tensors in nested:
        yield from tensors


def _like(flat: Sequence[Tensor], nested: Sequence[Sequence[Tensor]]) -> tuple[Slopes, ...]:
    rest = iter(flat)
    return tuple(Slopes(next(rest).numpy() for _ in tensors) for tensors in nested)
