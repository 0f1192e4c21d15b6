"""Less memory in training: what is cheap to compute again is not kept for the backward pass.

Calls that follow each other in the graph and multiply no matrices (activations, norms, dropout) become one,
which keeps its inputs alone and runs again when the backward pass comes to it. The product behind them may
belong to it: PyTorch notes what a product needs before it multiplies, so that it is not computed again.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils.checkpoint import checkpoint

from shared.eager import forward_mode_active, transforms_active
from shared.graph.effects import CALLS, Effects, observe
from shared.graph.report import Change, Refusal

NAME = "recompute"
LEAST = 1 << 20  # bytes that a place must save
OVERHEAD = 1 << 20  # work of noting a place and coming back to it, in bytes that memory moves in that time
STEP = 3  # a training step takes so many times the work of a forward pass

_PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Window:
    """Consecutive calls; `saved` bytes are not kept, for `work` more."""

    nodes: tuple[fx.Node, ...]
    saved: int
    work: int


class Recomputed:
    """A function that keeps its arguments for the backward pass and computes all else again.

    Under compilers, which choose themselves what to keep, and under `torch.func` it is the function.
    """

    def __init__(self, function: Callable[..., Any], *, random: bool, name: str) -> None:
        self._function, self._random = function, random
        self.__name__ = self.__qualname__ = name
        self.__module__ = __name__

    def __call__(self, *args: Any) -> Any:
        if (
            not torch.is_grad_enabled()
            or torch.compiler.is_compiling()
            or transforms_active()
            or forward_mode_active()
        ):
            return self._function(*args)
        return checkpoint(self._function, *args, use_reentrant=False, preserve_rng_state=self._random)


def recompute(
    module: nn.Module, graph: fx.Graph, inputs: tuple, *, training: bool, share: float, path: str = ""
) -> tuple[list[Change], list[Refusal]]:
    """Choose places in a graph of training that save most for their work, and change the graph there.

    Args:
        module: whose forward the graph is.
        graph: changed in place.
        inputs: for which memory and work are counted.
        training: the mode of the graph; one of evaluation keeps nothing and stays as it is.
        share: of the work of a training step that may be added.
        path: of the module, for the report.
    """
    if not training or not share:
        return [], []
    effects = observe(module, graph, inputs, training=True)
    found = [each for run in _runs(graph, effects) for each in _best(run, module, effects)]
    found.sort(key=lambda window: window.work / window.saved)
    left = share * STEP * sum(each.work for each in effects.of.values())
    changes, refusals = [], []
    for window in found:
        words = " + ".join(_named(node, module) for node in window.nodes)
        place = ".".join(part for part in (path, window.nodes[0].name) if part)
        if window.work > left:
            refusals.append(Refusal(NAME, place, f"{words} would take longer than the share of {share:g}"))
            continue
        left -= window.work
        _replace(graph, window, effects)
        changes.append(Change(NAME, place, words, f"computed again, {window.saved:,} bytes not kept"))
    graph.lint()
    return changes, refusals


def _runs(graph: fx.Graph, effects: Effects) -> list[list[fx.Node]]:
    """Calls in a row that are cheap and may be repeated, each row with the call that follows."""
    runs: list[list[fx.Node]] = [[]]
    for node in graph.nodes:
        if node.op not in CALLS:
            continue
        effect = effects.of[node]
        runs[-1].append(node)
        if effect.product or effect.fixed:
            runs.append([])
    return [run for run in runs if run]


def _best(run: list[fx.Node], module: nn.Module, effects: Effects) -> list[Window]:
    """The windows of a row that save most, none over another."""
    windows = [
        window
        for i in range(len(run))
        for j in range(i + 1, len(run) + 1)
        if (window := _window(run[i:j], module, effects)) is not None
    ]
    if not windows:
        return []
    best = max(windows, key=lambda window: (window.saved, -window.work))
    i, j = run.index(best.nodes[0]), run.index(best.nodes[-1]) + 1
    return [*_best(run[:i], module, effects), best, *_best(run[j:], module, effects)]


def _window(nodes: Sequence[fx.Node], module: nn.Module, effects: Effects) -> Window | None:
    """What these calls save as one, if it is worth it and allowed."""
    last = effects.of[nodes[-1]]
    ends_in_product = last.product or last.fixed is not None
    if ends_in_product and (last.fixed or not _is_product(nodes[-1], module)):
        return None
    inside, kept = set(nodes), _kept_elsewhere(nodes, effects)
    given = {each for node in nodes for each in node.all_input_nodes if each not in inside}
    fed = set().union(*(effects.of[each].holds for each in given if each in effects.of))
    saves = set().union(*(effects.of[node].saves for node in nodes))
    saved = effects.size(saves - kept - fed) - effects.size(fed - kept - saves)
    again = nodes[:-1] if ends_in_product else nodes
    work = OVERHEAD + sum(effects.of[node].work for node in again)
    return Window(tuple(nodes), saved, work) if saved >= LEAST else None


def _kept_elsewhere(nodes: Sequence[fx.Node], effects: Effects) -> set[int]:
    """What is kept anyhow: by other calls, or as the model's result."""
    inside = set(nodes)
    kept = set().union(*(effect.saves for node, effect in effects.of.items() if node not in inside))
    end = next(node for node in reversed(nodes[0].graph.nodes) if node.op == "output")
    return kept.union(*(effects.of[each].holds for each in end.all_input_nodes if each in effects.of))


def _is_product(node: fx.Node, module: nn.Module) -> bool:
    """Whether PyTorch notes what the call needs before it multiplies."""
    if node.op == "call_module":
        return type(module.get_submodule(str(node.target))) in _PRODUCTS
    return node.target in (torch.matmul, nn.functional.linear, nn.functional.conv1d, nn.functional.conv2d)


def _replace(graph: fx.Graph, window: Window, effects: Effects) -> None:
    """One call in place of the window's."""
    inside = set(window.nodes)
    given = list(dict.fromkeys(e for n in window.nodes for e in n.all_input_nodes if e not in inside))
    results = [node for node in window.nodes if any(user not in inside for user in node.users)]
    modules = list(dict.fromkeys(str(node.target) for node in window.nodes if node.op == "call_module"))
    part = _part(window.nodes, modules, given, results)
    function = functools.partial(type(fx.GraphModule(nn.Module(), part)).forward, None)
    random = any(effects.of[node].random for node in window.nodes)
    call = Recomputed(function, random=random, name=f"recomputed_{window.nodes[0].name}")
    with graph.inserting_after(window.nodes[-1]):
        new = graph.call_function(call, ())
    with graph.inserting_before(new):
        new.args = (*(graph.get_attr(path) for path in modules), *given)
    with graph.inserting_after(new):
        for i, node in reversed(list(enumerate(results))):
            node.replace_all_uses_with(graph.call_function(operator.getitem, (new, i)))
    for node in reversed(window.nodes):
        graph.erase_node(node)


def _part(
    nodes: Sequence[fx.Node], modules: Sequence[str], given: Sequence[fx.Node], results: Sequence[fx.Node]
) -> fx.Graph:
    """The window as a graph; its modules are arguments, too, so that it belongs to no model."""
    part = fx.Graph()
    module_of = {path: part.placeholder(f"module_{i}") for i, path in enumerate(modules)}
    inner = {node: part.placeholder(f"given_{i}") for i, node in enumerate(given)}
    for node in nodes:
        if node.op == "call_module":
            args, kwargs = fx.map_arg((node.args, node.kwargs), inner.__getitem__)
            inner[node] = part.call_function(call, (module_of[str(node.target)], *args), kwargs)
        else:
            inner[node] = part.node_copy(node, inner.__getitem__)
    part.output(tuple(inner[node] for node in results))
    return part


def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Call a module that is an argument."""
    return module(*args, **kwargs)


def _named(node: fx.Node, module: nn.Module) -> str:
    if node.op == "call_module":
        return type(module.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target)).strip("_")
