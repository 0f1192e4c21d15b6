"""A traced model under the hands of the rules: what its nodes call, and how to put something else there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from shared.graph import calls

if TYPE_CHECKING:
    from shared.graph.effects import Effect, Effects


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Call:
    """What a node computes, however it was written.

    Args:
        kind: a key of `calls.SIGNATURES`.
        node: the node.
        x: the node of its first tensor.
        args: its other arguments by name; a parameter of a module is an `Attribute`.
    """

    kind: str
    node: fx.Node
    x: fx.Node
    args: dict[str, Any]


@dataclass(frozen=True)
class Attribute:
    """A parameter or buffer of the model by its path, such as `features.0.weight`."""

    path: str


@dataclass
class Scene:
    """A graph, the model whose forward it is, and what is known of the values at its nodes.

    Args:
        graph: traced from `root`, changed in place.
        root: holds modules and parameters; never changed.
        values: dtype and shape of tensors that the nodes had for the example inputs, by the nodes' names.
        observe: runs the graph as it is on the example inputs and says what each call does; None where there
            are none.
        training: the mode that the graph is for.
        relied: paths of modules that a rule takes to be in that mode, too; where one is not, the model's own
            forward runs.
    """

    graph: fx.Graph
    root: nn.Module
    values: dict[str, torch.Tensor] = field(default_factory=dict)  # on the device "meta"
    observe: "Callable[[], Effects] | None" = None
    training: bool = True
    relied: set[str] = field(default_factory=set)
    _seen: "Effects | None" = field(default=None, init=False)

    def call(self, node: Any) -> Call | None:
        """What a node computes, or None for what the tables do not list."""
        if not isinstance(node, fx.Node):
            return None
        if node.op == "call_module":
            return self._of_module(node)
        kind = None
        if node.op == "call_function":
            kind = calls.FUNCTIONS.get(node.target)  # type: ignore[arg-type]
        elif node.op == "call_method":
            kind = calls.METHODS.get(node.target)  # type: ignore[arg-type]
        found = None if kind is None else calls.named(kind, node.args, node.kwargs)
        if kind is None or found is None or not isinstance(found[0], fx.Node):
            return None
        return Call(kind, node, *found)

    def _of_module(self, node: fx.Node) -> Call | None:
        module, path = self.root.get_submodule(str(node.target)), node.target
        if type(module) not in calls.MODULES or len(node.args) != 1 or node.kwargs or hooked(module):
            return None
        kind, options = calls.MODULES[type(module)]
        held = {
            name: None if value is None else Attribute(f"{path}.{name}")
            for name, value in module._parameters.items()
        }
        return Call(kind, node, node.args[0], {**calls.SIGNATURES[kind], **options(module), **held})  # type: ignore[arg-type]

    def value(self, node: fx.Node) -> torch.Tensor | None:
        """A tensor without data that has the node's dtype and shape for the example inputs."""
        return self.values.get(node.name)

    def tensor(self, what: Any) -> torch.Tensor | None:
        """Like `value`, of a node or an `Attribute`."""
        if isinstance(what, Attribute):
            *path, name = what.path.split(".")
            return getattr(self.root.get_submodule(".".join(path)), name)
        return self.value(what) if isinstance(what, fx.Node) else None

    def effect(self, node: fx.Node) -> "Effect | None":
        """What the call does on the example inputs; None where that is not known, or it is no call."""
        if self._seen is None or (node not in self._seen.of and node.op.startswith("call_")):
            self._seen = None if self.observe is None else self.observe()
        return None if self._seen is None else self._seen.of.get(node)

    def unfree(self, node: fx.Node, *, random: bool = True) -> str | None:
        """Why a call is more than its result; None if it may be left out, or done once instead of twice.

        Args:
            node: the call.
            random: whether drawing random numbers counts.
        """
        effect = self.effect(node)
        if effect is None:
            return "what it does is not known"
        if effect.fixed is not None:
            return f"it {effect.fixed}"
        return "it draws random numbers" if random and effect.random else None

    def holds(self, node: fx.Node) -> frozenset[int]:
        """Pieces of memory in which the results of a call lie, those of parameters and inputs apart."""
        effect = self.effect(node)
        return frozenset() if effect is None else effect.holds

    def only_user(self, node: fx.Node) -> fx.Node | None:
        """The node that uses this one, if there is exactly one."""
        return next(iter(node.users)) if len(node.users) == 1 else None

    def put(self, old: fx.Node, function: Any, *args: Any) -> fx.Node:
        """Call a function where `old` stands, and drop what nobody uses any more."""
        with self.graph.inserting_before(old):
            args = tuple(
                self.graph.get_attr(each.path) if isinstance(each, Attribute) else each for each in args
            )
            new = self.graph.call_function(function, args)
        if old.name in self.values:
            self.values[new.name] = self.values[old.name]
        old.replace_all_uses_with(new)
        self.drop(old)
        return new

    def drop(self, node: fx.Node) -> None:
        """Take out a node that nobody uses and that has no effect but its value, and then its arguments."""
        if node.users or not (node.op == "get_attr" or self.call(node) is not None):
            return
        arguments = node.all_input_nodes
        self.graph.erase_node(node)
        for argument in arguments:
            self.drop(argument)


def hooked(module: nn.Module) -> bool:
    """Whether something of the user's runs when the module is called."""
    return any(getattr(module, name) for name in HOOKS)
