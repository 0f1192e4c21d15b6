"""A noisy circuit as rotations and maps of Pauli words, all Clifford gates moved to the end.

A channel E after Clifford gates C is C applied after C†EC, a channel on the words that C† makes of X and Z of
its wires: its generators. So Clifford gates cost nothing, also between channels.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from qlayers.blocks import BLOCKS
from qlayers.frame import Word
from qlayers.noise.channels import MOST_KRAUS_WIRES, is_channel, word_of
from qlayers.plan import Lowered, Rotation
from shared.errors import UserError

NEAR = 64  # steps looked back on for a map on the same words


class Acted(NamedTuple):
    """An operation that a map consists of: its name, parameters (numbers of nodes) and constants."""

    name: str
    parameters: tuple[int, ...]
    entries: tuple[complex, ...]


class Mapped(NamedTuple):
    """Channels on the same wires, one after the other, by their generators: X, Z of each wire."""

    generators: tuple[Word, ...]
    acted: tuple[Acted, ...]

    @property
    def wires(self) -> int:
        return len(self.generators) // 2


class MixedLowered(Lowered):
    """Gates and channels as rotations and maps.

    Attributes:
        rotations: rotations and maps in order of application.
        start: (bits, operation) of each state that is prepared; the other wires begin as |0>.
        postselects: whether some outcomes are dropped, so that the trace may be below 1.
    """

    rotations: list[Rotation | Mapped]

    def __init__(self, wires: Sequence, operations: Sequence[tuple], constant: Callable[[int], Any]):
        self.start: list[tuple[tuple[int, ...], Acted]] = []
        self.postselects = False
        super().__init__(wires, operations, constant)

    def _add(self, name: str, on: Sequence, parameters: Sequence, entries: tuple = ()) -> None:
        acted = Acted(name, tuple(parameters), tuple(entries))
        if name == "StatePrep":  # nothing has acted on its wires, so it may as well be the beginning
            self.start.append((tuple(self._bit[wire] for wire in on), acted))
        elif name == "Projector":
            self.postselects = True
            for wire, bit in zip(on, entries, strict=True):
                self._map((wire,), Acted(name, (), (bit,)))
        elif (word := word_of(name)) is not None:
            self._flip(self.pull(zip(word, on, strict=True)), acted)
        elif name in BLOCKS or is_channel(name):
            self._map(tuple(on), acted)
        else:
            super()._add(name, on, parameters)

    def _map(self, on: tuple, acted: Acted) -> None:
        if len(on) > MOST_KRAUS_WIRES:
            raise UserError(
                f"{acted.name} on {len(on)} wires: expected at most {MOST_KRAUS_WIRES} wires in a circuit "
                "with noise channels; write it with smaller gates."
            )
        pulled = tuple(self.pull([(letter, wire)]) for wire in on for letter in "XZ")
        self._put(Mapped(pulled, (acted,)))

    def _flip(self, word: Word, acted: Acted) -> None:
        """A flip by a word: of a wire whose X is the word, and whose Z is any that anticommutes with it."""
        if word.x == word.z == 0:
            return
        if word.z:
            other = Word(word.z & -word.z, 0)
        else:
            other = Word(0, word.x & -word.x)
        self._put(Mapped((word._replace(sign=1), other), (acted._replace(name="BitFlip"),)))

    def _put(self, new: Mapped) -> None:
        """Add a map, to an earlier one on the same words if it commutes with what came since."""
        steps = self.rotations
        for i in range(len(steps) - 1, max(-1, len(steps) - 1 - NEAR), -1):
            step = steps[i]
            if isinstance(step, Mapped) and step.generators == new.generators:
                steps[i] = step._replace(acted=step.acted + new.acted)
                return
            if not all(word.commutes(own) for word in words_of(step) for own in new.generators):
                break
        steps.append(new)


def words_of(step: Rotation | Mapped) -> tuple[Word, ...]:
    """The words that a step acts by."""
    return step.generators if isinstance(step, Mapped) else (Word(step.x, step.z),)


def in_light_cone(steps: Sequence[Rotation | Mapped], measured: Sequence[Word], wires: int) -> list:
    """The steps without those that no measured word sees.

    A rotation, or a map that keeps the trace, leaves a word alone if it commutes with all words of the step;
    the words that a measured one becomes lie in the span of it and of the words of later steps.
    """
    from qlayers.spans import Basis

    seen = Basis()
    for word in measured:
        seen.add(word.x << 64 | word.z)
    kept = []
    for step in reversed(steps):
        own = words_of(step)
        if len(seen) == 2 * wires or any(seen.overlaps_oddly(word.z << 64 | word.x) for word in own):
            kept.append(step)
            for word in own:
                seen.add(word.x << 64 | word.z)
    return kept[::-1]
