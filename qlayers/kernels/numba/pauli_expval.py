"""The op's kernel with a sample in each lane."""

from torch import Tensor

from qlayers.kernels.numba.launch import checked, launch_of


def forward(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> Tensor:
    """`qlayers::pauli_expval` on float32 or float64 CPU tensors."""
    launch = launch_of("numba", shared, batched, rotations, words, wires)
    return launch.forward(shared.contiguous(), batched.contiguous())[0]


def backward(
    shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """`qlayers::pauli_expval_vjp` on float32 or float64 CPU tensors."""
    launch = launch_of("numba", shared, batched, rotations, words, wires)
    return launch.backward(shared.contiguous(), batched.contiguous(), checked(grad, batched, words))
