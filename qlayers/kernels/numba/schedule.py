"""From a list of Pauli rotations to the passes over memory that the lane kernel makes.

Two kinds of pass:

- A *pair pass* applies rotations that act inside the same pairs of amplitudes (j, j ^ m). In a pair the one
  with parity(s & j) = 0 plays |0>, the other |1>; a word is then X, Y or Z up to a sign, and any number of
  them fuse into one SU(2) matrix. The sign may depend on one more parity (e & j), which is constant on a
  pair: the pairs fall into at most two cosets with a matrix each. CNOT gates absorbed into the words only
  change m and s; CZ gates show up in e.
- A *diagonal pass* (m = 0) applies any number of rotations whose words have no X part.

The state starts as |0...0>, so only a subspace of indices, the span of the masks m seen so far, is non-zero.
Passes walk this subspace alone, which makes the first rotation on every wire nearly free, forward and
backward. A subspace is walked as j = high[h] ^ low[l]: two small tables instead of one with an entry per
amplitude.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

LETTER_X, LETTER_Y, LETTER_Z = 0, 1, 2
_LOW_BITS = 5  # 32 entries of the low table stay in L1 and amortise the high one


class Rotation(NamedTuple):
    """exp(-i angle/2 P) with P = (x, z); its angle stands in `source` (0 shared, 1 batched) at `column`."""

    x: int
    z: int
    source: int
    column: int

    def commutes(self, other: "Rotation") -> bool:
        """Whether the two words commute: their masks overlap crosswise an even number of times."""
        return not _parity((self.x & other.z) ^ (self.z & other.x))


class Frame(NamedTuple):
    """Where a pair pass finds its pairs and their roles; all zero for a diagonal pass."""

    m: int
    s: int
    e: int


@dataclass
class Group:
    """Rotations that one pass applies, in order."""

    rotations: list[Rotation]
    frame: Frame = field(default=Frame(0, 0, 0))

    def accepts(self, rotation: Rotation) -> bool:
        """Take the rotation in, if it acts inside the same pairs."""
        frame = _common_frame([*self.rotations, rotation])
        if frame is None:
            return False
        self.frame = frame
        self.rotations.append(rotation)
        return True


class Passes(NamedTuple):
    """The passes as flat arrays, as `evolve_passes.py` reads them."""

    passes: np.ndarray  # (G, 9) int64: m, cosets, offset of coset 1, bounds of low, of high table, of steps
    steps: np.ndarray  # (K, 6) int64: source, column, letter, sign in coset 0, sign in coset 1, z
    tables: np.ndarray  # int64: all low and high tables behind each other
    words: np.ndarray  # (T, 3) int64: x, z, power of i
    signs: np.ndarray  # (T, 2^n) int8: (-1)^parity(z & j)


class Schedule(NamedTuple):
    """What a circuit's tables come to: its passes, and how many angles of each kind they reach into."""

    passes: Passes
    shared_angles: int
    batched_angles: int


@functools.lru_cache(maxsize=256)
def schedule(rotations: bytes, words: bytes, wires: int) -> Schedule:
    """The schedule of the circuit whose int64 tables `rotations` (K, 4) and `words` (T, 2) have these bytes.

    Raises:
        ValueError: a mask has bits beyond `wires`, or a source or column is out of range.
    """
    table = np.frombuffer(rotations, np.int64).reshape(-1, 4)
    observed = np.frombuffer(words, np.int64).reshape(-1, 2)
    _check_tables(table, observed, wires)
    rows = table.tolist()
    groups = _joined_diagonals(_grouped(Rotation(*row) for row in rows if row[0] or row[1]))
    columns = [1 + max((row[3] for row in rows if row[2] == source), default=-1) for source in (0, 1)]
    return Schedule(Passes(*_laid_out(groups), *_observables(observed, wires)), *columns)


def _laid_out(
    groups: Sequence[Group], support: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arrays `passes`, `steps` and `tables`, with the support that each pass finds and leaves.

    `support` is a basis of the indices that are non-zero at the start: none but 0, for |0...0>.
    """
    passes: list[tuple[int, ...]] = []
    steps: list[tuple[int, ...]] = []
    tables = [np.zeros(0, np.int64)]
    position, support = 0, list(support)  # where the next table starts; what is non-zero so far
    for group in groups:
        if group.frame.m:
            support = _echelon([*support, group.frame.m])
        basis, offset = _walk(support, group.frame)
        low, high = _span(basis[:_LOW_BITS]), _span(basis[_LOW_BITS:])
        middle, end = position + len(low), position + len(low) + len(high)
        bounds = (position, middle, middle, end, len(steps), len(steps) + len(group.rotations))
        passes.append((group.frame.m, 1 if offset is None else 2, offset or 0, *bounds))
        steps += [_step(rotation, group.frame) for rotation in group.rotations]
        tables += [low, high]
        position = end
    return (
        np.array(passes, np.int64).reshape(-1, 9),
        np.array(steps, np.int64).reshape(-1, 6),
        np.concatenate(tables),
    )


def _check_tables(rotations: np.ndarray, words: np.ndarray, wires: int) -> None:
    for name, masks in (("rotations", rotations[:, :2]), ("words", words)):
        if masks.size and (masks.min() < 0 or masks.max() >> wires):
            raise ValueError(
                f"{name}: expected masks from 0 to {2**wires - 1} for {wires} wires, "
                f"received {masks.min()} to {masks.max()}"
            )
    if np.any((rotations[:, 2] != 0) & (rotations[:, 2] != 1)) or np.any(rotations[:, 3] < 0):
        raise ValueError("rotations: expected source 0 or 1 and a column of at least 0 in each row")


def _grouped(rotations: Iterable[Rotation]) -> list[Group]:
    """Put each rotation into the latest group that it fits and can reach, past all it commutes with."""
    groups: list[Group] = []
    for rotation in rotations:
        for group in reversed(groups):
            if group.accepts(rotation):
                break
            if not all(rotation.commutes(other) for other in group.rotations):
                groups.append(Group([rotation], _common_frame([rotation])))
                break
        else:
            groups.append(Group([rotation], _common_frame([rotation])))
    return groups


def _joined_diagonals(groups: Sequence[Group]) -> list[Group]:
    """Neighbouring diagonal groups become one pass."""
    joined: list[Group] = []
    for group in groups:
        if joined and not joined[-1].frame.m and not group.frame.m:
            joined[-1] = Group(joined[-1].rotations + group.rotations)
        else:
            joined.append(group)
    return joined


def _common_frame(rotations: Sequence[Rotation]) -> Frame | None:
    """The frame in which all these words are X, Y or Z up to a sign, or None when there is none."""
    flips = {r.x for r in rotations if r.x}
    if not flips:  # one diagonal word may wait for an X part to join it; more would not fit one frame
        return Frame(0, 0, 0) if len({r.z for r in rotations}) == 1 else None
    if len(flips) > 1:
        return None
    m = flips.pop()
    splitting = [r.z for r in rotations if _parity(r.z & m)]  # Y and Z: they tell the roles apart
    flat = [r for r in rotations if not _parity(r.z & m)]
    if any(r.x == 0 for r in flat):  # a phase on both amplitudes is no SU(2) matrix
        return None
    s = splitting[0] if splitting else m & -m
    signs = ({r.z for r in flat} | {z ^ s for z in splitting}) - {0}
    if len(signs) > 1:
        return None
    return Frame(m, s, signs.pop() if signs else 0)


def _step(rotation: Rotation, frame: Frame) -> tuple[int, ...]:
    """(source, column, letter, sign in coset 0, sign in coset 1, z) of a rotation inside its pass."""
    x, z, source, column = rotation
    if frame.m == 0:
        return source, column, LETTER_Z, 1, 1, z
    power = (x & z).bit_count() % 4  # <j^m|P|j> = i^power (-1)^parity(z & j)
    if x == 0:
        letter, sign, varies = LETTER_Z, 1, z != frame.s
    elif power % 2 == 0:
        letter, sign, varies = LETTER_X, 1 - power, z != 0
    else:
        letter, sign, varies = LETTER_Y, 2 - power, z != frame.s
    return source, column, letter, sign, -sign if varies else sign, z


def _walk(support: list[int], frame: Frame) -> tuple[list[int], int | None]:
    """A basis of the indices to walk (of pairs: the first members, in coset 0), and what leads to coset 1."""
    if not frame.m:
        return support, None
    basis, _ = _kernel(support, frame.s)
    basis, offset = _kernel(basis, frame.e)
    return _echelon(basis), offset


def _kernel(basis: Sequence[int], mask: int) -> tuple[list[int], int | None]:
    """The part of a span with even overlap with `mask`, and one vector with an odd one, if any."""
    outside = next((v for v in basis if _parity(v & mask)), None)
    if outside is None:
        return list(basis), None
    rest = [v for v in basis if v != outside]
    return [v ^ outside if _parity(v & mask) else v for v in rest], outside


def _echelon(vectors: Iterable[int]) -> list[int]:
    """The reduced basis of a span over GF(2), by rising leading bit, so that spans come out sorted."""
    basis: list[int] = []
    for vector in vectors:
        for member in basis:
            vector = min(vector, vector ^ member)
        if vector:
            basis = [min(member, member ^ vector) if member > vector else member for member in basis]
            basis = sorted([*basis, vector], reverse=True)
    return basis[::-1]


def _span(basis: Sequence[int]) -> np.ndarray:
    table = np.zeros(1, np.int64)
    for vector in basis:
        table = np.concatenate([table, table ^ vector])
    return table


def _observables(words: np.ndarray, wires: int) -> tuple[np.ndarray, np.ndarray]:
    """The arrays `words` and `signs`."""
    x, z = words[:, :1], words[:, 1:]
    power = np.bitwise_count(x & z).astype(np.int64) % 4
    indices = np.arange(2**wires)
    signs = 1 - 2 * (np.bitwise_count(indices & z) & 1).astype(np.int8)
    return np.concatenate([x, z, power], 1), signs


def _parity(mask: int) -> int:
    return mask.bit_count() & 1
