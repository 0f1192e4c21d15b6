"""Tensors that a forward makes from nothing, such as `torch.arange(n)`: recorded in a graph, not made once.

A tracer of PyTorch's sees calls of tensors only; what is made of numbers it would make while tracing, once
and for all, on the device of that moment, and random numbers too.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import fx
from torch.utils import _pytree as pytree

NAMES = (
    *("arange", "empty", "eye", "full", "linspace", "logspace", "ones", "tensor", "zeros"),
    *("rand", "randint", "randn", "randperm", "tril_indices", "triu_indices"),
)
_PLAIN = (int, float, bool, complex, str, type(None), torch.dtype, torch.device, torch.layout, fx.Proxy)


@contextmanager
def recorded(tracer: fx.Tracer) -> Iterator[None]:
    """Within this block calls of `NAMES` in this thread become nodes of the tracer's graph."""
    with ExitStack() as stack:
        for name in NAMES:
            function = getattr(torch, name)
            stack.enter_context(
                patch.object(torch, name, _recording(function, tracer, threading.get_ident()))
            )
        yield


def _recording(function: Callable, tracer: fx.Tracer, thread: int) -> Callable:
    @functools.wraps(function)
    def record(*args: Any, **kwargs: Any) -> Any:
        leaves = pytree.tree_leaves((args, kwargs))
        if threading.get_ident() != thread or not all(isinstance(each, _PLAIN) for each in leaves):
            return function(*args, **kwargs)
        return tracer.create_proxy("call_function", function, args, kwargs)

    return record
