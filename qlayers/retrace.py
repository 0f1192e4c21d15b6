"""Quantum functions whose circuit depends on values: called with the real tensors at every forward.

Slower than a captured circuit by the time that PennyLane takes to build one, and otherwise the same: the
gates become Pauli rotations, Clifford gates are absorbed, one op runs the whole batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qlayers.evaluate import BATCHED, SHARED
from qlayers.ops.pauli_expval import pauli_expval
from qlayers.plan import Lowered
from qlayers.record import QuantumFunction
from shared.errors import UserError


@dataclass(frozen=True)
class Retraced:
    """A function that builds its circuit at each call, and why.

    Attributes:
        function: the quantum function.
        reason: what kept it from being captured.
        by_sample: whether it takes one sample at a time.
        single: whether it returns one bare expectation value.
    """

    function: QuantumFunction
    reason: str
    by_sample: bool
    single: bool

    @classmethod
    def of(cls, function: QuantumFunction, features: int, reason: str) -> "Retraced":
        """Find out, with random angles, whether the function takes a batch or one sample."""
        generator = torch.Generator().manual_seed(0)
        inputs = torch.rand(3, features, generator=generator, device="cpu")
        weights = {
            name: torch.rand(shape, generator=generator, device="cpu")
            for name, shape in function.shapes.items()
        }
        with torch.random.fork_rng(devices=[]):
            try:
                _run(function, inputs, weights)
                return cls(function, reason, False, _single(function, inputs, weights))
            except UserError:
                raise
            except Exception as of_batch:
                try:
                    _run(function, inputs[0], weights)
                except Exception:
                    raise of_batch from None
                return cls(function, reason, True, _single(function, inputs[0], weights))

    @property
    def names(self) -> tuple[str, ...]:
        """The weights, in order."""
        return tuple(self.function.shapes)

    def run(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(b, outputs) of inputs (b, features) and the weights `names`, all of one dtype."""
        named = dict(zip(self.names, weights, strict=True))
        if len(inputs) == 0:
            return self.run(inputs.new_zeros(1, inputs.shape[1]), weights)[:0]
        if self.by_sample:
            return torch.cat([_run(self.function, sample, named) for sample in inputs.unbind(0)])
        return _run(self.function, inputs, named)


def _single(function: QuantumFunction, inputs: Tensor, weights: Mapping[str, Tensor]) -> bool:
    return function.record(inputs, weights).single


def _run(function: QuantumFunction, inputs: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """(b, outputs) for a batch (b, features), (1, outputs) for a sample (features,)."""
    found = function.record(inputs, weights)
    batch = inputs.shape[0] if inputs.ndim == 2 else 1
    lowered = Lowered(found.wires, found.operations, constant=_constant)
    columns = _Columns(inputs, batch)
    rows = []
    for rotation in lowered.rotations:
        angle = rotation.offset
        if rotation.parameter is not None:
            angle = rotation.scale * columns.number(rotation.parameter) + rotation.offset
        rows.append((rotation.x, rotation.z, *columns.add(angle)))
    pulled = [[(c, lowered.pull(word)) for c, word in terms] for terms in found.observables]
    words = list(dict.fromkeys((w.x, w.z) for terms in pulled for _, w in terms))
    shared, batched = columns.vectors()
    values = pauli_expval(
        shared,
        batched,
        torch.tensor(rows, dtype=torch.int64, device=inputs.device).reshape(len(rows), 4),
        torch.tensor(words, dtype=torch.int64, device=inputs.device).reshape(len(words), 2),
        lowered.wires,
    )
    outputs = [
        sum(columns.number(c) * w.sign * values[:, words.index((w.x, w.z))] for c, w in terms)
        for terms in pulled
    ]
    return torch.stack([torch.as_tensor(o).to(inputs).expand(batch) for o in outputs], -1)


def _constant(parameter) -> float | None:
    return None if isinstance(parameter, Tensor) or getattr(parameter, "ndim", 0) else float(parameter)


class _Columns:
    """Collects angles into the two vectors that the op takes."""

    def __init__(self, inputs: Tensor, batch: int):
        self._inputs, self._batch = inputs, batch
        self._found: tuple[list[Tensor], list[Tensor]] = ([], [])

    def number(self, parameter) -> Tensor:
        """A parameter as a tensor, one number or one per sample."""
        value = torch.as_tensor(parameter).to(self._inputs)
        if value.ndim == 0 or value.shape == (self._batch,):
            return value
        raise ValueError(
            f"a gate's parameter has shape {tuple(value.shape)}, expected one number or {self._batch}, one "
            "per sample"
        )

    def add(self, angle: Tensor | float) -> tuple[int, int]:
        value = torch.as_tensor(angle).to(self._inputs)
        side = BATCHED if value.ndim else SHARED
        self._found[side].append(value)
        return side, len(self._found[side]) - 1

    def vectors(self) -> tuple[Tensor, Tensor]:
        shared, batched = self._found
        return (
            torch.stack(shared) if shared else self._inputs.new_empty(0),
            torch.stack(batched, -1) if batched else self._inputs.new_empty(self._batch, 0),
        )
