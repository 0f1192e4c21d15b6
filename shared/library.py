"""An op's registration with PyTorch: an operator of `torch.ops`, which compilers, exporters and modes see."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch.library import Library
from torch.utils.flop_counter import register_flop_formula

from shared import derive

if TYPE_CHECKING:
    from shared.declare import Op

_TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_contiguous_strides)


def register(op: Op) -> tuple[Library, torch._ops.OpOverload]:
    """Register everything that a declaration always has: schema, kernels, fake, derivative and batch rule.

    Returns:
        The library, without which the operator ends, and the operator.
    """
    namespace, _, bare = op.name.partition("::")
    library = Library(namespace, "FRAGMENT")
    library.define(bare + op.schema, tags=_TAGS)
    library.impl(bare, lambda *args: op.run_kernel(*op.complete(args)), "CompositeExplicitAutograd")
    torch.library.register_fake(op.name, lambda *args: op.evaluate_fake(*op.complete(args)), lib=library)
    torch.library.register_autograd(
        op.name,
        functools.partial(derive.backward, op),
        setup_context=lambda ctx, inputs, output: derive.setup_context(op, ctx, inputs, output),
        lib=library,
    )
    torch.library.register_vmap(op.name, functools.partial(_map, op), lib=library)
    return library, getattr(getattr(torch.ops, namespace), bare).default


def _map(op: Op, info: Any, dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
    every = (*dims, *(None,) * (len(op.parameters) - len(dims)))  # trailing defaults are left out
    return op.apply_batch_rule(info.batch_size, every, op.complete(args))


def register_flops(op: Op) -> None:
    """Let PyTorch's `FlopCounterMode` ask the op's cost model."""

    def flops(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        return op.estimate(*op.positional(args, kwargs)).flops

    register_flop_formula(op.overload.overloadpacket, get_raw=True)(flops)
