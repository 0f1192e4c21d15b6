"""From a module to graphs of its forward, one for training and one for evaluation, and back to a function."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from shared.graph.factories import recorded

Leaf = Callable[[nn.Module], bool]


class Untraceable(Exception):  # noqa: N818  it is an answer, not an error
    """The module's forward is not one graph of calls; says why."""


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # what is made of a buffer is made in each call, as it may change

    def __init__(self, leaf: Leaf) -> None:
        super().__init__()
        self._leaf = leaf

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or self._leaf(m)


def trace(module: nn.Module, given: set[str], leaf: Leaf) -> dict[bool, fx.Graph]:
    """The graph of the forward by the module's mode (`training`).

    Args:
        module: constant tensors that its forward makes become attributes of it.
        given: names of the arguments that the caller passes; all others keep their defaults.
        leaf: modules that are one call.

    Raises:
        Untraceable: control flow depends on values, or the forward is otherwise no graph.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters):
        raise Untraceable("its forward takes any number of arguments")
    fixed = {each.name: each.default for each in parameters if each.name not in given}
    with kept_mode(module):
        return {training: _trace(module.train(training), fixed, leaf) for training in (True, False)}


def _trace(module: nn.Module, fixed: dict[str, Any], leaf: Leaf) -> fx.Graph:
    tracer = _Tracer(leaf)
    try:
        with recorded(tracer):
            graph = tracer.trace(module, concrete_args=fixed or None)
        graph.lint()
    except Exception as error:  # tracing runs the user's code on stand-ins, which fails in many ways
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Untraceable(f"it cannot be traced: {reason}") from error
    return graph


def function_of(root: nn.Module, graph: fx.Graph) -> Callable[..., Any]:
    """The forward that a graph stands for, to be called with a module as its first argument."""
    forward = type(fx.GraphModule(root, graph)).forward
    graph.owning_module = None  # a graph that is kept stands for itself
    return forward


@contextmanager
def kept_mode(module: nn.Module) -> Iterator[None]:
    """Puts back the mode of every submodule at the end."""
    modes = [(each, each.training) for each in module.modules()]
    try:
        yield
    finally:
        for each, mode in modes:
            each.training = mode


class Watch(fx.Interpreter):
    """Runs a graph on real inputs and keeps dtype and shape of every tensor in it."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__(root, graph=graph)
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        """One node, as ever; a tensor's dtype and shape are kept."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.values[n.name] = torch.empty_like(result, device="meta")
        return result
