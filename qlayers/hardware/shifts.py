r"""Parameter-shift rules: the derivative of a gate's expectation values as a sum of others at shifted angles.

As a function of one parameter of a gate, an expectation value is a trigonometric polynomial. Two shifts give
the derivative of one frequency (Mitarai, Negoro, Kitagawa, Fujii, 2018; Schuld et al., 2019), four that of
two, as controlled rotations have (Anselmetti et al., 2021), and 2R that of R (Wierichs, Izaac, Wang, Lin,
"General parameter-shift rules for quantum gradients", 2022). The rules are PennyLane's. Where it has none for
a gate, the gate's Pauli rotations say which frequencies there can be at most.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import pennylane as qml
from pennylane.operation import Operator

from qlayers.gates import gate

DIGITS = 10  # of a frequency; those that agree in them are one


class Shift(NamedTuple):
    """factor * value(multiplier * parameter + shift), one term of a derivative."""

    factor: float
    multiplier: float
    shift: float


Rule = tuple[Shift, ...]


def rules_of(name: str, op: Operator) -> list[Rule | None]:
    """The rule of each parameter of an operation; None where there is none.

    Args:
        name: the operation's in `qlayers.gates`.
        op: the operation as PennyLane's.

    Example:
        >>> rules_of("RX", qml.RX(0.1, wires=0))  # doctest: +NUMBER
        [(Shift(factor=0.5, multiplier=1.0, shift=1.5708), Shift(factor=-0.5, multiplier=1.0, shift=-1.5708))]
        >>> [len(rule) for rule in rules_of("CRot", qml.CRot(0.1, 0.2, 0.3, wires=[0, 1]))]
        [4, 4, 4]
    """
    recipes = getattr(op, "grad_recipe", None) or [None] * op.num_params
    found = _frequencies(name, op)
    return [
        tuple(Shift(*map(float, row)) for row in recipe) if recipe is not None else found and _rule(found[i])
        for i, recipe in enumerate(recipes)
    ]


def _frequencies(name: str, op: Operator) -> Sequence[tuple[float, ...]] | None:
    try:
        return [tuple(map(float, one)) for one in op.parameter_frequencies]
    except qml.exceptions.ParameterFrequenciesUndefinedError:
        return _of_rotations(name, len(op.wires))


@lru_cache(maxsize=256)
def _of_rotations(name: str, wires: int) -> list[tuple[float, ...]] | None:
    """All frequencies that a gate's parameters can have, judged by its rotations; None if it has none.

    A rotation by s t has the frequencies 0 and s in t, so that several have sums and differences of theirs.
    """
    found = gate(name, wires)
    if found is None:
        return None
    sums = [{0.0} for _ in range(found.parameters)]
    for _, angle in found.turns:
        if angle.parameter is not None:
            steps, before = (-angle.scale, 0.0, angle.scale), sums[angle.parameter]
            sums[angle.parameter] = {round(value + step, DIGITS) for value in before for step in steps}
    return [tuple(sorted(value for value in one if value > 0)) for one in sums]


@lru_cache(maxsize=256)
def _rule(frequencies: tuple[float, ...]) -> Rule:
    if not frequencies:  # a global phase
        return ()
    return tuple(
        Shift(float(factor), 1.0, float(shift))
        for factor, shift in qml.gradients.generate_shift_rule(frequencies)
    )
