"""A circuit as stages that a state goes through: rotations, index tables, matrices."""

from collections.abc import Sequence
from typing import NamedTuple

from qlayers.blocks import BLOCKS
from qlayers.circuit import Circuit, Operation
from qlayers.expressions import Nodes
from qlayers.frame import Word, quarters_of
from qlayers.gates import Angle, gate
from qlayers.noise.channels import is_channel
from qlayers.permute import Permutation, Permuting, permutes


class Numbers(NamedTuple):
    """The numbers of a block: constants, or which of the wanted expressions they are."""

    constants: tuple[complex, ...]
    wanted: tuple[int, ...]  # real ones, or real parts and then imaginary parts
    size: int


class Turned(NamedTuple):
    """Pauli rotations: (x, z, number of the wanted angle)."""

    rotations: tuple[tuple[int, int, int], ...]


class Applied(NamedTuple):
    """A matrix, or a diagonal, on the wires at `places`."""

    places: tuple[int, ...]
    numbers: Numbers
    diagonal: bool


class Kept(NamedTuple):
    """Only amplitudes with these bits at `places` are kept, and normalised."""

    places: tuple[int, ...]
    bits: tuple[int, ...]


class Chosen(NamedTuple):
    """Noise channels on the wires at `places`, one after the other, of which trajectories choose operators.

    `parts` has the name of each and the numbers that it takes.
    """

    places: tuple[int, ...]
    parts: tuple[tuple[str, Numbers], ...]


Stage = Turned | Permutation | Applied | Kept | Chosen


class Staged:
    """The stages of a circuit.

    Gates that permute basis states are gathered in an index table at the end of each run of gates, and change
    the words of later rotations meanwhile; other gates stay rotations, also Clifford gates such as a
    Hadamard, since a state shows what they do.

    Attributes:
        start: (places, numbers) of each state that is prepared; the other wires begin as |0>.
        stages: what follows.
        wanted: (row, scale, offset) of all numbers that have to be computed.
        phase: the number of the wanted global phase, and its constant part.
        absorbed: how many rotations became index tables.
    """

    def __init__(self, circuit: Circuit, nodes: Nodes, *, with_phase: bool):
        self.wires = max(len(circuit.wires), 1)
        self.place = {wire: i for i, wire in enumerate(circuit.wires)}
        self.start: list[tuple[tuple[int, ...], Numbers]] = []
        self.stages: list[Stage] = []
        self.wanted: list[tuple[int, float, float]] = []
        self.absorbed = 0
        self._nodes = nodes
        self._angles: list[Angle] = []  # of the global phase; `parameter` is the number of a node
        self._rotations: list[tuple[int, int, int]] = []
        self._permuting = Permuting(self.wires)
        for operation in circuit.operations:
            self._add(operation)
        self._flush()
        self.phase, self.constant_phase = self._total_phase() if with_phase else (None, 0.0)

    def want(self, row: int, scale: float = 1.0, offset: float = 0.0) -> int:
        """The number under which scale * row + offset will be found."""
        self.wanted.append((row, scale, offset))
        return len(self.wanted) - 1

    def word(self, letters) -> Word:
        """The word of (letter, wire) pairs."""
        x = z = 0
        for letter, wire in letters:
            bit = self.wires - 1 - self.place[wire]
            x |= (letter in "XY") << bit
            z |= (letter in "YZ") << bit
        return Word(x, z)

    def places(self, wires: Sequence) -> tuple[int, ...]:
        return tuple(self.place[wire] for wire in wires)

    def _add(self, operation: Operation) -> None:
        name, wires, parameters, entries = operation
        if name not in BLOCKS and not is_channel(name):
            self._gate(name, wires, parameters)
            return
        places = self.places(wires)
        if is_channel(name):
            numbers = Numbers(entries, tuple(self.want(parameter) for parameter in parameters), 0)
            self._choose(places, name, numbers)
            return
        if name == "Projector":
            self._flush()
            self.stages.append(Kept(places, tuple(int(bit) for bit in entries)))
            return
        size = BLOCKS[name](len(wires))
        numbers = Numbers(entries, tuple(self.want(parameter) for parameter in parameters), size)
        if name == "StatePrep":  # nothing has acted on its wires, so it may as well be the beginning
            self.start.append((places, numbers))
            return
        self._flush()
        self.stages.append(Applied(places, numbers, name == "DiagonalQubitUnitary"))

    def _choose(self, places: tuple[int, ...], name: str, numbers: Numbers) -> None:
        """Add a channel, to earlier ones on its wires if others act on none of these."""
        self._flush()
        for i in range(len(self.stages) - 1, -1, -1):
            stage = self.stages[i]
            if not isinstance(stage, Chosen):
                break
            if stage.places == places:
                self.stages[i] = stage._replace(parts=(*stage.parts, (name, numbers)))
                return
            if not set(places).isdisjoint(stage.places):
                break
        self.stages.append(Chosen(places, ((name, numbers),)))

    def _gate(self, name: str, wires: tuple, parameters: tuple[int, ...]) -> None:
        found = gate(name, len(wires))
        turns = [(letters, self._resolved(angle, parameters)) for letters, angle in found.turns]
        self._angles += [self._resolved(angle, parameters) for angle in found.phase]
        quarters = tuple(
            (letters, quarters_of(angle.offset) if angle.parameter is None else None)
            for letters, angle in turns
        )
        words = [self.word(zip(letters, wires, strict=True)) for letters, _ in turns]
        if turns and all(count is not None for _, count in quarters) and permutes(quarters):
            self.absorbed += len(turns)
            pairs = [(word, count) for word, (_, count) in zip(words, quarters, strict=True)]
            bits = tuple(self.wires - 1 - self.place[wire] for wire in wires)
            self._permuting.absorb(pairs, quarters, bits)
            return
        for word, (_, angle) in zip(words, turns, strict=True):
            self._turn(self._permuting.frame.pull(word), angle)

    def _turn(self, word: Word, angle: Angle) -> None:
        if word.x == word.z == 0:
            self._angles.append(angle.times(-0.5))
            return
        parameter, scale, offset = angle.times(word.sign)
        row, scale, offset = (
            (self._nodes.constant(offset), 1.0, 0.0) if parameter is None else (parameter, scale, offset)
        )
        self._rotations.append((word.x, word.z, self.want(row, scale, offset)))

    def _resolved(self, angle: Angle, parameters: tuple[int, ...]) -> Angle:
        """The angle with the number of a node as its parameter, or a constant."""
        if angle.parameter is None:
            return angle
        parameter = parameters[angle.parameter]
        row = self._nodes.rows[parameter]
        if row[0] == "constant":
            return Angle(None, 0.0, angle.scale * row[1] + angle.offset)
        return Angle(parameter, angle.scale, angle.offset)

    def _flush(self) -> None:
        """End the run of gates so far."""
        if self._rotations:
            self.stages.append(Turned(tuple(self._rotations)))
        permutation = self._permuting.now()
        if not permutation.is_identity:
            self.stages.append(permutation)
        self._angles.append(Angle(None, 0.0, self._permuting.phase))
        self._rotations, self._permuting = [], Permuting(self.wires)

    def _total_phase(self) -> tuple[int | None, float]:
        constant = sum(angle.offset for angle in self._angles)
        terms = [
            self._nodes.affine(angle.scale, 0.0, angle.parameter)
            for angle in self._angles
            if angle.parameter is not None
        ]
        if not terms:
            return None, constant
        total = terms[0] if len(terms) == 1 else self._nodes.apply("sum", *terms)
        return self.want(total), constant
