"""A layer's circuit by evaluations alone: finite shots, and gradients that hardware could take as well."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from qlayers.circuit import Circuit
from qlayers.first_order import evaluated
from qlayers.measure import Measurement, check_exact
from qlayers.program import Captured
from qlayers.readout import exactly, joined
from qlayers.sampling.draws import Seed, Shots, draw
from qlayers.sampling.methods import ParameterShift, Spsa
from qlayers.sampling.opened import Opened
from qlayers.sampling.reading import Reading
from qlayers.sampling.tally import tally
from shared.errors import UserError

if TYPE_CHECKING:
    from qlayers.retrace import Retraced

# amplitudes, outcomes or angles of circuits that are in memory at once: 32 MiB in float64
MOST_NUMBERS = 2**22


class Sampled:
    """Runs circuits with finite shots, or without; gradients by parameter shifts or by `Spsa`.

    The exact probabilities of every basis come from the engine, all samples and all shifted circuits being
    rows of one batch, cut into pieces of `MOST_NUMBERS`; the shots of all rows are then drawn at once.
    Shifted circuits have shots of their own. A backward pass that is repeated draws the same shots again;
    samples under `torch.func.vmap` are further rows, each with its own shots.

    Args:
        shots: how often each circuit is measured; None for exact values.
        method: "best" and "parameter-shift" for shifts, "spsa", or a `Spsa`.
        generator: where seeds are taken from, two int64 for a forward pass; None for torch's default one.
    """

    def __init__(
        self, shots: int | None, method: str | Spsa = "best", generator: torch.Generator | None = None
    ):
        self.shots, self.generator = shots, generator
        self.method = method if isinstance(method, Spsa) else Spsa() if method == "spsa" else ParameterShift()

    @torch.compiler.disable  # a graph has no draws; what is around them is compiled
    def run(self, program: "Captured | Retraced", inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(b, *shape) of a single measurement, else (b, outputs); inputs are (b, features).

        Raises:
            UserError: the circuit has what shots or shifts cannot serve, or probabilities are not finite.
        """
        if not isinstance(program, Captured):
            return program.run(inputs, weights, through=self)
        prepared = _prepared_for(program, program.circuit)
        if self.shots is None:
            check_exact(program.circuit.measurements)
        with exactly(inputs.device.type):
            point = prepared.opened.point(inputs, weights)
            turns, coefficients = prepared.opened.turns(point)
            wanted = self._wanted(prepared, inputs, weights)
            start = point if isinstance(self.method, Spsa) else turns
            job = _Job(prepared, self.method, self.shots, self.generator, wanted)
            estimates, shots = evaluated(start, job)
            results = prepared.reading.results(estimates, coefficients, shots)
            return joined(results, program.circuit.single)

    def counts(self, program: Captured, inputs: Tensor, weights: Sequence[Tensor]) -> list[dict]:
        """For each sample how often the outcomes of a circuit that returns counts were seen."""
        prepared = _prepared_for(program, program.circuit)
        with torch.no_grad():
            shots = self._drawn(prepared, inputs, weights)
        (measurement,) = program.circuit.measurements
        values = prepared.reading.values
        every = measurement.kind == "all_counts"
        return tally(shots if values is None else shots.squeeze(-1), values, all_outcomes=every)

    def samples(self, program: "Captured | Retraced", inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(b, shots, wires) int64: all wires in the computational basis, whatever the circuit measures."""
        if not isinstance(program, Captured):
            raise UserError(
                "Samples of all wires: expected a fixed circuit, received a function that is called anew at "
                f"each forward, since {program.reason}; let it return qml.sample()."
            )
        circuit = replace(program.circuit, measurements=(Measurement("sample"),), single=True)
        return self._drawn(_prepared_for(program, circuit), inputs, weights).to(torch.int64)

    def _drawn(self, prepared: "Prepared", inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(b, shots, S) single shots."""
        turns, _ = prepared.opened.turns(prepared.opened.point(inputs, weights))
        return _Job(prepared, ParameterShift(), self.shots, self.generator, ()).forward(turns)[1]

    def __deepcopy__(self, memo: dict) -> "Sampled":
        return Sampled(self.shots, self.method)

    def describe(self) -> str:
        """In a few words, for the layer's repr."""
        shots = "exact values" if self.shots is None else f"{self.shots:,} shot{'s' * (self.shots != 1)}"
        return f"{shots}, {'spsa' if isinstance(self.method, Spsa) else 'parameter-shift'}"

    def _wanted(self, prepared: "Prepared", inputs: Tensor, weights: Sequence[Tensor]) -> tuple[int, ...]:
        """The columns of what is perturbed that need a gradient."""
        if not torch.is_grad_enabled():
            return ()
        trained = {number for number, data in enumerate((inputs, *weights), -1) if data.requires_grad}
        if isinstance(self.method, Spsa):
            sources = prepared.opened.sources_of_point()
            return tuple(i for i, source in enumerate(sources) if source in trained)
        wanted = tuple(i for i, own in enumerate(prepared.opened.sources) if own & trained)
        if wanted and (gate := prepared.unshifted(wanted)):
            raise UserError(
                f"Parameter shifts: expected trained numbers to be angles of gates, received {gate} that "
                'depends on trained inputs or weights; use diff_method="spsa", or leave out shots and use '
                '"best", or detach what it depends on.'
            )
        return wanted


class Prepared:
    """What runs one circuit: its opened form, what is read from it, and the engine's program for that.

    Attributes:
        opened: the circuit with an angle of its own for every rotation.
        reading: its bases, and how results follow from what is seen in them.
        program: gives the probabilities of the outcomes in all bases, side by side; None if there are none.
        rows: how many circuits run at once.
    """

    def __init__(self, circuit: Circuit, names: tuple[str, ...], trajectories: int | None):
        self.opened, self.reading = Opened(circuit, names), Reading(circuit)
        found = self.opened.with_measurements(self.reading.measurements)
        options = {} if trajectories is None else {"trajectories": trajectories}
        self.program = Captured.of(found, found.features, **options) if found.measurements else None
        self.rows = max(
            1, MOST_NUMBERS // max(2 ** len(circuit.wires), sum(self.reading.sizes), found.features)
        )
        self._postselects = any(operation.gate == "Projector" for operation in circuit.operations)

    def unshifted(self, wanted: Sequence[int]) -> str | None:
        """The gate that keeps these turns from being shifted; None if there is none."""
        if self._postselects:
            return "a circuit with a postselected measurement"
        return next((self.opened.fixed[turn] for turn in wanted if turn in self.opened.fixed), None)

    def seen(self, turns: Tensor, shots: int | None, seed: Seed | None, first: int) -> list[Shots]:
        """What is seen in each basis at turns (b, J), the first of which is row `first` of the draws."""
        if self.program is None:
            return []
        table = self.program.run(turns, ()).detach().cpu().double().numpy()  # (b, outcomes of all bases)
        found, start = [], 0
        for number, (size, basis) in enumerate(
            zip(self.reading.sizes, self.reading.measurements, strict=True)
        ):
            part = table[:, start : start + size]
            start += size
            if seed is None or shots is None:
                found.append(Shots(basis.wires, 1, part.reshape(len(part), *(2,) * len(basis.wires))))
            else:
                own = seed.stream(number)
                single = self.reading.single
                found.append(draw(basis.wires, part, shots, own, single=single, first_row=first))
        return found


def _prepared_for(program: Captured, circuit: Circuit) -> Prepared:
    return _prepared(circuit, tuple(program.names), getattr(program, "trajectories", None))


@lru_cache(maxsize=256)
def _prepared(circuit: Circuit, names: tuple[str, ...], trajectories: int | None) -> Prepared:
    return Prepared(circuit, names, trajectories)


class _Job:
    """See `qlayers.first_order.Job`."""

    once = (
        "Second derivatives: expected outputs of the exact engine, received a gradient by parameter shifts "
        'or spsa, which cannot be differentiated; leave out shots and use diff_method="best".'
    )

    def __init__(
        self,
        prepared: Prepared,
        method: ParameterShift | Spsa,
        shots: int | None,
        generator: torch.Generator | None,
        wanted: tuple[int, ...],
    ):
        self.method, self.wanted = method, wanted
        self._prepared, self._shots, self._generator = prepared, shots, generator
        self._seed: Seed | None = None

    @property
    def _is_random(self) -> bool:
        """Whether there are shots or signs of directions to draw."""
        return self._shots is not None or isinstance(self.method, Spsa)

    def forward(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """(b, C) estimates and (b, shots, S) single shots at points or turns (b, P)."""
        if self._is_random:  # only here, below all transforms, is it no concern of vmap's
            self._seed = Seed.of(self._generator)
        reading, rows = self._prepared.reading, self._prepared.rows
        estimates, shots = [], []
        for first in range(0, max(len(start), 1), rows):
            piece = start[first : first + rows]
            seen = self._prepared.seen(self._turns(piece), self._shots, self._seed, first)
            estimates.append(reading.estimates(seen, len(piece)))
            shots.append(reading.shots(seen, len(piece), (self._shots or 0) if reading.single else 0))
        return _tensor(estimates, start), _tensor(shots, start)

    def backward(self, start: Tensor, grad: Tensor) -> Tensor:
        """(b, P): the gradient of the sum of grad (b, C) * estimates."""
        seed = None if self._seed is None else self._seed.stream(-1)
        measure = partial(self._measure, seed=seed)
        signs = 0 if self._seed is None else self._seed.stream(-2).nonce
        return self.method.slopes(start, grad, self.wanted, measure, self._prepared.rows, signs)

    def _measure(self, rows: Tensor, first: int, seed: Seed | None) -> Tensor:
        seen = self._prepared.seen(self._turns(rows), self._shots, seed, first)
        return _tensor([self._prepared.reading.estimates(seen, len(rows))], rows)

    def _turns(self, rows: Tensor) -> Tensor:
        return self._prepared.opened.turns(rows)[0] if isinstance(self.method, Spsa) else rows


def _tensor(parts: Sequence[np.ndarray], like: Tensor) -> Tensor:
    found = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return torch.from_numpy(found).to(like)
