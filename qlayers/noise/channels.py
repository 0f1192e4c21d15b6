"""Every noise channel of the circuit language: what it does to Pauli words, and its Kraus operators.

A channel on one wire is one of two kinds:

- a *flip* applies X, Y and Z with probabilities p_X, p_Y, p_Z. It multiplies <X> by 1 - 2 (p_Y + p_Z), and so
  on (Nielsen and Chuang, Quantum Computation and Quantum Information, section 8.3);
- a *relaxation* multiplies <X> and <Y> by a, and makes b <Z> + c of <Z>.

"PauliError[XY]" flips by a word on several wires, "QubitChannel" has any Kraus operators: as constants, one
after the other, row after row, or as expressions, all real parts and then all imaginary parts.
"""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from shared.errors import UserError

KRAUS = "QubitChannel"
MOST_KRAUS_WIRES = 4  # a map of k wires has 16^k numbers
PRECISION = 1e-5  # how far sums of probabilities and of K†K may be from 1: float32 data is rounded

Numbers = tuple[Tensor, ...]


class Channel(NamedTuple):
    """A row of the table.

    Attributes:
        parameters: their names, in order.
        flips: p_X, p_Y and p_Z from the parameters, for a flip.
        relaxes: a, b and c from the parameters, for a relaxation.
    """

    parameters: tuple[str, ...]
    flips: Callable[..., Numbers] | None = None
    relaxes: Callable[..., Numbers] | None = None


def _phase_damped(gamma: Tensor) -> Numbers:
    zero = torch.zeros_like(gamma)
    return zero, zero, (1 - torch.sqrt(1 - gamma)) / 2


def _thermal(pe: Tensor, t1: Tensor, t2: Tensor, tg: Tensor) -> Numbers:
    b = torch.exp(-tg / t1)
    return torch.exp(-tg / t2), b, (1 - b) * (1 - 2 * pe)


TABLE: dict[str, Channel] = {
    "BitFlip": Channel(("p",), flips=lambda p: (p, torch.zeros_like(p), torch.zeros_like(p))),
    "PhaseFlip": Channel(("p",), flips=lambda p: (torch.zeros_like(p), torch.zeros_like(p), p)),
    "DepolarizingChannel": Channel(("p",), flips=lambda p: (p / 3, p / 3, p / 3)),
    "PhaseDamping": Channel(("gamma",), flips=_phase_damped),
    "AmplitudeDamping": Channel(("gamma",), relaxes=lambda g: (torch.sqrt(1 - g), 1 - g, g)),
    "GeneralizedAmplitudeDamping": Channel(
        ("gamma", "p"), relaxes=lambda g, p: (torch.sqrt(1 - g), 1 - g, g * (1 - 2 * p))
    ),
    "ResetError": Channel(("p_0", "p_1"), relaxes=lambda p, q: (1 - p - q, 1 - p - q, p - q)),
    "ThermalRelaxationError": Channel(("pe", "t1", "t2", "tg"), relaxes=_thermal),
}
WORD_ERROR = Channel(("p",), flips=TABLE["BitFlip"].flips)  # of "PauliError", X being its word

# what parameters must be: names, (what is wrong with them, as a number above 0), in words
PROBABILITIES = frozenset({"p", "gamma", "p_0", "p_1", "pe"})
RULES: dict[str, tuple[tuple[Callable[..., Tensor], str], ...]] = {
    "ResetError": ((lambda p, q: p + q - 1 - PRECISION, "p_0 + p_1 of at most 1"),),
    "ThermalRelaxationError": (
        (lambda pe, t1, t2, tg: -t1, "a positive T1"),
        (lambda pe, t1, t2, tg: -t2, "a positive T2"),
        (lambda pe, t1, t2, tg: -tg, "a gate time tg of at least 0"),
        (lambda pe, t1, t2, tg: t2 - 2 * t1 * (1 + PRECISION), "T2 of at most 2 T1"),
    ),
}


def is_channel(name: str) -> bool:
    """Whether an operation of this name is a channel.

    >>> is_channel("BitFlip"), is_channel("PauliError[XY]"), is_channel("RX")
    (True, True, False)
    """
    return name in TABLE or name == KRAUS or word_of(name) is not None


def word_of(name: str) -> str | None:
    """The letters of a "PauliError[...]"; None for other names."""
    match = re.fullmatch(r"PauliError\[([IXYZ]+)\]", name)
    return match and match[1]


def channel(name: str) -> Channel:
    """The row of a channel that has one; a `PauliError` is a flip by its word."""
    return TABLE.get(name, WORD_ERROR)


# from parameters to what acts


def factors(row: Channel, parameters: Numbers) -> Tensor:
    """(..., 4): what a flip multiplies <I>, <X>, <Y> and <Z> by."""
    x, y, z = row.flips(*parameters)
    return torch.stack([torch.ones_like(x), 1 - 2 * (y + z), 1 - 2 * (x + z), 1 - 2 * (x + y)], -1)


def transfer(row: Channel, parameters: Numbers) -> Tensor:
    """(..., 4, 4): the map of <I>, <X>, <Y>, <Z> by a channel on one wire."""
    if row.flips is not None:
        return torch.diag_embed(factors(row, parameters))
    a, b, c = row.relaxes(*parameters)
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    rows = [(one, zero, zero, zero), (zero, a, zero, zero), (zero, zero, a, zero), (c, zero, zero, b)]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def probabilities(row: Channel, parameters: Numbers) -> Tensor:
    """(..., 4): how likely a flip applies I, X, Y and Z."""
    x, y, z = row.flips(*parameters)
    return torch.stack([1 - x - y - z, x, y, z], -1)


def jumps(row: Channel, parameters: Numbers) -> Tensor:
    """(..., 4, 2, 2, 2): Kraus operators of a relaxation, real and imaginary parts first in their matrix.

    Populations move by P(0 -> 1) = (1 - b - c)/2 and so on, which makes two jumps; the rest is
    diag(s, a/s) and diag(0, sqrt(P(1 -> 1) - a²/s²)) with s² = P(0 -> 0), or the same upside down where
    P(0 -> 0) is the smaller one (a Cholesky factor of the Choi matrix, which so divides by no small number).
    """
    a, b, c = row.relaxes(*parameters)
    stay0, rise, fall, stay1 = (1 + b + c) / 2, (1 - b - c) / 2, (1 - b + c) / 2, (1 + b - c) / 2
    zero, first = torch.zeros_like(a), stay0 >= stay1
    large, small = torch.where(first, stay0, stay1), torch.where(first, stay1, stay0)
    root = root_of(large)
    other, rest = a / root, root_of(small - a * a / large)
    diagonals = [
        (torch.where(first, root, other), torch.where(first, other, root)),
        (torch.where(first, zero, rest), torch.where(first, rest, zero)),
    ]
    matrices = [(top, zero, zero, bottom) for top, bottom in diagonals]
    matrices += [(zero, root_of(fall), zero, zero), (zero, zero, root_of(rise), zero)]
    real = torch.stack([torch.stack(m, -1).unflatten(-1, (2, 2)) for m in matrices], -3)
    return torch.stack([real, torch.zeros_like(real)], -3)


def root_of(values: Tensor) -> Tensor:
    """The square root, 0 without a slope for what is 0 up to rounding: an operator that never acts."""
    positive = values > 8 * torch.finfo(values.dtype).eps
    return torch.where(positive, torch.where(positive, values, 1.0).sqrt(), 0.0)


# checks


def check_channel(name: str, wires: tuple, constants: list[float | None], entries: tuple) -> None:
    """Raise a `UserError` unless a channel's numbers are as many as it takes, and make sense.

    Args:
        name: of the operation.
        wires: of the operation.
        constants: its parameters, None where that is no constant.
        entries: its constants of its own.
    """
    what = f"{name} on wires {list(wires)}"
    if name == KRAUS:
        _check_kraus(what, len(wires), len(constants), entries)
        return
    if entries:
        raise UserError(f"{what} takes no constants of its own; use its parameters.")
    word = word_of(name)
    if len(wires) != (1 if word is None else len(word)):
        raise UserError(f"{what}: expected {1 if word is None else len(word)} wires, received {len(wires)}.")
    row = channel(name)
    if len(constants) != len(row.parameters):
        raise UserError(
            f"{what} takes {len(row.parameters)} parameters ({', '.join(row.parameters)}), "
            f"{len(constants)} are given."
        )
    check_values(name, what, [None if c is None else torch.tensor(c, dtype=torch.float64) for c in constants])


def check_values(name: str, what: str, values: list[Tensor | None]) -> None:
    """Raise a `UserError` if parameters are out of range; those that are None are not looked at."""
    for parameter, value in zip(channel(name).parameters, values, strict=True):
        if value is None:
            continue
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"{what}: expected finite parameters, received {parameter} = {_shown(value)}.")
        if parameter in PROBABILITIES and not bool(((value >= 0) & (value <= 1)).all()):
            raise UserError(
                f"{what}: expected a probability {parameter} from 0 to 1, received {_shown(value)}; clamp "
                "it, or compute it by a sigmoid."
            )
    if all(value is not None for value in values):
        for excess, wanted in RULES.get(name, ()):
            if bool((excess(*values) > 0).any()) or (
                "positive" in wanted and bool((excess(*values) == 0).any())
            ):
                given = ", ".join(
                    f"{parameter} = {_shown(value)}"
                    for parameter, value in zip(channel(name).parameters, values, strict=True)
                )
                raise UserError(f"{what}: expected {wanted}, received {given}; change the parameters.")


def _shown(value: Tensor) -> str:
    """A number, or the range of many."""
    low, high = float(value.min()), float(value.max())
    return f"{low:.6g}" if low == high or math.isnan(low) else f"{low:.6g} to {high:.6g}"


def _check_kraus(what: str, wires: int, parameters: int, entries: tuple) -> None:
    if wires > MOST_KRAUS_WIRES or not wires:
        raise UserError(
            f"{what}: expected Kraus operators on 1 to {MOST_KRAUS_WIRES} wires, received {wires} wires; "
            "write the channel as several."
        )
    if entries and parameters:
        raise UserError(f"{what} has both constants and expressions; give one kind.")
    count, each = (len(entries), 4**wires) if entries else (parameters, 2 * 4**wires)
    if not count or count % each:
        raise UserError(
            f"{what}: expected {each} numbers for each Kraus operator, received {count}; give whole matrices."
        )
    if entries:
        check_complete(what, np.array(entries, dtype=complex).reshape(-1, 2**wires, 2**wires))


def check_complete(what: str, operators: np.ndarray) -> None:
    """Raise a `UserError` unless the sum of K†K over (K, m, m) is the identity."""
    total = np.einsum("kji,kjl->il", operators.conj(), operators)
    error = float(np.abs(total - np.eye(operators.shape[-1])).max())
    if not error < PRECISION:
        raise UserError(
            f"{what}: expected Kraus operators whose K†K add up to the identity, received a sum that is off "
            f"by {error:.3g}; check the matrices, or one is missing."
        )
