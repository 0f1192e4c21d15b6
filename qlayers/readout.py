"""From expectation values, density matrices and states to results, in plain differentiable PyTorch.

Complex numbers are pairs (re, im) in a dimension of size 2, as in the ops; `torch.complex` is the last thing
that happens to a result.
"""

import contextlib
import math
from itertools import product

import numpy as np
import torch
from torch import Tensor

LETTERS = {
    "I": ((1, 0), (0, 1)),
    "X": ((0, 1), (1, 0)),
    "Y": ((0, -1j), (1j, 0)),
    "Z": ((1, 0), (0, -1)),
}
_ROOT = math.sqrt(0.5)
# what turns the eigenbasis of a letter into the computational basis, eigenvalue 1 first
TO_BASIS = {
    "X": ((_ROOT, _ROOT), (_ROOT, -_ROOT)),
    "Y": ((_ROOT, -1j * _ROOT), (_ROOT, 1j * _ROOT)),
    "Z": LETTERS["I"],
}


def kron(matrices) -> Tensor:
    """The Kronecker product of small matrices, complex128."""
    result = torch.ones(1, 1, dtype=torch.complex128)
    for matrix in matrices:
        result = torch.kron(result, torch.tensor(matrix, dtype=torch.complex128))
    return result


def pair(entries, like: Tensor) -> Tensor:
    """Constant complex numbers (m,) as (2, m) in the dtype and on the device of a tensor."""
    values = torch.tensor(entries, dtype=torch.complex128)
    return torch.view_as_real(values).movedim(-1, 0).to(like)


def words_of(count: int, letters: str) -> list[str]:
    """All words of so many letters but the identity.

    >>> words_of(2, "IZ")
    ['IZ', 'ZI', 'ZZ']
    """
    return ["".join(word) for word in product(letters, repeat=count)][1:]


def probabilities_from_words(count: int) -> Tensor:
    """(2^k - 1, 2^k): p = (1 + <Z words> @ this) with the factor 2^-k left out of the 1, float64."""
    words = [kron(LETTERS[letter] for letter in word).real.diagonal() for word in words_of(count, "IZ")]
    return torch.stack(words) / 2**count if words else torch.zeros(0, 1, dtype=torch.float64)


def density_from_words(count: int) -> Tensor:
    """(4^k - 1, 2, 2^k, 2^k): rho = 2^-k (1 + sum of <P> P), the 1 left out, float64."""
    words = [kron(LETTERS[letter] for letter in word) for word in words_of(count, "IXYZ")]
    if not words:
        return torch.zeros(0, 2, 1, 1, dtype=torch.float64)
    return torch.view_as_real(torch.stack(words)).movedim(-1, 1) / 2**count


def density_of(values: Tensor, count: int) -> Tensor:
    """(b, 2, 2^k, 2^k): rho = 2^-k sum of <P> P from all 4^k words in the order of `words_of`, I first.

    P|j> = i^|x & z| (-1)^|z & j| |j xor x> for the word with masks x and z, so that rho[j xor x, j] is a
    Walsh-Hadamard transform over z.
    """
    size = 2**count
    place, power = torch.from_numpy(_words_by_masks(count)).to(values.device).unbind(0)  # (2^k, 2^k) x, z
    found = values.index_select(-1, place.reshape(-1)).unflatten(-1, (size, size)) / size
    re = walsh(found * ((power == 0).to(values.dtype) - (power == 2).to(values.dtype)))  # (b, x, j)
    im = walsh(found * ((power == 1).to(values.dtype) - (power == 3).to(values.dtype)))
    index = torch.arange(size, device=values.device)
    flipped = index.unsqueeze(-1) ^ index  # the entry at row r, column j has x = r xor j
    return torch.stack([part[:, flipped, index] for part in (re, im)], 1)


def _words_by_masks(count: int) -> np.ndarray:
    """(2, 2^k, 2^k): where the word with masks x and z stands among all words, and its power of i."""
    x, z = np.arange(2**count)[:, None], np.arange(2**count)[None]
    place = np.zeros((2**count, 2**count), np.int64)
    for bit in range(count - 1, -1, -1):
        has_x, has_z = x >> bit & 1, z >> bit & 1
        place = 4 * place + 3 * has_z + has_x - 2 * has_x * has_z  # I, X, Y, Z
    return np.stack([place, np.bitwise_count(x & z).astype(np.int64) % 4])


def amplitudes_of(state: Tensor, places: tuple[int, ...]) -> Tensor:
    """(b, 2, 2^k, 2^(n-k)): a state (b, 2, 2^n) with the wires at these places first, in that order."""
    wires = state.shape[-1].bit_length() - 1
    rest = [place for place in range(wires) if place not in places]
    if tuple(places) == tuple(range(len(places))):
        return state.reshape(state.shape[0], 2, 2 ** len(places), 2 ** len(rest))
    split = state.reshape(state.shape[0], 2, *(2,) * wires)
    moved = split.permute(0, 1, *(2 + place for place in (*places, *rest)))
    return moved.reshape(state.shape[0], 2, 2 ** len(places), 2 ** len(rest))


def state_from(amplitudes: Tensor, places: tuple[int, ...]) -> Tensor:
    """The inverse of `amplitudes_of`."""
    batch, size = amplitudes.shape[0], amplitudes.shape[2] * amplitudes.shape[3]
    if tuple(places) == tuple(range(len(places))):
        return amplitudes.reshape(batch, 2, size)
    wires = size.bit_length() - 1
    order = (*places, *(place for place in range(wires) if place not in places))
    back = sorted(range(wires), key=lambda i: order[i])
    split = amplitudes.reshape(batch, 2, *(2,) * wires).permute(0, 1, *(2 + i for i in back))
    return split.reshape(batch, 2, size)


def squared(state: Tensor) -> Tensor:
    """|amplitude|^2 of (b, 2, ...)."""
    re, im = state.unbind(1)
    return re * re + im * im


def times(matrix: Tensor, amplitudes: Tensor) -> Tensor:
    """Matrix (2, m, m) or (b, 2, m, m) times (b, 2, m, r)."""
    m_re, m_im = matrix.unbind(-3)
    re, im = amplitudes.unbind(1)
    return torch.stack([m_re @ re - m_im @ im, m_re @ im + m_im @ re], 1)


def scaled(diagonal: Tensor, amplitudes: Tensor) -> Tensor:
    """Diagonal (2, m) or (b, 2, m) times (b, 2, m, r), row by row."""
    d_re, d_im = diagonal.unsqueeze(-1).unbind(-3)
    re, im = amplitudes.unbind(1)
    return torch.stack([d_re * re - d_im * im, d_re * im + d_im * re], 1)


def density(amplitudes: Tensor) -> Tensor:
    """(b, 2, m, m): the density matrix A A^dagger of (b, 2, m, r)."""
    re, im = amplitudes.unbind(1)
    return torch.stack([re @ re.mT + im @ im.mT, im @ re.mT - re @ im.mT], 1)


def purity(rho: Tensor) -> Tensor:
    """(b,): tr rho^2."""
    return squared(rho).sum((-2, -1))


def smaller_part(places: tuple[int, ...], wires: int) -> tuple[int, ...]:
    """The subsystem or its complement, which have the same purity and entropy when the whole is pure."""
    rest = tuple(place for place in range(wires) if place not in places)
    return places if len(places) <= len(rest) else rest


def walsh(values: Tensor) -> Tensor:
    """(..., 2^n): sum over j of (-1)^parity(z & j) values[j], for every z."""
    shape, size = values.shape, values.shape[-1]
    step = 1
    while step < size:
        even, odd = values.reshape(*shape[:-1], size // (2 * step), 2, step).unbind(-2)
        values = torch.stack([even + odd, even - odd], -2).reshape(shape)
        step *= 2
    return values


def exactly(device: str):
    """A context without autocast, which would round sums to half precision."""
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def joined(results: list[Tensor], single: bool) -> Tensor:
    """One measurement as it is, (b, *shape); several, or one number, side by side, (b, total)."""
    if single and results[0].ndim > 1:
        return results[0]
    if len(results) == 1:
        return results[0].flatten(1) if results[0].ndim > 1 else results[0].unsqueeze(-1)
    return torch.cat([r.flatten(1) if r.ndim > 1 else r.unsqueeze(-1) for r in results], -1)


def as_complex(numbers: Tensor, dim: int = 1) -> Tensor:
    """Real and imaginary parts as complex numbers."""
    re, im = numbers.unbind(dim)
    return torch.complex(re.contiguous(), im.contiguous())
