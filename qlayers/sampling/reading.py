"""From shots to results: which bases the measurements of a circuit need, and what is read from each.

Results are made of estimates: means over shots of functions of the outcomes in a basis. These are linear in
the outcomes' probabilities and thus without bias, and so is what is linear in them: expectation values and
probabilities. A variance is the mean of A^2 less the square of the mean of A, as in PennyLane, and so on
average (shots - 1)/shots of the exact one. Its derivative d<A^2> - 2 <A> d<A> takes <A> from the forward pass
and the derivatives from shots of their own, so that it has no bias.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import numpy as np
import torch
from torch import Tensor

from qlayers.circuit import Circuit
from qlayers.measure import COUNTED, DRAWN, Block, Measurement, Term
from qlayers.sampling.bases import Bases, Summand, summand, whole, wires_of
from qlayers.sampling.draws import Shots
from shared.errors import UserError

READ = ("expval", "var", "probs", *DRAWN)
_MOST_ENTRIES = 2**20  # of a matrix from outcomes to estimates; larger ones are summed wire by wire

Result = Callable[[Tensor, Tensor, Tensor], Tensor]  # of estimates, coefficients and single shots


class Reading:
    """What is measured of a circuit, and how results follow.

    Attributes:
        measurements: the probabilities that have to be known exactly, one entry for each basis.
        sizes: how many numbers each of them has.
        single: whether single shots are needed, and not only how often each outcome was seen.

    Args:
        circuit: with measurements of the kinds `READ`.

    Raises:
        UserError: it has others, or observables that cannot be measured with shots.
    """

    def __init__(self, circuit: Circuit):
        self._circuit, self._bases = circuit, Bases()
        self._summands: list[Summand] = []
        self._known: dict[tuple, int] = {}
        self._coefficients = 0
        self._columns = 0
        self._shown: list[tuple[Summand | None, tuple]] = []  # what single shots are read from
        self._results = [self._result(measurement) for measurement in circuit.measurements]
        self.measurements = [basis.measurement for basis in self._bases.found]
        self.sizes = [2 ** len(basis.wires) for basis in self._bases.found]
        self.single = bool(self._shown)
        self._matrices = [self._matrix(basis) for basis in self._bases.found]

    # what is read

    def _result(self, measurement: Measurement) -> Result:
        kind = measurement.kind
        if kind not in READ:
            raise UserError(
                f"{kind} has no estimate from shots and no shift rule; expected expval, var, probs, sample "
                'or counts. Leave out shots and use diff_method="best" for exact results.'
            )
        if kind in DRAWN:
            return self._drawn(measurement)
        if kind == "probs":
            wires = measurement.wires or self._circuit.wires
            basis = self._bases.of_probabilities(wires, measurement.basis)
            start = self._column(Summand(basis, wires, None))
            return lambda e, c, shots: e[:, start : start + 2 ** len(wires)]
        if kind == "var":
            found = whole(measurement.terms, self._factors(measurement), self._bases)
            mean = self._column(found)
            square = self._column(found._replace(values=found.values**2))
            return lambda e, c, shots: e[:, square] - e[:, mean] ** 2
        return self._mean(measurement.terms)

    def _mean(self, terms: Sequence[Term | Block]) -> Result:
        """The sum of terms, whose coefficients are constants or computed."""
        known, computed = [], []
        for term in terms:
            row = self._circuit.nodes[term.coefficient]
            column = self._column(summand(term, 1.0, self._bases))
            if row[0] == "constant":
                known.append((column, row[1]))
            else:
                computed.append((column, self._coefficients))
                self._coefficients += 1
        return partial(_sum, known, computed)

    def _factors(self, measurement: Measurement) -> list[float]:
        rows = [self._circuit.nodes[term.coefficient] for term in measurement.terms]
        if any(row[0] != "constant" for row in rows):
            raise UserError(
                f"{measurement.kind} of an observable with finite shots: expected constant coefficients, "
                "received some that depend on inputs or weights; measure the terms with qml.expval."
            )
        return [row[1] for row in rows]

    def _drawn(self, measurement: Measurement) -> Result:
        if measurement.kind in COUNTED and len(self._circuit.measurements) > 1:
            raise UserError(
                "qml.counts gives no tensor, so it cannot stand beside other measurements; return it alone, "
                "or return qml.sample."
            )
        if measurement.terms:
            found = whole(measurement.terms, self._factors(measurement), self._bases)
            wires = wires_of(measurement.terms)
        else:
            wires = measurement.wires or self._circuit.wires
            found = Summand(self._bases.of_probabilities(wires, measurement.basis), wires, None)
        start = sum(width for _, width in self._shown_widths())
        self._shown.append((found, wires))
        if measurement.terms:
            return lambda e, c, shots: shots[:, :, start]
        return lambda e, c, shots: shots[:, :, start : start + len(wires)]

    def _shown_widths(self) -> list[tuple[Summand, int]]:
        return [(found, 1 if found.values is not None else len(wires)) for found, wires in self._shown]

    def _column(self, found: Summand) -> int:
        """Where the estimate of a summand begins; all outcomes' frequencies if it has no values."""
        values = None if found.values is None else found.values.tobytes()
        key = id(found.basis), found.wires, values
        if key not in self._known:
            self._known[key] = self._columns
            self._summands.append(found)
            self._columns += 1 if found.values is not None else 2 ** len(found.wires)
        return self._known[key]

    # reading it

    def estimates(self, shots: Sequence[Shots], rows: int) -> np.ndarray:
        """(b, C) float64 from what was seen in each basis; exact where `shots` hold probabilities."""
        found = np.empty((rows, self._columns))
        for basis, matrix, seen in zip(self._bases.found, self._matrices, shots, strict=True):
            if matrix is not None:
                columns, table = matrix
                found[:, columns] = seen.seen_at.reshape(rows, len(table)) @ table / seen.count
                continue
            for own in self._summands:
                if own.basis is basis:
                    start = self._column(own)
                    seen_here = seen.seen(own.wires)
                    values = seen_here if own.values is None else (seen_here @ own.values)[:, None]
                    found[:, start : start + values.shape[1]] = values / seen.count
        for own in self._summands:
            if own.basis is None:
                found[:, self._column(own)] = own.values[0]
        return found

    def _matrix(self, basis) -> tuple[np.ndarray, np.ndarray] | None:
        """Which estimates a basis gives, and the matrix (2^k, c) that gives them, if it is small."""
        mine = [own for own in self._summands if own.basis is basis]
        widths = [1 if own.values is not None else 2 ** len(own.wires) for own in mine]
        size = 2 ** len(basis.wires)
        if size * sum(widths) > _MOST_ENTRIES:
            return None
        one = Shots(basis.wires, 1, np.eye(size).reshape(size, *(2,) * len(basis.wires)))
        parts = [one.seen(own.wires) for own in mine]
        tables = [
            part if own.values is None else (part @ own.values)[:, None]
            for own, part in zip(mine, parts, strict=True)
        ]
        starts = [self._column(own) for own in mine]
        columns = [np.arange(start, start + width) for start, width in zip(starts, widths, strict=True)]
        empty = np.empty(0, np.int64), np.empty((size, 0))
        return (np.concatenate(columns), np.concatenate(tables, -1)) if mine else empty

    def shots(self, shots: Sequence[Shots], rows: int, count: int) -> np.ndarray:
        """(b, count, S) float64: for each measurement of single shots their bits, or values."""
        by_basis = dict(zip(map(id, self._bases.found), shots, strict=True))
        parts = [np.zeros((rows, count, 0))]
        for found, wires in self._shown:
            if found.values is None:
                parts.append(by_basis[id(found.basis)].bits(wires))
            elif found.basis is None:
                parts.append(np.full((rows, count, 1), found.values[0]))
            else:
                parts.append(by_basis[id(found.basis)].values(found.wires, found.values)[..., None])
        return np.concatenate(parts, -1)

    @property
    def values(self) -> tuple[float, ...] | None:
        """What the first measurement of single shots may show: an observable's values, None for bits."""
        values = self._shown[0][0].values
        return None if values is None else tuple(values.tolist())

    def results(self, estimates: Tensor, coefficients: Tensor, shots: Tensor) -> list[Tensor]:
        """One result (b, *shape) for each measurement; differentiable by estimates and coefficients.

        Args:
            estimates: (b, C), see `estimates`.
            coefficients: (b, M), those of the terms that are not constants, in order of appearance.
            shots: (b, count, S), see `shots`.
        """
        return [result(estimates, coefficients, shots) for result in self._results]

    def __repr__(self) -> str:
        return f"Reading({len(self.sizes)} bases with {prod(self.sizes)} outcomes, {self._columns} estimates)"


def _sum(
    known: Sequence[tuple[int, float]],
    computed: Sequence[tuple[int, int]],
    e: Tensor,
    c: Tensor,
    shots: Tensor,
) -> Tensor:
    """(b,): estimates times constants, plus estimates times computed coefficients."""
    if len(known) == 1 and not computed and known[0][1] == 1.0:
        return e[:, known[0][0]]
    columns = torch.tensor([column for column, _ in known], dtype=torch.int64, device=e.device)
    factors = torch.tensor([factor for _, factor in known], dtype=e.dtype, device=e.device)
    total = (e.index_select(-1, columns) * factors).sum(-1)
    for column, coefficient in computed:
        total = total + e[:, column] * c[:, coefficient]
    return total
