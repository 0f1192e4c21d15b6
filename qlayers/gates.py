"""Every gate as a product of Pauli rotations: the gate table of `qlayers`.

A rotation "angle word" is exp(-i angle/2 P) with the Pauli word P on the gate's wires; a gate is its
rotations in order of application, times exp(i phase). Angles are parameters (a, b, c) or pi, times a rational
number. Clifford gates are rotations by multiples of pi/2 like any other; `qlayers.frame` is what makes them
free.

The phase does not change an expectation value. It is kept because it becomes a rotation once the gate is
controlled, and so that each row can be tested for equality with the gate's matrix, not merely up to a phase.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from math import pi
from typing import NamedTuple

_CZ = "pi/2 ZI, pi/2 IZ, -pi/2 ZZ"
_SWAP = "-pi/2 XX, -pi/2 YY, -pi/2 ZZ"

# name as in PennyLane: (number of parameters, "rotations in order of application ; phase")
TABLE: dict[str, tuple[int, str]] = {
    # one wire
    "RX": (1, "a X"),
    "RY": (1, "a Y"),
    "RZ": (1, "a Z"),
    "Rot": (3, "a Z, b Y, c Z"),
    "PhaseShift": (1, "a Z ; a/2"),
    "U1": (1, "a Z ; a/2"),
    "U2": (2, "b Z, pi/2 Y, a Z ; a/2 + b/2"),
    "U3": (3, "c Z, a Y, b Z ; b/2 + c/2"),
    "Hadamard": (0, "pi Z, pi/2 Y ; pi/2"),  # H = Z rotated by a quarter turn: (X + Z)/sqrt(2)
    "PauliX": (0, "pi X ; pi/2"),
    "PauliY": (0, "pi Y ; pi/2"),
    "PauliZ": (0, "pi Z ; pi/2"),
    "S": (0, "pi/2 Z ; pi/4"),
    "T": (0, "pi/4 Z ; pi/8"),
    "SX": (0, "pi/2 X ; pi/4"),
    # two wires without parameters
    "CNOT": (0, "pi/2 ZI, pi/2 IX, -pi/2 ZX ; pi/4"),
    "CY": (0, "pi/2 ZI, pi/2 IY, -pi/2 ZY ; pi/4"),
    "CZ": (0, f"{_CZ} ; pi/4"),
    "CH": (0, f"-pi/4 IY, {_CZ}, pi/4 IY ; pi/4"),  # H = RY(pi/4) Z RY(-pi/4)
    "SWAP": (0, f"{_SWAP} ; -pi/4"),  # exp(i pi/4 (XX + YY + ZZ)), a phase apart
    "ISWAP": (0, "-pi/2 XX, -pi/2 YY"),
    "SISWAP": (0, "-pi/4 XX, -pi/4 YY"),
    "ECR": (0, "pi/2 ZX, pi XI ; pi/2"),
    # controlled rotations: the projector (1 - Z)/2 splits each rotation in two halves of opposite sign
    "CRX": (1, "a/2 IX, -a/2 ZX"),
    "CRY": (1, "a/2 IY, -a/2 ZY"),
    "CRZ": (1, "a/2 IZ, -a/2 ZZ"),
    "CRot": (3, "a/2 IZ, -a/2 ZZ, b/2 IY, -b/2 ZY, c/2 IZ, -c/2 ZZ"),
    "ControlledPhaseShift": (1, "a/2 ZI, a/2 IZ, -a/2 ZZ ; a/4"),
    "CPhaseShift00": (1, "-a/2 ZI, -a/2 IZ, -a/2 ZZ ; a/4"),
    "CPhaseShift01": (1, "-a/2 ZI, a/2 IZ, a/2 ZZ ; a/4"),
    "CPhaseShift10": (1, "a/2 ZI, -a/2 IZ, a/2 ZZ ; a/4"),
    # two-wire rotations
    "IsingXX": (1, "a XX"),
    "IsingYY": (1, "a YY"),
    "IsingZZ": (1, "a ZZ"),
    "IsingXY": (1, "-a/2 XX, -a/2 YY"),
    "PSWAP": (1, f"a ZZ, {_SWAP} ; a/2 + -pi/4"),
    "SingleExcitation": (1, "a/2 YX, -a/2 XY"),
    "SingleExcitationPlus": (1, "a/2 YX, -a/2 XY, -a/2 ZZ ; a/4"),
    "SingleExcitationMinus": (1, "a/2 YX, -a/2 XY, a/2 ZZ ; -a/4"),
    "FermionicSWAP": (1, "a/2 XX, a/2 YY, a/2 ZI, a/2 IZ ; a/2"),
}

# gates that are a controlled gate of the table under a name of their own
CONTROLLED = {"Toffoli": "C(CNOT)", "CCZ": "C(CZ)", "CSWAP": "C(SWAP)"}

# one label per wire for drawings, where the name itself would not do
LABELS: dict[str, tuple[str, ...]] = {
    "Hadamard": ("H",),
    "PauliX": ("X",),
    "PauliY": ("Y",),
    "PauliZ": ("Z",),
    "CNOT": ("●", "X"),
    "CY": ("●", "Y"),
    "CZ": ("●", "Z"),
    "CH": ("●", "H"),
    "CRX": ("●", "RX"),
    "CRY": ("●", "RY"),
    "CRZ": ("●", "RZ"),
    "CRot": ("●", "Rot"),
    "ControlledPhaseShift": ("●", "Rϕ"),
    "PhaseShift": ("Rϕ",),
}


class Angle(NamedTuple):
    """scale * parameters[parameter] + offset; `parameter` is None for a constant."""

    parameter: int | None
    scale: float
    offset: float

    def times(self, factor: float) -> "Angle":
        return Angle(self.parameter, self.scale * factor, self.offset * factor)


class Turn(NamedTuple):
    """The rotation exp(-i angle/2 P) with P written as letters, one per wire of the gate."""

    word: str
    angle: Angle


@dataclass(frozen=True)
class Gate:
    """A unitary as exp(i sum of `phase`) times `turns`, the first of which is applied first."""

    wires: int
    parameters: int
    turns: tuple[Turn, ...]
    phase: tuple[Angle, ...] = ()

    def adjoint(self) -> "Gate":
        """The inverse: every angle negated, in reverse order."""
        turns = tuple(Turn(word, angle.times(-1.0)) for word, angle in reversed(self.turns))
        return Gate(self.wires, self.parameters, turns, tuple(angle.times(-1.0) for angle in self.phase))

    def controlled(self, value: int = 1) -> "Gate":
        """The gate applied where one more wire, put in front, is in state `value`.

        The projector onto that state is (1 -+ Z)/2, so a rotation by t about P becomes one by t/2 about IP
        and one by -+t/2 about ZP, and the phase becomes a rotation about Z.
        """
        sign = -1.0 if value else 1.0
        turns = [
            Turn(letter + word, angle.times(factor))
            for word, angle in self.turns
            for letter, factor in (("I", 0.5), ("Z", 0.5 * sign))
        ]
        turns += [Turn("Z" + "I" * self.wires, angle.times(-sign)) for angle in self.phase]
        phase = tuple(angle.times(0.5) for angle in self.phase)
        return Gate(self.wires + 1, self.parameters, tuple(turns), phase)


@lru_cache(maxsize=1024)
def gate(name: str, wires: int) -> Gate | None:
    """The gate called `name` on `wires` wires, or None if the table does not know it.

    Args:
        name: a PennyLane name ("RX", "CNOT"), "PauliRot[XYZ]", or one of these in any nesting of
            "Adjoint(...)", "C(...)" (controlled on 1) and "C0(...)" (controlled on 0), where the control is
            the first wire.
        wires: number of wires; only "MultiRZ", "GlobalPhase" and "Identity" leave a choice.

    Example:
        >>> for turn in gate("CRX", 2).turns:
        ...     print(turn)
        Turn(word='IX', angle=Angle(parameter=0, scale=0.5, offset=0.0))
        Turn(word='ZX', angle=Angle(parameter=0, scale=-0.5, offset=0.0))
        >>> gate("C(RX)", 2).turns == gate("CRX", 2).turns
        True
    """
    if match := re.fullmatch(r"(Adjoint|C0?)\((.*)\)", name):
        outer, inner = match.groups()
        base = gate(inner, wires if outer == "Adjoint" else wires - 1)
        if base is None or outer == "Adjoint":
            return base and base.adjoint()
        return base.controlled(0 if outer == "C0" else 1)
    found = _special(name, wires)
    return found if found is not None and found.wires == wires else None


def labels(name: str, wires: int) -> tuple[str, ...]:
    """What a drawing shows on each wire of the gate."""
    name = CONTROLLED.get(name, name)
    if match := re.fullmatch(r"(Adjoint|C0?)\((.*)\)", name):
        outer, inner = match.groups()
        if outer == "Adjoint":
            return tuple(label if label in "●○" else label + "†" for label in labels(inner, wires))
        return ("○" if outer == "C0" else "●", *labels(inner, wires - 1))
    if match := re.fullmatch(r"PauliRot\[(.*)\]", name):
        return tuple("R" + letter for letter in match[1])
    return LABELS.get(name, (name,) * wires)


def _special(name: str, wires: int) -> Gate | None:
    if name in TABLE:
        return _parse(*TABLE[name])
    if name in CONTROLLED:
        return gate(CONTROLLED[name], wires)
    if match := re.fullmatch(r"PauliRot\[([IXYZ]*)\]", name):
        return Gate(len(match[1]), 1, (Turn(match[1], Angle(0, 1.0, 0.0)),))
    if name == "MultiRZ":
        return Gate(wires, 1, (Turn("Z" * wires, Angle(0, 1.0, 0.0)),))
    if name == "GlobalPhase":  # exp(-i a)
        return Gate(wires, 1, (), (Angle(0, -1.0, 0.0),))
    return Gate(wires, 0, ()) if name == "Identity" else None


def _parse(parameters: int, row: str) -> Gate:
    rotations, _, phase = row.partition(";")
    pairs = [term.split() for term in rotations.split(",")]
    turns = tuple(Turn(word, _angle(angle)) for angle, word in pairs)
    angles = tuple(_angle(term.strip()) for term in phase.split("+") if term.strip())
    return Gate(len(turns[0].word), parameters, turns, angles)


def _angle(text: str) -> Angle:
    sign, symbol, divisor = re.fullmatch(r"(-?)([abc]|pi)(?:/(\d+))?", text).groups()
    factor = (-1.0 if sign else 1.0) / int(divisor or 1)
    return Angle(None, 0.0, factor * pi) if symbol == "pi" else Angle("abc".index(symbol), factor, 0.0)
