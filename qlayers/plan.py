"""A circuit as data for the op: rotations, measured words, and how the angles come about."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from qlayers.evaluate import BATCHED, SHARED, Schedule, Scheduler, Tables, angles
from qlayers.expressions import Nodes, compact
from qlayers.frame import Frame, Word
from qlayers.gates import gate
from qlayers.ops.pauli_expval import pauli_expval
from shared.errors import UserError

if TYPE_CHECKING:
    from qlayers.circuit import Circuit

MOST_WIRES = 62  # masks are int64


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
    the terms of `weighed`. `absorbed` counts the Clifford rotations that cost nothing any more.

    Example:
        >>> from qlayers import Circuit
        >>> circuit = Circuit.parse("H 0\nRX(x0) 0\nCNOT 0 1\nexpval Z(1)")
        >>> print(circuit.plan())
        Plan: 2 wires, 1 rotation, 1 word, 1 output; 5 Clifford rotations absorbed
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

    def __str__(self) -> str:
        counts = [(len(self.rotations), "rotation"), (len(self.words), "word"), (self.outputs, "output")]
        listed = ", ".join(_count(*pair) for pair in [(self.wires, "wire"), *counts])
        return f"Plan: {listed}; {_count(self.absorbed, 'Clifford rotation')} absorbed"

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

    def run(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(b, outputs) from inputs (b, features) and the schedule's weights, all in the tables' dtype."""
        shared, batched = angles(inputs, weights, self.angles)
        return self.measure(shared, batched)

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
                return self._combine(values, shared, batched)
        return self._combine(values, shared, batched)

    def _combine(self, values: Tensor, shared: Tensor, batched: Tensor) -> Tensor:
        out = values @ self.matrix
        if self.offsets is not None:
            out = out + self.offsets
        if self.weighed is None:
            return out
        one = values.new_ones(()).expand(values.shape[0], 1)
        values = torch.cat([values, one], -1)  # word -1 is the identity
        for side, (word, column, onto) in enumerate(self.weighed):
            factors = (shared, batched)[side].index_select(-1, column)
            out = out + (values.index_select(-1, word) * factors) @ onto
        return out


def _rows(rows: Sequence[tuple], width: int, device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64, device=device).reshape(len(rows), width)


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

    def __init__(
        self, wires: Sequence, operations: Sequence[tuple[str, tuple, Sequence]], constant=lambda p: None
    ):
        if len(wires) > MOST_WIRES:
            raise UserError(
                f"A circuit may have up to {MOST_WIRES} wires, this one has {len(wires)}; cut it in parts."
            )
        self.wires = max(len(wires), 1)
        self._bit = {wire: self.wires - 1 - i for i, wire in enumerate(wires)}
        self._frame, self._constant = Frame(self.wires), constant
        self.rotations: list[Rotation] = []
        self.absorbed = 0
        for name, on, parameters in operations:
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
        if parameter is None and (quarters := _quarters(offset)) is not None:
            self.absorbed += 1
            self._frame.absorb(word, quarters=quarters)
            return
        word = self._frame.pull(word)
        self.rotations.append(Rotation(word.x, word.z, parameter, word.sign * scale, word.sign * offset))


def _quarters(angle: float) -> int | None:
    """K if the angle is k pi/2 to rounding, as numpy.pi / 2 is; else None."""
    quarters = angle / (pi / 2)
    if abs(quarters) > 1e6 or abs(quarters - round(quarters)) > 1e-15 * max(1.0, abs(quarters)):
        return None
    return round(quarters)


def plan_of(circuit: "Circuit") -> Plan:
    """The plan of a circuit."""
    nodes = Nodes(circuit.nodes)
    rows = nodes.rows
    lowered = Lowered(
        circuit.wires, circuit.operations, lambda p: rows[p][1] if rows[p][0] == "constant" else None
    )
    wanted = [
        (nodes.constant(r.offset), 1.0, 0.0) if r.parameter is None else (r.parameter, r.scale, r.offset)
        for r in lowered.rotations
    ]
    words: dict[tuple[int, int], int] = {}
    terms, offsets, weighed = [], [0.0] * len(circuit.observables), []
    for output, observable in enumerate(circuit.observables):
        for coefficient, letters in observable:
            word = lowered.pull(letters)
            index = words.setdefault((word.x, word.z), len(words)) if word.x or word.z else -1
            if rows[coefficient][0] != "constant":
                weighed.append((index, output))
                wanted.append((coefficient, float(word.sign), 0.0))
            elif index < 0:
                offsets[output] += word.sign * rows[coefficient][1]
            else:
                terms.append((index, output, word.sign * rows[coefficient][1]))
    sizes = {name: torch.Size(shape).numel() for name, shape in circuit.weights}
    kept, number = compact(rows, [row for row, _, _ in wanted])
    wanted = [(number[row], scale, offset) for row, scale, offset in wanted]
    scheduler = Scheduler(kept, sizes, circuit.features, wanted)
    places = scheduler.places
    turns = zip(lowered.rotations, places, strict=False)
    return Plan(
        wires=lowered.wires,
        rotations=tuple((r.x, r.z, *place) for r, place in turns),
        words=tuple(words),
        schedule=scheduler.schedule,
        outputs=len(circuit.observables),
        terms=tuple(terms),
        offsets=tuple(offsets),
        weighed=tuple(
            Weighed(*term, *place)
            for term, place in zip(weighed, places[len(lowered.rotations) :], strict=True)
        ),
        absorbed=lowered.absorbed,
    )
