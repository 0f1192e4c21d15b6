"""The bases in which a tape is measured with finite shots.

Observables that are Pauli words of commuting letters on every wire share a basis and thus their samples; any
other observable has its own.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from qlayers.defer import outcomes
from qlayers.device.analytic import kept_on
from qlayers.measure import Block, Measurement
from qlayers.measure_words import matrix_of
from qlayers.read_gates import labels
from qlayers.read_measurements import basis_of, terms


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
        word = "".join(self.letters.values())
        basis = self.unitary or ("" if set(word) <= {"Z"} else word)
        return Measurement("probs", wires=self.wires, basis=basis)


class Bases:
    """The bases of a tape, as few as its words allow when taken as they come."""

    def __init__(self):
        self.found: list[Basis] = []

    def of_word(self, letters: dict) -> Basis:
        basis = next((basis for basis in self.found if basis.takes(letters)), None)
        if basis is None:
            basis = Basis({})
            self.found.append(basis)
        basis.letters.update(letters)
        return basis

    def of_unitary(self, wires: tuple, entries: tuple[complex, ...]) -> Basis:
        letters = dict.fromkeys(wires, "")
        for basis in self.found:
            if basis.unitary == entries and basis.wires == wires:
                return basis
        self.found.append(Basis(letters, entries))
        return self.found[-1]


class Summand(NamedTuple):
    """A part of an observable: `values` of the outcomes of some wires in a basis."""

    basis: Basis | None  # None for a constant
    wires: tuple
    values: np.ndarray  # (2^k,)


def summands(process, bases: Bases) -> Iterator[Summand]:
    """The terms of an observable, each with the basis in which it is measured."""
    if process.mv is not None:
        wires, values = outcomes(process.mv, kept_on(process))
        basis = bases.of_word(dict.fromkeys(wires, "Z"))
        yield Summand(basis, tuple(wires), np.array([float(value) for _, value in values]))
        return
    for term in terms(process.obs):
        factor = float(term.coefficient)
        if isinstance(term, Block):
            yield _of_block(term, factor, bases)
        elif not term.word:
            yield Summand(None, (), np.array([factor]))
        else:
            letters = {wire: letter for letter, wire in term.word}
            yield Summand(bases.of_word(letters), tuple(letters), factor * _signs(len(letters)))


def whole_observable(process, bases: Bases) -> Summand:
    """The observable as one summand: a variance needs all of it from the same shot."""
    if process.mv is not None or len(list(terms(process.obs))) == 1:
        (summand,) = summands(process, bases)
        return summand
    basis, on = basis_for(process, bases, ())
    return Summand(basis, on, np.real(np.asarray(process.obs.eigvals())))


def _of_block(block: Block, factor: float, bases: Bases) -> Summand:
    matrix = matrix_of(block)
    if block.kind == "hermitian":
        values, vectors = np.linalg.eigh(matrix)
        basis = bases.of_unitary(block.wires, tuple(vectors.conj().T.reshape(-1).tolist()))
    else:
        values = matrix.diagonal().real
        basis = bases.of_word(dict.fromkeys(block.wires, "Z"))
    return Summand(basis, block.wires, factor * values)


def _signs(count: int) -> np.ndarray:
    """(2^k,): 1 for outcomes of even parity, -1 for the others."""
    signs = np.ones(1)
    for _ in range(count):
        signs = np.concatenate([signs, -signs])
    return signs


def basis_for(process, bases: Bases, wires: tuple) -> tuple[Basis, tuple]:
    """The basis of a process that looks at one observable, at wires, or at outcomes; and the wires."""
    if process.mv is not None:
        on = tuple(dict.fromkeys(kept_on(process).values()))
    elif process.obs is None:
        on = labels(process.wires) or wires
    else:
        on = labels(process.obs.wires)
        basis = basis_of(process.obs)
        if isinstance(basis, tuple):
            return bases.of_unitary(on, basis), on
        return bases.of_word(dict(zip(on, basis or "Z" * len(on), strict=True))), on
    return bases.of_word(dict.fromkeys(on, "Z")), on
