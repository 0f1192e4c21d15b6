"""What PennyLane does to tapes before the device runs them."""

from collections.abc import Sequence

from pennylane.devices.preprocess import (
    decompose,
    device_resolve_dynamic_wires,
    no_sampling,
    validate_device_wires,
    validate_measurements,
)
from pennylane.measurements import (
    ClassicalShadowMP,
    ExpectationMP,
    SampleMeasurement,
    ShadowExpvalMP,
    StateMeasurement,
)
from pennylane.operation import Operator, StatePrepBase
from pennylane.ops import CompositeOp, Hermitian, MidMeasure, QubitUnitary, SparseHamiltonian, SymbolicOp
from pennylane.tape import QuantumScript
from pennylane.transforms import broadcast_expand, defer_measurements
from pennylane.transforms.core import CompilePipeline, transform
from pennylane.wires import Wires

from qlayers.device.script import wires_of
from qlayers.gates import CONTROLLED, TABLE
from qlayers.read_gates import takes

NAMES = {*TABLE, *CONTROLLED, "PauliRot", "MultiRZ"}
# what PennyLane's graph of decompositions aims at
TARGETS = {f"{around}{name}" for name in NAMES for around in ("", "Adjoint(", "C(")}
TARGETS = {name + ")" * name.count("(") for name in TARGETS} | {"GlobalPhase", "Identity"}
EXACT_ONLY = (SparseHamiltonian, Hermitian)
SHADOWS = (ClassicalShadowMP, ShadowExpvalMP)


def pipeline(name: str, wires, *, exact: bool) -> CompilePipeline:
    """The transforms that every tape goes through.

    Wires are checked before measurements are deferred, since the wires that this adds are the engine's own.

    Args:
        name: of the device, for messages.
        wires: of the device, or None for any.
        exact: whether shots are refused, since a derivative is wanted that has none.
    """
    found = CompilePipeline()
    if exact:
        found.add_transform(no_sampling, name=name)
    found.add_transform(device_resolve_dynamic_wires, wires=wires, allow_resets=False)
    found.add_transform(validate_device_wires, wires, name=name)
    found.add_transform(named_wires)
    found.add_transform(defer_measurements, allow_postselect=True)
    found.add_transform(
        decompose,
        stopping_condition=runs,
        decomposer=decomposition,
        skip_initial_state_prep=True,
        device_wires=wires,
        target_gates=TARGETS,
        name=name,
    )
    found.add_transform(
        validate_measurements,
        analytic_measurements=is_exact,
        sample_measurements=is_sampled,
        name=name,
    )
    found.add_transform(one_by_one_where_needed)
    return found


def runs(op: Operator) -> bool:
    """Whether the engine runs an operation as it is; a barrier is left out, and so are the wires it names."""
    return not isinstance(op, StatePrepBase) and op.name != "Barrier" and takes(op)


def decomposition(op: Operator) -> Sequence[Operator]:
    """The parts of an operation: PennyLane's, and its matrix where these cannot be broadcast."""
    if op.name == "SpecialUnitary" and op.batch_size is not None:
        return [QubitUnitary(op.matrix(), wires=op.wires)]
    return op.decomposition()


def is_exact(process) -> bool:
    """Whether a measurement has an exact result."""
    if not isinstance(process, StateMeasurement):
        return False
    return process.obs is None or _has_basis(process.obs, EXACT_ONLY * isinstance(process, ExpectationMP))


def is_sampled(process) -> bool:
    """Whether a measurement has a result with finite shots."""
    if not isinstance(process, SampleMeasurement | ClassicalShadowMP | ShadowExpvalMP):
        return False
    return process.obs is None or _has_basis(process.obs, (Hermitian,))


def _has_basis(observable: Operator, others: tuple[type, ...]) -> bool:
    """Whether an observable can be measured: all its parts have eigenbases, or are of these types."""
    if isinstance(observable, CompositeOp):
        return all(_has_basis(part, others) for part in observable.operands)
    if isinstance(observable, SymbolicOp):
        return _has_basis(observable.base, others)
    return isinstance(observable, others) or observable.has_diagonalizing_gates


@transform
def named_wires(tape: QuantumScript):
    """Names the wires of measurements of all wires, since deferral adds some that are not meant."""
    if any(isinstance(op, MidMeasure) for op in tape.operations):
        return validate_device_wires(tape, Wires(wires_of(tape)))
    return (tape,), lambda results: results[0]


@transform
def one_by_one_where_needed(tape: QuantumScript):
    """Splits a broadcast tape where its samples differ in kind: in lost shots, or in random bases."""
    shadows = any(isinstance(process, SHADOWS) for process in tape.measurements)
    loses = tape.shots and any(op.name == "Projector" for op in tape.operations)
    if tape.batch_size is not None and (shadows or loses):
        return broadcast_expand(tape)
    return (tape,), lambda results: results[0]
