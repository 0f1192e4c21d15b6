"""The bases in which a circuit is measured with finite shots.

Observables that are Pauli words of equal letters on every wire that they share have a basis, and thus their
shots, in common, as on hardware; any other observable has its own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qlayers.measure import Block, Measurement, Term
from qlayers.measure_words import matrix_of
from qlayers.read_gates import MOST_DENSE_WIRES
from qlayers.readout import LETTERS
from shared.errors import UserError


class Basis:
    """Where shots are taken: letters of the wires, or a unitary that leads to the basis of some wires."""

    def __init__(self, letters: dict, unitary: tuple[complex, ...] | None = None):
        self.letters, self.unitary = letters, unitary

    @property
    def wires(self) -> tuple:
        return tuple(self.letters)

    def takes(self, letters: dict) -> bool:
        """Whether a word can be measured in this basis as well."""
        return self.unitary is None and all(self.letters.get(w, l) == l for w, l in letters.items())

    @property
    def measurement(self) -> Measurement:
        """The probabilities of its outcomes."""
        word = "".join(self.letters.values())
        basis = self.unitary or ("" if set(word) <= {"Z"} else word)
        return Measurement("probs", wires=self.wires, basis=basis)


class Bases:
    """The bases of a circuit, as few as its words allow when taken as they come.

    Example:
        >>> bases = Bases()
        >>> bases.of_word({0: "X"}) is bases.of_word({1: "Z"}), bases.of_word({0: "Z"}) is bases.found[0]
        (True, False)
    """

    def __init__(self):
        self.found: list[Basis] = []

    def of_word(self, letters: dict) -> Basis:
        """The basis of a word, given as wire -> letter."""
        basis = next((basis for basis in self.found if basis.takes(letters)), None)
        if basis is None:
            basis = Basis({})
            self.found.append(basis)
        basis.letters.update(letters)
        return basis

    def of_unitary(self, wires: tuple, entries: tuple[complex, ...]) -> Basis:
        """The basis to which a unitary leads, given row after row."""
        letters = dict.fromkeys(wires, "")
        for basis in self.found:
            if basis.unitary == entries and basis.wires == wires:
                return basis
        self.found.append(Basis(letters, entries))
        return self.found[-1]

    def of_probabilities(self, wires: tuple, basis: str | tuple[complex, ...]) -> Basis:
        """The basis of a "probs" measurement, see `qlayers.measure.Measurement`."""
        if isinstance(basis, tuple):
            return self.of_unitary(wires, basis)
        return self.of_word(dict(zip(wires, basis or "Z" * len(wires), strict=True)))


class Summand(NamedTuple):
    """A part of an observable: `values` of the outcomes of some wires in a basis."""

    basis: Basis | None  # None for a constant
    wires: tuple
    values: np.ndarray  # (2^k,)


def summand(term: Term | Block, factor: float, bases: Bases) -> Summand:
    """Factor * word or matrix, and the basis in which it is measured."""
    if isinstance(term, Block):
        return _of_block(term, factor, bases)
    if not term.word:
        return Summand(None, (), np.array([factor]))
    letters = {wire: letter for letter, wire in term.word}
    return Summand(bases.of_word(letters), tuple(letters), factor * signs(len(letters)))


def whole(terms: Sequence[Term | Block], factors: Sequence[float], bases: Bases) -> Summand:
    """A sum of terms as one summand: a variance or a sample needs all of it from the same shot.

    Raises:
        UserError: the terms are measured in different bases and act on too many wires for a matrix.
    """
    if len(terms) == 1:
        return summand(terms[0], factors[0], bases)
    wires = wires_of(terms)
    own = Bases()  # do all terms agree on a basis?
    parts = [summand(term, factor, own) for term, factor in zip(terms, factors, strict=True)]
    if len(own.found) == 1 and own.found[0].unitary is None:
        letters = own.found[0].letters
        values = sum(_spread(part, tuple(letters)) for part in parts)
        return Summand(bases.of_word(letters), tuple(letters), values)
    if len(wires) > MOST_DENSE_WIRES:
        raise UserError(
            f"An observable whose terms do not commute on every wire: expected at most {MOST_DENSE_WIRES} "
            f"wires for its variance or samples with finite shots, received {len(wires)}; measure its terms."
        )
    matrix = sum(
        factor * _matrix_on(term, wires) for term, factor in zip(terms, factors, strict=True)
    ).reshape(2 ** len(wires), -1)
    return _of_matrix(np.asarray(matrix), wires, bases)


def wires_of(terms: Sequence[Term | Block]) -> tuple:
    """The wires of some terms, as they come."""
    named = [
        wire
        for term in terms
        for wire in (term.wires if isinstance(term, Block) else (wire for _, wire in term.word))
    ]
    return tuple(dict.fromkeys(named))


def _of_block(block: Block, factor: float, bases: Bases) -> Summand:
    matrix = matrix_of(block)
    if block.kind == "hermitian":
        return _of_matrix(factor * matrix, block.wires, bases)
    basis = bases.of_word(dict.fromkeys(block.wires, "Z"))
    return Summand(basis, block.wires, factor * matrix.diagonal().real)


def _of_matrix(matrix: np.ndarray, wires: tuple, bases: Bases) -> Summand:
    values, vectors = np.linalg.eigh(matrix)
    basis = bases.of_unitary(wires, tuple(vectors.conj().T.reshape(-1).tolist()))
    return Summand(basis, wires, values)


def _spread(part: Summand, wires: tuple) -> np.ndarray:
    """The values of a summand for the outcomes of more wires."""
    if part.basis is None:
        return np.full(2 ** len(wires), part.values[0])
    places = [wires.index(wire) for wire in part.wires]
    table = part.values.reshape((2,) * len(places)).transpose(np.argsort(places))
    shape = [2 if place in places else 1 for place in range(len(wires))]
    return np.broadcast_to(table.reshape(shape), (2,) * len(wires)).reshape(-1)


def _matrix_on(term: Term | Block, wires: tuple) -> np.ndarray:
    """The matrix of a term on these wires, as (2, ..., 2) twice."""
    own = wires_of([term])
    if isinstance(term, Block):
        matrix = matrix_of(term)
    else:
        matrix = np.ones((1, 1))
        for letter, _ in term.word:
            matrix = np.kron(matrix, np.array(LETTERS[letter]))
    rest = [wire for wire in wires if wire not in own]
    count, known = len(wires), (*own, *rest)
    table = np.kron(matrix, np.eye(2 ** len(rest))).reshape((2,) * (2 * count))
    order = [known.index(wire) for wire in wires]
    return table.transpose(*order, *(count + i for i in order))


def signs(count: int) -> np.ndarray:
    """(2^k,): 1 for outcomes of even parity, -1 for the others."""
    found = np.ones(1)
    for _ in range(count):
        found = np.concatenate([found, -found])
    return found
