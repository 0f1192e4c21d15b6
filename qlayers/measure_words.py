"""Measurements through expectation values of Pauli words: which words, and what becomes of their values.

Where few words do, no state needs to leave its op. Probabilities on k wires are the Walsh-Hadamard transform
of 2^k words of Z and I, a density matrix is a sum of 4^k words, a variance is <O^2> - <O>^2.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayers.expressions import Nodes
from qlayers.frame import Word, multiply
from qlayers.measure import Block, Measurement, Term
from qlayers.ops.entropy import entropy
from qlayers.readout import as_complex, density_from_words, probabilities_from_words, words_of

# Up to so many distinct words the Pauli path is taken, else a state; the larger the state, the more words pay
MOST_WORDS = {"wires": 20, "below": 64, "from": 256}

Row = list[tuple[int, tuple]]  # a sum of coefficient * word, the coefficient being the number of a node


class Reading(NamedTuple):
    """How a measurement follows from sums of Pauli words."""

    measurement: Measurement
    rows: list[Row]


def readings(measurements: Sequence[Measurement], wires: int, nodes: Nodes) -> list[Reading] | None:
    """The Pauli words of all measurements; None where a state serves them better."""
    counts = [_count(measurement, nodes) for measurement in measurements]
    most = MOST_WORDS["below" if wires < MOST_WORDS["wires"] else "from"]
    if None in counts or _more_than(most, measurements, counts):
        return None
    return [Reading(m, _rows(m, nodes)) for m in measurements]


def _more_than(most: int, measurements: Sequence[Measurement], counts: Sequence[int]) -> bool:
    """Whether there are too many words; a plain sum of words is taken however long it is."""
    expanded = [c for m, c in zip(measurements, counts, strict=True) if not _is_plain(m)]
    return sum(expanded) > most


def _is_plain(measurement: Measurement) -> bool:
    terms = measurement.terms
    if measurement.kind == "var":
        return len(terms) == 1 and isinstance(terms[0], Term)
    return measurement.kind == "expval" and all(isinstance(term, Term) for term in terms)


def _count(measurement: Measurement, nodes: Nodes) -> int | None:
    """How many words a measurement takes at most; None if words cannot serve it."""
    kind, terms, wires, others, basis, _ = measurement
    if kind == "state" or isinstance(basis, tuple) or (kind == "probs" and not wires):
        return None
    if kind in ("expval", "var"):
        count = sum(1 if isinstance(term, Term) else _size(term) for term in terms)
        constant = all(nodes.rows[term.coefficient][0] == "constant" for term in terms)
        if kind == "var" and (count > 64 or not constant):
            return None
        return count if kind == "expval" else count + count * (count - 1) // 2
    return (2 if kind == "probs" else 4) ** len(wires + others)


def _size(block: Block) -> int:
    return (4 if block.kind == "hermitian" else 2) ** len(block.wires)


def _rows(measurement: Measurement, nodes: Nodes) -> list[Row]:
    kind, terms, wires, others, basis, _ = measurement
    if kind in ("expval", "var"):
        row = [pair for term in terms for pair in _words(term, nodes)]
        return [row] if kind == "expval" else [_squared(row, nodes), row]
    one = nodes.constant(1.0)
    letters = "IZ" if kind == "probs" else "IXYZ"
    on = wires + others
    rows = []
    for word in words_of(len(on), letters):
        if basis:
            word = "".join("I" if letter == "I" else own for letter, own in zip(word, basis, strict=True))
        rows.append([(one, tuple((l, wire) for l, wire in zip(word, on, strict=True) if l != "I"))])
    return rows


def _words(term: Term | Block, nodes: Nodes) -> Row:
    """The term as coefficients and words."""
    if isinstance(term, Term):
        return [(term.coefficient, term.word)]
    return [
        (nodes.affine(value, 0.0, term.coefficient), word)
        for word, value in pauli_words(term)
        if abs(value) > 1e-15
    ]


def pauli_words(block: Block) -> list[tuple[tuple, float]]:
    """(word, coefficient) of a matrix: c = tr(P A) / 2^k.

    Example:
        >>> pauli_words(Block(0, "projector", (3,), (1,)))
        [((), 0.5), ((('Z', 3),), -0.5)]
    """
    count = len(block.wires)
    matrix = matrix_of(block)
    index = np.arange(2**count)
    found = []
    for x in range(2**count if block.kind == "hermitian" else 1):
        column = matrix[index ^ x, index]  # <j ^ x|A|j>, and P|j> = i^|x & z| (-1)^|z & j| |j ^ x>
        for z, value in enumerate(_walsh(column)):
            value *= (-1j) ** (x & z).bit_count() / 2**count
            found.append((_letters(x, z, block.wires), float(value.real)))
    return found


def matrix_of(block: Block) -> np.ndarray:
    """The matrix (2^k, 2^k) of an observable on its own wires, complex."""
    size = 2 ** len(block.wires)
    if block.kind == "hermitian":
        return np.array(block.entries, dtype=complex).reshape(size, size)
    if block.kind == "diagonal":
        return np.diag(np.array(block.entries, dtype=complex))
    diagonal = np.zeros(size, dtype=complex)
    diagonal[int("".join(map(str, block.entries)) or "0", 2)] = 1.0
    return np.diag(diagonal)


def _walsh(values: np.ndarray) -> np.ndarray:
    size, step = len(values), 1
    while step < size:
        even, odd = np.moveaxis(values.reshape(-1, 2, step), 1, 0)
        values = np.stack([even + odd, even - odd], 1).reshape(size)
        step *= 2
    return values


def _letters(x: int, z: int, wires: tuple) -> tuple:
    pairs = []
    for i, wire in enumerate(wires):
        bit = len(wires) - 1 - i
        letter = "IZXY"[(z >> bit & 1) + 2 * (x >> bit & 1)]
        if letter != "I":
            pairs.append((letter, wire))
    return tuple(pairs)


def _squared(row: Row, nodes: Nodes) -> Row:
    """O^2 of O = sum of c P: the c^2, and 2 c c' P P' of words that commute; the others cancel."""
    order = {wire: i for i, wire in enumerate(dict.fromkeys(wire for _, word in row for _, wire in word))}
    terms = [(nodes.rows[coefficient][1], _masks(word, order)) for coefficient, word in row]
    total: Counter = Counter()
    total[0, 0] += sum(c * c for c, _ in terms)
    for (c, word), (d, other) in combinations(terms, 2):
        if word.commutes(other):
            power, found = multiply(word, other)
            total[found.x, found.z] += 2 * c * d * (1 - power)
    wires = tuple(order)
    return [(nodes.constant(value), _from_masks(*masks, wires)) for masks, value in total.items()]


def _masks(word: tuple, order: dict) -> Word:
    x = z = 0
    for letter, wire in word:
        x |= (letter in "XY") << order[wire]
        z |= (letter in "YZ") << order[wire]
    return Word(x, z)


def _from_masks(x: int, z: int, wires: tuple) -> tuple:
    return _letters(x, z, wires[::-1])


class Results:
    """Turns the sums of words (b, rows) of all readings into results."""

    def __init__(self, measurements: Sequence[Measurement], device: torch.device, dtype: torch.dtype):
        self._parts = []
        for measurement in measurements:
            count = len(measurement.wires + measurement.others)
            table = _table(measurement.kind, count)
            rows = {"expval": 1, "var": 2, "probs": 2**count - 1}.get(measurement.kind, 4**count - 1)
            self._parts.append((measurement, rows, None if table is None else table.to(device, dtype)))

    def __call__(self, values: Tensor) -> list[Tensor]:
        """One result (b, *shape) for each measurement."""
        found, start = [], 0
        for measurement, rows, table in self._parts:
            found.append(_result(measurement, values[:, start : start + rows], table))
            start += rows
        return found


def _table(kind: str, count: int) -> Tensor | None:
    if kind == "probs":
        return probabilities_from_words(count)
    return density_from_words(count) if kind in ("density", "entropy", "mutual_info") else None


def _result(measurement: Measurement, values: Tensor, table: Tensor | None) -> Tensor:
    kind = measurement.kind
    if kind == "expval":
        return values[:, 0]
    if kind == "var":
        return values[:, 0] - values[:, 1] ** 2
    if kind == "purity":
        return (1 + (values * values).sum(-1)) / 2 ** len(measurement.wires)
    if kind == "probs":
        return values @ table + 0.5 ** len(measurement.wires)
    rho = torch.tensordot(values, table, 1)
    size = rho.shape[-1]
    rho = rho + torch.eye(size, dtype=rho.dtype, device=rho.device) * rho.new_tensor([1.0, 0.0])[:, None, None] / size
    if kind == "density":
        return as_complex(rho)
    return information(measurement, rho)


def information(measurement: Measurement, rho: Tensor) -> Tensor:
    """The entropy or mutual information of (b, 2, m, m), in the base that is asked for."""
    value = entropy(rho)
    if measurement.kind == "mutual_info":
        first, second = 2 ** len(measurement.wires), 2 ** len(measurement.others)
        split = rho.reshape(rho.shape[0], 2, first, second, first, second)
        of_first = torch.diagonal(split, dim1=3, dim2=5).sum(-1)
        of_second = torch.diagonal(split, dim1=2, dim2=4).sum(-1)
        value = entropy(of_first) + entropy(of_second) - value
    return value if measurement.base is None else value / float(np.log(measurement.base))


