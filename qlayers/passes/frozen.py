"""Circuits whose weights are frozen: why they are not folded to matrices."""

from torch import fx

from qlayers.circuit import Circuit
from qlayers.expressions import children_of
from qlayers.passes.running import layer_of
from shared.graph import Refused, Rule, Scene

REASON = (
    "its weights are frozen, but {gates} gates on {wires} wires take no longer than a product with a "
    "matrix, so they are not folded"
)


def leave_frozen(scene: Scene, node: fx.Node) -> tuple[str, str] | None:
    """Says why a circuit with frozen weights stays as it is.

    What comes after the last gate with an angle of the inputs could be one matrix, made once. It was measured
    from 2 to 8 wires, 1 to 6 layers and 1 to 1,024 samples: the rotations of the engine never took as long as
    the state, its product with that matrix and the measurement do as calls of their own.
    """
    layer = layer_of(scene, node)
    if layer is None or not layer._shapes or any(layer._parameters[n].requires_grad for n in layer._shapes):
        return None
    circuit = layer._programs[scene.value(node.args[0]).shape[-1]].circuit
    if gates := tail(circuit):
        raise Refused(REASON.format(gates=gates, wires=len(circuit.wires)))
    return None


def tail(circuit: Circuit) -> int:
    r"""How many gates come after the last whose angle depends on the inputs.

    Example:
        >>> tail(Circuit.parse("weights w(1)\nRY(w[0]) 0\nRX(x0) 0\nRZ(w[0]) 0\nH 0\nexpval Z(0)"))
        2
    """
    of_inputs: set[int] = set()
    for number, row in enumerate(circuit.nodes):
        if row[0] == "input" or of_inputs.intersection(children_of(row)):
            of_inputs.add(number)
    count = 0
    for operation in reversed(circuit.operations):
        if of_inputs.intersection(operation.parameters):
            break
        count += 1
    return count


FROZEN = Rule("frozen_circuit", "circuit(x) with frozen weights = <x| matrix |x>", leave_frozen)
