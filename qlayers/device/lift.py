"""The engine inside other frameworks: autograd and JAX differentiate through it, to any order.

A batch of tapes is a function of one real vector, all their parameters, to another, all their results. Torch
computes it and its vector-Jacobian product, which is again such a function, of two vectors; so one rule that
turns a torch function of real vectors into one of the framework's serves every order.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayers.device.vectors import Function, pullback, split, values_of


class Piece(NamedTuple):
    """An array in a vector: complex ones as real parts and then imaginary parts."""

    shape: tuple[int, ...]
    is_complex: bool

    @property
    def size(self) -> int:
        return int(np.prod(self.shape)) * (1 + self.is_complex)


def lifted(tapes: Sequence, interface: str, evaluate: Callable[[Sequence], Sequence]) -> list[tuple]:
    """The results of tapes whose parameters are arrays of a framework, as arrays of it.

    Args:
        tapes: `QuantumScript`s without shots.
        interface: "autograd" or "jax".
        evaluate: from tapes with torch parameters to their results, tuples of torch tensors.
    """
    from pennylane import math

    floating = [_floating(tape) for tape in tapes]
    arrays = [array for parameters, _ in floating for array in parameters]
    given = [Piece(tuple(math.shape(a)), _is_complex(a)) for a in arrays]
    wanted = [_results(tape) for tape in tapes]
    pieces = [piece for results in wanted for piece in results]

    def function(vector: Tensor) -> Tensor:
        parameters = iter(_unpacked(vector, given, torch.complex))
        bound = [
            tape.bind_new_parameters([next(parameters) for _ in places], places) if places else tape
            for tape, (_, places) in zip(tapes, floating, strict=True)
        ]
        results = [result for tape_results in evaluate(bound) for result in tape_results]
        return torch.cat([_flat(result) for result in results])

    lift, size = _LIFTS[interface], sum(piece.size for piece in pieces)
    vector = _packed(arrays, given, interface)
    found = lift(function, size)(vector)
    if type(found) is np.ndarray:  # of autograd, while it differentiates nothing
        found = math.asarray(found, like=interface)
    results = iter(_unpacked(found, pieces, lambda re, im: re + 1j * im))
    return [tuple(next(results) for _ in tape_results) for tape_results in wanted]


def _floating(tape) -> tuple[list[Any], list[int]]:
    """The parameters that are not whole numbers, and where they are."""
    from pennylane import math

    pairs = enumerate(tape.get_parameters(trainable_only=False))
    kept = [(i, p) for i, p in pairs if "int" not in math.get_dtype_name(p)]
    return [p for _, p in kept], [i for i, _ in kept]


def _is_complex(array) -> bool:
    from pennylane import math

    return "complex" in math.get_dtype_name(array)


def _results(tape) -> list[Piece]:
    batch = () if tape.batch_size is None else (tape.batch_size,)
    wires = len(tape.wires)
    return [Piece((*batch, *p.shape(None, wires)), p.numeric_type is complex) for p in tape.measurements]


def _packed(arrays: Sequence, pieces: Sequence[Piece], interface: str):
    """All arrays in one real vector of the framework."""
    from pennylane import math

    parts = []
    for array, piece in zip(arrays, pieces, strict=True):
        flat = math.reshape(math.asarray(array, like=interface), (-1,))
        parts += [math.real(flat), math.imag(flat)] if piece.is_complex else [flat]
    return math.concatenate(parts) if parts else math.asarray(np.zeros(0), like=interface)


def _unpacked(vector, pieces: Sequence[Piece], join: Callable) -> list:
    found, start = [], 0
    for piece in pieces:
        part = vector[start : start + piece.size]
        start += piece.size
        if piece.is_complex:
            part = join(part[: piece.size // 2], part[piece.size // 2 :])
        found.append(part.reshape(piece.shape))
    return found


def _flat(result: Tensor) -> Tensor:
    flat = result.reshape(-1)
    return torch.cat([flat.real, flat.imag]) if result.is_complex() else flat


def _for_autograd(function: Function, size: int) -> Callable:
    from autograd.extend import defvjp_argnums, primitive

    @primitive
    def call(*vectors):
        return values_of(function, *vectors)

    def rule(argnums, answer, vectors, kwargs):
        sizes = [vector.shape[0] for vector in vectors]

        def pull(cotangent):
            slopes = split(_for_autograd(pullback(function), sum(sizes))(cotangent, *vectors), sizes)
            return tuple(slopes[i] for i in argnums)

        return pull

    defvjp_argnums(call, rule)
    return call


def _for_jax(function: Function, size: int) -> Callable:
    from qlayers.device.jax_call import call

    return lambda *vectors: call(function, size, *vectors)


_LIFTS = {"autograd": _for_autograd, "jax": _for_jax}
