"""What a circuit returns: its measurements, as plain data.

An observable is a sum of terms: Pauli words (`Term`) and matrices on a few wires (`Block`). Coefficients are
numbers of the circuit's `nodes`, so they may be expressions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shared.errors import UserError


class Term(NamedTuple):
    """coefficient * word: the number of a node, and ((letter, wire), ...), empty for the identity."""

    coefficient: int
    word: tuple[tuple[str, int | str], ...]


class Block(NamedTuple):
    """coefficient * matrix on `wires`: the number of a node, and the matrix in one of three forms.

    `kind` is "hermitian" (all entries, row after row), "diagonal" (the entries of the diagonal) or
    "projector" (the bits of the basis state onto which it projects).
    """

    coefficient: int
    kind: str
    wires: tuple[int | str, ...]
    entries: tuple[complex, ...]


class Measurement(NamedTuple):
    """One result of a circuit.

    Attributes:
        kind: a name of `KINDS`.
        terms: the observable of "expval" and "var", and of `DRAWN` kinds that give its values.
        wires: what the other kinds look at; empty for all wires ("probs", "state", `DRAWN`).
        others: the second part of "mutual_info".
        basis: for "probs" in another basis than the computational one: a letter X, Y or Z per wire, or the
            entries of the unitary that leads to the basis, row after row.
        base: of the logarithm in an entropy; None for e.
    """

    kind: str
    terms: tuple[Term | Block, ...] = ()
    wires: tuple[int | str, ...] = ()
    others: tuple[int | str, ...] = ()
    basis: str | tuple[complex, ...] = ""
    base: float | None = None

    def shape(self, wires: int) -> tuple[int, ...]:
        """The shape of the result for one sample of a circuit with so many wires.

        >>> Measurement("density", wires=(0, 1)).shape(5)
        (4, 4)

        Of single shots it is the shape of one: k bits, or the value of an observable.
        """
        if self.kind in DRAWN:
            return (1 if self.terms else len(self.wires) or wires,)
        size = 2 ** (len(self.wires) or wires)
        return (size,) * KINDS[self.kind]

    @property
    def exact(self) -> "Measurement":
        """What can be known of it without shots: itself, or what single shots are drawn from."""
        if self.kind not in DRAWN:
            return self
        return self._replace(kind="expval" if self.terms else "probs")

    @property
    def is_complex(self) -> bool:
        return self.kind in ("state", "density")

    @property
    def is_whole(self) -> bool:
        """Whether it looks at all wires of a circuit without naming them."""
        return self.kind in ("probs", "state", *DRAWN) and not self.wires and not self.terms

    @property
    def used(self) -> tuple[int | str, ...]:
        """All wires that it names."""
        named = [wire for term in self.terms if isinstance(term, Term) for _, wire in term.word]
        named += [wire for term in self.terms if isinstance(term, Block) for wire in term.wires]
        return tuple(dict.fromkeys((*named, *self.wires, *self.others)))


# kind: dimensions of its result, each of size 2^(number of wires)
KINDS = {
    "expval": 0,
    "var": 0,
    "probs": 1,
    "state": 1,
    "density": 2,
    "purity": 0,
    "entropy": 0,
    "mutual_info": 0,
}
# single shots: as they come, how often each outcome was seen, and the same with those never seen
DRAWN = ("sample", "counts", "all_counts")
COUNTED = DRAWN[1:]


def check_measurement(measurement: Measurement, wires: tuple) -> None:
    """Raise a `UserError` unless a measurement fits a circuit with these wires."""
    if measurement.kind not in (*KINDS, *DRAWN):
        raise UserError(
            f"There is no measurement {measurement.kind!r}; expected one of {', '.join((*KINDS, *DRAWN))}."
        )
    observed = measurement.kind in ("expval", "var", *DRAWN)
    if measurement.terms and not observed:
        raise UserError(f"{measurement.kind} takes wires, not an observable; received {measurement.terms}.")
    if measurement.kind in ("density", "purity", "entropy") and not measurement.wires:
        raise UserError(f"{measurement.kind} needs the wires of the subsystem, received none; name them.")
    if measurement.kind == "mutual_info" and not (measurement.wires and measurement.others):
        raise UserError("mutual_info needs the wires of two subsystems, received fewer; name them.")
    groups = [measurement.wires + measurement.others]
    groups += [
        tuple(wire for _, wire in term.word) if isinstance(term, Term) else term.wires
        for term in measurement.terms
    ]
    for group in groups:
        if len(set(group)) != len(group) or not set(wires).issuperset(group):
            raise UserError(
                f"{measurement.kind}: an observable or subsystem has wires {list(group)}; expected different "
                f"ones of the circuit's {list(wires)}."
            )
    for term in measurement.terms:
        if isinstance(term, Block):
            _check_entries(measurement.kind, term)


def check_exact(measurements: Sequence[Measurement]) -> None:
    """Raise a `UserError` if there are measurements of single shots, which the exact engine has not."""
    if kinds := [measurement.kind for measurement in measurements if measurement.kind in DRAWN]:
        name = "counts" if kinds[0] in COUNTED else kinds[0]
        raise UserError(
            f"qml.{name} needs finite shots, and this layer gives exact results; pass shots=, set the "
            "layer's shots, or return qml.expval, qml.var or qml.probs."
        )


def _check_entries(kind: str, block: Block) -> None:
    count = len(block.wires)
    size = {"hermitian": 4**count, "diagonal": 2**count, "projector": count}.get(block.kind)
    if size is None:
        raise UserError(f"{kind}: an observable is hermitian, diagonal or projector, not {block.kind!r}.")
    if len(block.entries) != size:
        raise UserError(
            f"{kind} of a {block.kind} observable on {count} wires takes {size} numbers, "
            f"{len(block.entries)} are given."
        )
    entries = np.array(block.entries)
    if block.kind == "hermitian":
        matrix = entries.reshape(2**count, -1)
        error = float(np.abs(matrix - matrix.conj().T).max())
    else:
        error = float(np.abs(np.imag(entries)).max(initial=0.0))
    if not error <= 1e-6 * max(1.0, float(np.abs(entries).max(initial=0.0))):
        raise UserError(
            f"{kind} of an observable on wires {list(block.wires)}: expected a Hermitian matrix, received "
            f"one that differs from its conjugate transpose by {error:.3g}; use (A + A.conj().T) / 2."
        )
    if block.kind == "projector" and not np.isin(entries, (0, 1)).all():
        raise UserError(f"{kind} of a projector: expected bits 0 and 1, received {list(block.entries)}.")
