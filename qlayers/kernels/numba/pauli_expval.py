"""Host side of the lane kernel: tensors in, lane-major arrays for `lanes.py`, tensors out."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayers.kernels.numba.lanes import Angles, backward_blocks, forward_blocks
from qlayers.kernels.numba.schedule import Passes, schedule
from shared.simd import lanes_of
from shared.threads import parallel

_GRAIN = 4_000_000  # operations that make a thread worth its hand-off: about 0.1 ms of vector arithmetic


class _Job(NamedTuple):
    passes: Passes
    angles: Angles
    amplitudes: int
    batch: int

    def grain(self, operations: int) -> int:
        """How many blocks one thread should have at least, by operations per amplitude and pass."""
        passes = 1 + len(self.passes.passes) + len(self.passes.words) // 4
        return 1 + _GRAIN // (operations * passes * self.amplitudes * self.angles.lanes)


def forward(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> Tensor:
    """`qlayers::pauli_expval` on float32 or float64 CPU tensors."""
    job = _prepare(shared, batched, rotations, words, wires)
    values = np.empty((words.shape[0], job.angles.batched_cos.shape[1]), job.angles.shared_cos.dtype)
    parallel(
        forward_blocks, job.angles.blocks, job.amplitudes, job.passes, job.angles, values, grain=job.grain(14)
    )
    return _sample_major(values, job.batch)


def backward(
    shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """`qlayers::pauli_expval_vjp` on float32 or float64 CPU tensors."""
    job = _prepare(shared, batched, rotations, words, wires)
    weights = _lane_major(grad, job.angles.batched_cos.shape[1])
    slopes = np.zeros_like(job.angles.batched_cos)
    sums = np.zeros(
        (job.angles.blocks, shared.shape[0]), slopes.dtype
    )  # added up in block order: no thread shows
    outputs = (weights, slopes, sums)
    parallel(
        backward_blocks,
        job.angles.blocks,
        job.amplitudes,
        job.passes,
        job.angles,
        *outputs,
        grain=job.grain(58),
    )
    return torch.from_numpy(sums.sum(0)), _sample_major(slopes, job.batch)


def _prepare(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> _Job:
    plan = schedule(rotations.numpy().tobytes(), words.numpy().tobytes(), wires)
    if plan.shared_angles > shared.shape[0] or plan.batched_angles > batched.shape[1]:
        raise ValueError(
            f"rotations: expected columns below {shared.shape[0]} (shared) and {batched.shape[1]} (batched), "
            f"received up to {plan.shared_angles - 1} and {plan.batched_angles - 1}"
        )
    lanes = lanes_of(batched.element_size())
    blocks = -(-batched.shape[0] // lanes)
    half_shared = shared.detach().numpy() * 0.5
    half_batched = _lane_major(batched, blocks * lanes)
    half_batched *= 0.5
    trigonometry = (np.cos(half_shared), np.sin(half_shared), np.cos(half_batched), np.sin(half_batched))
    return _Job(plan.passes, Angles(*trigonometry, blocks, lanes), 2**wires, batched.shape[0])


def _lane_major(rows: Tensor, width: int) -> np.ndarray:
    """(b, k) to (k, width), the missing samples zero."""
    source = rows.detach().numpy()
    columns = np.zeros((source.shape[1], width), source.dtype)
    columns[:, : len(source)] = source.T
    return columns


def _sample_major(columns: np.ndarray, batch: int) -> Tensor:
    """(k, width) to (b, k)."""
    return torch.from_numpy(np.ascontiguousarray(columns[:, :batch].T))
