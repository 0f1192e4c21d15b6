"""The case as a PennyLane function: the same for us and for PennyLane."""

from collections.abc import Callable
from typing import Any

import pennylane as qml
from protocol import angles_of

GATES = {
    "H": qml.Hadamard,
    "RX": qml.RX,
    "RY": qml.RY,
    "RZ": qml.RZ,
    "RZZ": qml.IsingZZ,
    "ROT": qml.Rot,
    "CNOT": qml.CNOT,
}
LETTERS = {"X": qml.X, "Z": qml.Z}


def circuit(case: dict[str, Any]) -> Callable:
    """A quantum function of inputs (b, features) and weights (K,)."""

    def function(inputs, weights):
        for name, wires, angles in case["gates"]:
            GATES[name](*angles_of(angles, inputs, weights), wires=wires)
        return [qml.expval(_observable(terms)) for terms in case["observables"]]

    return function


def _observable(terms: list) -> Any:
    words = [qml.prod(*(LETTERS[letter](wire) for letter, wire in word)) for _, word in terms]
    if len(terms) == 1 and terms[0][0] == 1.0:
        return words[0]
    return qml.Hamiltonian([factor for factor, _ in terms], words)
