"""Exact results of tapes: which measurements the engine takes, and PennyLane's own processing for others."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from qlayers.device.batch import evaluate
from qlayers.device.script import Script, script_of
from qlayers.measure import Measurement
from qlayers.read_gates import MOST_DENSE_WIRES, label
from qlayers.read_measurements import READERS, read

WHOLE = Measurement("state")


def results_of(tapes: Sequence) -> list[tuple[Tensor, ...]]:
    """For each tape the exact results of its measurements as torch tensors, with its batch dimension.

    Differentiable with respect to parameters that are torch tensors which require grad. Tapes of one
    structure run as one batch.

    Raises:
        UserError: an operation or measurement is invalid.

    Example:
        >>> import pennylane as qml
        >>> tape = qml.tape.QuantumScript([qml.RX([0.0, 3.14159265], 0)], [qml.expval(qml.Z(0))])
        >>> results_of([tape])
        [(tensor([ 1., -1.], dtype=torch.float64),)]
    """
    scripts = [script_of(tape, [measurement_of(p) for p in tape.measurements]) for tape in tapes]
    return [
        tuple(
            _result(tape, script, process, values)
            for process, values in zip(tape.measurements, found, strict=True)
        )
        for tape, script, found in zip(tapes, scripts, evaluate(scripts), strict=True)
    ]


def measurement_of(process) -> Measurement:
    """The measurement of the engine that serves one of PennyLane's; the whole state for an uncommon one."""
    return read(process, kept_on(process)) if _is_read(process) else WHOLE


def kept_on(process) -> dict:
    """The wire of each outcome that a process looks at; deferral has put them on wires of their own."""
    if process.mv is None:
        return {}
    values = process.mv if isinstance(process.mv, Sequence) else [process.mv]
    return {m.meas_uid: label(m.wires[0]) for value in values for m in value.measurements}


def _is_read(process) -> bool:
    """Whether the engine has this measurement; it has no sparse matrices of more wires than it writes out."""
    return type(process).__name__ in READERS and not _is_sparse(process)


def _is_sparse(process) -> bool:
    observable = process.obs
    return getattr(observable, "name", "") == "SparseHamiltonian" and len(observable.wires) > MOST_DENSE_WIRES


def _result(tape, script: Script, process, values: Tensor) -> Tensor:
    """One result, from what the engine returns for it."""
    if tape.batch_size is None:
        values = values[0]
    wires = script.structure.wires
    if _is_sparse(process):
        return _sparse_mean(process.obs, values, wires)
    is_part = type(process).__name__ == "StateMP" and 0 < len(process.wires) < len(wires)
    if _is_read(process) and not is_part:
        return values
    from pennylane.wires import Wires

    return torch.as_tensor(process.process_state(values, Wires(wires)))


def _sparse_mean(observable, states: Tensor, wires: tuple) -> Tensor:
    """<psi|H|psi> of states (..., 2^n)."""
    matrix = observable.sparse_matrix(wire_order=wires, format="coo")
    places = torch.as_tensor(np.stack([matrix.row, matrix.col]), dtype=torch.int64)
    entries = torch.as_tensor(matrix.data).to(states)
    sparse = torch.sparse_coo_tensor(places, entries, matrix.shape, check_invariants=False)
    columns = states.reshape(-1, states.shape[-1]).mT  # (2^n, b)
    return (columns.conj() * torch.sparse.mm(sparse, columns)).sum(0).real.reshape(states.shape[:-1])
