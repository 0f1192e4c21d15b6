"""From the tables of a noisy circuit to the walks over Pauli words that its kernel makes.

Words are numbers q = x 2^n + z. The circuit starts as |0...0>, of which only words of Z and I are non-zero,
so a subspace of numbers is: it grows by the words of the steps, and a step walks no further. A rotation walks
over one word of each pair (Q, QP) that anticommutes with its word P, a channel over the words R that commute
with its generators, and so over the cosets {W_e R} of the words W_e that they make. A walk goes through
q = high[h] ^ low[l] ^ offset: two small tables instead of one with an entry for each word.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from qlayers.frame import Word, multiply
from qlayers.kernels.numba.schedule import _kernel, _span
from qlayers.ops.pauli_transfer import orders, size_of

_LOW_BITS = 5  # 32 entries of the low table stay in L1 and amortise the high one


class Walks(NamedTuple):
    """What the kernels read."""

    # (S, 9) int64: form, source, column, number of the angle, bounds of both tables, offset, first element
    steps: np.ndarray
    tables: np.ndarray  # int64: all low and high tables behind each other
    elements: np.ndarray  # (E, 3) int64: masks x and z, sign; one word of a rotation, 4^k of a channel
    words: np.ndarray  # (T,) int64


class TransferSchedule(NamedTuple):
    """The walks, the forms of steps, the columns of angles of each source, how far steps reach into both."""

    walks: Walks
    forms: tuple[int, ...]
    angles: tuple[tuple[int, ...], tuple[int, ...]]
    reach: tuple[int, int]


@functools.lru_cache(maxsize=256)
def transfer_schedule(
    steps: bytes, generators: bytes, words: bytes, letters: str, wires: int, prepared: bool
) -> TransferSchedule:
    """The schedule of the int64 tables with these bytes; `prepared` says that any word may be non-zero.

    Raises:
        ValueError: a mask has bits beyond `wires`, a row is out of range, or generators do not form pairs.
    """
    rows = np.frombuffer(steps, np.int64).reshape(-1, 3).tolist()
    table = [Word(*row) for row in np.frombuffer(generators, np.int64).reshape(-1, 3).tolist()]
    observed = np.frombuffer(words, np.int64).reshape(-1, 2)
    forms = tuple(orders(letters))
    _check(rows, table, observed, forms, wires)
    support = [1 << bit for bit in range(2 * wires if prepared else wires)]
    found, tables, elements, angles, position = [], [np.zeros(0, np.int64)], [], ({}, {}), 0
    for form, (first, source, column) in zip(forms, rows, strict=True):
        own = table[first : first + (2 * abs(form) or 1)]
        support = _echelon([*support, *(_number(word, wires) for word in own)])
        basis, offset = _walked(support, own, form, wires)
        low, high = _span(basis[:_LOW_BITS]), _span(basis[_LOW_BITS:])
        if offset is None:
            low = low[:0]  # nothing anticommutes with a rotation
        angle = angles[source].setdefault(column, len(angles[source])) if form == 0 else 0
        bounds = (position, position + len(low), position + len(low) + len(high))
        found.append((form, source, column, angle, *bounds, offset or 0, len(elements)))
        elements += [own[0]] if form == 0 else _elements(own)
        tables += [low, high]
        position = bounds[2]
    walks = Walks(
        np.array(found, np.int64).reshape(-1, 9),
        np.concatenate(tables),
        np.array(elements, np.int64).reshape(-1, 3),
        (observed[:, 0] << wires | observed[:, 1]).astype(np.int64),
    )
    return TransferSchedule(walks, forms, tuple(map(tuple, angles)), _reach(rows, forms))


def _number(word: Word, wires: int) -> int:
    return word.x << wires | word.z


def _walked(support: list[int], own: Sequence[Word], form: int, wires: int) -> tuple[list[int], int | None]:
    """A basis of what a step walks over, and its offset; None if there is nothing."""
    crossed = [word.z << wires | word.x for word in own]  # parity of q & this: whether q anticommutes
    if form:
        for mask in crossed:
            support, _ = _kernel(support, mask)
        return _echelon(support), 0
    commuting, offset = _kernel(support, crossed[0])
    own_number = _number(own[0], wires)
    if not own_number:
        return [], None
    rest = _echelon(commuting)
    pivot = 1 << own_number.bit_length() - 1  # of each pair, the one without this bit
    reduced = [min(v, v ^ own_number) if v & pivot else v for v in rest]
    return _echelon(v for v in reduced if v), offset


def _elements(own: Sequence[Word]) -> list[Word]:
    """The words that stand for the letters I, X, Y, Z of each wire, the first wire being the slowest."""
    found = [Word(0, 0)]
    for x, z in zip(own[::2], own[1::2], strict=True):
        power, y = multiply(x, z)
        letters = [Word(0, 0), x, y._replace(sign=1 - (power + 1) % 4), z]  # Y = iXZ
        found = [_times(before, letter) for before in found for letter in letters]
    return found


def _times(a: Word, b: Word) -> Word:
    """The product of words that commute."""
    power, word = multiply(a, b)
    return word._replace(sign=1 - power % 4)


def _echelon(vectors: Iterable[int]) -> list[int]:
    """The reduced basis of a span over GF(2), by rising leading bit."""
    basis: dict[int, int] = {}
    for vector in vectors:
        for pivot, member in basis.items():
            if vector & pivot:
                vector ^= member
        if vector:
            pivot = 1 << vector.bit_length() - 1
            basis = {p: m ^ vector if m & pivot else m for p, m in basis.items()}
            basis[pivot] = vector
    return [basis[pivot] for pivot in sorted(basis)]


def _reach(rows: Sequence[Sequence[int]], forms: Sequence[int]) -> tuple[int, int]:
    """How many numbers of each source the steps need."""
    reach = [0, 0]
    for form, (_, source, column) in zip(forms, rows, strict=True):
        reach[source] = max(reach[source], column + size_of(form))
    return reach[0], reach[1]


def _check(rows: list, table: list[Word], observed: np.ndarray, forms: tuple[int, ...], wires: int) -> None:
    masks = [mask for word in table for mask in word[:2]] + observed.reshape(-1).tolist()
    if masks and (min(masks) < 0 or max(masks) >> wires):
        raise ValueError(
            f"generators and words: expected masks from 0 to {2**wires - 1} for {wires} wires, received "
            f"{min(masks)} to {max(masks)}"
        )
    if len(rows) != len(forms):
        raise ValueError(f"forms: expected one for each of {len(rows)} steps, received {len(forms)}")
    for form, (first, source, column) in zip(forms, rows, strict=True):
        count = 2 * abs(form) or 1
        if source not in (0, 1) or column < 0 or not 0 <= first <= len(table) - count:
            raise ValueError(
                f"steps: expected rows (generator, source 0 or 1, column) with {count} generators of "
                f"{len(table)} from the first on, received {(first, source, column)}"
            )
        own = table[first : first + count]
        if form and not all(
            own[i].commutes(own[j]) == (i // 2 != j // 2) for i in range(count) for j in range(i)
        ):
            raise ValueError(
                f"generators {first} to {first + count - 1}: expected pairs that anticommute, each of which "
                f"commutes with the others, received {own}"
            )
