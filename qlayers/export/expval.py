"""Which form each op of circuits takes in an exported graph."""

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from qlayers.export.fourier import fourier_series
from qlayers.export.stepwise import Evolution, Expectations
from qlayers.ops import pauli_evolve, pauli_expval, pauli_transfer
from shared.export.lowering import Given

_MOST_TERMS = 8192  # of a Fourier series
_MOST_NUMBERS = 2**20  # of its matrix of coefficients
_MOST_AMPLITUDES = 2**24  # to compute for it


def lower_expval(shared: Any, batched: Any, rotations: Any, words: Any, wires: int) -> nn.Module | None:
    """`qlayers::pauli_expval` of known weights; None where these are not known."""
    if not _known(shared, rotations, words) or isinstance(batched, Tensor):
        return None
    degrees = _degrees(rotations[:, 3][rotations[:, 2] == 1].tolist(), batched)
    count = len(words)
    if _is_short(degrees, count, 2**wires):
        exact = shared.double()
        return fourier_series(
            lambda angles: pauli_expval(exact, angles, rotations, words, wires),
            degrees,
            dtype=batched.dtype,
            shape=(count,),
        )
    return _Expval(shared, batched.dtype, rotations, words, wires) if count else None


def lower_evolve(state: Any, shared: Any, batched: Any, rotations: Any, wires: int) -> nn.Module | None:
    """`qlayers::pauli_evolve` of known weights."""
    if not _known(shared, rotations) or isinstance(batched, Tensor):
        return None
    if isinstance(state, Tensor) and len(state) < 2:
        degrees = _degrees(rotations[:, 3][rotations[:, 2] == 1].tolist(), batched)
        if _is_short(degrees, 2 * 2**wires, 2**wires):
            begin, exact = state.double(), shared.double()
            return fourier_series(
                lambda angles: pauli_evolve(begin, exact, angles, rotations, wires),
                degrees,
                dtype=batched.dtype,
                shape=(2, 2**wires),
                unit=0.5,
            )
        return _Evolve(state, shared, batched.dtype, rotations, wires)
    return None if isinstance(state, Tensor) else _EvolveGiven(shared, batched.dtype, rotations, wires)


def lower_transfer(
    state: Any, shared: Any, batched: Any, steps: Any, generators: Any, words: Any, forms: str, wires: int
) -> nn.Module | None:
    """`qlayers::pauli_transfer` of known weights and known noise; None for other circuits."""
    if not _known(state, shared, steps, generators, words) or isinstance(batched, Tensor) or len(state) > 1:
        return None
    own = [(form, column) for form, (_, side, column) in zip(forms, steps.tolist(), strict=True) if side]
    if any(form != "r" for form, _ in own):
        return None  # a channel's numbers are no angles
    degrees, count = _degrees([column for _, column in own], batched), len(words)
    if not _is_short(degrees, count, 4**wires):
        return None
    begin, exact = state.double(), shared.double()
    return fourier_series(
        lambda angles: pauli_transfer(begin, exact, angles, steps, generators, words, forms, wires),
        degrees,
        dtype=batched.dtype,
        shape=(count,),
    )


def _known(*tensors: Any) -> bool:
    return all(isinstance(each, Tensor) for each in tensors)


def _degrees(columns: list[int], batched: Given) -> list[int]:
    """How many rotations each angle of the samples enters."""
    counts = Counter(columns)
    return [counts[column] for column in range(int(batched.shape[1]))]


def _is_short(degrees: list[int], outputs: int, amplitudes: int) -> bool:
    """Whether the Fourier series has few enough terms."""
    terms = math.prod(2 * degree + 1 for degree in degrees)
    return (
        terms <= _MOST_TERMS and terms * outputs <= _MOST_NUMBERS and terms * amplitudes <= _MOST_AMPLITUDES
    )


class _Expval(nn.Module):
    full_precision = True

    def __init__(self, shared: Tensor, dtype: torch.dtype, rotations: Tensor, words: Tensor, wires: int):
        super().__init__()
        self.evolution = Evolution(rotations, shared, wires, dtype, _zero(wires))
        self.expectations = Expectations(words, wires, dtype)

    def forward(self, batched: Tensor) -> Tensor:
        return self.expectations(self.evolution(batched))


class _Evolve(nn.Module):
    full_precision = True

    def __init__(self, state: Tensor, shared: Tensor, dtype: torch.dtype, rotations: Tensor, wires: int):
        super().__init__()
        start = state[0].flatten() if len(state) else _zero(wires)
        self.evolution = Evolution(rotations, shared, wires, dtype, start)

    def forward(self, batched: Tensor) -> Tensor:
        return self.evolution(batched).unflatten(-1, (2, -1))


class _EvolveGiven(nn.Module):
    full_precision = True

    def __init__(self, shared: Tensor, dtype: torch.dtype, rotations: Tensor, wires: int):
        super().__init__()
        self.evolution = Evolution(rotations, shared, wires, dtype, None)

    def forward(self, state: Tensor, batched: Tensor) -> Tensor:
        return self.evolution(batched, state.flatten(1)).unflatten(-1, (2, -1))


def _zero(wires: int) -> Tensor:
    """|0...0> as a row of 2N real numbers."""
    return torch.eye(1, 2 * 2**wires, dtype=torch.float64)[0]
