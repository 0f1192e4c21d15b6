"""The circuit of the quantum benchmark in PennyLane's language: the same for us and for PennyLane."""

from collections.abc import Callable

import pennylane as qml


def circuit(wires: int) -> Callable:
    """AngleEmbedding, StronglyEntanglingLayers, <Z> on every wire."""

    def function(inputs, weights):  # (b, wires), (layers, wires, 3)
        qml.AngleEmbedding(inputs, wires=range(wires))
        qml.StronglyEntanglingLayers(weights, wires=range(wires))
        return [qml.expval(qml.PauliZ(wire)) for wire in range(wires)]

    return function
