"""What the common optimizer knows about circuits: PennyLane's layer, whose circuit one op can run."""

import sys

from torch import nn

from qlayers.layer import QuantumLayer
from qlayers.program import Captured
from shared.graph import Exchange, Rules


def to_quantum_layer(module: nn.Module) -> tuple[nn.Module, str, str] | None:
    """A `pennylane.qnn.TorchLayer` becomes a `QuantumLayer` with its parameters, if one op can run it."""
    pennylane = sys.modules.get("pennylane")  # where it is not imported, there is no such layer
    if pennylane is None or type(module) is not pennylane.qnn.TorchLayer:
        return None
    shapes = {name: tuple(weight.shape) for name, weight in module.qnode_weights.items()}
    layer = QuantumLayer(module.qnode, shapes, input_arg=module.input_arg)
    if not all(isinstance(each, Captured) for each in layer._programs.values()):
        return None
    for name in shapes:
        layer._parameters[name] = module._parameters[name]
    return layer, "TorchLayer", "QuantumLayer"


def is_leaf(module: nn.Module) -> bool:
    """Layers are one call each, PennyLane's too."""
    return isinstance(module, QuantumLayer) or type(module).__module__.startswith("pennylane.")


RULES = Rules(
    (Exchange("quantum_layer", "pennylane.qnn.TorchLayer = qlayers.QuantumLayer", to_quantum_layer),),
    is_leaf,
)
