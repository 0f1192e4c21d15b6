"""Mid-circuit measurements put off to the end (the principle of deferred measurement).

Measuring a wire and going on is, for every later statistic, the same as copying its bit onto a wire of its
own (CNOT) that nothing acts on any more; what is conditioned on the outcome becomes controlled by that wire.
A wire that is not used again is its own copy. Postselection keeps one outcome (`qlayers.blocks`, Projector).
"""

from collections.abc import Sequence

from shared.errors import UserError


def deferred(operations: Sequence, measurements: Sequence) -> tuple[list, dict, list]:
    """Operations without mid-circuit measurements, the wire that keeps each outcome, and the wires added.

    Args:
        operations: of a PennyLane tape.
        measurements: of the tape, which may look at outcomes.
    """
    import pennylane as qml

    if not any(_is_measurement(op) or _is_conditional(op) for op in operations):
        return list(operations), {}, []
    kept_on, added, found = {}, [], []
    fresh = _fresh_wires(operations, measurements)
    with qml.QueuingManager.stop_recording():
        for i, op in enumerate(operations):
            if op.name == "PauliMeasure":
                raise UserError(
                    f"{op.name} on wires {list(op.wires)}: expected a measurement in the computational "
                    "basis; rotate the wires and use qml.measure."
                )
            if _is_measurement(op):
                found += _measured(op, operations[i + 1 :], measurements, kept_on, added, fresh)
            elif _is_conditional(op):
                found += _conditional(op, kept_on)
            else:
                found.append(op)
    return found, kept_on, added


def _is_measurement(op) -> bool:
    return op.name in ("MidMeasure", "MidMeasureMP", "PauliMeasure")


def _is_conditional(op) -> bool:
    return type(op).__name__ == "Conditional"


def _fresh_wires(operations: Sequence, measurements: Sequence):
    used = [wire for part in (*operations, *measurements) for wire in part.wires]
    number = max((wire for wire in used if isinstance(wire, int)), default=-1)
    while True:
        number += 1
        yield number


def _measured(op, later: Sequence, measurements: Sequence, kept_on: dict, added: list, fresh) -> list:
    """What takes the place of one measurement."""
    import pennylane as qml

    (wire,) = op.wires
    found = [] if op.postselect is None else [qml.Projector([op.postselect], wires=wire)]
    again = any(wire in part.wires for part in later)
    again |= any(wire in m.wires for m in measurements if m.mv is None) or not all(
        m.wires for m in measurements
    )
    if not again and not op.reset:
        kept_on[op.meas_uid] = wire
        return found
    kept_on[op.meas_uid] = copy = next(fresh)
    added.append(copy)
    found.append(qml.CNOT([wire, copy]))
    if op.reset:
        found.append(qml.CNOT([copy, wire]))
    return found


def _conditional(op, kept_on: dict) -> list:
    import pennylane as qml

    wires, values = outcomes(op.meas_val, kept_on)
    return [qml.ctrl(op.base, control=wires, control_values=bits) for bits, value in values if value]


def outcomes(value, kept_on: dict) -> tuple[list, list[tuple[tuple[int, ...], float]]]:
    """The wires that a measured value depends on, and (bits on them, value) for all bits, both in order.

    PennyLane sorts the measurements behind a value by their random names; here they stand as they were made.
    """
    rank = {name: i for i, name in enumerate(kept_on)}
    names = [measured.meas_uid for measured in value.measurements]
    order = sorted(range(len(names)), key=lambda i: rank[names[i]])
    found = [(tuple(int(bits[i]) for i in order), float(result)) for bits, result in value.items()]
    return [kept_on[names[i]] for i in order], sorted(found, key=lambda pair: pair[0])
