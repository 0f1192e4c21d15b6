"""The bases in which PennyLane's measurement processes are taken with finite shots."""

from collections.abc import Iterator

import numpy as np

from qlayers.defer import outcomes
from qlayers.device.analytic import kept_on
from qlayers.read_gates import labels
from qlayers.read_measurements import basis_of, terms
from qlayers.sampling.bases import Bases, Basis, Summand, summand, whole


def summands(process, bases: Bases) -> Iterator[Summand]:
    """The terms of an observable, each with the basis in which it is measured."""
    if process.mv is not None:
        wires, values = outcomes(process.mv, kept_on(process))
        basis = bases.of_word(dict.fromkeys(wires, "Z"))
        yield Summand(basis, tuple(wires), np.array([float(value) for _, value in values]))
        return
    for term in terms(process.obs):
        yield summand(term, float(term.coefficient), bases)


def whole_observable(process, bases: Bases) -> Summand:
    """The observable as one summand: a variance needs all of it from the same shot."""
    if process.mv is not None:
        (found,) = summands(process, bases)
        return found
    found = list(terms(process.obs))
    return whole(found, [float(term.coefficient) for term in found], bases)


def basis_for(process, bases: Bases, wires: tuple) -> tuple[Basis, tuple]:
    """The basis of a process that looks at one observable, at wires, or at outcomes; and the wires."""
    if process.mv is not None:
        on = tuple(dict.fromkeys(kept_on(process).values()))
    elif process.obs is None:
        on = labels(process.wires) or wires
    else:
        on = labels(process.obs.wires)
        return bases.of_probabilities(on, basis_of(process.obs)), on
    return bases.of_word(dict.fromkeys(on, "Z")), on
