"""What a circuit is, whichever process asks: two SHA-256 hashes, of its structure and of its parameters.

Python's own `hash` differs from process to process and PennyLane's `QuantumScript.hash` builds on it, so
neither can name a circuit in a file. Here a circuit is written as JSON text: its operations and measurements
with their types, wires and settings in order, and in place of each number its shape. The numbers follow as
float64 or complex128 bytes. Mid-circuit measurements carry random names; they are numbered as they come.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.measurements import MeasurementProcess, Shots
from pennylane.operation import Operator
from pennylane.ops import MeasurementValue
from pennylane.ops.mid_measure import MidMeasure, PauliMeasure
from pennylane.pauli import PauliSentence, PauliWord
from pennylane.tape import QuantumScript
from pennylane.wires import Wires

from shared.errors import UserError


class Identity:
    """The canonical text of a tape, and the hashes that the journal is keyed by.

    Args:
        tape: with numbers as parameters, of any kind (Python, NumPy, torch). Its shots are left out. The
            seed of a classical shadow is part of the circuit, so give one if it is to be known again.

    Raises:
        UserError: something in the circuit has no canonical text.

    Example:
        >>> one = qml.tape.QuantumScript([qml.RX(0.5, 0)], [qml.expval(qml.Z(0))])
        >>> other = qml.tape.QuantumScript([qml.RX(np.array(0.7), 0)], [qml.expval(qml.Z(0))])
        >>> Identity(one).circuit == Identity(other).circuit
        True
        >>> Identity(one).parameters == Identity(other).parameters
        False
    """

    def __init__(self, tape: QuantumScript):
        self._numbers: list[np.ndarray] = []
        self._measured: dict[Any, int] = {}  # mid-circuit measurements by their random names
        parts = [[self._text_of(one) for one in group] for group in (tape.operations, tape.measurements)]
        self.text = json.dumps(parts, separators=(",", ":"))

    @cached_property
    def circuit(self) -> str:
        """The hash of the structure, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def parameters(self) -> str:
        """The hash of the numbers, in hexadecimal. Their shapes are in the text."""
        digest = hashlib.sha256()
        for numbers in self._numbers:
            digest.update(numbers.tobytes())
        return digest.hexdigest()

    def _text_of(self, thing: Any) -> Any:
        """`thing` as JSON takes it, without its numbers."""
        if thing is None or isinstance(thing, bool | int | str):
            return thing
        if isinstance(thing, Wires | PauliWord | PauliSentence | MeasurementValue | type):
            return self._special(thing)
        if isinstance(thing, MidMeasure | PauliMeasure):
            settings = {**thing.hyperparameters, "meas_uid": self._number_of(thing)}
            return [_name(type(thing)), self._special(thing.wires), self._text_of(settings)]
        if isinstance(thing, Operator | MeasurementProcess):
            data, settings = thing._flatten()
            return [_name(type(thing)), [self._datum(one) for one in data], self._text_of(settings)]
        if isinstance(thing, dict):
            named = sorted(((str(key), value) for key, value in thing.items()), key=itemgetter(0))
            return {"dict": [[key, self._text_of(value)] for key, value in named]}
        if isinstance(thing, list | tuple):
            return self._all(thing)
        return self._number(thing)

    def _all(self, things: Iterable) -> list:
        return [self._text_of(one) for one in things]

    def _datum(self, thing: Any) -> Any:
        """One of an operator's data: there an integer is a number, as in RX(1, 0)."""
        return self._number(thing) if isinstance(thing, int) else self._text_of(thing)

    def _special(self, thing: Any) -> Any:
        if isinstance(thing, Wires):
            plain = [label.item() if isinstance(label, np.generic) else label for label in thing.labels]
            return {"wires": self._all(plain)}
        if isinstance(thing, type):
            return {"type": _name(thing)}
        if isinstance(thing, MeasurementValue):
            return self._measurement_value(thing)
        return {"pauli": [[self._text_of(key), self._text_of(value)] for key, value in thing.items()]}

    def _measurement_value(self, value: MeasurementValue) -> dict:
        """Its measurements as they come in the circuit (PennyLane sorts them by their random names)."""
        numbers = [self._number_of(one) for one in value.measurements]
        order = np.argsort(numbers).tolist()
        branches = sorted(([branch[i] for i in order], result) for branch, result in value.items())
        return {
            "measured": sorted(numbers),
            "values": [[branch, self._text_of(result)] for branch, result in branches],
        }

    def _number_of(self, measurement: MidMeasure | PauliMeasure) -> int:
        return self._measured.setdefault(measurement.meas_uid, len(self._measured))

    def _number(self, thing: Any) -> dict:
        array = np.asarray(qml.math.to_numpy(thing) if qml.math.get_interface(thing) != "builtins" else thing)
        if array.dtype.kind not in "biufc":
            raise UserError(
                f"Circuit for a device: expected operations of numbers, wires and names, received a "
                f"{_name(type(thing))}; write it as numbers, so that the journal can know it again."
            )
        array = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
        self._numbers.append(np.ascontiguousarray(array))
        return {"number": list(array.shape)}


def shots_text(shots: Shots) -> str:
    """Shots as the journal keeps them.

    >>> [shots_text(Shots(s)) for s in (None, 100, (10, 10, 5))]
    ['exact', '100', '10x2,5']
    """
    if not shots:
        return "exact"
    return ",".join(str(n) if copies == 1 else f"{n}x{copies}" for n, copies in shots.shot_vector)


def description(tape: QuantumScript) -> str:
    """A tape in a few words, for messages.

    >>> description(qml.tape.QuantumScript([qml.H(0), qml.RX(0.5, 1)], [qml.expval(qml.Z(0))], shots=10))
    'Hadamard, RX on wires [0, 1]; expval(Z(0)); 10 shots'
    """
    names = [op.name for op in tape.operations]
    gates = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") or "no gates"
    measured = ", ".join(map(repr, tape.measurements[:3])) + (", ..." if len(tape.measurements) > 3 else "")
    shots = f"{shots_text(tape.shots)} shots" if tape.shots else "exact"
    return f"{gates} on wires {tape.wires.tolist()}; {measured}; {shots}"


def _name(kind: type) -> str:
    """A class by package and name: its module may move between versions."""
    return f"{kind.__module__.partition('.')[0]}:{kind.__qualname__}"
