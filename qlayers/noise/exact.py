"""The plan of a circuit with noise by its density matrix, kept as expectation values of all Pauli words."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qlayers.evaluate import angles
from qlayers.expressions import Nodes
from qlayers.frame import Word
from qlayers.measure_words import readings_of_mixed
from qlayers.memory import check_bytes
from qlayers.noise.lowered import Mapped, MixedLowered, in_light_cone
from qlayers.noise.maps import MapPlan, Maps, planned
from qlayers.noise.prepared import Begun, Prepared
from qlayers.ops.pauli_transfer import MOST_WIRES, pauli_transfer
from qlayers.plan import Outputs, Plan, PlanTables, scheduled
from qlayers.readout import exactly, joined
from shared.errors import UserError

if TYPE_CHECKING:
    from qlayers.circuit import Circuit

LANE_BYTES = 64  # of one word's values in a block of samples


@dataclass(frozen=True)
class MixedPlan(Plan):
    r"""A plan whose rotations alternate with maps of Pauli words.

    `steps` has a row (first generator, source, column) for each, in the order of application, and `forms` a
    letter, as `qlayers.ops.pauli_transfer` wants them; a map's column counts among the numbers of the maps, a
    rotation's among the angles. With `postselects`, word 0 is the trace, by which all others are divided.

    Example:
        >>> from qlayers import Circuit
        >>> print(Circuit.parse("RX(x0) 0\nCNOT 0 1\nBitFlip(0.1) 1\nexpval Z(1)").plan())
        Plan: 2 wires, 1 rotation, 1 channel, 1 word, 1 output; 3 Clifford rotations absorbed
    """

    steps: tuple[tuple[int, int, int], ...] = ()
    generators: tuple[tuple[int, int, int], ...] = ()
    forms: str = ""
    maps: tuple[MapPlan, ...] = ()
    start: tuple[Begun, ...] = ()
    postselects: bool = False

    def __str__(self) -> str:
        count = len(self.maps)
        first, second = super().__str__().split(" rotation", 1)
        plural, rest = second.split(",", 1)
        return f"{first} rotation{plural}, {count} channel{'' if count == 1 else 's'},{rest}"

    __repr__ = __str__

    def tables(self, device: torch.device, dtype: torch.dtype) -> "MixedTables":
        """The plan's numbers as tensors on a device, in a floating dtype."""
        return MixedTables(self, device, dtype)


def mixed_plan(circuit: "Circuit") -> MixedPlan:
    """The plan of a circuit with channels.

    Raises:
        UserError: it has too many wires, or a measurement that mixed states do not have.
    """
    if len(circuit.wires) > MOST_WIRES:
        raise UserError(
            f"A circuit with noise on {len(circuit.wires)} wires: expected at most {MOST_WIRES} for its "
            "density matrix of 4^n numbers; pass trajectories= to sample states instead."
        )
    nodes = Nodes(circuit.nodes)
    rows = nodes.rows

    def constant(number: int) -> float | None:
        return rows[number][1] if rows[number][0] == "constant" else None

    reads, sums = readings_of_mixed(circuit.measurements, circuit.wires, nodes)
    lowered = MixedLowered(circuit.wires, circuit.operations, constant)
    pulled = [[(c, lowered.pull(letters)) for c, letters in row] for row in sums]
    measured = [word for terms in pulled for _, word in terms]
    kept = list(lowered.rotations)
    if not lowered.postselects:
        kept = in_light_cone(kept, measured, lowered.wires)
    outputs = Outputs(pulled, {(w.x, w.z): (w.x, w.z, 1) for w in measured}, rows)
    return _assembled(circuit, lowered, kept, nodes, reads, outputs, constant)


def _assembled(circuit, lowered, kept, nodes, reads, outputs, constant) -> MixedPlan:
    """All of it with the places of the numbers that are computed."""
    wanted: dict[tuple, int] = {}

    def want(row: int, scale: float = 1.0, offset: float = 0.0) -> int:
        return wanted.setdefault((row, scale, offset), len(wanted))

    turned = [
        None
        if isinstance(step, Mapped)
        else want(nodes.constant(step.offset))
        if step.parameter is None
        else want(step.parameter, step.scale, step.offset)
        for step in kept
    ]
    maps = [step for step in kept if isinstance(step, Mapped)]
    acted = [one for step in maps for one in step.acted] + [one for _, one in lowered.start]
    for one in acted:
        if any(constant(parameter) is None for parameter in one.parameters):
            for parameter in one.parameters:
                want(parameter)
    scheduler = scheduled(circuit, nodes.rows, [*wanted, *outputs.wanted])
    places = scheduler.places

    def place(row: int) -> tuple[int, int]:
        return places[wanted[row, 1.0, 0.0]]

    plans = planned(maps, constant, place)
    steps, generators = _steps(kept, [None if t is None else places[t] for t in turned], plans)
    return MixedPlan(
        wires=lowered.wires,
        rotations=tuple((s.x, s.z, *places[t]) for s, t in zip(kept, turned, strict=True) if t is not None),
        schedule=scheduler.schedule,
        **outputs.fields(places[len(wanted) :]),
        absorbed=lowered.absorbed,
        reads=tuple(reads),
        single=circuit.single,
        steps=steps,
        generators=generators,
        forms="".join(_forms(kept, plans)),
        maps=tuple(plans),
        start=tuple(Begun.of(bits, one, constant, place) for bits, one in lowered.start),
        postselects=lowered.postselects,
    )


def _forms(kept: Sequence, plans: Sequence[MapPlan]) -> list[str]:
    left = iter(plans)
    return [next(left).form if isinstance(step, Mapped) else "r" for step in kept]


def _steps(kept: Sequence, turned: Sequence, plans: Sequence[MapPlan]) -> tuple[tuple, tuple]:
    """The rows of the steps, and the words that they act by, each list of words once."""
    left, first, generators, steps = iter(plans), {}, [], []
    for step, place in zip(kept, turned, strict=True):
        own = step.generators if isinstance(step, Mapped) else (Word(step.x, step.z),)
        if own not in first:
            first[own] = len(generators)
            generators += [tuple(word) for word in own]
        if place is None:
            plan = next(left)
            place = plan.side, plan.column
        steps.append((first[own], *place))
    return tuple(steps), tuple(generators)


class MixedTables(PlanTables):
    """A plan with channels on a device in a dtype."""

    def __init__(self, plan: MixedPlan, device: torch.device, dtype: torch.dtype):
        super().__init__(plan, device, dtype)
        self._maps = Maps(plan.maps, device, dtype)
        self._start = Prepared(plan.start, plan.wires, device, dtype)
        widths = [sum(one.size for one in plan.maps if one.side == side) for side in (0, 1)]
        # the numbers of maps stand before the angles
        rows = [
            (first, side, column + (form == "r") * widths[side])
            for form, (first, side, column) in zip(plan.forms, plan.steps, strict=True)
        ]
        self._steps = torch.tensor(rows, dtype=torch.int64, device=device).reshape(-1, 3)
        self._generators = torch.tensor(plan.generators, dtype=torch.int64, device=device).reshape(-1, 3)
        self._forms, self._postselects = plan.forms, plan.postselects
        if plan.postselects:
            self.words = torch.cat([self.words.new_zeros(1, 2), self.words])

    def run(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(b, outputs) from inputs (b, features) and the schedule's weights, all in the tables' dtype."""
        with exactly(inputs.device.type):
            values = self.measure(*angles(inputs, weights, self.angles))
            return values if self.results is None else joined(self.results(values), self.single)

    def measure(self, shared: Tensor, batched: Tensor) -> Tensor:
        """(b, outputs) from the angles and all other numbers that are computed."""
        return self.combine(self.values(shared, batched), shared, batched)

    def values(self, shared: Tensor, batched: Tensor) -> Tensor:
        """(b, T): the expectation values of the words."""
        self._check_memory(batched)
        of_all, of_samples = self._maps(shared, batched)
        found = pauli_transfer(
            self._start(shared, batched),
            torch.cat([of_all, shared]),
            torch.cat([of_samples, batched], -1),
            self._steps,
            self._generators,
            self.words,
            self._forms,
            self.wires,
        )
        return found[:, 1:] / found[:, :1] if self._postselects else found

    def _check_memory(self, batched: Tensor) -> None:
        """Raise a `UserError` if the way back does not fit the memory.

        The kernel holds some states for each thread (see `qlayers.kernels.numba.transfer_sweeps`); torch's
        own operations, where there is no kernel, hold one for each sample and step. A compiler does not look.
        """
        if torch.compiler.is_compiling():
            return
        of_samples = 4**self.wires * batched.element_size() * batched.shape[0]
        if batched.device.type == "cpu":
            held = 4 + 2 * (isqrt(len(self._forms)) + 1)
            needed = LANE_BYTES * 4**self.wires * held * torch.get_num_threads()
            needed += 4 * of_samples * self._start.is_given
        else:
            needed = of_samples * (len(self._forms) + 4)
        what = f"A circuit with noise on {self.wires} wires"
        check_bytes(needed, batched.device, what, "use trajectories=, fewer wires")
