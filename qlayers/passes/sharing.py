"""Layers with the same gates, weights and inputs: one circuit with the measurements of all."""

import functools
from collections.abc import Sequence
from math import prod

from torch import Tensor, fx

from qlayers.circuit import Circuit, assembled
from qlayers.expressions import Nodes, children_of, with_children
from qlayers.layer import QuantumLayer
from qlayers.passes.running import Running, layer_of, replace, weights_of
from shared.graph import Refused, Rule, Scene
from shared.graph.duplicates import changed_later

APART = (
    "one op would carry their weights as angles of each sample, or their wires side by side, and be slower"
)
_REAL = ("expval", "var", "probs")  # kinds of measurements that stand side by side


def share_gates(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """`a(x), b(x)` becomes one circuit and its parts, where the layers differ in their measurements only."""
    layer = layer_of(scene, node)
    same = [] if layer is None else _like(scene, node, layer)
    if layer is not None and len(same) < 2 and _others(scene, node):
        raise Refused("others run on the same inputs, with gates or weights of their own: " + APART)
    if len(same) < 2 or same[0] is not node:
        return None
    layers = [layer_of(scene, each) for each in same]
    circuits = [_circuit(scene, each) for each in same]
    if any(measured.kind not in _REAL for one in circuits for measured in one.measurements):
        raise Refused(
            f"it has the gates of {same[1].target}, but its outputs are no real numbers side by side"
        )
    if scene.observe and changed_later(scene, *same):
        raise Refused(f"it has the gates of {same[1].target}, but what they return is changed in place later")
    running = Running(layer, functools.partial(_with_measurements, layers[1:]), "shared_circuit")
    with scene.graph.inserting_before(node):
        weights = weights_of(scene, node, layer)
        whole = scene.graph.call_function(running, (node.args[0], *weights))
    total, value = sum(prod(each.shape) for each in circuits), scene.value(node)
    scene.values[whole.name] = value.new_empty((*scene.value(node.args[0]).shape[:-1], total))
    start = 0
    for each, circuit in zip(same, circuits, strict=True):
        size, bare = prod(circuit.shape), not circuit.shape
        replace(scene, each, part, whole, start, start + size, bare)
        start += size
    return " + ".join(["QuantumLayer"] * len(same)), "one circuit with all measurements"


def part(outputs: Tensor, start: int, stop: int, bare: bool) -> Tensor:
    """Some of the outputs (..., n): (..., stop - start), or (...) of one bare measurement.

    Example:
        >>> import torch
        >>> part(torch.tensor([[1, 2, 3]]), 1, 3, False), part(torch.tensor([[1, 2, 3]]), 0, 1, True)
        (tensor([[2, 3]]), tensor([1]))
    """
    return outputs[..., start] if bare else outputs[..., start:stop]


def with_measurements(circuit: Circuit, others: Sequence[Circuit]) -> Circuit:
    r"""The circuit with the measurements of others that have the same gates.

    Example:
        >>> a, b = (Circuit.parse(f"RX(x0) 0\nexpval {letter}(0)") for letter in "ZX")
        >>> print(with_measurements(a, [b]).draw())
        0: ──RX(x0)─┤ <Z> <X>
    """
    nodes, measurements = Nodes(circuit.nodes), list(circuit.measurements)
    for other in others:
        number: dict[int, int] = {}
        for old, row in enumerate(other.nodes):
            number[old] = nodes._add(with_children(row, [number[child] for child in children_of(row)]))
        measurements += [
            each._replace(terms=tuple(t._replace(coefficient=number[t.coefficient]) for t in each.terms))
            for each in other.measurements
        ]
    return assembled(
        nodes.rows, circuit.operations, measurements,
        wires=circuit.wires, features=circuit.features, weights=circuit.weights,
    )  # fmt: skip


def gates(circuit: Circuit) -> Circuit:
    """The circuit without its measurements."""
    return assembled(
        circuit.nodes, circuit.operations, (),
        wires=circuit.wires, features=circuit.features, weights=circuit.weights,
    )  # fmt: skip


def _with_measurements(others: Sequence[QuantumLayer], circuit: Circuit) -> Circuit:
    return with_measurements(circuit, [each._program(circuit.features).circuit for each in others])


def _circuit(scene: Scene, node: fx.Node) -> Circuit:
    layer, value = layer_of(scene, node), scene.value(node.args[0])
    return layer._programs[value.shape[-1]].circuit


def _like(scene: Scene, node: fx.Node, layer: QuantumLayer) -> list[fx.Node]:
    """The calls of layers on the same input with the same gates and weights, in order."""
    wanted, found = gates(_circuit(scene, node)), []
    for each in sorted(node.args[0].users):
        other = layer_of(scene, each)
        if other is not None and other.input_arg == layer.input_arg and _same_weights(layer, other):
            found += [each] * (gates(_circuit(scene, each)) == wanted)
    return found


def _others(scene: Scene, node: fx.Node) -> bool:
    return any(each is not node and layer_of(scene, each) for each in node.args[0].users)


def _same_weights(a: QuantumLayer, b: QuantumLayer) -> bool:
    return a._shapes == b._shapes and all(a._parameters[name] is b._parameters[name] for name in a._shapes)


SHARED_GATES = Rule("shared_gates", "circuit_a(x), circuit_b(x) = parts of one circuit(x)", share_gates)
