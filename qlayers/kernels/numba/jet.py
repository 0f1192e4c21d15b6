"""Host side of the jet kernel."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayers.kernels.numba.jet_blocks import Job, backward_blocks, forward_blocks, moving_passes, shared_turns
from qlayers.kernels.numba.schedule import Passes, schedule
from shared.simd import lanes_of
from shared.threads import parallel

_GRAIN = 4_000_000  # operations that make a thread worth its hand-off: about 0.1 ms of vector arithmetic


class _Call(NamedTuple):
    plan: Passes
    job: Job
    jet: tuple[int, ...]  # its length is the number of rows, which the kernel is compiled for
    blocks: int

    def grain(self, operations: int) -> int:
        """How many blocks one thread should have at least, by operations per amplitude and pass."""
        passes = 1 + len(self.plan.passes) + len(self.plan.words) // 4
        terms = 3 ** (len(self.jet).bit_length() - 1)
        return 1 + _GRAIN // (operations * terms * passes * self.job.amplitudes * self.job.lanes)


def forward(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> Tensor:
    """`qlayers::pauli_expval_jet` on float32 or float64 CPU tensors."""
    call = _prepare(shared, batched, rotations, words, wires)
    values = np.empty((*batched.shape[:2], words.shape[0]), call.job.shared.dtype)
    parallel(forward_blocks, call.blocks, call.plan, call.job, call.jet, values, grain=call.grain(14))
    return torch.from_numpy(values)


def backward(
    shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """`qlayers::pauli_expval_jet_vjp` on float32 or float64 CPU tensors."""
    call = _prepare(shared, batched, rotations, words, wires)
    slopes = np.empty(batched.shape, call.job.shared.dtype)
    sums = np.zeros((call.blocks, *shared.shape), slopes.dtype)
    outputs = (_array(grad), slopes, sums)
    parallel(backward_blocks, call.blocks, call.plan, call.job, call.jet, *outputs, grain=call.grain(58))
    # blocks are added up in their order, so that no thread shows
    return torch.from_numpy(sums.sum(0)), torch.from_numpy(slopes)


def _prepare(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> _Call:
    found = schedule(rotations.numpy().tobytes(), words.numpy().tobytes(), wires)
    if found.shared_angles > shared.shape[1] or found.batched_angles > batched.shape[2]:
        raise ValueError(
            f"rotations: expected columns below {shared.shape[1]} (shared) and {batched.shape[2]} (batched), "
            f"received up to {found.shared_angles - 1} and {found.batched_angles - 1}"
        )
    plan, common, own = found.passes, _array(shared), _array(batched)
    turns, moving = np.empty(2 * common.size, common.dtype), np.empty(len(plan.passes), np.bool_)
    shared_turns(common, turns)
    moving_passes(plan, common, own, moving)
    lanes = lanes_of(own.itemsize)
    steps = plan.passes[:, 8] - plan.passes[:, 7]
    job = Job(turns, own, moving, int(steps.max(initial=1)), 2**wires, lanes)
    return _Call(plan, job, (0,) * len(own), -(-own.shape[1] // lanes))


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().numpy())
