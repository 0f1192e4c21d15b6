"""The operations of a `Circuit` as PennyLane's, with numbers in place of expressions."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import pennylane as qml
from pennylane.operation import Operator

from qlayers.blocks import BLOCKS
from qlayers.circuit import Operation
from qlayers.noise.channels import KRAUS, word_of
from shared.errors import UserError

Maker = Callable[[Sequence[float]], Operator]


def maker_of(operation: Operation) -> Maker:
    """What makes PennyLane's operation of its parameters' numbers.

    Raises:
        UserError: there is no such operation on a device.

    Example:
        >>> maker_of(Operation("C(RX)", ("a", "b"), (0,)))([0.5])
        CRX(0.5, wires=['a', 'b'])
    """
    name, wires, _, entries = operation
    if name == "Projector":
        raise UserError(
            f"Projector on wires {list(wires)}: expected operations that a device applies, received a "
            "postselected measurement; measure the wire instead, or run the layer without a device."
        )
    if name in BLOCKS:
        size = BLOCKS[name](len(wires))
        return lambda numbers: _block(name, wires, np.array(entries if entries else numbers), size)
    if name == KRAUS:
        return lambda numbers: qml.QubitChannel(_matrices(entries, numbers, 2 ** len(wires)), wires=wires)
    if word := word_of(name):
        return lambda numbers: qml.PauliError(word, numbers[0], wires=wires)
    make = _maker(name)
    return lambda numbers: make(numbers, wires)


@lru_cache(maxsize=1024)
def _maker(name: str) -> Callable[[Sequence, Sequence], Operator]:
    """What makes a gate or channel of numbers and wires; names are those of `qlayers.gates.gate`."""
    if match := re.fullmatch(r"(Adjoint|C0?)\((.*)\)", name):
        outer, make = match[1], _maker(match[2])
        if outer == "Adjoint":
            return lambda numbers, wires: qml.adjoint(make(numbers, wires))
        on = [outer == "C"]
        return lambda numbers, wires: qml.ctrl(make(numbers, wires[1:]), wires[0], control_values=on)
    if match := re.fullmatch(r"PauliRot\[(.*)\]", name):
        return lambda numbers, wires: qml.PauliRot(numbers[0], match[1], wires=wires)
    kind = getattr(qml, name)
    return lambda numbers, wires: kind(*numbers, wires=wires)


def _block(name: str, wires: Sequence, numbers: np.ndarray, size: int) -> Operator:
    if len(numbers) > size:
        numbers = _complex(numbers)
    if name == "StatePrep":  # of norm 1 up to the precision in which it was computed
        numbers = numbers / np.linalg.norm(numbers)
    elif name == "QubitUnitary":
        numbers = numbers.reshape(2 ** len(wires), -1)
    return getattr(qml, name)(numbers, wires=wires)


def _matrices(entries: Sequence[complex], numbers: Sequence[float], size: int) -> list[np.ndarray]:
    values = np.array(entries) if entries else _complex(np.array(numbers))
    return list(values.reshape(-1, size, size))


def _complex(numbers: np.ndarray) -> np.ndarray:
    """All real parts and then all imaginary parts as complex numbers."""
    real, imaginary = np.split(numbers, 2)
    return real + 1j * imaginary
