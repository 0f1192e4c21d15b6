"""Quantum functions whose circuit depends on values: called with the real tensors at every forward.

Slower than a captured circuit by the time that PennyLane takes to build one, and otherwise the same: what it
records becomes a `Circuit` whose expressions are the numbers that the function computed. Circuits of one
structure are then equal, so that their plan is made once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qlayers.circuit import Circuit, Operation, assembled
from qlayers.expressions import Nodes
from qlayers.measure import check_exact
from qlayers.program import Captured
from qlayers.record import QuantumFunction, Recording, Vector
from shared.errors import UserError

if TYPE_CHECKING:
    from qlayers.settings import Backend

SHARED = "shared"  # the name of the one weight of a recorded circuit: all numbers that samples share


@dataclass(frozen=True)
class Retraced:
    """A function that builds its circuit at each call, and why.

    Attributes:
        function: the quantum function.
        reason: what kept it from being captured.
        by_sample: whether it takes one sample at a time.
        single: whether it returns one bare number.
    """

    function: QuantumFunction
    reason: str
    by_sample: bool
    single: bool

    @classmethod
    def of(cls, function: QuantumFunction, features: int, reason: str) -> "Retraced":
        """Find out, with random numbers, whether the function takes a batch or one sample."""
        first: Exception | None = None
        with torch.random.fork_rng(devices=[]):
            for inputs, weights in _probes(function, features):
                for by_sample, given in ((False, inputs), (True, inputs[0])):
                    try:
                        _run(function, given, weights, Captured.run)
                        return cls(function, reason, by_sample, _single(function, given, weights))
                    except Exception as error:  # any: the numbers may not suit the function
                        first = first or error
        assert first is not None
        raise first

    @property
    def names(self) -> tuple[str, ...]:
        """The weights, in order."""
        return tuple(self.function.shapes)

    def run(self, inputs: Tensor, weights: Sequence[Tensor], *, through: "Backend | None" = None) -> Tensor:
        """(b, outputs) of inputs (b, features) and the weights `names`, all of one dtype.

        Args:
            inputs: see above.
            weights: see above.
            through: what runs the circuits; None for the exact engine.

        Raises:
            UserError: single shots are asked of the exact engine.
        """
        named = dict(zip(self.names, weights, strict=True))
        run = _exactly if through is None else through.run
        if len(inputs) == 0:
            return self.run(inputs.new_zeros(1, inputs.shape[1]), weights, through=through)[:0]
        if self.by_sample:
            return torch.cat([_run(self.function, sample, named, run) for sample in inputs.unbind(0)])
        return _run(self.function, inputs, named, run)


def _probes(function: QuantumFunction, features: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Inputs and weights to try: any numbers, states of norm 1, bits; and as many samples as a weight has."""
    generator = torch.Generator().manual_seed(0)
    sizes = dict.fromkeys((3, *(shape[0] for shape in function.shapes.values() if shape)))
    for rows in sizes:
        inputs = torch.rand(max(rows, 1), features, generator=generator, device="cpu")
        weights = {
            name: torch.rand(shape, generator=generator, device="cpu")
            for name, shape in function.shapes.items()
        }
        for some in (inputs, inputs / inputs.norm(dim=-1, keepdim=True), inputs.round()):
            yield some, weights


def _single(function: QuantumFunction, inputs: Tensor, weights: Mapping[str, Tensor]) -> bool:
    found = function.record(inputs, weights)
    return found.single and not found.measurements[0].shape(len(found.wires))


def _exactly(program: Captured, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
    check_exact(program.circuit.measurements)
    return program.run(inputs, weights)


def _run(
    function: QuantumFunction,
    inputs: Tensor,
    weights: Mapping[str, Tensor],
    run: Callable[[Captured, Tensor, Sequence[Tensor]], Tensor],
) -> Tensor:
    """(b, ...) for a batch (b, features), (1, ...) for a sample (features,)."""
    found = function.record(inputs, weights)
    leaves = _Leaves(inputs, inputs.shape[0] if inputs.ndim == 2 else 1)
    program = _program(_circuit(found, leaves))
    shared, batched = leaves.vectors()
    return run(program, batched, [shared] if program.names else [])


_program = lru_cache(maxsize=64)(Captured)


def _circuit(found: Recording, leaves: "_Leaves") -> Circuit:
    operations = [
        Operation(o.gate, o.wires, tuple(n for p in o.parameters for n in leaves.all(p)), o.entries)
        for o in found.operations
    ]
    measurements = [
        m._replace(terms=tuple(t._replace(coefficient=leaves.number(t.coefficient)) for t in m.terms))
        for m in found.measurements
    ]
    # all leaves are used, so their order in the table does not matter
    return assembled(
        leaves.nodes.rows,
        operations,
        measurements,
        wires=found.wires,
        features=leaves.counts[1],
        weights=((SHARED, (leaves.counts[0],)),) if leaves.counts[0] else (),
        single=found.single,
    )


class _Leaves:
    """Collects the numbers of a recording: one for all samples, or one per sample."""

    def __init__(self, inputs: Tensor, batch: int):
        self.nodes = Nodes()
        self.counts = [0, 0]
        self._inputs, self._batch = inputs, batch
        self._found: tuple[list[Tensor], list[Tensor]] = ([], [])

    def all(self, parameter) -> list[int]:
        """The numbers of the expressions of a parameter: one, or those of a block."""
        if not isinstance(parameter, Vector):
            return [self.number(parameter)]
        return self._add(parameter.numbers.to(self._inputs))

    def number(self, parameter) -> int:
        """The number of the expression of one parameter."""
        if not isinstance(parameter, Tensor) and getattr(parameter, "ndim", 0) == 0:
            return self.nodes.constant(float(parameter))
        value = torch.as_tensor(parameter).to(self._inputs)
        if value.ndim == 0 or value.shape == (self._batch,):
            (number,) = self._add(value.unsqueeze(-1))
            return number
        raise UserError(
            f"A gate's parameter: expected one number, or {self._batch} for a batch of that size, received "
            f"shape {tuple(value.shape)}; a weight with one value per sample fixes the size of the batch."
        )

    def _add(self, values: Tensor) -> list[int]:
        """(m,) or (b, m) numbers."""
        if values.ndim == 2 and values.shape[0] != self._batch:
            raise UserError(
                f"A state or matrix: expected numbers for {self._batch} samples, received them for "
                f"{values.shape[0]}; change the size of the batch."
            )
        side = values.ndim - 1
        self._found[side].append(values)
        start = self.counts[side]
        self.counts[side] += values.shape[-1]
        make = self.nodes.input if side else lambda i: self.nodes.weight(SHARED, i)
        return [make(i) for i in range(start, self.counts[side])]

    def vectors(self) -> tuple[Tensor, Tensor]:
        shared, batched = self._found
        return (
            torch.cat(shared) if shared else self._inputs.new_empty(0),
            torch.cat(batched, -1) if batched else self._inputs.new_empty(self._batch, 0),
        )
