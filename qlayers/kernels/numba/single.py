"""One state at a time, its amplitudes in the lanes; small states, which do not fill them, as samples."""

from torch import Tensor

from qlayers.kernels.numba.pauli_expval import Job, gradients_of, job_of, values_of
from qlayers.ops.engines import LANE_BYTES


def forward(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> Tensor:
    """`qlayers::pauli_expval` on float32 or float64 CPU tensors."""
    return values_of(_job(shared, batched, rotations, words, wires))


def backward(
    shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """`qlayers::pauli_expval_vjp` on float32 or float64 CPU tensors."""
    return gradients_of(_job(shared, batched, rotations, words, wires), grad)


def _job(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> Job:
    fills = 2**wires * batched.element_size() >= 8 * LANE_BYTES
    return job_of(shared, batched, rotations, words, wires, single=fills)
