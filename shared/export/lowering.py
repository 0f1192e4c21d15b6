"""Ops in terms of PyTorch's own, chosen while the weights are known: what an exported graph is made of.

An op of ours is replaced by what its package offers for it in the entry-point group `qbio.onnx`, a mapping
from names of ops to lowerings, or else by its reference, which is plain PyTorch.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import torch
from torch import Tensor, fx, nn

from shared.declare import Op, registry
from shared.errors import UserError


@dataclass(frozen=True)
class Given:
    """An argument that is known only when the model runs.

    Args:
        shape: a size that is free (the batch) is no plain int.
        dtype: of its elements.
    """

    shape: torch.Size
    dtype: torch.dtype


# Takes an op's arguments, a `Given` where a tensor is not known yet; returns a module that takes the tensors
# for these, in order, and does as the op; None if the reference serves. A module with `full_precision` set is
# left in floating point when a model is quantised.
Lowering = Callable[..., nn.Module | None]


@functools.cache
def lowerings() -> Mapping[str, Lowering]:
    """What the installed packages offer, by the op's name.

    Raises:
        UserError: a package's lowerings do not import.
    """
    found: dict[str, Lowering] = {}
    for entry in sorted(entry_points(group="qbio.onnx"), key=lambda entry: entry.name):
        try:
            found |= entry.load()
        except Exception as error:
            source = entry.dist.name if entry.dist else "an unknown package"
            raise UserError(
                f"lowerings {entry.name!r} of {source}: expected {entry.value} to import, received "
                f"{type(error).__name__}: {error}; repair or uninstall {source}"
            ) from error
    return found


class ByReference(nn.Module):
    """An op by its reference, with what is known of its arguments already filled in."""

    def __init__(self, op: Op, args: tuple[Any, ...]) -> None:
        super().__init__()
        self._op, self._plain = op, tuple(None if isinstance(each, Tensor) else each for each in args)
        self._known = [i for i, each in enumerate(args) if isinstance(each, Tensor)]
        for i in self._known:
            self.register_buffer(f"argument_{i}", args[i])

    def forward(self, *given: Tensor) -> Any:
        """The op's results."""
        later = iter(given)
        args = [next(later) if isinstance(each, Given) else each for each in self._plain]
        for i in self._known:
            args[i] = getattr(self, f"argument_{i}")
        return self._op.reference(*args)


@dataclass(frozen=True)
class Replaced:
    """One op of a model that was replaced.

    Args:
        op: its name.
        place: the path of the module that calls it, "" for the model itself.
        module: the name of what is called instead.
        full_precision: whether quantisation leaves it alone.
    """

    op: str
    place: str
    module: str
    full_precision: bool


def lower(program: torch.export.ExportedProgram) -> tuple[fx.GraphModule, list[Replaced]]:
    """The program as a module in which no op of ours is left, and what was replaced."""
    module = program.module(check_guards=False)
    ops = {op.overload: op for op in registry().values()}
    knowledge, replaced = _Knowledge(module), []
    for node in list(module.graph.nodes):
        op = ops.get(node.target) if node.op == "call_function" else None
        if op is not None:
            replaced.append(_replace(module, node, op, knowledge, len(replaced)))
    module.graph.lint()
    module.recompile()
    return module, replaced


def _replace(module: fx.GraphModule, node: fx.Node, op: Op, knowledge: "_Knowledge", number: int) -> Replaced:
    places = op.positional(node.args, dict(node.kwargs))
    args = tuple(knowledge.of(each) for each in places)
    lowering = lowerings().get(op.name)
    own = (None if lowering is None else lowering(*args)) or ByReference(op, args)
    name = f"lowered_{number}_{op.name.replace('::', '_')}"
    module.add_submodule(name, own)
    with module.graph.inserting_before(node):
        later = tuple(at for at, each in zip(places, args, strict=True) if isinstance(each, Given))
        new = module.graph.call_module(name, later)
    stack = {**node.meta.get("nn_module_stack", {}), name: (name, op.name)}  # names what is inside it, too
    new.meta = {**node.meta, "nn_module_stack": stack}
    node.replace_all_uses_with(new)
    module.graph.erase_node(node)
    return Replaced(op.name, place_of(node), name, getattr(own, "full_precision", False))


def place_of(node: fx.Node) -> str:
    """The path of the module in whose forward the node is."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1][0] if stack else ""


class _Knowledge:
    """What is known of the values at a graph's nodes before it runs: all that hangs on weights alone."""

    def __init__(self, module: fx.GraphModule) -> None:
        self._module = module
        self._known: dict[fx.Node, Any] = {}

    def of(self, what: Any) -> Any:
        """A value, or a `Given` for a tensor that is not known."""
        if not isinstance(what, fx.Node):
            return what
        known = self._value(what)
        if known is not _UNKNOWN:
            return known.detach() if isinstance(known, Tensor) else known
        value = what.meta["val"]
        return Given(value.shape, value.dtype) if isinstance(value, Tensor) else value

    def _value(self, node: fx.Node) -> Any:
        if node not in self._known:
            self._known[node] = self._evaluate(node)
        return self._known[node]

    def _evaluate(self, node: fx.Node) -> Any:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and 0 in value.shape and all(isinstance(n, int) for n in value.shape):
            return torch.empty(tuple(value.shape), dtype=value.dtype)  # nothing of it is unknown
        if node.op == "get_attr":
            return functools.reduce(getattr, str(node.target).split("."), self._module)
        if node.op != "call_function" or not _repeatable(node.target):
            return _UNKNOWN
        values = {each: self._value(each) for each in node.all_input_nodes}
        if any(value is _UNKNOWN for value in values.values()):
            return _UNKNOWN
        args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        with torch.no_grad():
            return node.target(*args, **kwargs)  # type: ignore[operator]


_UNKNOWN = object()


def _repeatable(target: Any) -> bool:
    """Whether a function gives the same on each call, and does nothing else."""
    if not isinstance(target, torch._ops.OpOverload):
        return getattr(target, "__module__", None) == "_operator"
    return torch.Tag.nondeterministic_seeded not in target.tags and not target._schema.is_mutable
