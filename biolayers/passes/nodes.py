"""Small questions about nodes, and small things done to them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from biolayers.ops import token_conv1d
from shared.graph import Refused, Scene
from shared.graph.scene import Attribute


def same(a: Any, b: Any) -> bool:
    """Whether two arguments are the same value: one node, the same parameter, or equal constants."""
    if isinstance(a, fx.Node) and isinstance(b, fx.Node):
        return a is b or (a.op == b.op == "get_attr" and a.target == b.target)
    if isinstance(a, fx.Node) or isinstance(b, fx.Node):
        return False
    return type(a) is type(b) and a == b


def once(scene: Scene, function: Callable[..., Any], *args: Any) -> fx.Node:
    """The node that calls a pure function with these arguments: one that is there, or a new one.

    A new one stands right behind the last of its arguments, before everything that may ask for it later.
    """
    last = _last(scene, args)
    with scene.graph.inserting_after(last):
        held = [scene.graph.get_attr(arg.path) if isinstance(arg, Attribute) else arg for arg in args]
    for node in scene.graph.find_nodes(op="call_function", target=function):
        if len(node.args) == len(held) and all(map(same, node.args, held)):
            _drop_unused(scene, held)
            return node
    with scene.graph.inserting_after(_last(scene, held)):
        return scene.graph.call_function(function, tuple(held))


def _last(scene: Scene, args: Any) -> fx.Node:
    """The last placeholder, or what comes last of the arguments that are nodes."""
    after = [node for node in scene.graph.nodes if node.op == "placeholder" or node in args]
    return after[-1]


def _drop_unused(scene: Scene, nodes: list) -> None:
    for node in nodes:
        if isinstance(node, fx.Node) and not node._erased:
            scene.drop(node)


def number(value: Any) -> int:
    """The number in `3` or `(3,)`.

    Raises:
        Refused: it is not fixed.
    """
    if isinstance(value, (tuple, list)) and len(value) == 1:
        value = value[0]
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(f"sizes must be fixed numbers, and one is {value}")
    return value


def alone(node: fx.Node) -> bool:
    """Whether only one node uses this one."""
    return len(node.users) == 1


def discard(scene: Scene, *nodes: fx.Node) -> None:
    """Take out nodes that nobody uses any more, the user first, and then what only they used."""
    for node in nodes:
        if not node._erased and not node.users:
            before = node.all_input_nodes
            scene.graph.erase_node(node)
            _drop_unused(scene, before)


def is_conv(node: Any) -> bool:
    """Whether a node is a call of `token_conv1d`, put there by a rule or written by a user."""
    ours = (token_conv1d, token_conv1d.overload)  # tracing runs the op, and sees what it calls
    return isinstance(node, fx.Node) and node.target in ours and not node.kwargs


def arguments(conv: fx.Node) -> tuple:
    """All six arguments of a call of `token_conv1d`."""
    return (*conv.args, *(None, 1, 0, 1)[len(conv.args) - 2 :])


def put_conv(scene: Scene, old: fx.Node, *args: Any, image: bool = False) -> None:
    """Call `token_conv1d` where `old` stands; an image gets its height of 1 from a call behind it."""
    if not image:
        scene.put(old, token_conv1d, *args)
        return
    with scene.graph.inserting_before(old):
        held = [scene.graph.get_attr(arg.path) if isinstance(arg, Attribute) else arg for arg in args]
        row = scene.graph.call_function(token_conv1d, tuple(held))
    value = scene.value(old)
    if value is not None:
        scene.values[row.name] = value.squeeze(2)
    scene.put(old, torch.unsqueeze, row, 2)
