"""The matrix engine: the last rotations of a circuit, whose angles are weights, as one matrix.

States are rows (re, im) of 2N real numbers, and the matrix is real, (2N, 2N): [[A, B], [-B, A]] for the
images A + iB of the basis states. Torch's matrix product then does the work, and the matrix itself is made,
and differentiated, as N more states.
"""

import torch
from torch import Tensor

from qlayers.kernels.numba import evolve
from qlayers.kernels.numba.launch import checked
from qlayers.ops.engines import shape_of
from qlayers.ops.pauli import apply_word


def forward(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> Tensor:
    """`qlayers::pauli_expval` on float32 or float64 CPU tensors."""
    with torch.no_grad():
        head, tail = _split(rotations)
        states = _head_states(shared, batched, head, wires) @ _matrix(_images(shared, tail, wires))
        return _expvals(states, words)


def backward(
    shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """`qlayers::pauli_expval_vjp` on float32 or float64 CPU tensors."""
    grad = checked(grad, batched, words)
    with torch.no_grad():
        head, tail = _split(rotations)
        before = _head_states(shared, batched, head, wires)  # (b, 2N)
        matrix = _matrix(_images(shared, tail, wires))
        after = _costates(before @ matrix, words, grad)
        of_matrix = before.mT @ after  # (2N, 2N)
        size = 2**wires
        top, bottom = of_matrix[:size], of_matrix[size:]
        of_images = torch.stack([top[:, :size] + bottom[:, size:], top[:, size:] - bottom[:, :size]], 1)
        basis, none = _basis(shared, wires)
        _, of_tail, _ = evolve.backward(basis, shared, none, tail, wires, of_images)
        nowhere = shared.new_empty(0, 2, size)
        of_before = (after @ matrix.mT).reshape(-1, 2, size)
        _, of_head, of_batched = evolve.backward(nowhere, shared, batched, head, wires, of_before)
        return of_head + of_tail, of_batched


def _split(rotations: Tensor) -> tuple[Tensor, Tensor]:
    at = len(rotations) - shape_of(rotations).tail
    return rotations[:at], rotations[at:]


def _head_states(shared: Tensor, batched: Tensor, head: Tensor, wires: int) -> Tensor:
    """(b, 2N)."""
    return evolve.forward(shared.new_empty(0, 2, 2**wires), shared, batched, head, wires).flatten(1)


def _basis(shared: Tensor, wires: int) -> tuple[Tensor, Tensor]:
    """All basis states (N, 2, N), and no angles of their own."""
    one = torch.eye(2**wires, dtype=shared.dtype)
    return torch.stack([one, torch.zeros_like(one)], 1), one[:, :0]


def _images(shared: Tensor, tail: Tensor, wires: int) -> Tensor:
    """(N, 2, N): what the tail makes of each basis state."""
    basis, none = _basis(shared, wires)
    return evolve.forward(basis, shared, none, tail, wires)


def _matrix(images: Tensor) -> Tensor:
    re, im = images.unbind(1)
    return torch.cat([torch.cat([re, im], 1), torch.cat([-im, re], 1)])


def _expvals(states: Tensor, words: Tensor) -> Tensor:
    """(b, T) from states (b, 2N)."""
    re, im = states.chunk(2, 1)
    found = [(states * torch.cat(apply_word(re, im, x, z), 1)).sum(1) for x, z in words.unbind(0)]
    return torch.stack(found, 1) if found else states[:, :0]


def _costates(states: Tensor, words: Tensor, grad: Tensor) -> Tensor:
    """(b, 2N): the gradient of sum(grad * expvals) with respect to the states."""
    re, im = states.chunk(2, 1)
    total = torch.zeros_like(states)
    for (x, z), weight in zip(words.unbind(0), grad.unbind(1), strict=True):
        total += 2 * weight.unsqueeze(1) * torch.cat(apply_word(re, im, x, z), 1)
    return total
