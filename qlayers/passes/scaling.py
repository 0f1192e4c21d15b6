"""A scaling or an offset before a circuit, such as `layer(x * torch.pi)`: part of the circuit's angles."""

import functools
from typing import Any

from torch import fx

from qlayers.circuit import Circuit
from qlayers.expressions import Nodes, Row
from qlayers.passes.running import Running, layer_of, replace, same_leaf, weights_of, with_leaves
from shared.graph import Refused, Rule, Scene

# a call of a tensor x and a number c as (scale, offset), and the same with both exchanged
_AFFINE = {
    "mul": (lambda c: (c, 0.0), lambda c: (c, 0.0)),
    "add": (lambda c: (1.0, c), lambda c: (1.0, c)),
    "sub": (lambda c: (1.0, -c), lambda c: (-1.0, c)),
    "div": (lambda c: (1.0 / c, 0.0), None),
}
_NAMES = {"multiply": "mul", "truediv": "div", "true_divide": "div", "divide": "div", "subtract": "sub"}


def fold_scaling(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """`layer(x * scale + offset)` becomes the layer's circuit with other angles, on x."""
    layer = layer_of(scene, node)
    if layer is None or _step(node.args[0]) is None:
        return None
    source, scale, offset, calls = _scaled(scene, node.args[0])
    if not calls:
        raise Refused("what is scaled is used elsewhere, too, or changes its dtype or shape")
    change = functools.partial(scaled, scale=scale, offset=offset)
    running = Running(layer, change, "scaled_circuit")
    replace(scene, node, running, source, *weights_of(scene, node, layer))
    for each in calls:
        if not each.users:
            scene.graph.erase_node(each)
    names = " + ".join(_name(each) for each in reversed(calls))
    return f"{names} + QuantumLayer", "its circuit with other angles"


def scaled(circuit: Circuit, *, scale: float, offset: float) -> Circuit:
    r"""The circuit that does for x what this one does for scale * x + offset.

    Example:
        >>> print(scaled(Circuit.parse("RX(2*x0) 0\nexpval Z(0)"), scale=3.0, offset=1.0).draw())
        0: ──RX(6*x0+2)─┤ <Z>
    """

    def leaf(nodes: Nodes, row: Row) -> int:
        found = same_leaf(nodes, row)
        return nodes.affine(scale, offset, found) if row[0] == "input" else found

    return with_leaves(circuit, leaf)


def _scaled(scene: Scene, node: Any) -> tuple[Any, float, float, list[fx.Node]]:
    """x, scale and offset of what comes to scale * x + offset, and the calls that compute it."""
    scale, offset, calls = 1.0, 0.0, []
    while (found := _step(node)) is not None and _serves_circuits(scene, node, calls):
        source, by, plus = found
        before, after = scene.value(source), scene.value(node)
        if before is None or after is None or (before.dtype, before.shape) != (after.dtype, after.shape):
            break
        scale, offset = scale * by, scale * plus + offset
        calls.append(node)
        node = source
    return node, scale, offset, calls


def _serves_circuits(scene: Scene, node: fx.Node, later: list[fx.Node]) -> bool:
    """Whether nobody but layers, which all take it in, and the calls after it, uses a result."""
    return all(user in later or layer_of(scene, user) is not None for user in node.users)


def _step(node: Any) -> tuple[fx.Node, float, float] | None:
    """One call as (x, scale, offset), if it is of a node and a number."""
    if not isinstance(node, fx.Node) or node.op not in ("call_function", "call_method") or node.kwargs:
        return None
    if _name(node) in ("neg", "negative") and len(node.args) == 1:
        return node.args[0], -1.0, 0.0
    ways = _AFFINE.get(_name(node))
    if ways is None or len(node.args) != 2:
        return None
    for way, (x, number) in zip(ways, (node.args, node.args[::-1]), strict=True):
        plain = isinstance(number, (int, float)) and not isinstance(number, bool)
        if (
            way is not None
            and isinstance(x, fx.Node)
            and plain
            and not (_name(node) == "div" and number == 0)
        ):
            return x, *way(float(number))
    return None


def _name(node: fx.Node) -> str:
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    return _NAMES.get(name, name)


SCALING = Rule("angle_scaling", "circuit(a * x + b) = circuit'(x)", fold_scaling)
