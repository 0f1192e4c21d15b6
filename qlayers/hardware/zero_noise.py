r"""Zero-noise extrapolation: circuits made longer on purpose, and their values followed back to no noise.

A circuit U becomes U (U^\dagger U)^n, which does the same but is 2n + 1 times as noisy (global folding; other
factors fold a part of the gates). Values at several factors are extrapolated to the factor 0. Temme, Bravyi,
Gambetta, "Error mitigation for short-depth quantum circuits", 2017; Giurgica-Tiron et al., "Digital zero
noise extrapolation for quantum error mitigation", 2020. Folding and extrapolation are PennyLane's.

A service must not simplify the folded circuits, or it removes what was added: switch its optimisation off.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.devices.preprocess import decompose
from pennylane.measurements import CountsMP, SampleMP
from pennylane.operation import Channel, Operator, StatePrepBase
from pennylane.ops.mid_measure import MidMeasure
from pennylane.tape import QuantumScript

from qlayers.hardware.mitigation import Mitigation, Runs
from shared.errors import UserError


class ZeroNoise(Mitigation):
    """Runs each circuit at several noise factors and extrapolates to none.

    Args:
        runner: runs the circuits, whose number is that of the factors times as large.
        factors: 1 or more each and different, two of them at least; 1 is the circuit itself.
            Odd factors fold the whole circuit, others its last gates only, which scales noise less evenly:
            a straight line suits them better.
        extrapolate: takes the factors and the values at them, and gives the value at 0. The default goes
            through all values (Richardson); `functools.partial(qml.noise.poly_extrapolate, order=1)` is a
            straight line, which amplifies the noise of finite shots less.

    Raises:
        UserError: wrong factors.

    Example:
        >>> from qlayers.hardware import Runner
        >>> ideal = qml.device("default.mixed", wires=1)
        >>> device = qml.noise.insert(ideal, qml.DepolarizingChannel, 0.01, position="all")
        >>> tape = qml.tape.QuantumScript([qml.RX(0.5, 0), qml.RY(0.7, 0)], [qml.expval(qml.Z(0))])
        >>> bare, = Runner(device).run([tape])
        >>> mitigated, = ZeroNoise(Runner(device)).run([tape])
        >>> exact = np.cos(0.5) * np.cos(0.7)
        >>> bool(abs(mitigated - exact) < 0.1 * abs(bare - exact))
        True
    """

    def __init__(
        self,
        runner: Runs,
        factors: Sequence[float] = (1.0, 3.0, 5.0),
        extrapolate: Callable[[np.ndarray, list], Any] = qml.noise.richardson_extrapolate,
    ):
        super().__init__(runner)
        if len(factors) < 2 or len(set(factors)) < len(factors) or min(factors) < 1:
            raise UserError(
                f"ZeroNoise: expected two or more different factors of 1 or more, received {factors}; "
                "(1, 3, 5) is a good start."
            )
        self.factors, self.extrapolate = tuple(factors), extrapolate

    def prepare(
        self, tapes: Sequence[QuantumScript]
    ) -> tuple[list[QuantumScript], Callable[[Sequence], list[Any]]]:
        """Each tape at each factor, and the extrapolation of their results."""
        circuits = [_folded(tape, factor) for tape in tapes for factor in self.factors]
        count = len(self.factors)

        def combine(results: Sequence) -> list[Any]:
            starts = range(0, len(results), count)
            return [self._extrapolated(results[start : start + count]) for start in starts]

        return circuits, combine

    def _extrapolated(self, results: Sequence) -> Any:
        if isinstance(results[0], tuple | list):  # several measurements, or copies of shots
            return tuple(self._extrapolated(parts) for parts in zip(*results, strict=True))
        values = [np.asarray(result) for result in results]
        return np.asarray(self.extrapolate(np.array(self.factors), values))[()]


def _folded(tape: QuantumScript, factor: float) -> QuantumScript:
    """The tape at a factor; states prepared at its start stay at its start."""
    for part in (*tape.operations, *tape.measurements):
        if isinstance(part, Channel | MidMeasure | CountsMP | SampleMP):
            raise UserError(
                f"ZeroNoise: expected gates, and measurements whose values can be extrapolated, received "
                f"{part!r}; run such circuits through the runner itself."
            )
    (gates,), _ = decompose(tape, _is_gate, skip_initial_state_prep=True, name="zero-noise extrapolation")
    prepared = _prepared(gates.operations)
    (folded,), _ = qml.noise.fold_global(gates.copy(ops=gates.operations[prepared:]), factor)
    return gates.copy(ops=[*gates.operations[:prepared], *folded.operations])


def _is_gate(op: Operator) -> bool:
    """Whether an operation is folded as one: templates are not, of which half is many gates."""
    base = getattr(op, "base", None)
    if isinstance(base, Operator):
        return _is_gate(base)
    return type(op).__module__.startswith("pennylane.ops.") or not op.has_decomposition


def _prepared(operations: Sequence[Operator]) -> int:
    """How many operations at the start prepare states."""
    return next((i for i, op in enumerate(operations) if not isinstance(op, StatePrepBase)), len(operations))
