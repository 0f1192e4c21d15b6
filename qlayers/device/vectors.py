"""Functions of real vectors, in torch: their values, and their derivatives as functions of the same kind."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.autograd.functional import jvp

Function = Callable[..., Tensor]  # real vectors to a real vector, float64


def values_of(function: Function, *vectors) -> np.ndarray:
    """The function of NumPy vectors."""
    with torch.no_grad():
        return function(*(_tensor(vector) for vector in vectors)).numpy()


def _tensor(vector) -> Tensor:
    return torch.from_numpy(np.array(vector, dtype=np.float64))


def pullback(function: Function) -> Function:
    """The function from a cotangent and vectors to the gradients of all vectors, in one vector."""

    def pulled(cotangent: Tensor, *vectors: Tensor) -> Tensor:
        again = _in_turn(cotangent, *vectors)
        with torch.enable_grad():
            leaves = [v if v.requires_grad else v.detach().requires_grad_() for v in vectors]
            result = function(*leaves)
            if not result.requires_grad:
                return torch.cat([torch.zeros_like(leaf) for leaf in leaves])
            slopes = torch.autograd.grad(
                result, leaves, cotangent, create_graph=again, materialize_grads=True, allow_unused=True
            )
        return torch.cat(slopes)

    return pulled


def pushforward(function: Function) -> Function:
    """The function from vectors, and then a tangent for each, to the tangent of the result."""

    def pushed(*both: Tensor) -> Tensor:
        count = len(both) // 2
        again = _in_turn(*both)
        return jvp(function, both[:count], both[count:], create_graph=again)[1]

    return pushed


def _in_turn(*vectors: Tensor) -> bool:
    """Whether a derivative is itself differentiated."""
    return any(vector.requires_grad for vector in vectors)


def split(vector, sizes: Sequence[int]) -> tuple:
    ends = np.cumsum(sizes)
    return tuple(vector[end - size : end] for end, size in zip(ends, sizes, strict=True))
