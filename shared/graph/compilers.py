"""What this machine has to compile with, and whether a graph gains by it."""

import functools
from typing import Any

import torch
from torch import Tensor, fx

PRODUCTS = frozenset({  # run by libraries that Inductor calls, too
    "linear", "bilinear", "matmul", "mm", "bmm", "addmm", "baddbmm", "mv", "einsum", "conv1d", "conv2d",
    "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "embedding", "embedding_bag",
    "scaled_dot_product_attention", "lstm", "gru",
})  # fmt: skip
VIEWS = frozenset({  # mostly no work at all
    "view", "view_as", "reshape", "flatten", "unflatten", "transpose", "swapaxes", "permute", "movedim",
    "squeeze", "unsqueeze", "expand", "expand_as", "getitem", "select", "narrow", "split", "chunk", "unbind",
    "detach", "t", "mT", "contiguous",
})  # fmt: skip
WORTH = 2**15  # numbers that are written and read once more, from which on it shows


@functools.cache
def has_compiler() -> bool:
    """Whether there is a C++ compiler, which Inductor needs."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def gains(graph: fx.Graph) -> bool:
    """Whether Inductor has something to gain in a graph of Dynamo's after the rules.

    It gains by fusing: where one call works through the numbers that another one has just written. Matrix
    products and our ops run in kernels of their own, with or without it; a call between two of those has
    nothing to be fused with, and its wrappers would take longer than they save. On other devices than the
    CPU, where launching kernels takes time, there is always something to gain.

    Example:
        >>> import torch
        >>> from torch import fx
        >>> x, counted = torch.ones(256, 256), []
        >>> for function in (lambda x: torch.relu(x @ x) @ x, lambda x: torch.relu(x @ x).exp() @ x):
        ...     graph = fx.symbolic_trace(function).graph
        ...     for node in graph.nodes:
        ...         node.meta["example_value"] = x
        ...     counted.append(gains(graph))
        >>> counted
        [False, True]
    """
    values = [value for node in graph.nodes if isinstance(value := _value(node), Tensor)]
    if any(value.device.type != "cpu" for value in values):
        return True
    return any(_fusible(node) and any(map(_fusible, _sources(node))) for node in graph.nodes)


def _fusible(node: fx.Node) -> bool:
    """Whether Inductor writes the kernel of a call, and numbers enough to matter come out of it."""
    value = _value(node)
    if not node.op.startswith("call_") or not isinstance(value, Tensor) or _size(value) < WORTH:
        return False  # what a rule has put there has no value, and is a kernel of ours
    return not isinstance(node.target, torch._ops.OpOverload) and _name(node) not in PRODUCTS | VIEWS


def _sources(node: fx.Node) -> list[fx.Node]:
    """The calls whose results a call reads, looked at through views."""
    found = []
    for source in node.all_input_nodes:
        found += _sources(source) if source.op.startswith("call_") and _name(source) in VIEWS else [source]
    return found


def _value(node: fx.Node) -> Any:
    return node.meta.get("example_value")


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _size(value: Tensor) -> int:
    size = value.numel()
    return size if isinstance(size, int) else getattr(size.node, "hint", None) or WORTH
