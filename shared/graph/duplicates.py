"""Equal calls of a graph, computed once."""

from collections.abc import Iterator
from typing import Any

from torch import fx
from torch.nn.modules.batchnorm import _NormBase

from shared.graph.rules import Refused, Rule
from shared.graph.scene import Scene

CALLS = ("call_function", "call_method", "call_module")


def merge_duplicate(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """A call of the same with the same becomes the result of the earlier one."""
    first = _earlier(scene, node)
    if first is None:
        return None
    if reason := scene.unfree(node):
        raise Refused(f"it equals {first.name}, but {reason}")
    if any(_changes(scene, each) for each in _between(first, node)):
        raise Refused(f"it equals {first.name}, but something is changed in place between the two")
    if changed_later(scene, first, node):
        raise Refused(f"it equals {first.name}, but one of the two is changed in place later")
    if returned(scene, first) and returned(scene, node):
        raise Refused(f"it equals {first.name}, but the model returns both")
    node.replace_all_uses_with(first)
    scene.graph.erase_node(node)
    what = called(scene, first)
    return f"{what} + {what}", what


def called(scene: Scene, node: fx.Node) -> str:
    """What a node calls, in a word."""
    if node.op == "call_module":
        return type(scene.root.get_submodule(str(node.target))).__name__
    return str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", node.name)


def _earlier(scene: Scene, node: fx.Node) -> fx.Node | None:
    """The first call that equals this one; it shares an argument with it."""
    shared = next((each for each in node.all_input_nodes if each.op != "get_attr"), None)
    if node.op not in CALLS or not scene.observe or shared is None or len(shared.users) < 2:
        return None
    same = [each for each in shared.users if each is not node and each < node]
    same = [each for each in same if each.op == node.op and _key(scene, each) == _key(scene, node)]
    return min(same, default=None)


def _key(scene: Scene, node: fx.Node) -> Any:
    target = scene.root.get_submodule(str(node.target)) if node.op == "call_module" else node.target
    return target, _fixed(node.args), _fixed(dict(node.kwargs))


def _fixed(value: Any) -> Any:
    """An argument as something that is equal only for equal calls: 1, 1.0 and True differ."""
    if isinstance(value, fx.Node):
        return ("attribute", value.target) if value.op == "get_attr" else value
    if isinstance(value, (tuple, list)):
        return tuple, *map(_fixed, value)
    if isinstance(value, dict):
        return dict, *((name, _fixed(value[name])) for name in sorted(value))
    if isinstance(value, slice):
        return slice, _fixed(value.start), _fixed(value.stop), _fixed(value.step)
    return type(value), repr(value)


def _between(first: fx.Node, last: fx.Node) -> Iterator[fx.Node]:
    node = first.next
    while node is not last:
        yield node
        node = node.next


def _changes(scene: Scene, node: fx.Node) -> bool:
    """Whether a call may change what other calls read; a norm changes its own statistics only."""
    if node.op == "call_module" and isinstance(scene.root.get_submodule(str(node.target)), _NormBase):
        return False
    return node.op in CALLS and scene.unfree(node, random=False) is not None


def changed_later(scene: Scene, *nodes: fx.Node) -> bool:
    """Whether a call may write to the results of these."""
    held = frozenset().union(*map(scene.holds, nodes))
    return any(
        held & scene.holds(argument)
        for node in scene.graph.nodes
        if _changes(scene, node)
        for argument in node.all_input_nodes
    )


def returned(scene: Scene, node: fx.Node) -> bool:
    """Whether the model returns the result of a call, or a view of it."""
    held = scene.holds(node)
    return any(node is each or held & scene.holds(each) for each in scene.graph.output_node().all_input_nodes)


DUPLICATES = Rule("duplicates", "f(x), f(x) = y, y where y = f(x)", merge_duplicate)
