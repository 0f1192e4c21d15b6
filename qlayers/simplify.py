"""Simplification: fewer rotations and a smaller index space for the same expectation values.

A circuit is here a list of Pauli rotations on |0...0> and the Pauli words to measure, all Clifford gates
being absorbed. The `RULES` take rotations away, round after round, until none finds more; then the index
space is cut to what the state can reach. Each rule states its algebra. They hold for expectation values of
states that begin as |0...0>, and know angles only as expressions, so they hold for all inputs and weights.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qlayers.expressions import Nodes
from qlayers.frame import Frame, Word, quarters_of
from qlayers.plan import Rotation
from qlayers.spans import Basis, Coordinates, Span

NEAR = 32  # rotations looked at one by one before the rest is looked at together
# A sum of expressions costs some torch calls at each step, a further rotation about the same word some time
# for each amplitude: below so many amplitudes in all, rotations with different expressions stay apart.
SUM_PAYS = 2**13


class Angle(NamedTuple):
    """The sum of scale * expression over `terms`, (number of the expression, scale), plus `offset`."""

    terms: tuple[tuple[int, float], ...]
    offset: float

    def times(self, sign: int) -> "Angle":
        if sign == 1:
            return self
        return Angle(tuple((node, sign * scale) for node, scale in self.terms), sign * self.offset)

    def plus(self, other: "Angle") -> "Angle":
        scales = dict(self.terms)
        for node, scale in other.terms:
            scales[node] = _total(scales.get(node, 0.0), scale)
        terms = tuple((node, scale) for node, scale in scales.items() if scale)
        return Angle(terms, _total(self.offset, other.offset))


def _total(a: float, b: float) -> float:
    """The sum, zero if it is zero up to rounding."""
    total = a + b
    return 0.0 if abs(total) <= 1e-15 * max(abs(a), abs(b)) else total


class Turn(NamedTuple):
    """The rotation exp(-i angle/2 P) about the word P with masks x and z."""

    x: int
    z: int
    angle: Angle


class Measured(NamedTuple):
    """factor * <P>, the factor being 1 or -1, or 0 where the value is known to be 0."""

    x: int
    z: int
    factor: int


@dataclass
class Form:
    """What the rules work on."""

    wires: int
    turns: list[Turn]
    words: list[Measured]


def light_cone(form: Form) -> int:
    """Drop rotations that no measured word sees.

    <U† W U> does not change if a rotation about P is left out of U whose P commutes with W and with all later
    rotations: P then commutes with the Heisenberg picture of W, which lies in the algebra that W and the
    words of later rotations generate. And P commutes with a product if it commutes with its factors, so a
    basis of at most 2n words stands for all of them.
    """
    seen = Basis()
    for word in form.words:
        if word.factor:
            seen.add(_packed(word.x, word.z))
    kept = []
    for turn in reversed(form.turns):
        if len(seen) == 2 * form.wires or seen.overlaps_oddly(_packed(turn.z, turn.x)):
            kept.append(turn)
            seen.add(_packed(turn.x, turn.z))
    return _keep(form, kept[::-1])


def reach(form: Form) -> int:
    """Drop rotations that only make a phase, and take Z out of words where the state does not show it.

    The state starts as |0...0>, so after some rotations it lies on the span of their masks x. Z^a with even
    overlap (a & x) for all of these is 1 on the state, so P and P Z^a rotate alike if they commute, that is,
    if a overlaps evenly with P's own x. So z counts only through its overlaps with a basis of the span; a
    word without any is 1 and its rotation a phase. At the end, a measured word is 0 if its x is outside.
    """
    span = Span()
    kept = []
    for number, turn in enumerate(form.turns):
        if len(span) == form.wires:
            kept += form.turns[number:]
            break
        span.add(turn.x)
        z = span.shown(turn.z)
        if z != turn.z:
            turn = Turn(turn.x, z, turn.angle.times(_sign(turn.x, turn.z, turn.x, z)))
        if turn.x or z:
            kept.append(turn)
    form.words = [_seen_from(span, word) for word in form.words]
    return _keep(form, kept)


def _seen_from(span: Span, word: Measured) -> Measured:
    if not word.factor or not span.holds(word.x):
        return Measured(0, 0, 0)
    z = span.shown(word.z)
    return Measured(word.x, z, word.factor * _sign(word.x, word.z, word.x, z))


def merge(form: Form) -> int:
    """Merge rotations about one word; what comes to 0 disappears, what comes to k pi/2 is absorbed.

    exp(-i a/2 P) Q exp(-i b/2 P) = exp(-i (a+b)/2 P) Q if P commutes with all rotations of Q. If a + b is a
    multiple of pi/2, this is a Clifford gate, and instead changes the words after it (see `qlayers.frame`).
    """
    words = {(x, z) for x, z, angle in form.turns if angle.terms or quarters_of(angle.offset) is None}
    if len(words) == len(form.turns):
        return 0
    frame: Frame | None = None
    kept = _Sequence(len(form.turns))
    for turn in form.turns:
        word = Word(turn.x, turn.z) if frame is None else frame.pull(Word(turn.x, turn.z))
        angle = turn.angle.times(word.sign)
        partner = kept.partner(word.x, word.z)
        if partner is not None:
            angle = kept.turns[partner].angle.plus(angle)
        quarters = None if angle.terms else quarters_of(angle.offset)
        if quarters is None:
            kept.put(Turn(word.x, word.z, angle), partner)
            continue
        kept.remove(partner)
        if quarters % 4:
            frame = frame or Frame(form.wires)
            frame.absorb(Word(turn.x, turn.z), quarters=quarters * word.sign)
    if frame is not None:
        pulled = [frame.pull(Word(word.x, word.z)) for word in form.words]
        form.words = [
            Measured(p.x, p.z, p.sign * word.factor) for p, word in zip(pulled, form.words, strict=True)
        ]
    return _keep(form, [turn for turn in kept.turns if turn is not None])


def _keep(form: Form, kept: list[Turn]) -> int:
    taken = len(form.turns) - len(kept)
    form.turns = kept
    return taken


# what a report says of the rotations that a rule took -> the rule; applied in this order, round after round
RULES: dict[str, Callable[[Form], int]] = {
    "outside the light cone": light_cone,
    "only a phase": reach,
    "merged": merge,
}


def index_space(form: Form) -> None:
    """Number the amplitudes by coordinates in the span of the masks x, which is all that the state reaches.

    For k = sum of c_i b_i over a basis b (sums modulo 2), P|k> = i^|x & z| (-1)^|z & k| |k + x> reads in the
    coordinates c: x becomes its own coordinates, bit i of z becomes the parity of z & b_i, and |x & z| keeps
    its parity, but may change by 2, which is a sign. The basis is made of the masks that most rotations have,
    so that these come to act on one bit. Measured words have to be as `reach` leaves them.
    """
    uses = Counter(turn.x for turn in form.turns)
    span, basis = Span(), []
    for x, _ in uses.most_common():
        basis += [x] * span.add(x)
        if len(basis) == form.wires:
            return
    if form.wires == 1:
        return
    coordinates = Coordinates(sorted(basis))
    turns = []
    for x, z, angle in form.turns:
        new = coordinates.of(x), coordinates.overlaps(z)
        turns.append(Turn(*new, angle.times(_sign(x, z, *new))))
    words = []
    for x, z, factor in form.words:
        new = (coordinates.of(x), coordinates.overlaps(z)) if factor else (0, 0)
        words.append(Measured(*new, factor * _sign(x, z, *new)))
    form.wires, form.turns, form.words = max(len(basis), 1), turns, words


def _sign(x: int, z: int, new_x: int, new_z: int) -> int:
    """i^(|x & z| - |new_x & new_z|), which is real here."""
    return 1 - ((x & z).bit_count() - (new_x & new_z).bit_count()) % 4


@dataclass(frozen=True)
class Report:
    """What simplification did to a circuit.

    Attributes:
        before, after: numbers of rotations.
        taken: (what happened, number of rotations) for each rule that took any.
        wires, bits: the number of wires, and of bits that index an amplitude.
    """

    before: int
    after: int
    taken: tuple[tuple[str, int], ...]
    wires: int
    bits: int

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.taken) or self.wires != self.bits

    def __str__(self) -> str:
        parts = [f"{reason} {count}" for reason, count in self.taken]
        parts += [f"index space {self.wires} -> {self.bits} bits"] * (self.wires != self.bits)
        first = f"{self.before} rotation{'' if self.before == 1 else 's'} -> {self.after}"
        return first + (": " if parts else "") + ", ".join(parts)


class Simplified(NamedTuple):
    """The circuit that is left."""

    wires: int  # bits of the index space, at least 1
    rotations: list[Rotation]
    words: list[Measured]  # one for each measured word that was given; masks 0, 0 are the identity
    report: Report | None


def as_it_is(
    rotations: Sequence[Rotation], words: Sequence[tuple[int, int]], wires: int, nodes: Nodes
) -> Simplified:
    """The circuit without any simplification, for comparison."""
    return Simplified(wires, list(rotations), [Measured(x, z, 1) for x, z in words], None)


def simplified(
    rotations: Sequence[Rotation], words: Sequence[tuple[int, int]], wires: int, nodes: Nodes
) -> Simplified:
    """A smaller circuit with the same expectation values.

    Args:
        rotations: about words with masks x and z, with numbers of `nodes` as parameters.
        words: the masks of each measured word.
        wires: n, at least 1.
        nodes: the table of expressions, which takes up the sums of angles.

    Example:
        >>> nodes = Nodes()
        >>> x0 = nodes.input(0)
        >>> turns = [Rotation(1, 0, x0, 1.0, 0.0), Rotation(2, 0, x0, 1.0, 0.0), Rotation(1, 0, x0, 2.0, 0.0)]
        >>> found = simplified(turns, [(0, 1)], 2, nodes)  # RX(x0) on both wires, RX(2 x0), and Z of the last
        >>> found.rotations
        [Rotation(x=1, z=0, parameter=0, scale=3.0, offset=0.0)]
        >>> print(found.report)
        3 rotations -> 1: outside the light cone 1, merged 1, index space 2 -> 1 bits
    """
    turns = [Turn(r.x, r.z, _angle(r, nodes)) for r in rotations]
    form = Form(wires, turns, [Measured(x, z, 1) for x, z in words])
    taken = Counter()
    before = None
    while (now := (form.turns, form.words)) != before:  # a rule may open the way for another
        before = now
        for reason, rule in RULES.items():
            taken[reason] += rule(form)
        if (form.turns, form.words) == now:
            index_space(form)
    left = _lowered(form, nodes)
    taken["merged"] -= len(left) - len(form.turns)
    report = Report(
        len(rotations), len(left), tuple((k, v) for k, v in taken.items() if v), wires, form.wires
    )
    return Simplified(form.wires, left, form.words, report)


def _angle(rotation: Rotation, nodes: Nodes) -> Angle:
    _, _, node, scale, offset = rotation
    if node is None:
        return Angle((), offset)
    row = nodes.rows[node]
    if row[0] == "affine":
        scale, offset, node = scale * row[1], scale * row[2] + offset, row[3]
    return Angle(((node, scale),) if scale else (), offset)


def _lowered(form: Form, nodes: Nodes) -> list[Rotation]:
    """The rotations, with sums of expressions as one expression or as neighbours, whichever is cheaper."""
    sums = sum(max(len(turn.angle.terms) - 1, 0) for turn in form.turns)
    summed = sums << form.wires >= SUM_PAYS
    found = []
    for x, z, (terms, offset) in form.turns:
        if summed and len(terms) > 1:
            scaled = [nodes.affine(scale, 0.0, node) for node, scale in terms]
            terms = ((nodes.apply("sum", *scaled), 1.0),)
        for node, scale in terms or ((None, 0.0),):
            found.append(Rotation(x, z, node, scale, offset))
            offset = 0.0
    return found


class _Sequence:
    """Rotations kept so far, and where each word came; removed ones are None, with masks of 0."""

    def __init__(self, most: int):
        self.turns: list[Turn | None] = []
        self._places: dict[tuple[int, int], list[int]] = defaultdict(list)
        self._x, self._z = np.zeros(most, np.int64), np.zeros(most, np.int64)

    def put(self, turn: Turn, at: int | None) -> None:
        """In the place of its partner, or at the end."""
        if at is not None:
            self.turns[at] = turn
            return
        at = len(self.turns)
        self._places[turn.x, turn.z].append(at)
        self._x[at], self._z[at] = turn.x, turn.z
        self.turns.append(turn)

    def remove(self, at: int | None) -> None:
        if at is not None:
            self._places[self.turns[at][:2]].pop()  # a partner is the last of its word
            self.turns[at], self._x[at], self._z[at] = None, 0, 0

    def partner(self, x: int, z: int) -> int | None:
        """The last rotation about this word, if the word commutes with all that came since."""
        places = self._places.get((x, z))
        if not places:
            return None
        at = places[-1]
        near = max(at + 1, len(self.turns) - NEAR)
        for turn in self.turns[: near - 1 : -1]:
            if turn is not None and ((x & turn.z) ^ (z & turn.x)).bit_count() & 1:
                return None
        far = slice(at + 1, near)
        if np.any(np.bitwise_count((self._x[far] & z) ^ (self._z[far] & x)) & 1):
            return None
        return at


def _packed(x: int, z: int) -> int:
    return x << 64 | z
