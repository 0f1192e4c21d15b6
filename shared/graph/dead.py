"""Calls of a graph whose results nobody uses."""

import operator
from typing import Any

from torch import fx

from shared.graph.duplicates import CALLS, called
from shared.graph.rules import Refused, Rule
from shared.graph.scene import Scene

_QUESTIONS = ("size", "dim", "numel")  # methods whose answers are numbers


def drop_unused(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """A call without users is left out, and then those of its arguments that only it used."""
    if node.users or node.op not in CALLS or scene.value(node) is None or not scene.observe:
        return None
    if node.op == "call_function" and node.is_impure():
        return None  # an assertion
    if reason := scene.unfree(node):
        if reason.startswith("it draws"):
            raise Refused(f"nobody uses it, but {reason}")
        return None  # it is there for what it does
    what = called(scene, node)
    drop(scene, node)
    return f"{what} that nobody uses", "nothing"


def drop(scene: Scene, node: fx.Node) -> None:
    """Take out a call without users, and then those of its arguments that only it used."""
    arguments = node.all_input_nodes
    scene.graph.erase_node(node)
    for each in arguments:
        if not each.users and (each.op == "get_attr" or _free(scene, each)):
            drop(scene, each)


def _free(scene: Scene, node: fx.Node) -> bool:
    if node.op not in CALLS:
        return False
    return _is_number(node.op, node.target) or (scene.value(node) is not None and scene.unfree(node) is None)


def _is_number(kind: str, target: Any) -> bool:
    if kind == "call_method":
        return target in _QUESTIONS
    return target in (getattr, operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv)


DEAD = Rule("dead_code", "f(x) that nobody uses = nothing", drop_unused)
