"""Rewriting of graphs: of the whole model, or of those of its parts that are graphs."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from shared.graph import attributes, effects, tracing, trial
from shared.graph.arranging import Arranging
from shared.graph.attributes import Guard, Reading
from shared.graph.report import Change, Refusal, place_of
from shared.graph.rules import Refused, Rule, is_leaf
from shared.graph.scene import Scene
from shared.graph.twins import subclass, twin, with_children

CHANGED = (
    "optimize: {0} is not what it was when the model was optimized, so the model's own forward runs: "
    "right but slower; call shared.optimize again"
)
ELSEWHERE = (
    "optimize: {0} was set in the model, and the optimized copy has its own: set it there too, or call "
    "shared.optimize again"
)


class Merged(nn.Module):
    """A module whose forward is a rewritten graph of it."""

    _graphs: dict[bool, fx.Graph]
    _forwards: dict[bool, Callable[..., Any]]  # what the graphs stand for
    _readings: dict[bool, list[Reading]]  # what these hold fast
    _arity: int
    _guards: dict[bool, Guard] | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The rewritten graph for calls such as the example, the module's own forward for others."""
        if kwargs or len(args) != self._arity or not self._holds():
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        return self._forwards[self.training](self, *args)

    def _holds(self) -> bool:
        """Whether everything is still as it was when the graphs were made."""
        guards = self._guards
        if guards is None or guards[True].root is not self:  # a twin
            guards = self.watch(None)
        guard = guards[self.training]
        if (name := guard.changed()) is not None:
            guard.tell(CHANGED.format(name))
            return False
        if guard.elsewhere and (name := guard.changed_elsewhere()) is not None:
            guard.tell(ELSEWHERE.format(name))
        return True

    def watch(self, original: nn.Module | None) -> dict[bool, Guard]:
        """Look at attributes from now on, also at those of the module of which this is a copy."""
        guards = {mode: Guard(self, each, original) for mode, each in self._readings.items()}
        self.__dict__["_guards"] = guards
        return guards

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: each for name, each in state.items() if name not in ("_forwards", "_guards")}  # type: ignore[misc]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forwards = {mode: tracing.function_of(self, each) for mode, each in self._graphs.items()}


@dataclass
class Merging:
    """The rewriting of graphs: what it uses, and what it finds."""

    rules: Sequence[Rule]
    training: bool
    arrange: Arranging = field(default_factory=Arranging)
    changes: list[Change] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def merged(self, module: nn.Module, inputs: tuple, path: str) -> nn.Module:
        """The module with a rewritten graph for its forward; where it has none, its children with theirs."""
        try:
            return self._rewritten(module, inputs, path)
        except tracing.Untraceable as reason:
            self.refusals.append(Refusal("trace", path, str(reason)))
            return with_children(
                module, lambda name, child: self._child(module, inputs, child, place_of(path, name))
            )

    def _child(self, parent: nn.Module, inputs: tuple, child: nn.Module, path: str) -> nn.Module:
        seen = None if is_leaf(child) or not child._modules else _inputs_of(parent, child, inputs)
        return child if seen is None else self.merged(child, seen, path)

    def _rewritten(self, module: nn.Module, inputs: tuple, path: str) -> nn.Module:
        given = _names(module, inputs)
        held = twin(module, module._modules)  # gets what tracing keeps
        with attributes.recorded() as read:
            graphs = tracing.trace(held, set(given), is_leaf)
        if name := read.written():
            raise tracing.Untraceable(f"its forward sets the attribute {name}, which it reads")
        before = {mode: attributes.called(graph) for mode, graph in graphs.items()}
        readings = {mode: read.of(held) for mode in graphs}
        found: dict[Change, None] = {}
        refused: dict[Refusal, None] = {}
        for mode, graph in graphs.items():
            observe = partial(effects.observe, held, graph, inputs, training=mode)
            scene = Scene(graph, held, _watched(held, graph, inputs, mode), observe, mode)
            changes, refusals = apply(scene, self.rules, path)
            readings[mode] += attributes.of_replaced(held, before[mode], graph)
            readings[mode] += [Reading(each, "training", None) for each in sorted(scene.relied)]
            found |= dict.fromkeys(changes)
            refused |= dict.fromkeys(refusals)
            changes, refusals = self.arrange(held, graph, inputs, training=mode, path=path)
            found |= dict.fromkeys(changes)
            refused |= dict.fromkeys(refusals)
        self.refusals += refused
        if not found:
            return module
        new = _installed(held, graphs, readings, len(given))
        if wrong := trial.wrong(new, inputs, trial.outcomes(module, inputs, self.training)):
            raise tracing.Untraceable(f"its forward does more than its calls say: {wrong}")
        self.changes += found
        return new


def _names(module: nn.Module, inputs: tuple) -> list[str]:
    """The names of the arguments that the inputs are."""
    names = [
        name
        for name, each in inspect.signature(module.forward).parameters.items()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    return names[: len(inputs)]


def _watched(module: nn.Module, graph: fx.Graph, inputs: tuple, mode: bool) -> dict[str, Tensor]:
    watch = tracing.Watch(module, graph)
    with trial.untouched(module), torch.no_grad():
        module.train(mode)
        watch.run(*inputs)
    return watch.values


def apply(scene: Scene, rules: Sequence[Rule], path: str = "") -> tuple[list[Change], list[Refusal]]:
    """Let every rule look at every node until none finds anything more."""
    changes: list[Change] = []
    refusals: dict[Refusal, None] = {}
    moved = True
    while moved:
        moved = False
        for rule in rules:
            for node in list(scene.graph.nodes):
                place = place_of(path, _place(node))
                try:
                    found = None if node._erased else rule.rewrite(scene, node)
                except Refused as reason:
                    refusals[Refusal(rule.name, place, str(reason))] = None
                    continue
                if found is not None:
                    changes.append(Change(rule.name, place, *found))
                    moved = True
    scene.graph.lint()
    still = {place_of(path, _place(node)) for node in scene.graph.nodes}
    return changes, [each for each in refusals if each.place in still]


def _place(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _installed(
    module: nn.Module, graphs: dict[bool, fx.Graph], readings: dict[bool, list[Reading]], arity: int
) -> nn.Module:
    """A twin with the graphs for its forward; its class is a subclass of the module's."""
    new = twin(module, module._modules)
    new._graphs = graphs  # type: ignore[assignment]
    new._forwards = {mode: tracing.function_of(module, graph) for mode, graph in graphs.items()}  # type: ignore[assignment]
    new._readings = readings  # type: ignore[assignment]
    new._arity = arity  # type: ignore[assignment]
    new.__class__ = subclass(Merged, type(module))
    return new


def _inputs_of(module: nn.Module, child: nn.Module, inputs: tuple) -> tuple | None:
    """What the child is called with first when the module runs on the inputs, if by position alone."""
    seen: list[tuple] = []
    handle = child.register_forward_pre_hook(
        lambda _, args, kwargs: None if kwargs else seen.append(args), with_kwargs=True
    )
    with handle, trial.untouched(module), torch.no_grad():
        module(*inputs)
    return seen[0] if seen else None
