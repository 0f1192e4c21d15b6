"""The plan of a circuit that needs its state: how the state comes about, and what is read from it."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from qlayers.evaluate import SHARED, Schedule, Scheduler, angles
from qlayers.expressions import Nodes, compact
from qlayers.measure import Measurement
from qlayers.measure_states import Looks, Observed, observed
from qlayers.memory import COPIES, check_memory
from qlayers.ops.pauli_evolve import pauli_evolve
from qlayers.permute import Permutation
from qlayers.readout import amplitudes_of, exactly, joined, pair, scaled, squared, state_from, times
from qlayers.stages import Applied, Kept, Numbers, Stage, Staged, Turned

if TYPE_CHECKING:
    from qlayers.circuit import Circuit


@dataclass(frozen=True)
class StatePlan:
    r"""Everything that a forward pass with states needs, as plain data.

    `places` says where the angles and numbers that `stages` and `start` name by number are found.

    Example:
        >>> from qlayers import Circuit
        >>> print(Circuit.parse("H 0\nRX(x0) 0\nCNOT 0 1\nstate").plan())
        Plan: 2 wires, 3 rotations in 2 stages, state; 3 Clifford rotations absorbed
    """

    wires: int
    start: tuple[tuple[tuple[int, ...], Numbers], ...]
    stages: tuple[Stage, ...]
    phase: int | None
    constant_phase: float
    places: tuple[tuple[int, int], ...]
    schedule: Schedule
    measurements: tuple[Measurement, ...]
    observed: Observed
    single: bool
    absorbed: int
    labels: tuple[int | str, ...]

    def place(self, wire: int | str) -> int:
        """The place of a wire, the first being the most significant bit."""
        return self.labels.index(wire)

    def __str__(self) -> str:
        turns = sum(len(stage.rotations) for stage in self.stages if isinstance(stage, Turned))
        kinds = ", ".join(dict.fromkeys(measurement.kind for measurement in self.measurements))
        parts = [(self.wires, "wire"), (turns, "rotation"), (len(self.stages), "stage")]
        wires, turned, stages = (f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in parts)
        absorbed = f"{self.absorbed} Clifford rotation{'' if self.absorbed == 1 else 's'} absorbed"
        return f"Plan: {wires}, {turned} in {stages}, {kinds}; {absorbed}"

    __repr__ = __str__

    def tables(self, device: torch.device, dtype: torch.dtype) -> "StateTables":
        """The plan's numbers as tensors on a device, in a floating dtype."""
        return StateTables(self, device, dtype)


def state_plan(circuit: "Circuit", *, also: Sequence[tuple[int, float, float]] = ()) -> StatePlan:
    """The plan of a circuit by way of its state.

    Args:
        circuit: what to plan.
        also: further numbers (row, scale, offset) to compute, whose places are the last ones.
    """
    nodes = Nodes(circuit.nodes)
    shows_phase = any(measurement.kind == "state" for measurement in circuit.measurements)
    staged = Staged(circuit, nodes, with_phase=shows_phase)
    looked_at = observed(circuit.measurements, staged, nodes)
    wanted = [*staged.wanted, *also]
    rows, number = compact(nodes.rows, [row for row, _, _ in wanted])
    wanted = [(number[row], scale, offset) for row, scale, offset in wanted]
    sizes = {name: torch.Size(shape).numel() for name, shape in circuit.weights}
    weights = dict.fromkeys(row[1] for row in circuit.nodes if row[0] == "weight")
    scheduler = Scheduler(rows, sizes, circuit.features, wanted, weights)
    return StatePlan(
        wires=staged.wires,
        start=tuple(staged.start),
        stages=tuple(staged.stages),
        phase=staged.phase,
        constant_phase=staged.constant_phase,
        places=tuple(scheduler.places),
        schedule=scheduler.schedule,
        measurements=tuple(
            m if m.wires or m.kind != "probs" else m._replace(wires=circuit.wires)
            for m in circuit.measurements
        ),
        observed=looked_at,
        single=circuit.single,
        absorbed=staged.absorbed,
        labels=circuit.wires,
    )


class Columns:
    """Picks numbers of a block out of the angles: (2, m), or (b, 2, m) where a sample has its own."""

    def __init__(self, places: Sequence[tuple[int, int]], size: int, device: torch.device):
        sides = {side for side, _ in places}
        self._side = sides.pop() if len(sides) == 1 else None
        self._source = torch.tensor([side for side, _ in places], device=device)
        self._column = torch.tensor([column for _, column in places], dtype=torch.int64, device=device)
        self._complex = len(places) == 2 * size

    def __call__(self, shared: Tensor, batched: Tensor) -> Tensor:
        if self._side is None:
            both = torch.cat([batched, shared.expand(batched.shape[0], -1)], -1)
            column = self._column + batched.shape[1] * (self._source == SHARED)
            found = both.index_select(-1, column)
        else:
            found = (shared, batched)[self._side].index_select(-1, self._column)
        if self._complex:
            return found.unflatten(-1, (2, -1))
        return torch.stack([found, torch.zeros_like(found)], -2)


class StateTables:
    """A state plan on a device in a dtype."""

    def __init__(self, plan: StatePlan, device: torch.device, dtype: torch.dtype):
        check_memory(plan.wires, 1, dtype, device)
        self.plan, self._device, self._dtype = plan, device, dtype
        self.angles = plan.schedule.tables(device, dtype)
        self._like = torch.empty(0, dtype=dtype, device=device)
        self._start = [(places, self._numbers(numbers)) for places, numbers in plan.start]
        self._stages = [self._prepared(stage) for stage in plan.stages]
        self._looks = Looks(plan, device, dtype)
        self._phase = None if plan.phase is None else plan.places[plan.phase]

    def run(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(b, *shape) or (b, total) from inputs (b, features) and the schedule's weights."""
        shared, batched = angles(inputs, weights, self.angles)
        check_memory(self.plan.wires, COPIES * batched.shape[0], batched.dtype, batched.device)
        with exactly(inputs.device.type):
            state = self._state(shared, batched)
            return joined(
                self._looks(state, self._total_phase(shared, batched), shared, batched), self.plan.single
            )

    def _state(self, shared: Tensor, batched: Tensor) -> Tensor:
        """(b, 2, 2^n)."""
        state = self._initial(shared, batched)
        stages = self._stages
        if not stages or not isinstance(self.plan.stages[0], Turned):
            none = batched.new_zeros((0, 4), dtype=torch.int64)
            state = pauli_evolve(state, shared, batched, none, self.plan.wires)
        for stage in stages:
            state = stage(state, shared, batched)
        return state

    def _initial(self, shared: Tensor, batched: Tensor) -> Tensor:
        """(s, 2, 2^n): what is prepared, the other wires being |0>."""
        wires = self.plan.wires
        if not self._start:
            return batched.new_zeros((0, 2, 2**wires))
        total, order = None, ()
        for places, numbers in self._start:
            part = numbers(shared, batched)
            part = part if part.ndim == 3 else part.unsqueeze(0)  # (s, 2, 2^k)
            total, order = part if total is None else _product(total, part), (*order, *places)
        rest = 2 ** (wires - len(order))
        return state_from(pad(total.unsqueeze(-1), (0, rest - 1)), order)

    def _numbers(self, numbers: Numbers):
        """A function of (shared, batched) to (2, m) or (b, 2, m)."""
        if numbers.constants:
            constants = pair(numbers.constants, self._like)
            return lambda shared, batched: constants
        places = [self.plan.places[i] for i in numbers.wanted]
        return Columns(places, numbers.size, self._device)

    def _prepared(self, stage: Stage):
        """The stage as a function of (state, shared, batched)."""
        if isinstance(stage, Turned):
            rows = [(x, z, *self.plan.places[angle]) for x, z, angle in stage.rotations]
            rotations = torch.tensor(rows, dtype=torch.int64, device=self._device)
            wires = self.plan.wires
            return lambda state, shared, batched: pauli_evolve(state, shared, batched, rotations, wires)
        if isinstance(stage, Permutation):
            return functools.partial(_permuted, *_index_tables(stage, self._device, self._dtype))
        if isinstance(stage, Kept):
            mask = mask_of(stage, self.plan.wires).to(self._like)
            return functools.partial(_kept, mask)
        return functools.partial(_applied, stage, self._numbers(stage.numbers))

    def _total_phase(self, shared: Tensor, batched: Tensor) -> Tensor | float:
        if self._phase is None:
            return self.plan.constant_phase
        side, column = self._phase
        return (shared, batched)[side][..., column] + self.plan.constant_phase


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The tensor product of (s, 2, m) and (t, 2, k)."""
    (a_re, a_im), (b_re, b_im) = (a.unsqueeze(-1).unbind(1), b.unsqueeze(-2).unbind(1))
    re, im = a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re
    return torch.stack([re.flatten(1), im.flatten(1)], 1)


def _index_tables(stage: Permutation, device: torch.device, dtype: torch.dtype):
    source, power = (torch.from_numpy(table) for table in stage.tables())
    cosine = ((power == 0).to(dtype) - (power == 2).to(dtype)).to(device) if power.any() else None
    sine = ((power == 1).to(dtype) - (power == 3).to(dtype)).to(device) if (power % 2).any() else None
    return source.to(device), cosine, sine


def _permuted(
    source: Tensor, cosine: Tensor | None, sine: Tensor | None, state: Tensor, shared: Tensor, batched: Tensor
) -> Tensor:
    state = state.index_select(-1, source)
    if cosine is None:
        return state
    if sine is None:
        return state * cosine
    re, im = state.unbind(1)
    return torch.stack([cosine * re - sine * im, cosine * im + sine * re], 1)


def mask_of(stage: Kept, wires: int) -> Tensor:
    """(2^n,): which amplitudes are kept."""
    index = torch.arange(2**wires)
    keep = torch.ones(2**wires, dtype=torch.bool)
    for place, bit in zip(stage.places, stage.bits, strict=True):
        keep &= (index >> (wires - 1 - place) & 1) == bit
    return keep


def _kept(mask: Tensor, state: Tensor, shared: Tensor, batched: Tensor) -> Tensor:
    state = state * mask
    return state / squared(state).sum(-1)[:, None, None].sqrt()


def _applied(stage: Applied, numbers, state: Tensor, shared: Tensor, batched: Tensor) -> Tensor:
    values = numbers(shared, batched)
    amplitudes = amplitudes_of(state, stage.places)
    if stage.diagonal:
        return state_from(scaled(values, amplitudes), stage.places)
    size = 2 ** len(stage.places)
    return state_from(times(values.unflatten(-1, (size, size)), amplitudes), stage.places)
