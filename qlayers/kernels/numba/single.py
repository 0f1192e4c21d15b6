"""One state at a time, its amplitudes in the lanes; small states, which do not fill them, as samples."""

from torch import Tensor

from qlayers.kernels.numba.pauli_expval import Layout, gradients_of, layout_of, values_of
from qlayers.ops.engines import LANE_BYTES


def forward(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> Tensor:
    """`qlayers::pauli_expval` on float32 or float64 CPU tensors."""
    return values_of(shared, batched, _layout(shared, batched, rotations, words, wires))


def backward(
    shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """`qlayers::pauli_expval_vjp` on float32 or float64 CPU tensors."""
    return gradients_of(shared, batched, grad, _layout(shared, batched, rotations, words, wires))


def _layout(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> Layout:
    fills = 2**wires * batched.element_size() >= 8 * LANE_BYTES
    return layout_of(shared, batched, rotations, words, wires, single=fills)
