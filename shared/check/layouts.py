"""The same values in awkward memory: strided, transposed, offset, expanded, poisoned."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared.check.case import Args, Case


def strided(x: Tensor) -> Tensor:
    """Every second element of a buffer; between them NaN, or for integers other values of `x`."""
    buffer = torch.stack([x, _junk(x)], -1)
    return buffer[..., 0]


def transposed(x: Tensor) -> Tensor:
    """The axes laid out in reverse order."""
    order = tuple(range(x.ndim))[::-1]
    return x.permute(order).contiguous().permute(order)


def offset(x: Tensor) -> Tensor:
    """Contiguous, but starting at the fourth element of its storage."""
    buffer = torch.cat([_junk(x).flatten().repeat(3)[:3], x.flatten(), _junk(x).flatten()])
    start = min(3, 3 * x.numel())
    return buffer[start : start + x.numel()].view(x.shape)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "strided": strided,
    "transposed": transposed,
    "offset": offset,
}


def _junk(x: Tensor) -> Tensor:
    return (
        torch.full_like(x, float("nan"))
        if x.is_floating_point() or x.is_complex()
        else x.flatten().flip(0).view(x.shape)
    )


def laid_out(case: Case, args: Args, layout: Callable[[Tensor], Tensor]) -> Args:
    """The arguments with every tensor in `layout`."""
    return tuple(layout(a) if isinstance(a, Tensor) else a for a in args)


def expansions(case: Case, args: Args) -> Iterator[tuple[str, Args]]:
    """Each tensor with one axis expanded from its first element (stride 0).

    Integers are expanded along the batch only: elsewhere a repeated index may not be a legal argument.
    """
    batched = set(case.batched(args))
    for i in case.tensors(args):
        x = args[i]
        for axis in range(x.ndim):
            legal = x.is_floating_point() or x.is_complex() or (i, axis) in batched
            if legal and x.shape[axis] > 1:
                flat = x.narrow(axis, 0, 1).expand_as(x)
                yield f"{case.op.parameters[i]} expanded along {axis}", (*args[:i], flat, *args[i + 1 :])


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fresh memory holds NaN or garbage within this block, so that an element left unwritten shows.

    Three sources feed a kernel: PyTorch's own empty tensors (its deterministic fill), NumPy's `empty` as host
    wrappers call it (replaced here), and the C allocator beneath compiled code (glibc's perturb byte).
    """
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    )
    arrays = {name: getattr(np, name) for name in ("empty", "empty_like")}
    perturb = _allocator_perturb()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        for name, allocate in arrays.items():
            setattr(np, name, _filling(allocate))
        perturb(1)  # fresh bytes are 0xFE: huge negative numbers
        yield
    finally:
        perturb(0)
        for name, allocate in arrays.items():
            setattr(np, name, allocate)
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = before[2]  # type: ignore[attr-defined]


def _filling(allocate: Callable[..., Any]) -> Callable[..., Any]:
    def filled(*args: Any, **kwargs: Any) -> Any:
        array = allocate(*args, **kwargs)
        array.fill(
            np.nan
            if array.dtype.kind in "fc"
            else np.iinfo(array.dtype).max
            if array.dtype.kind in "iu"
            else 1
        )
        return array

    return filled


def _allocator_perturb() -> Callable[[int], Any]:
    if sys.platform != "linux":
        return lambda byte: None
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent from musl
    return (lambda byte: mallopt(-6, byte)) if mallopt else (lambda byte: None)  # -6: M_PERTURB
