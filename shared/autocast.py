"""Autocast for calls that go round PyTorch's dispatcher: the casts that the registered op would make."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from shared.declare import Op


def cast(op: Op, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments, cast as the active autocast region wants them."""
    device = _device(op, args)
    if device is None:
        return args
    dtype = op.autocast_dtypes[device]
    return tuple(
        a.to(dtype) if isinstance(a, Tensor) and a.is_floating_point() and a.dtype != torch.float64 else a
        for a in args
    )


def outside(op: Op, args: Sequence[Any]) -> contextlib.AbstractContextManager[Any]:
    """A scope for the op's formulas on arguments that are cast already: nothing in it is cast again."""
    device = _device(op, args)
    return contextlib.nullcontext() if device is None else torch.autocast(device, enabled=False)


def _device(op: Op, args: Sequence[Any]) -> str | None:
    """Where the op is called, if an autocast region is active there and the op declares its dtype for it."""
    if not op.autocast_dtypes:
        return None
    device = next((a.device.type for a in args if isinstance(a, Tensor)), None)
    if device in op.autocast_dtypes and torch.is_autocast_enabled(device):
        return device
    return None
