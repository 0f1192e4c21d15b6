"""Measurements through expectation values of Pauli words: which words, and what becomes of their values.

Where few words do, no state needs to leave its op. Probabilities on k wires are the Walsh-Hadamard transform
of 2^k words of Z and I, a density matrix is a sum of 4^k words, a variance is <O^2> - <O>^2.
"""

from collections.abc import Sequence
from itertools import combinations
from math import log
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayers.expressions import Nodes
from qlayers.frame import Word, multiply
from qlayers.measure import Block, Measurement, Term, check_exact
from qlayers.ops.entropy import entropy
from qlayers.readout import (
    as_complex,
    density_from_words,
    density_of,
    probabilities_from_words,
    walsh,
    words_of,
)
from shared.errors import UserError

# Up to so many words the Pauli path is taken, else a state. A training step on probabilities of k wires costs
# the same both ways at 256 words and 8 wires, and with more wires leaving the state where it is pays longer.
MOST_WORDS = {"wires": 12, "below": 256, "from": 1024}
MOST_MIXED = 4**8  # words of one measurement of a mixed state
MOST_TABLE = 4  # wires up to which words become a density matrix in one product
MOST_SQUARED = 512  # words in an observable whose variance is wanted

Row = list[tuple[int, tuple]]  # a sum of coefficient * word, the coefficient being the number of a node


class Read(NamedTuple):
    """What becomes of the sums of words of one measurement; `sizes` are those of the subsystems looked at."""

    kind: str
    sizes: tuple[int, ...]
    base: float | None

    @property
    def rows(self) -> int:
        """How many sums of words it takes."""
        fixed = {"expval": 1, "var": 2}.get(self.kind)
        return fixed or sum((2 if self.kind == "probs" else 4) ** size - 1 for size in self.sizes)


def readings(
    measurements: Sequence[Measurement], wires: Sequence, nodes: Nodes
) -> tuple[list[Read], list[Row]] | None:
    """The sums of Pauli words of all measurements, and their use; None if a state serves better."""
    parts = [_parts(measurement, tuple(wires), pure=True) for measurement in measurements]
    counts = [_count(m, some, nodes) for m, some in zip(measurements, parts, strict=True)]
    most = MOST_WORDS["below" if len(wires) < MOST_WORDS["wires"] else "from"]
    if None in counts or _more_than(most, measurements, counts):
        return None
    return _read(measurements, parts, nodes)


def readings_of_mixed(
    measurements: Sequence[Measurement], wires: Sequence, nodes: Nodes
) -> tuple[list[Read], list[Row]]:
    """As `readings`, where the whole is a mixed state, which its words alone describe.

    Raises:
        UserError: a measurement has no meaning for mixed states, or takes too many words.
    """
    check_exact(measurements)
    for measurement in measurements:
        _check_mixed(measurement, len(wires))
    parts = [_parts(measurement, tuple(wires), pure=False) for measurement in measurements]
    return _read(measurements, parts, nodes)


def _check_mixed(measurement: Measurement, wires: int) -> None:
    kind, terms, on, others, basis, _ = measurement
    if kind == "state":
        raise UserError(
            "state: expected a circuit without noise channels, as only that has a state vector; measure "
            "qml.density_matrix, or remove the channels."
        )
    most = max((len(term.wires) for term in terms if isinstance(term, Block)), default=0)
    if kind not in ("expval", "var", "probs") or isinstance(basis, tuple):
        most = max(most, len(on) + len(others))
    if 4**most > MOST_MIXED:
        raise UserError(
            f"{kind} of a circuit with noise: expected at most {_log4(MOST_MIXED)} wires for a density "
            f"matrix or dense observable, received {most}; measure fewer wires, or Pauli words."
        )
    if kind == "probs" and 2 ** (len(on) or wires) > MOST_MIXED:
        raise UserError(
            f"probs of a circuit with noise: expected at most {2 * _log4(MOST_MIXED)} wires, received "
            f"{len(on) or wires}; name fewer."
        )


def _log4(number: int) -> int:
    return (number.bit_length() - 1) // 2


def _read(
    measurements: Sequence[Measurement], parts: list[list[tuple]], nodes: Nodes
) -> tuple[list[Read], list[Row]]:
    reads = [Read(m.kind, tuple(map(len, some)), m.base) for m, some in zip(measurements, parts, strict=True)]
    rows = [row for m, some in zip(measurements, parts, strict=True) for row in _rows(m, some, nodes)]
    return reads, rows


def _parts(measurement: Measurement, wires: tuple, *, pure: bool) -> list[tuple]:
    """The subsystems whose words are needed.

    Where the whole is pure, a subsystem has the purity and entropy of the rest: the smaller one is taken.
    That also leaves out eigenvalues 0 that stay 0, near which the entropy has no second derivative.
    """
    kind, _, on, others, *_ = measurement
    if kind in ("expval", "var"):
        return []
    if kind in ("probs", "density"):
        return [on or wires]
    asked = [on, others, on + others] if kind == "mutual_info" else [on]
    if not pure:
        return asked
    return [min(some, tuple(w for w in wires if w not in some), key=len) for some in asked]


def _more_than(most: int, measurements: Sequence[Measurement], counts: Sequence[int]) -> bool:
    """Whether there are too many words; a plain sum of words is taken however long it is."""
    expanded = [c for m, c in zip(measurements, counts, strict=True) if not _is_plain(m)]
    return sum(expanded) > most


def _is_plain(measurement: Measurement) -> bool:
    terms = measurement.terms
    if measurement.kind == "var":
        return len(terms) == 1 and isinstance(terms[0], Term)
    return measurement.kind == "expval" and all(isinstance(term, Term) for term in terms)


def _count(measurement: Measurement, parts: list[tuple], nodes: Nodes) -> int | None:
    """How many words a measurement takes at most; None if words cannot serve it."""
    kind, terms, wires, _, basis, _ = measurement
    if kind == "state" or isinstance(basis, tuple) or (kind == "probs" and not wires):
        return None
    if kind in ("expval", "var"):
        count = sum(1 if isinstance(term, Term) else _size(term) for term in terms)
        constant = all(nodes.rows[term.coefficient][0] == "constant" for term in terms)
        if kind == "var" and (count > 64 or not constant):
            return None
        return count if kind == "expval" else count + count * (count - 1) // 2
    return sum((2 if kind == "probs" else 4) ** len(part) for part in parts)


def _size(block: Block) -> int:
    return (4 if block.kind == "hermitian" else 2) ** len(block.wires)


def _rows(measurement: Measurement, parts: list[tuple], nodes: Nodes) -> list[Row]:
    kind, terms, _, _, basis, _ = measurement
    if kind in ("expval", "var"):
        row = [pair for term in terms for pair in _words(term, nodes)]
        return [row] if kind == "expval" else [_square(terms, row, nodes), row]
    one = nodes.constant(1.0)
    rows = []
    for part in parts:
        if isinstance(basis, tuple):
            rows += _in_basis(part, basis, one, nodes)
            continue
        for word in words_of(len(part), "IZ" if kind == "probs" else "IXYZ"):
            if basis:
                word = "".join("I" if letter == "I" else own for letter, own in zip(word, basis, strict=True))
            rows.append([(one, tuple((l, wire) for l, wire in zip(word, part, strict=True) if l != "I"))])
    return rows


def _in_basis(part: tuple, basis: tuple, one: int, nodes: Nodes) -> list[Row]:
    """The words V†PV of words P of Z and I, V being the unitary that leads to a basis."""
    size = 2 ** len(part)
    unitary = np.array(basis, dtype=complex).reshape(size, size)
    found = []
    for z in range(1, size):
        signs = 1.0 - 2.0 * (np.bitwise_count(np.arange(size) & z) & 1)
        entries = (unitary.conj().T * signs) @ unitary
        found.append(_words(Block(one, "hermitian", part, tuple(entries.reshape(-1).tolist())), nodes))
    return found


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


def _square(terms: Sequence[Term | Block], row: Row, nodes: Nodes) -> Row:
    """O^2 of the sum O of terms, whose words are `row`."""
    if len(terms) == 1 and isinstance(terms[0], Block):
        square = matrix_of(terms[0]) @ matrix_of(terms[0])
        squared = nodes.apply("mul", terms[0].coefficient, terms[0].coefficient)
        return _words(Block(squared, "hermitian", terms[0].wires, tuple(square.reshape(-1).tolist())), nodes)
    if len(row) > MOST_SQUARED:
        raise UserError(
            f"var of an observable: expected at most {MOST_SQUARED} Pauli words in it, received {len(row)}; "
            "give it as one qml.Hermitian, or measure its parts."
        )
    return _squared(row, nodes)


def _squared(row: Row, nodes: Nodes) -> Row:
    """O^2 of O = sum of c P: the c^2, and 2 c c' P P' of words that commute; the others cancel."""
    order = {wire: i for i, wire in enumerate(dict.fromkeys(wire for _, word in row for _, wire in word))}
    wires, terms = tuple(order), [(coefficient, _masks(word, order)) for coefficient, word in row]
    products = _products(terms)
    values = {c: nodes.rows[c][1] for c, _ in terms if nodes.rows[c][0] == "constant"}
    if all(c in values for c, _ in terms):
        total = {
            masks: sum(f * values[c] * values[d] for c, d, f in some) for masks, some in products.items()
        }
        return [(nodes.constant(value), _from_masks(*masks, wires)) for masks, value in total.items()]
    return [
        (
            nodes.apply("sum", *(nodes.affine(f, 0.0, nodes.apply("mul", c, d)) for c, d, f in some)),
            _from_masks(*masks, wires),
        )
        for masks, some in products.items()
    ]


def _products(terms: list[tuple[int, Word]]) -> dict[tuple[int, int], list[tuple[int, int, float]]]:
    """For each word in the square of a sum: the pairs of coefficients that make its own, and a factor."""
    found = {(0, 0): [(c, c, 1.0) for c, _ in terms]}
    for (c, word), (d, other) in combinations(terms, 2):
        if word.commutes(other):
            power, product = multiply(word, other)
            found.setdefault((product.x, product.z), []).append((c, d, 2.0 * (1 - power)))
    return found


def _masks(word: tuple, order: dict) -> Word:
    x = z = 0
    for letter, wire in word:
        x |= (letter in "XY") << order[wire]
        z |= (letter in "YZ") << order[wire]
    return Word(x, z)


def _from_masks(x: int, z: int, wires: tuple) -> tuple:
    return _letters(x, z, wires[::-1])


class Results:
    """Turns the sums of words (b, rows) of all measurements into results."""

    def __init__(self, reads: Sequence[Read], device: torch.device, dtype: torch.dtype):
        self._parts = [
            (read, [_table(read.kind, size).to(device, dtype) for size in read.sizes]) for read in reads
        ]

    def __call__(self, values: Tensor) -> list[Tensor]:
        """One result (b, *shape) for each measurement."""
        found, start = [], 0
        for read, tables in self._parts:
            found.append(_result(read, values[:, start : start + read.rows], tables))
            start += read.rows
        return found


def _table(kind: str, count: int) -> Tensor:
    """What turns words into results in one product; empty where there are so many that a transform serves."""
    if count > MOST_TABLE:
        return torch.empty(0)
    return probabilities_from_words(count) if kind == "probs" else density_from_words(count)


def _result(read: Read, values: Tensor, tables: Sequence[Tensor]) -> Tensor:
    kind = read.kind
    if kind == "expval":
        return values[:, 0]
    if kind == "var":
        return values[:, 0] - values[:, 1] ** 2
    if kind == "purity":
        return (1 + (values * values).sum(-1)) / 2 ** read.sizes[0]
    if kind == "probs":
        return _probabilities(values, tables[0], read.sizes[0])
    if kind == "density":
        return as_complex(_density(values, tables[0], read.sizes[0]))
    parts = values.split([4**size - 1 for size in read.sizes], -1)
    found = [_density(*of_part) for of_part in zip(parts, tables, read.sizes, strict=True)]
    return information(found, read.base)


def _probabilities(values: Tensor, table: Tensor, count: int) -> Tensor:
    """(b, 2^k) from the values of all words of Z and I but the identity."""
    if count <= MOST_TABLE:
        return values @ table + 0.5**count
    return walsh(torch.cat([torch.ones_like(values[:, :1]), values], -1)) / 2**count


def _density(values: Tensor, table: Tensor, count: int) -> Tensor:
    """(b, 2, m, m) from the values of all words but the identity."""
    if count > MOST_TABLE:
        return density_of(torch.cat([torch.ones_like(values[:, :1]), values], -1), count)
    size = table.shape[-1]
    mixed = torch.eye(size, dtype=table.dtype, device=table.device) / size
    return torch.tensordot(values, table, 1) + torch.stack([mixed, torch.zeros_like(mixed)])


def information(parts: Sequence[Tensor], base: float | None) -> Tensor:
    """The entropy of one density matrix (b, 2, m, m), or S(A) + S(B) - S(AB) of three."""
    entropies = [entropy(rho) for rho in parts]
    value = entropies[0] if len(entropies) == 1 else entropies[0] + entropies[1] - entropies[2]
    return value if base is None else value / log(base)
