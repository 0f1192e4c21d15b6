"""A circuit as data for the op: rotations, measured words, and how the angles come about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from qlayers import node
from qlayers.blocks import BLOCKS
from qlayers.evaluate import BATCHED, SHARED, Schedule, Scheduler, Tables, angles
from qlayers.expressions import Nodes, Row, compact
from qlayers.frame import Frame, Word, quarters_of
from qlayers.gates import gate
from qlayers.measure_words import Read, Results, readings
from qlayers.memory import check_memory
from qlayers.ops.pauli_expval import pauli_expval
from qlayers.readout import exactly, joined
from qlayers.states import StatePlan, state_plan
from shared.errors import UserError

if TYPE_CHECKING:
    from qlayers.circuit import Circuit
    from qlayers.simplify import Report

MOST_WIRES = 62  # masks are int64
LARGE = 24  # wires from which on the memory is looked at first


class Rotation(NamedTuple):
    """exp(-i t/2 P) with the word's masks and t = scale * parameter + offset."""

    x: int
    z: int
    parameter: Any
    scale: float
    offset: float


class Weighed(NamedTuple):
    """One term of an output whose factor is computed: factor = column of the angles of that side."""

    word: int  # number of the word, -1 for the identity
    output: int
    side: int
    column: int


@dataclass(frozen=True)
class Plan:
    r"""Everything that a forward pass needs, as plain data.

    `rotations` and `words` are the rows of `qlayers.ops.pauli_expval`; `schedule` computes the angles. Output
    o is the sum of value * <words[word]> over the rows (word, o, value) of `terms`, plus `offsets[o]`, plus
    the terms of `weighed`. `absorbed` counts the Clifford rotations that cost nothing any more, and `report`
    says what simplification did; `wires` are the bits that it has left for the index of an amplitude.

    Example:
        >>> from qlayers import Circuit
        >>> print(Circuit.parse("RX(x0) 0\nRX(x1) 1\nCNOT 0 1\nexpval Z(0)\nexpval Z(1)").plan())
        Plan: 2 wires, 2 rotations, 2 words, 2 outputs; 3 Clifford rotations absorbed
        >>> print(Circuit.parse("RX(x0) 0\nRX(x1) 1\nRX(-x0) 0\nRZ(x0) 1\nexpval Z(1)").plan())
        Plan: 1 wire, 1 rotation, 1 word, 1 output; 0 Clifford rotations absorbed
        4 rotations -> 1: outside the light cone 3, index space 2 -> 1 bits
    """

    wires: int
    rotations: tuple[tuple[int, int, int, int], ...]
    words: tuple[tuple[int, int], ...]
    schedule: Schedule
    outputs: int
    terms: tuple[tuple[int, int, float], ...]
    offsets: tuple[float, ...]
    weighed: tuple[Weighed, ...]
    absorbed: int
    report: "Report | None" = None  # None: the circuit as it is
    reads: tuple[Read, ...] = ()  # what becomes of the outputs; none: they are the results
    single: bool = False

    def __str__(self) -> str:
        counts = [(len(self.rotations), "rotation"), (len(self.words), "word"), (self.outputs, "output")]
        listed = ", ".join(_count(*pair) for pair in [(self.wires, "wire"), *counts])
        first = f"Plan: {listed}; {_count(self.absorbed, 'Clifford rotation')} absorbed"
        return f"{first}\n{self.report}" if self.report else first

    __repr__ = __str__

    def tables(self, device: torch.device, dtype: torch.dtype) -> "PlanTables":
        """The plan's numbers as tensors on a device, in a floating dtype."""
        return PlanTables(self, device, dtype)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


class PlanTables:
    """A plan on a device in a dtype: the tensors that a forward pass reads, none of which it changes."""

    def __init__(self, plan: Plan, device: torch.device, dtype: torch.dtype):
        self.wires = plan.wires
        self.rotations = _rows(plan.rotations, 4, device)
        self.words = _rows(plan.words, 2, device)
        self.angles: Tables = plan.schedule.tables(device, dtype)
        self.matrix, self.offsets = _linear(plan, device, dtype)
        self.weighed = _weighed(plan, device, dtype) if plan.weighed else None
        self.finals = self.angles[-1]
        self.results, self.single = None, plan.single
        if any(read.kind != "expval" for read in plan.reads):
            self.results = Results(plan.reads, device, dtype)
        self.constants = len(plan.schedule.constants)
        # the rest serves `qlayers.node`
        self.schedule, self.circuit = plan.schedule, (self.rotations, self.words, self.wires)
        self.affine = not plan.schedule.steps and not plan.weighed
        self.launches: dict[tuple, Any] = {}
        self.name = f"circuit_{uuid4().hex}"  # in graphs, see `qlayers.passes.one_call`

    def run(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(b, outputs) from inputs (b, features) and the schedule's weights, all in the tables' dtype."""
        if self.wires >= LARGE:
            check_memory(self.wires, 2, inputs.dtype, inputs.device)
        values = node.run(self, inputs, weights)
        if values is None:
            values = self.measure(*angles(inputs, weights, self.angles))
        if self.results is None:
            return values
        with exactly(inputs.device.type):
            return joined(self.results(values), self.single)

    def measure(self, shared: Tensor, batched: Tensor) -> Tensor:
        """(b, outputs) from the angles."""
        values = pauli_expval(shared, batched, self.rotations, self.words, self.wires)  # (b, T)
        if self.matrix is None:
            return values
        kind = values.device.type
        if kind != "meta" and torch.is_autocast_enabled(
            kind
        ):  # autocast would round the sums to half precision
            with torch.autocast(kind, enabled=False):
                return self.combine(values, shared, batched)
        return self.combine(values, shared, batched)

    def summed(self, values: Tensor) -> Tensor:
        """(b, outputs) of the terms with constant factors."""
        out = values @ self.matrix
        return out if self.offsets is None else out + self.offsets

    def combine(self, values: Tensor, shared: Tensor, batched: Tensor) -> Tensor:
        """(b, outputs) from the words' expectation values (b, T) and the angles."""
        if self.matrix is None:
            return values
        out = self.summed(values)
        if self.weighed is None:
            return out
        one = values.new_ones(()).expand(values.shape[0], 1)
        values = torch.cat([values, one], -1)  # word -1 is the identity
        for side, (word, column, onto) in enumerate(self.weighed):
            factors = (shared, batched)[side].index_select(-1, column)
            out = out + (values.index_select(-1, word) * factors) @ onto
        return out


def _rows(rows: Sequence[tuple], width: int, device: torch.device) -> Tensor:
    table = np.reshape(rows, (len(rows), width))  # no view of a tensor, whose base Dynamo would look at, too
    return torch.tensor(table, dtype=torch.int64, device=device)


def _linear(plan: Plan, device: torch.device, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
    """The matrix (T, outputs) and the constants of the outputs; None and None if outputs are the words."""
    plain = tuple((i, i, 1.0) for i in range(len(plan.words)))
    if plan.terms == plain and plan.outputs == len(plain) and not plan.weighed and not any(plan.offsets):
        return None, None
    matrix = torch.zeros(len(plan.words), plan.outputs, dtype=torch.float64)
    for word, output, value in plan.terms:
        matrix[word, output] += value
    offsets = torch.tensor(plan.offsets, dtype=dtype, device=device) if any(plan.offsets) else None
    return matrix.to(device, dtype), offsets


def _weighed(plan: Plan, device: torch.device, dtype: torch.dtype) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each side: words, columns of their factors, and the matrix (terms, outputs) that sums."""
    found = []
    for side in (SHARED, BATCHED):
        terms = [term for term in plan.weighed if term.side == side]
        word = torch.tensor(
            [term.word % (len(plan.words) + 1) for term in terms], dtype=torch.int64, device=device
        )
        column = torch.tensor([term.column for term in terms], dtype=torch.int64, device=device)
        onto = torch.zeros(len(terms), plan.outputs, dtype=dtype)
        for i, term in enumerate(terms):
            onto[i, term.output] = 1.0
        found.append((word, column, onto.to(device)))
    return found


class Lowered:
    """Gates as Pauli rotations, all Cliffords moved to the end; `pull` is what observables become."""

    def __init__(self, wires: Sequence, operations: Sequence[tuple], constant=lambda p: None):
        if len(wires) > MOST_WIRES:
            raise UserError(
                f"A circuit may have up to {MOST_WIRES} wires, this one has {len(wires)}; cut it in parts."
            )
        self.wires = max(len(wires), 1)
        self._bit = {wire: self.wires - 1 - i for i, wire in enumerate(wires)}
        self._frame, self._constant = Frame(self.wires), constant
        self.rotations: list[Rotation] = []
        self.absorbed = 0
        for operation in operations:
            self._add(*operation)

    def _add(self, name: str, on: Sequence, parameters: Sequence, entries: tuple = ()) -> None:
        """Take in one operation, here a gate of the table."""
        for letters, angle in gate(name, len(on)).turns:
            parameter = None if angle.parameter is None else parameters[angle.parameter]
            self._turn(self.word(zip(letters, on, strict=True)), parameter, angle.scale, angle.offset)

    def word(self, letters) -> Word:
        """The word of (letter, wire) pairs."""
        x = z = 0
        for letter, wire in letters:
            x |= (letter in "XY") << self._bit[wire]
            z |= (letter in "YZ") << self._bit[wire]
        return Word(x, z)

    def pull(self, letters) -> Word:
        """The measured word of an observable."""
        return self._frame.pull(self.word(letters))

    def _turn(self, word: Word, parameter, scale: float, offset: float) -> None:
        if word.x == word.z == 0:
            return  # a global phase
        if parameter is not None and (value := self._constant(parameter)) is not None:
            parameter, scale, offset = None, 0.0, scale * value + offset
        if parameter is None and (quarters := quarters_of(offset)) is not None:
            self.absorbed += 1
            self._frame.absorb(word, quarters=quarters)
            return
        word = self._frame.pull(word)
        self.rotations.append(Rotation(word.x, word.z, parameter, word.sign * scale, word.sign * offset))


class Outputs:
    """How the outputs of a plan are made of the expectation values of words.

    Args:
        sums: for each output the terms (number of the coefficient, measured word).
        became: for the masks of each measured word the masks and factor of the one that is left of it.
        rows: the table of expressions.

    Attributes:
        words: the masks of the words that are needed.
        wanted: (row, scale, offset) of the factors that have to be computed.
    """

    def __init__(self, sums: Sequence, became: Mapping[tuple[int, int], tuple], rows: Sequence[Row]):
        self.words: dict[tuple[int, int], int] = {}
        self.wanted: list[tuple[int, float, float]] = []
        self._terms: list[tuple[int, int, float]] = []
        self._offsets, self._weighed = [0.0] * len(sums), []
        for output, terms in enumerate(sums):
            for coefficient, word in terms:
                x, z, factor = became[word.x, word.z]
                if factor:
                    self._add(output, (x, z), factor * word.sign, coefficient, rows[coefficient])

    def _add(self, output: int, masks: tuple[int, int], factor: float, coefficient: int, row: Row) -> None:
        index = self.words.setdefault(masks, len(self.words)) if any(masks) else -1
        if row[0] != "constant":
            self._weighed.append((index, output))
            self.wanted.append((coefficient, float(factor), 0.0))
        elif index < 0:
            self._offsets[output] += factor * row[1]
        else:
            self._terms.append((index, output, factor * row[1]))

    def fields(self, places: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """The fields of a plan, given where the computed factors are found."""
        return {
            "words": tuple(self.words),
            "outputs": len(self._offsets),
            "terms": tuple(self._terms),
            "offsets": tuple(self._offsets),
            "weighed": tuple(
                Weighed(*term, *place) for term, place in zip(self._weighed, places, strict=True)
            ),
        }


def scheduled(circuit: "Circuit", rows: Sequence[Row], wanted: Sequence[tuple]) -> Scheduler:
    """What computes the wanted numbers (row, scale, offset) of a circuit's inputs and weights."""
    sizes = {name: torch.Size(shape).numel() for name, shape in circuit.weights}
    kept, number = compact(rows, [row for row, _, _ in wanted])
    wanted = [(number[row], scale, offset) for row, scale, offset in wanted]
    # weights of which nothing is left stay, so that their gradient is zero and not missing
    weights = dict.fromkeys(row[1] for row in circuit.nodes if row[0] == "weight")
    return Scheduler(kept, sizes, circuit.features, wanted, weights)


@lru_cache(maxsize=256)
def plan_of(circuit: "Circuit", *, simplify: bool = True) -> "Plan | StatePlan":
    """The plan of a circuit, simplified (see `qlayers.simplify`) or gate by gate.

    It goes by Pauli words where these serve all measurements and are few (`qlayers.measure_words`), else by
    the state (`qlayers.states`), which is not simplified. With noise it goes by the density matrix, see
    `qlayers.noise.exact`.
    """
    from qlayers.simplify import as_it_is, simplified

    if circuit.noisy:
        from qlayers.noise.exact import mixed_plan

        return mixed_plan(circuit)
    nodes = Nodes(circuit.nodes)
    rows = nodes.rows
    has_blocks = any(operation.gate in BLOCKS for operation in circuit.operations)
    found = None if has_blocks else readings(circuit.measurements, circuit.wires, nodes)
    if found is None:
        return state_plan(circuit)
    reads, sums = found
    lowered = Lowered(
        circuit.wires, circuit.operations, lambda p: rows[p][1] if rows[p][0] == "constant" else None
    )
    pulled = [[(c, lowered.pull(letters)) for c, letters in row] for row in sums]
    measured = list(dict.fromkeys((word.x, word.z) for terms in pulled for _, word in terms))
    left = (simplified if simplify else as_it_is)(lowered.rotations, measured, lowered.wires, nodes)
    became = dict(zip(measured, left.words, strict=True))
    wanted = [
        (nodes.constant(r.offset), 1.0, 0.0) if r.parameter is None else (r.parameter, r.scale, r.offset)
        for r in left.rotations
    ]
    outputs = Outputs(pulled, became, rows)
    scheduler = scheduled(circuit, rows, [*wanted, *outputs.wanted])
    turns = zip(left.rotations, scheduler.places, strict=False)
    return Plan(
        wires=left.wires,
        rotations=tuple((r.x, r.z, *place) for r, place in turns),
        schedule=scheduler.schedule,
        **outputs.fields(scheduler.places[len(left.rotations) :]),
        absorbed=lowered.absorbed,
        report=left.report,
        reads=tuple(reads),
        single=circuit.single,
    )
