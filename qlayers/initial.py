"""How the weights of a layer begin."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from shared.errors import UserError

Init = Callable[[Tensor], Any] | Mapping[str, Callable[[Tensor], Any] | Tensor]


class InitMissingError(UserError, KeyError):
    """init_method is a mapping without an entry for a weight."""

    __str__ = Exception.__str__  # KeyError's would quote the message


class InitKindError(UserError, TypeError):
    """init_method is neither a function nor a tensor."""


def initial(init_method: Init | None, name: str, shape: tuple[int, ...]) -> Tensor:
    """The first value of a weight: uniform in [0, 2 pi) by default, else what `init_method` makes of it.

    A tensor is copied, so that layers that begin alike do not share it.

    Raises:
        InitMissingError: a mapping has no entry for the weight.
        InitKindError: what it has is neither a function nor a tensor.
        UserError: a tensor has another shape.
    """
    init = _chosen(init_method, name)
    if isinstance(init, Tensor):
        if tuple(init.shape) != shape:
            raise UserError(
                f"The tensor given for weight {name!r} has shape {tuple(init.shape)}, expected {shape}."
            )
        return init.detach().clone()
    empty = torch.empty(shape if shape else (1,))
    with torch.no_grad():
        filled = empty.uniform_(0, 2 * math.pi) if init is None else init(empty)
    filled = empty if filled is None else filled.detach()
    return filled if shape else filled[0].clone()


def _chosen(init_method: Any, name: str) -> Callable[[Tensor], Any] | Tensor | None:
    init = init_method
    if isinstance(init, Mapping):
        if name not in init:
            raise InitMissingError(f"init_method has no entry for weight {name!r}; it has {list(init)}.")
        init = init[name]
        if isinstance(init, Tensor):
            return init
    if init is None or callable(init):
        return init
    raise InitKindError(
        "init_method: expected a function that fills a tensor, such as torch.nn.init.zeros_, or a mapping "
        f"from weight names to such functions or tensors, received {type(init).__name__} for weight "
        f"{name!r}; for a number use lambda t: t.fill_(number)."
    )
