"""PennyLane operations as gates of the table (`qlayers.gates`) and blocks (`qlayers.blocks`)."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayers.blocks import check_block
from qlayers.gates import gate
from qlayers.noise.channels import KRAUS, TABLE, check_channel
from qlayers.symbolic import Symbolic, ValueNeeded
from shared.errors import UserError

# a gate with k controls becomes up to 2^k rotations per rotation; beyond, PennyLane decomposes
MOST_CONTROLS = 3
MOST_DENSE_WIRES = 8  # matrices are written out up to here
NOTHING = frozenset({"Barrier", "Snapshot", "Identity"})
STATES = frozenset({"StatePrep", "AmplitudeEmbedding"})
ROTATED = 2  # constant unitaries on so many wires become rotations, which the Pauli path can take
ROTATED_DIAGONAL = 5


class Vector(NamedTuple):
    """The numbers of a block as one tensor, (..., m): real ones, or real parts and then imaginary parts."""

    numbers: Tensor


class Recorded(NamedTuple):
    """An operation as it was called: parameters are whatever kind of number the function computed with."""

    gate: str
    wires: tuple
    parameters: list[Any] = []  # noqa: RUF012  (never changed)
    entries: tuple[complex, ...] = ()


def label(wire):
    """A wire label as int or str."""
    if type(wire) is int or isinstance(wire, str):
        return wire
    try:
        return int(wire.__index__())
    except (AttributeError, TypeError):
        raise UserError(f"Wire labels must be integers or strings, not {wire!r}; rename the wire.") from None


def labels(wires) -> tuple:
    return tuple(map(label, wires))


def expand(op, touched: set) -> Iterator[Recorded]:
    """The gates and blocks that make up `op`, in order; `touched`, the wires acted on before, grows."""
    if op.name in NOTHING:
        return
    found = _channel(op) or _known(op) or _block(op, touched) or _evolution(op)
    if found is None and not op.has_decomposition and op.has_matrix and len(op.wires) <= MOST_DENSE_WIRES:
        found = _unitary(op, labels(op.wires))
    if isinstance(found, Recorded):
        found = [found]
    if found is None:
        for part in _decomposition(op):
            yield from expand(part, touched)
        return
    for one in found:
        touched.update(one.wires)
        yield one


def takes(op) -> bool:
    """Whether `expand` makes gates and blocks of an operation without PennyLane's decomposition.

    Channels are not meant: whoever asks simulates pure states.
    """
    if op.name in NOTHING or op.name == "Projector" or "QubitUnitary" in op.name:
        return True
    if _known(op) is not None or _evolution(op) is not None:
        return True
    return not op.has_decomposition and op.has_matrix and len(op.wires) <= MOST_DENSE_WIRES


def _channel(op) -> Recorded | None:
    """A noise channel, or None."""
    name, wires = op.name, labels(op.wires)
    if name == "PauliError":
        return Recorded(f"PauliError[{op.hyperparameters['operators']}]", wires, list(op.data))
    if name in TABLE:
        return Recorded(name, wires, list(op.data))
    return _kraus(wires, op.data) if name == KRAUS else None


def _kraus(wires: tuple, operators: Sequence) -> Recorded:
    """A channel by its Kraus operators, which are constants: PennyLane takes no others with torch."""
    if any(isinstance(operator, Tensor) and operator.requires_grad for operator in operators):
        raise UserError(
            f"{KRAUS} on wires {list(wires)}: expected constant Kraus matrices, received ones of inputs or "
            "weights; use a channel with parameters, or write the circuit as text."
        )
    entries = tuple(number for o in operators for number in np.asarray(o, dtype=complex).reshape(-1).tolist())
    check_channel(KRAUS, wires, [], entries)
    return Recorded(KRAUS, wires, [], entries)


def _known(op) -> Recorded | None:
    """One gate of the table, or None."""
    name, wires = op.name, labels(op.wires)
    if name == "GlobalPhase":
        return Recorded(name, (), list(op.data))
    if name == "PauliRot":
        name = f"PauliRot[{op.hyperparameters['pauli_word']}]"
    if not name.startswith(("C(", "Adjoint(")) and gate(name, len(wires)):
        return Recorded(name, wires, list(op.data))
    inner = _known(op.base) if hasattr(op, "base") else None
    if inner is None:
        return None
    values = getattr(op, "control_values", None)
    if name.startswith("Adjoint("):
        return inner._replace(gate=f"Adjoint({inner.gate})")
    if values is None or len(values) > MOST_CONTROLS:
        return None
    gates = inner.gate
    for value in reversed(values):
        gates = f"C({gates})" if value else f"C0({gates})"
    return inner._replace(gate=gates, wires=(*labels(op.control_wires), *inner.wires))


def _evolution(op) -> list[Recorded] | None:
    """exp(-i t sum of c P) with commuting words P as rotations by 2 t c; None if it is something else."""
    sentence = op.base.pauli_rep if op.name == "Evolution" else None
    if sentence is None or not all(a.commutes_with(b) for a in sentence for b in sentence):
        return None
    return [
        Recorded(f"PauliRot[{''.join(word.values())}]", labels(word), [2 * op.param * real(c, op.base)])
        if word
        else Recorded("GlobalPhase", (), [op.param * real(c, op.base)])
        for word, c in sentence.items()
    ]


def _decomposition(op) -> list:
    import pennylane as qml

    what = f"{op.name} on wires {list(op.wires)}"
    if isinstance(op, qml.operation.Channel):
        raise UserError(
            f"{what}: expected a channel that the circuit language knows ({', '.join(TABLE)}, PauliError or "
            f"{KRAUS}), received another one; write it as qml.{KRAUS} with its Kraus matrices."
        )
    try:
        with qml.QueuingManager.stop_recording():
            return op.decomposition()
    except qml.exceptions.DecompositionUndefinedError:
        raise UserError(
            f"The gate {what} is not in the gate table and PennyLane cannot decompose it; write it with "
            "standard gates, or give its class a compute_decomposition."
        ) from None


# blocks


def _block(op, touched: set) -> Recorded | list[Recorded] | None:
    """A state, a matrix, a diagonal or a projector; None if it is something else."""
    name, wires = op.name, labels(op.wires)
    if name in STATES:
        return _state(op, wires) if touched.isdisjoint(wires) else None
    if name == "Projector":
        return Recorded("Projector", wires, [], tuple(int(bit) for bit in op.parameters[0]))
    if "DiagonalQubitUnitary" in name and name.count("C(") == 0:
        return _diagonal(op, wires)
    return _unitary(op, wires) if "QubitUnitary" in name else None


def _state(op, wires: tuple) -> Recorded:
    state = op.parameters[0]
    if getattr(op, "is_sparse", False):
        state = state.toarray().reshape(-1)
    if isinstance(state, Symbolic) and not _is_normalised(op):
        raise ValueNeeded("it prepares a state whose norm has to be checked")
    return _numbers("StatePrep", wires, state)


def _is_normalised(op) -> bool:
    return op.hyperparameters.get("normalize") or op.hyperparameters.get("pad_with") is not None


def _diagonal(op, wires: tuple) -> Recorded | list[Recorded]:
    import pennylane as qml

    found = _numbers("DiagonalQubitUnitary", wires, qml.math.diagonal(op.matrix(), axis1=-2, axis2=-1))
    if found.parameters or len(wires) > ROTATED_DIAGONAL:
        return found
    # exp(i sum over z of c_z Z^z), c being the Walsh-Hadamard transform of the phases over 2^k
    phases = np.angle(np.array(found.entries, dtype=complex))
    for _ in wires:
        even, odd = phases.reshape(2, -1)
        phases = np.stack([even + odd, even - odd], -1).reshape(-1) / 2
    rotations = [Recorded("GlobalPhase", (), [-float(phases[0])])]
    for z in range(1, len(phases)):
        on = tuple(wire for i, wire in enumerate(wires) if z >> (len(wires) - 1 - i) & 1)
        rotations.append(Recorded("MultiRZ", on, [-2.0 * float(phases[z])]))
    return rotations


def _unitary(op, wires: tuple) -> Recorded | list[Recorded] | None:
    import pennylane as qml

    matrix = op.sparse_matrix().toarray() if not op.has_matrix else op.matrix()
    shape = qml.math.shape(matrix)
    found = _numbers("QubitUnitary", wires, qml.math.reshape(matrix, (*shape[:-2], shape[-1] ** 2)))
    if found.parameters or len(wires) > ROTATED:
        return found
    rebuilt = qml.QubitUnitary(np.array(found.entries).reshape(shape[-2:]), wires=op.wires)
    with qml.QueuingManager.stop_recording():
        parts = rebuilt.decomposition()
    return [one for part in parts for one in expand(part, set())]


def _numbers(name: str, wires: tuple, values) -> Recorded:
    """A block with constant numbers as entries, with computed ones as a vector."""
    if isinstance(values, Tensor) and (
        isinstance(values, Symbolic) or values.requires_grad or _varies(values)
    ):
        if not isinstance(values, Symbolic):
            _check_each(name, wires, values)
        elif name != "StatePrep":
            raise ValueNeeded("it applies a matrix that has to be checked for unitarity")
        parts = [values.real, values.imag] if values.is_complex() else [values]
        if name == "QubitUnitary" and not values.is_complex():
            parts.append(torch.zeros_like(values))
        return Recorded(name, wires, [Vector(torch.cat(parts, -1))])
    if np.ndim(values) > 1:
        values = torch.as_tensor(np.array(values))  # a copy: torch wants to write
        return _numbers(name, wires, values)
    entries = tuple(np.asarray(values).reshape(-1).tolist())
    check_block(name, wires, 0, entries)
    return Recorded(name, wires, [], entries)


def _varies(values: Tensor) -> bool:
    """Whether a tensor is not simply a constant vector: one per sample, or inside a transform."""
    return values.ndim > 1 or torch._C._functorch.is_functorch_wrapped_tensor(values)


def _check_each(name: str, wires: tuple, values: Tensor) -> None:
    """Check the numbers of a block that was computed, where they can be looked at."""
    if torch._C._functorch.is_functorch_wrapped_tensor(values) or values.device.type == "meta":
        return
    for row in values.detach().cpu().reshape(-1, values.shape[-1]).unbind(0):
        check_block(name, wires, 0, tuple(row.tolist()))


def real(value, observable):
    """The coefficient, refused if it has an imaginary part."""
    if isinstance(value, Tensor):
        return value.real if value.is_complex() else value
    value = complex(value)
    if abs(value.imag) > 1e-12 * max(1.0, abs(value.real)):
        raise UserError(
            f"The observable {observable!r} is not Hermitian: a coefficient is {value}; make it real."
        )
    return value.real
