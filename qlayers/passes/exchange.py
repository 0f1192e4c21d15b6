"""PennyLane's layer for ours: the same circuit and weights, run by one op."""

import sys
from typing import Any

from torch import nn

from qlayers.layer import QuantumLayer
from qlayers.program import Captured
from shared.graph import Exchange


def is_torch_layer(module: Any) -> bool:
    """Whether this is a `pennylane.qnn.TorchLayer`, and no subclass, which may do anything."""
    pennylane = sys.modules.get("pennylane")  # where it is not imported, there is no such layer
    return pennylane is not None and type(module) is pennylane.qnn.TorchLayer


def stand_in(module: Any) -> QuantumLayer:
    """A `QuantumLayer` that computes what a `TorchLayer` does; its weights are that one's own."""
    shapes = {name: tuple(weight.shape) for name, weight in module.qnode_weights.items()}
    layer = QuantumLayer(module.qnode, shapes, input_arg=module.input_arg)
    for name in shapes:
        layer._parameters[name] = module._parameters[name]
    return layer


def to_quantum_layer(module: nn.Module) -> tuple[nn.Module, str, str] | None:
    """A `pennylane.qnn.TorchLayer` becomes a `QuantumLayer` with its parameters, if one op can run it."""
    if not is_torch_layer(module):
        return None
    layer = stand_in(module)
    if not all(isinstance(each, Captured) for each in layer._programs.values()):
        return None
    return layer, "TorchLayer", "QuantumLayer"


QUANTUM_LAYER = Exchange("quantum_layer", "pennylane.qnn.TorchLayer = qlayers.QuantumLayer", to_quantum_layer)
