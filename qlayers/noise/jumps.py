"""Trajectories of any noisy circuit: states between whose rotations random Kraus operators act.

At a channel, operator K is taken with its probability p = |K psi|^2, and the state becomes K psi / sqrt(p),
p being a constant to autograd (Dalibard, Castin and Molmer, 1992, doi:10.1103/PhysRevLett.68.580). The mean
of an expectation value over the draws is sum_K p <K psi|A|K psi> / p = sum_K <psi|K†AK|psi>, and each term is
differentiated inside the sum: derivatives are unbiased, to any order, where no p that could become
positive is 0. That includes the channel's own parameters, which K depends on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from qlayers.evaluate import angles
from qlayers.expressions import Nodes
from qlayers.frame import Word
from qlayers.measure import Measurement, Term
from qlayers.measure_words import readings_of_mixed
from qlayers.noise.channels import KRAUS, channel, jumps, probabilities, root_of, word_of
from qlayers.noise.draws import averaged, drawn, gathered
from qlayers.noise.maps import check_now, kraus_of
from qlayers.ops.pauli_evolve import pauli_evolve
from qlayers.plan import Outputs, Plan, PlanTables
from qlayers.readout import LETTERS, amplitudes_of, density, exactly, joined, kron, state_from, times
from qlayers.stages import Chosen, Kept, Turned
from qlayers.states import StatePlan, StateTables, mask_of, state_plan

if TYPE_CHECKING:
    from qlayers.circuit import Circuit

HELD_BYTES = 2**29  # of states that autograd holds; beyond, trajectories go in pieces that run twice


@dataclass(frozen=True)
class JumpPlan(StatePlan):
    """The plan of a state in which channels choose, and how outputs follow from its measured words.

    The words that `observed` names are measured on every trajectory; the first of them is the identity, the
    square of the state's norm, which postselection makes smaller than 1. `results` says how their means
    become outputs.
    """

    trajectories: int = 1
    results: Plan | None = None
    draws: int = 0

    def __str__(self) -> str:
        count = f"{self.trajectories} trajector{'y' if self.trajectories == 1 else 'ies'}"
        return f"{super().__str__()}\n{count} of {self.draws} random choice{'' if self.draws == 1 else 's'}"

    __repr__ = __str__

    def tables(self, device: torch.device, dtype: torch.dtype) -> "JumpTables":
        """The plan's numbers as tensors on a device, in a floating dtype."""
        return JumpTables(self, device, dtype)


def jump_plan(circuit: "Circuit", trajectories: int) -> JumpPlan:
    """The plan of any circuit with channels."""
    nodes = Nodes(circuit.nodes)
    reads, sums = readings_of_mixed(circuit.measurements, circuit.wires, nodes)
    one, bit = nodes.constant(1.0), {wire: len(circuit.wires) - 1 - i for i, wire in enumerate(circuit.wires)}
    words: dict[tuple[int, int], tuple] = {(0, 0): ()}
    terms = [[(c, _masks(letters, bit)) for c, letters in row] for row in sums]
    for row, masked in zip(sums, terms, strict=True):
        words |= {(word.x, word.z): letters for (_, word), (_, letters) in zip(masked, row, strict=True)}
    outputs = Outputs(terms, {masks: (*masks, 1) for masks in words}, nodes.rows)
    needed = [(0, 0), *(masks for masks in outputs.words if any(masks))]
    measured = tuple(Measurement("expval", (Term(one, words[masks]),)) for masks in needed)
    inner = replace(circuit, nodes=tuple(nodes.rows), measurements=measured, single=False)
    plan = state_plan(inner, also=outputs.wanted)
    fields = outputs.fields(plan.places[len(plan.places) - len(outputs.wanted) :])
    stages = [stage for stage in plan.stages if isinstance(stage, Chosen)]
    return JumpPlan(
        **{name: getattr(plan, name) for name in StatePlan.__dataclass_fields__ if name != "single"},
        single=circuit.single,
        trajectories=trajectories,
        results=Plan(
            wires=plan.wires,
            rotations=(),
            schedule=plan.schedule,
            **fields,
            absorbed=0,
            reads=tuple(reads),
            single=circuit.single,
        ),
        draws=sum(len(stage.parts) for stage in stages),
    )


def _masks(letters: Sequence[tuple], bit: dict) -> Word:
    x = z = 0
    for letter, wire in letters:
        x |= (letter in "XY") << bit[wire]
        z |= (letter in "YZ") << bit[wire]
    return Word(x, z)


class JumpTables(StateTables):
    """A plan with random choices on a device in a dtype."""

    def __init__(self, plan: JumpPlan, device: torch.device, dtype: torch.dtype):
        super().__init__(plan, device, dtype)
        self._trajectories, self._draws = plan.trajectories, plan.draws
        self._outer = PlanTables(plan.results, device, dtype)
        self._postselects = any(isinstance(stage, Kept) for stage in plan.stages)
        held = sum(not isinstance(stage, Turned) for stage in plan.stages) + 2
        self._bytes = 2 * 2 * 2**plan.wires * dtype.itemsize * held  # before and after each

    def _prepared(self, stage):
        if isinstance(stage, Chosen):
            return _Choice(stage, self.plan.places, self.plan.wires, self._like)
        if isinstance(stage, Kept):  # the norm stays: means over trajectories are divided by its mean
            mask = mask_of(stage, self.plan.wires).to(self._like)
            return lambda state, shared, batched: state * mask
        return super()._prepared(stage)

    def run(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(b, *shape) or (b, total) from inputs (b, features) and the schedule's weights."""
        with exactly(inputs.device.type):
            values = self.measure(*angles(inputs, weights, self.angles))
            outer = self._outer
            return values if outer.results is None else joined(outer.results(values), outer.single)

    def measure(self, shared: Tensor, batched: Tensor) -> Tensor:
        """(b, outputs) from the angles and all other numbers that are computed."""
        return self._outer.combine(self.values(shared, batched), shared, batched)

    def values(self, shared: Tensor, batched: Tensor) -> Tensor:
        """(b, T): the mean over trajectories of the words' expectation values."""
        batch, count = batched.shape[0], self._trajectories
        uniform = torch.rand(batch, count, self._draws, dtype=batched.dtype, device=batched.device)
        whole = max(1, HELD_BYTES // (self._bytes * max(batch, 1)))
        if whole >= count:
            found = self._found(shared, batched, uniform)
        else:
            pieces = uniform.split(whole, 1)
            found = torch.cat(
                [checkpoint(self._found, shared, batched, own, use_reentrant=False) for own in pieces], 1
            )
        norm, words = found[..., 0], found[..., 1:]
        if self._postselects:
            return words.mean(1) / norm.mean(1, keepdim=True)
        # the norm is 1 but for its slope, whose mean is 0
        return averaged(words / norm.detach().unsqueeze(-1), None) - _correction(words, norm)

    def _found(self, shared: Tensor, batched: Tensor, uniform: Tensor) -> Tensor:
        """(b, N, 1 + T): what is measured on each trajectory with the uniform numbers (b, N, draws)."""
        rows = batched.repeat_interleave(uniform.shape[1], 0)
        left = iter(uniform.flatten(0, 1).unbind(-1))
        state = self._initial(shared, rows)
        stages = self._stages
        if not stages or not isinstance(self.plan.stages[0], Turned):
            none = rows.new_empty((0, 4), dtype=torch.int64)
            state = pauli_evolve(state, shared, rows, none, self.plan.wires)
        for stage in stages:
            more = (left,) if isinstance(stage, _Choice) else ()
            state = stage(state, shared, rows, *more)
        return self._looks.word_values(state).unflatten(0, uniform.shape[:2])


class _Choice:
    """Channels on the same wires: the operators that are drawn become one matrix for each trajectory."""

    def __init__(self, stage: Chosen, places: Sequence[tuple[int, int]], wires: int, like: Tensor):
        self._places, self._size = stage.places, 2 ** len(stage.places)
        self._parts = [
            (name, _constants(numbers.constants, like), [places[i] for i in numbers.wanted])
            for name, numbers in stage.parts
        ]

    def __call__(self, state: Tensor, shared: Tensor, batched: Tensor, left) -> Tensor:
        amplitudes = amplitudes_of(state, self._places)
        with torch.no_grad():
            rho = density(amplitudes)
            rho = rho / rho[:, 0].diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None, None]
        whole = None
        for name, constants, places in self._parts:
            operators = self._operators(name, constants, places, shared, batched)  # (1 or b, K, 2, m, m)
            with torch.no_grad():
                chances = _chances(operators, rho)
                k = drawn(chances, next(left))
            one = operators[torch.arange(len(k), device=k.device) if len(operators) > 1 else 0, k]
            one = one / chances.gather(-1, k.unsqueeze(-1)).sqrt()[..., None, None]
            whole = one if whole is None else times(one, whole)
            with torch.no_grad():
                rho = times(times(one, rho), _dagger(one))
        return state_from(times(whole, amplitudes), self._places)

    def _operators(
        self, name: str, constants: Tensor | None, places, shared: Tensor, batched: Tensor
    ) -> Tensor:
        if constants is not None:
            return kraus_of(KRAUS, constants, len(self._places)).movedim(-4, -3).unsqueeze(0)
        numbers = gathered([places], shared, batched)[:, 0]  # (1 or b, p)
        if name == KRAUS:
            return kraus_of(KRAUS, numbers, len(self._places)).movedim(-4, -3)
        check_now(name, numbers)
        row, word = channel(name), word_of(name)
        if row.relaxes is not None:
            return jumps(row, numbers.unbind(-1))
        roots = root_of(probabilities(row, numbers.unbind(-1)))
        letters = ("I", "X", "Y", "Z") if word is None else ("I" * len(word), word)
        words = torch.stack([kron(LETTERS[letter] for letter in one) for one in letters])
        return roots[:, : len(letters), None, None, None] * torch.view_as_real(words).movedim(-1, 1).to(roots)


def _constants(entries: Sequence[complex], like: Tensor) -> Tensor | None:
    if not entries:
        return None
    numbers = torch.tensor(entries, dtype=torch.complex128)
    return torch.cat([numbers.real, numbers.imag]).to(like)


def _chances(operators: Tensor, rho: Tensor) -> Tensor:
    """(b, K): tr(K rho K†), by K†K."""
    squares = times(_dagger(operators).flatten(0, 1), operators.flatten(0, 1)).unflatten(
        0, operators.shape[:2]
    )
    re, im = squares.unbind(2)
    rho_re, rho_im = rho.unsqueeze(1).unbind(2)
    return (re * rho_re.mT - im * rho_im.mT).sum((-2, -1)).clamp(min=0)


def _dagger(matrices: Tensor) -> Tensor:
    """The adjoints of (..., 2, m, m)."""
    return torch.stack([matrices.select(-3, 0).mT, -matrices.select(-3, 1).mT], -3)


def _correction(words: Tensor, norm: Tensor) -> Tensor:
    """(b, T): 0 with a slope of mean 0, that of the norms times what the other trajectories have."""
    others = (words.sum(1, keepdim=True) - words).detach() / max(words.shape[1] - 1, 1)
    ratio = (norm / norm.detach()).unsqueeze(-1)
    return (others * (ratio - 1)).mean(1)
