"""What an op's reference stands in for: a kernel on any device, and the fake kernel of compilers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from shared.declare import Op


def as_kernel(op: Op) -> Callable[..., Any]:
    """The reference as a kernel: its outputs are contiguous and share no memory with the arguments."""

    def run(*args: Any) -> Any:
        taken = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}

        def fresh(output: Tensor) -> Tensor:
            output = output.resolve_conj().resolve_neg().contiguous()
            if output.untyped_storage().data_ptr() in taken:
                output = output.clone(memory_format=torch.contiguous_format)
            taken.add(output.untyped_storage().data_ptr())
            return output

        output = op.reference(*args)
        return tuple(fresh(o) for o in output) if isinstance(output, tuple) else fresh(output)

    return run


def as_fake(op: Op, args: tuple[Any, ...]) -> Any:
    """The reference on fake tensors, whose results have the strides that kernels return."""
    return _contiguous(op.reference(*args))


def _contiguous(output: Any) -> Any:
    if isinstance(output, tuple):
        return tuple(_contiguous(o) for o in output)
    return torch.empty_like(output, memory_format=torch.contiguous_format)
