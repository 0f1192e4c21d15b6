"""Trajectories of a circuit whose channels are flips: the same circuit with other signs.

A Pauli error E in the middle of a circuit of Pauli rotations can be moved to its beginning or end: a rotation
about a word that anticommutes with E then turns the other way, and so does the sign of a measured word. So a
trajectory is the noiseless circuit with signs on its angles and outputs, and all trajectories of all samples
are rows of one call of `pauli_expval`. Each angle is simplified as a variable of its own, so that what holds
for all angles holds for all signs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from qlayers.evaluate import Schedule, Scheduler, angles
from qlayers.expressions import Nodes, compact
from qlayers.frame import Word
from qlayers.measure_words import readings_of_mixed
from qlayers.noise.draws import Chances, averaged, drawn, gathered, ratio_of
from qlayers.noise.lowered import Mapped, MixedLowered, in_light_cone
from qlayers.ops.pauli_expval import pauli_expval
from qlayers.plan import Outputs, Plan, PlanTables, Rotation, scheduled
from qlayers.readout import exactly, joined
from qlayers.simplify import Measured, simplified

if TYPE_CHECKING:
    from qlayers.circuit import Circuit


@dataclass(frozen=True)
class FlipPlan(Plan):
    """A plan whose angles and words have signs that are drawn.

    Attributes:
        trajectories: how many are drawn for each sample.
        flips: (name, places of its parameters) of each channel.
        turned: for X and then Z of each channel, which rotations an error there turns the other way.
        negated: and of which words it changes the sign.
        simple: the rotations (x, z, side, column) that are left for one trajectory.
        of_turns: how their angles follow from those of `rotations`.
        left: for each word the masks and factor of what is left of it.
        bits: of the index of an amplitude.
    """

    trajectories: int = 1
    flips: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = ()
    turned: tuple[tuple[bool, ...], ...] = ()
    negated: tuple[tuple[bool, ...], ...] = ()
    simple: tuple[tuple[int, int, int, int], ...] = ()
    of_turns: Schedule | None = None
    left: tuple[Measured, ...] = ()
    bits: int = 1

    def __str__(self) -> str:
        count = f"{self.trajectories} trajector{'y' if self.trajectories == 1 else 'ies'}"
        flips = f"{len(self.flips)} random flip{'' if len(self.flips) == 1 else 's'}"
        return f"{super().__str__()}\n{count} of {flips}"

    __repr__ = __str__

    def tables(self, device: torch.device, dtype: torch.dtype) -> "FlipTables":
        """The plan's numbers as tensors on a device, in a floating dtype."""
        return FlipTables(self, device, dtype)


def flip_plan(circuit: "Circuit", trajectories: int) -> FlipPlan:
    """The plan of a circuit whose channels are flips, and which has no blocks."""
    nodes = Nodes(circuit.nodes)
    rows = nodes.rows
    reads, sums = readings_of_mixed(circuit.measurements, circuit.wires, nodes)
    lowered = MixedLowered(
        circuit.wires, circuit.operations, lambda p: rows[p][1] if rows[p][0] == "constant" else None
    )
    pulled = [[(c, lowered.pull(letters)) for c, letters in row] for row in sums]
    outputs = Outputs(pulled, {(w.x, w.z): (w.x, w.z, 1) for terms in pulled for _, w in terms}, rows)
    words = [Word(*masks) for masks in outputs.words]
    steps = in_light_cone(lowered.rotations, words, lowered.wires)
    turns = [step for step in steps if isinstance(step, Rotation)]
    wanted = [
        (nodes.constant(t.offset), 1.0, 0.0) if t.parameter is None else (t.parameter, t.scale, t.offset)
        for t in turns
    ]
    events = _events(steps, turns, words)
    parameters = [(p, 1.0, 0.0) for event in events for p in event.parameters]
    scheduler = scheduled(circuit, rows, [*wanted, *parameters, *outputs.wanted])
    places = iter(scheduler.places)
    rotations = tuple((t.x, t.z, *next(places)) for t in turns)
    flips = tuple((event.name, tuple(next(places) for _ in event.parameters)) for event in events)
    return FlipPlan(
        wires=lowered.wires,
        rotations=rotations,
        schedule=scheduler.schedule,
        **outputs.fields(tuple(places)),
        absorbed=lowered.absorbed,
        reads=tuple(reads),
        single=circuit.single,
        trajectories=trajectories,
        flips=flips,
        turned=tuple(row for event in events for row in event.turned),
        negated=tuple(row for event in events for row in event.negated),
        **_simplified(turns, list(outputs.words), lowered.wires),
    )


@dataclass
class _Event:
    """A flip: its channel, parameters (numbers of nodes), and what an X and a Z there change."""

    name: str
    parameters: tuple[int, ...]
    turned: list[tuple[bool, ...]]
    negated: list[tuple[bool, ...]]


def _events(steps: Sequence, turns: Sequence[Rotation], words: Sequence[Word]) -> list[_Event]:
    found, passed = [], 0
    for step in steps:
        if not isinstance(step, Mapped):
            passed += 1
            continue
        turned = [
            tuple(i >= passed and not word.commutes(Word(t.x, t.z)) for i, t in enumerate(turns))
            for word in step.generators
        ]
        negated = [tuple(not word.commutes(own) for own in words) for word in step.generators]
        found += [_Event(acted.name, acted.parameters, turned, negated) for acted in step.acted]
    return found


def _simplified(turns: Sequence[Rotation], words: list[tuple[int, int]], wires: int) -> dict:
    """The circuit of one trajectory, whose features are its angles."""
    nodes = Nodes()
    variables = [t._replace(parameter=nodes.input(i), scale=1.0, offset=0.0) for i, t in enumerate(turns)]
    left = simplified(variables, words, wires, nodes)
    rows, number = compact(nodes.rows, [r.parameter for r in left.rotations])
    scheduler = Scheduler(
        rows, {}, len(turns), [(number[r.parameter], r.scale, r.offset) for r in left.rotations]
    )
    simple = zip(left.rotations, scheduler.places, strict=True)
    return {
        "simple": tuple((r.x, r.z, *place) for r, place in simple),
        "of_turns": scheduler.schedule,
        "left": tuple(left.words),
        "bits": left.wires,
        "report": left.report,
    }


class FlipTables(PlanTables):
    """A plan with random flips on a device in a dtype."""

    def __init__(self, plan: FlipPlan, device: torch.device, dtype: torch.dtype):
        super().__init__(plan, device, dtype)
        self._trajectories, self._chances, self._count = (
            plan.trajectories,
            Chances(plan.flips),
            len(plan.flips),
        )
        self._places = [[(side, column)] for _, _, side, column in plan.rotations]
        shapes = (2 * self._count, len(plan.rotations)), (2 * self._count, len(plan.words))
        self._turned, self._negated = (
            torch.tensor(np.array(table, dtype=float).reshape(shape), dtype=dtype, device=device)
            for table, shape in zip((plan.turned, plan.negated), shapes, strict=True)
        )
        masks = dict.fromkeys((word.x, word.z) for word in plan.left if word.factor)
        at = {key: i for i, key in enumerate(masks)}
        self._inner = (
            torch.tensor(plan.simple, dtype=torch.int64, device=device).reshape(-1, 4),
            torch.tensor(list(masks), dtype=torch.int64, device=device).reshape(-1, 2),
            plan.bits,
        )
        self._of_turns = plan.of_turns.tables(device, dtype)
        which = [at.get((word.x, word.z), 0) for word in plan.left]
        self._which = torch.tensor(which, dtype=torch.int64, device=device)
        self._factors = torch.tensor([word.factor for word in plan.left], dtype=dtype, device=device)

    def run(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(b, outputs) from inputs (b, features) and the schedule's weights, all in the tables' dtype."""
        with exactly(inputs.device.type):
            values = self.measure(*angles(inputs, weights, self.angles))
            return values if self.results is None else joined(self.results(values), self.single)

    def measure(self, shared: Tensor, batched: Tensor) -> Tensor:
        """(b, outputs) from the angles and all other numbers that are computed."""
        return self.combine(self.values(shared, batched), shared, batched)

    def values(self, shared: Tensor, batched: Tensor) -> Tensor:
        """(b, T): the mean over trajectories of the words' expectation values."""
        batch, ratio, bits = (
            batched.shape[0],
            None,
            batched.new_zeros(batched.shape[0], self._trajectories, 0),
        )
        if self._count:
            chances = self._chances(shared, batched).unsqueeze(1)  # (1 or b, 1, C, 4)
            uniform = torch.rand(
                batch, self._trajectories, self._count, dtype=batched.dtype, device=batched.device
            )
            letters = drawn(chances, uniform)  # (b, N, C): I, X, Y, Z
            ratio = ratio_of(chances, letters)
            has_x, has_z = (letters == 1) | (letters == 2), letters >= 2
            bits = torch.stack([has_x, has_z], -1).flatten(2).to(batched.dtype)
        turns = (
            gathered(self._places, shared, batched).squeeze(-1) if self._places else batched.new_empty(1, 0)
        )
        turns = (turns.unsqueeze(1) * _signs(bits @ self._turned)).flatten(0, 1)  # (b N, K)
        found = pauli_expval(*angles(turns, (), self._of_turns), *self._inner)
        if found.shape[-1]:
            found = found.index_select(-1, self._which) * self._factors
        else:
            found = found.new_zeros(turns.shape[0], len(self._factors))
        return averaged(found.unflatten(0, (batch, self._trajectories)) * _signs(bits @ self._negated), ratio)


def _signs(counts: Tensor) -> Tensor:
    """-1 for odd counts, else 1."""
    return 1 - 2 * (counts % 2)
