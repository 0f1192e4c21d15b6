"""From a list of Pauli rotations to the program that the kernel runs.

The kernel either holds the states of several samples in its SIMD lanes, or one state whose amplitudes have
their low bits in the lane and their high bits in the row. A program has three parts:

- *The beginning* is a product: groups of rotations that each act in pairs of their own (j, j ^ m), m being
  independent of the masks before. The index space gets these masks as its first unit vectors, so that
  the state doubles in place, group by group.
- *Turns* are single rotations with an X part. In pairs of amplitudes, and up to a factor, each is
  v - t w, w + t v with t = tan(angle/2): a real shear of the parts (re or im) that it pairs. Three whose
  masks differ in their rows make one pass over memory; a mask within the lanes makes a pass of its own.
- *Diagonal passes* hold all rotations without an X part that may wait until there.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qlayers.kernels.numba.schedule import Frame, Group, Rotation, _check_tables, _parity, _step

# kinds of passes; CORNERS + 0, 1, 2: one, two or three turns at once; CROSSED: that exchange lanes too
DIAGONAL, LANE, CORNERS, CROSSED = 0, 1, 2, 5
CORNER_COLUMNS = 52
_STRETCH = 32  # turns between two diagonal passes: each may grow the state by sqrt(2), which these undo
_WINDOW = 256  # rotations that are looked at in search of those that can go next


class Program(NamedTuple):
    """A circuit as flat arrays, as `engine.py` reads them; masks are in the coordinates of the program."""

    groups: np.ndarray  # (G, 2) int64: bounds in `steps`; group g doubles the state along bit g
    steps: np.ndarray  # (S, 6) int64: source, column, letter, sign, sign, z, as in `schedule.Passes.steps`
    passes: np.ndarray  # (P, 5) int64: kind; bounds in `turns`, between them where `batched` begins; number
    corners: np.ndarray  # (O, 52) int64: see `_corner_table`
    turns: np.ndarray  # (K, 5) int64: x, z, power of i, source, column
    words: np.ndarray  # (T, 3) int64: x, z, power of i


class Schedule(NamedTuple):
    """A program and what the host must know about it.

    `uniform`: no turn has angles of samples;
    `tables`: how many diagonal passes have shared angles, `tabled_turns`: how many turns these have.
    """

    program: Program
    shared_angles: int
    batched_angles: int
    uniform: bool
    tables: int
    tabled_turns: int


class _Turn(NamedTuple):
    """A rotation in the coordinates of the program; `power` keeps the phase of its word."""

    x: int
    z: int
    power: int
    source: int
    column: int


@functools.lru_cache(maxsize=256)
def schedule(rotations: bytes, words: bytes, wires: int, lane_bits: int) -> Schedule:
    """The program for the int64 tables `rotations` (K, 4) and `words` (T, 2) with these bytes.

    Raises:
        ValueError: a mask has bits beyond `wires`, or a source or column is out of range.
    """
    table = np.frombuffer(rotations, np.int64).reshape(-1, 4)
    observed = np.frombuffer(words, np.int64).reshape(-1, 2)
    _check_tables(table, observed, wires)
    rows = table.tolist()
    groups, rest = _beginning([Rotation(*row) for row in rows if row[0] or row[1]])
    change = _Coordinates([group.frame.m for group in groups], wires)
    turns, passes = _passes([change.turn(r) for r in rest], lane_bits)
    corners = [_corner_table(turns[a:b], wires, lane_bits) for kind, a, _, b in passes if kind >= CORNERS]
    columns = [1 + max((row[3] for row in rows if row[2] == source), default=-1) for source in (0, 1)]
    bounds = np.cumsum([0, *(len(group.rotations) for group in groups)])
    program = Program(
        np.stack([bounds[:-1], bounds[1:]], 1).astype(np.int64),
        _array([_step(r, group.frame) for group in groups for r in group.rotations], 6),
        _array([(*row, number) for row, number in zip(passes, _numbers(passes), strict=True)], 5),
        _array(corners, CORNER_COLUMNS),
        _array(turns, 5),
        _array([change.word(x, z) for x, z in observed.tolist()], 3),
    )
    tabled = [middle - first for kind, first, middle, _ in passes if kind == DIAGONAL and first < middle]
    return Schedule(program, *columns, all(turn.source == 0 for turn in turns), len(tabled), sum(tabled))


def _numbers(passes: Sequence[tuple[int, int, int, int]]) -> list[int]:
    """The row of each pass in `corners`, or its number among the diagonal passes with shared angles."""
    corners, tables = itertools.count(), itertools.count()
    return [
        next(corners) if kind >= CORNERS else next(tables) if kind == DIAGONAL and first < middle else -1
        for kind, first, middle, _ in passes
    ]


def _array(rows: Sequence[Sequence[int]], width: int) -> np.ndarray:
    return np.array(rows, np.int64).reshape(-1, width)


def _beginning(rotations: Sequence[Rotation]) -> tuple[list[Group], list[Rotation]]:
    """The groups that make a product state out of |0...0>, and the rotations that remain."""
    groups: list[Group] = []
    rest: list[Rotation] = []
    for rotation in rotations:
        if all(rotation.commutes(other) for other in rest) and _join(groups, rotation):
            continue
        rest.append(rotation)
    return groups, rest


def _join(groups: list[Group], rotation: Rotation) -> bool:
    """Put a rotation into the groups, if it fits one that it can reach or can begin another."""
    for g in range(len(groups) - 1, -1, -1):
        trial = Group(list(groups[g].rotations), groups[g].frame)
        if trial.accepts(rotation) and _is_clean(trial, groups[:g]):
            groups[g] = trial
            return True
        if not all(rotation.commutes(other) for other in groups[g].rotations):
            break
    else:
        if rotation.x == 0:
            return True  # it meets |0...0> first, and makes a phase
    if rotation.x == 0 or _depends(rotation.x, [group.frame.m for group in groups]):
        return False
    trial = Group([], Frame(0, 0, 0))
    trial.accepts(rotation)
    if not _is_clean(trial, groups):
        return False
    groups.append(trial)
    return True


def _is_clean(group: Group, before: Sequence[Group]) -> bool:
    """Whether all amplitudes made so far play the same role in the group's pairs, with the same signs."""
    _, s, e = group.frame
    only_x = all(r.x and _parity(r.x & r.z) == 0 for r in group.rotations)
    masks = [other.frame.m for other in before]
    return not any(_parity(e & m) or (_parity(s & m) and not only_x) for m in masks)


def _depends(vector: int, others: Sequence[int]) -> bool:
    return _reduced(vector, _basis(others)) == 0


def _basis(vectors: Sequence[int]) -> list[int]:
    """Independent vectors with leading bits of their own that span the same."""
    basis: list[int] = []
    for vector in vectors:
        vector = _reduced(vector, basis)
        if vector:
            basis.append(vector)
    return basis


def _reduced(vector: int, basis: Sequence[int]) -> int:
    for member in basis:
        vector = min(vector, vector ^ member)
    return vector


class _Coordinates:
    """Indices j = sum of c_i b_i with the given vectors as b_0, b_1, ..., completed to a basis."""

    def __init__(self, first: Sequence[int], wires: int):
        self.basis = list(first)
        span = _basis(first)
        for bit in range(wires):
            if rest := _reduced(1 << bit, span):
                span.append(rest)
                self.basis.append(1 << bit)
        self._inverse = _inverse(self.basis)

    def word(self, x: int, z: int) -> tuple[int, int, int]:
        """(x, z, power): the word i^power X^x Z^z in coordinates; its power belongs to the old masks."""
        coordinates = 0
        for bit, row in enumerate(self._inverse):
            if x >> bit & 1:
                coordinates ^= row
        signs = sum(_parity(z & vector) << i for i, vector in enumerate(self.basis))
        return coordinates, signs, (x & z).bit_count() % 4

    def turn(self, r: Rotation) -> _Turn:
        """The rotation in coordinates."""
        return _Turn(*self.word(r.x, r.z), r.source, r.column)


def _inverse(basis: Sequence[int]) -> list[int]:
    """For each unit vector its coordinates in the basis."""
    rows = [[vector, 1 << i] for i, vector in enumerate(basis)]
    for bit in range(len(basis)):
        pivot = next(r for r in rows[bit:] if r[0] >> bit & 1)
        rows.remove(pivot)
        rows.insert(bit, pivot)
        for row in rows:
            if row is not pivot and row[0] >> bit & 1:
                row[0] ^= pivot[0]
                row[1] ^= pivot[1]
    return [row[1] for row in rows]


def _passes(turns: Sequence[_Turn], lane_bits: int) -> tuple[list[_Turn], list[tuple[int, int, int, int]]]:
    """The turns in the order of their passes, and the passes."""
    ordered: list[_Turn] = []
    passes: list[tuple[int, int, int, int]] = []
    since_diagonal = 0
    waiting = list(turns)
    while waiting:
        ready = _ready(waiting)
        moving = [i for i in ready if waiting[i].x]
        taken = moving or ready
        if not moving:
            members = sorted((waiting[i] for i in taken), key=lambda turn: turn.source)
            middle = len(ordered) + sum(turn.source == 0 for turn in members)
            passes.append((DIAGONAL, len(ordered), middle, len(ordered) + len(members)))
            ordered += members
            since_diagonal = 0
        for members in _joined([waiting[i] for i in moving], lane_bits):
            if since_diagonal + len(members) > _STRETCH:
                passes.append((DIAGONAL, len(ordered), len(ordered), len(ordered)))
                since_diagonal = 0
            crossed = any(turn.x & (1 << lane_bits) - 1 for turn in members)
            many = (CROSSED if crossed else CORNERS) + len(members) - 1
            kind = many if members[0].x >> lane_bits else LANE
            passes.append((kind, len(ordered), len(ordered), len(ordered) + len(members)))
            ordered += members
            since_diagonal += len(members)
        gone = set(taken)
        waiting = [turn for i, turn in enumerate(waiting) if i not in gone]
    return ordered, passes


def _ready(waiting: Sequence[_Turn]) -> list[int]:
    """Which of the first turns commute with all before them, and so with each other."""
    masks = np.array([turn[:2] for turn in waiting[:_WINDOW]], np.int64)
    x, z = masks[:, 0], masks[:, 1]
    crossed = np.bitwise_count(x[:, None] & z) + np.bitwise_count(z[:, None] & x)  # (W, W)
    blocked = np.tril(crossed & 1, -1).any(1)
    return np.flatnonzero(~blocked).tolist()


def _joined(turns: Sequence[_Turn], lane_bits: int) -> list[list[_Turn]]:
    """Commuting turns three by three, such that their rows are independent; those within rows alone."""
    found = [[turn] for turn in turns if turn.x >> lane_bits == 0]
    waiting = [turn for turn in turns if turn.x >> lane_bits]
    while waiting:
        members: list[_Turn] = []
        for turn in waiting:
            if len(members) < 3 and not _depends(turn.x >> lane_bits, [m.x >> lane_bits for m in members]):
                members.append(turn)
        for member in members:
            waiting.remove(member)
        found.append(members)
    return found


def _corner_table(turns: Sequence[_Turn], wires: int, lane_bits: int) -> list[int]:
    """What a pass of up to three turns looks up; corner c is reached from corner 0 by the turns in its bits.

    For each of the two streams of real numbers (the one that starts at the real part of corner 0, the other)
    and each corner: its row, to be combined with that of corner 0. For each corner, which lanes to exchange.
    For each stream, turn and pair of corners whether t changes its sign. For each turn, its mask z of rows.
    At the end of the row, the bits that corner 0 lacks.
    """
    kind = sum((turn.power % 2 == 0) << i for i, turn in enumerate(turns))  # bit i: turn i mixes re with im
    corners = range(1 << len(turns))
    masks = [
        functools.reduce(int.__xor__, (t.x for i, t in enumerate(turns) if c >> i & 1), 0) for c in corners
    ]
    parts = [[stream ^ _parity(c & kind) for c in corners] for stream in range(2)]
    rows = [masks[c] >> lane_bits | stream[c] << wires - lane_bits for stream in parts for c in corners]
    lanes = [mask & (1 << lane_bits) - 1 for mask in masks]
    signs = [
        _parity(turn.z & masks[c]) ^ (kind >> i & 1 & ~stream[c])
        for stream in parts
        for i, turn in enumerate(turns)
        for c in corners
        if not c >> i & 1
    ]
    table = [*rows, *lanes, *signs, *(turn.z >> lane_bits for turn in turns)]
    leading = [1 << vector.bit_length() - 1 for vector in _basis([turn.x >> lane_bits for turn in turns])]
    return [*table, *[0] * (CORNER_COLUMNS - 1 - len(table)), sum(leading)]
