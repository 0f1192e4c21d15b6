"""A layer's circuit, changed, as a call in a graph: without the layer, on the weights of the layer."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx

from qlayers.circuit import Circuit, assembled
from qlayers.expressions import Nodes, Row, children_of
from qlayers.layer import QuantumLayer, _promoted
from qlayers.measured_layer import COMPUTED_AS, cast
from qlayers.program import Captured
from shared.graph import Scene
from shared.graph.scene import hooked


def evaluate(program: Captured, inputs: Tensor, weights: Mapping[str, Any]) -> Tensor:
    """What a `QuantumLayer` returns for inputs (..., features) and weights by name."""
    shape, dtype, held = inputs.shape, inputs.dtype, [weights[name] for name in program.names]
    flat = inputs if len(shape) == 2 else inputs.reshape(-1, shape[-1])
    if dtype in COMPUTED_AS or any([weight.dtype is not dtype for weight in held]):  # noqa: C419
        flat, held = _promoted(flat, held)
    out = program.run(flat, held)
    if out.dtype is not dtype:
        out = cast(out, dtype)
    if program.single:
        out = out.squeeze(-1)
    return out if len(shape) == 2 else out.reshape(shape[:-1] + out.shape[1:])


class Running:
    """The circuit of a layer after a change, for any number of features that the layer takes.

    Args:
        layer: knows the circuits; its weights are not used.
        change: of each circuit.
        name: in the code of a graph.
    """

    def __init__(self, layer: QuantumLayer, change: Callable[[Circuit], Circuit], name: str) -> None:
        self.layer, self.change, self.__name__ = layer, change, name
        self.names = tuple(layer._shapes)
        self._programs: dict[int, Captured] = {}

    def program(self, features: int) -> Captured:
        """The circuit for inputs with so many features."""
        if features not in self._programs:
            found = self.layer._program(features)
            self._programs[features] = Captured.of(self.change(found.circuit), features)
        return self._programs[features]

    def __call__(self, inputs: Tensor, *weights: Tensor) -> Tensor:
        """The measurements of inputs (..., features), for the layer's weights in their order."""
        program = self._programs.get(inputs.shape[-1]) or self.program(inputs.shape[-1])
        return evaluate(program, inputs, dict(zip(self.names, weights, strict=True)))

    def __deepcopy__(self, memo: dict) -> "Running":
        return self


def layer_of(scene: Scene, node: Any) -> QuantumLayer | None:
    """The layer that a node calls with one tensor, if it runs a fixed circuit exactly and by itself."""
    if not isinstance(node, fx.Node) or node.op != "call_module" or node.kwargs or len(node.args) != 1:
        return None
    layer, value = scene.root.get_submodule(str(node.target)), scene.value(node.args[0])
    if not isinstance(layer, QuantumLayer) or hooked(layer) or len(layer._inputs) > 1:
        return None
    if layer._backend is not None or layer._settings.trajectories or value is None or not value.ndim:
        return None
    if any(name not in layer._parameters for name in layer._shapes):
        return None
    return layer if isinstance(layer._programs.get(value.shape[-1]), Captured) else None


def weights_of(scene: Scene, node: fx.Node, layer: QuantumLayer) -> list[fx.Node]:
    """The weights of a layer as nodes, before its call."""
    with scene.graph.inserting_before(node):
        return [scene.graph.get_attr(f"{node.target}.{name}") for name in layer._shapes]


def replace(scene: Scene, node: fx.Node, function: Any, *args: Any) -> fx.Node:
    """Call a function where a layer is called."""
    new = scene.put(node, function, *args)
    scene.graph.erase_node(node)
    return new


def with_leaves(circuit: Circuit, leaf: Callable[[Nodes, Row], int], **fields: Any) -> Circuit:
    """The circuit with other leaves in its expressions.

    Args:
        circuit: left as it is.
        leaf: adds what stands for a leaf to a table, and returns its number.
        fields: further fields of a `Circuit` that change.
    """
    nodes, number = Nodes(), {}
    for old, row in enumerate(circuit.nodes):
        children = [number[child] for child in children_of(row)]
        if row[0] == "affine":
            number[old] = nodes.affine(row[1], row[2], *children)
        else:
            number[old] = nodes.apply(row[0], *children) if children else leaf(nodes, row)
    operations = [
        each._replace(parameters=tuple(number[p] for p in each.parameters)) for each in circuit.operations
    ]
    measurements = [
        each._replace(terms=tuple(t._replace(coefficient=number[t.coefficient]) for t in each.terms))
        for each in circuit.measurements
    ]
    kept = {name: getattr(circuit, name) for name in ("wires", "features", "weights", "single")}
    return assembled(nodes.rows, operations, measurements, **{**kept, **fields})


def same_leaf(nodes: Nodes, row: Row) -> int:
    """The leaf as it is."""
    return nodes._add(row)
