"""Host side of the lane kernel: tensors in, lane-major arrays for `lanes.py`, tensors out."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayers.kernels.numba import lanes
from qlayers.kernels.numba.schedule import Schedule, schedule
from qlayers.kernels.numba.simd import lanes_of
from shared.threads import parallel

_GRAIN_OPERATIONS = 4_000_000  # per thread at least: about 0.1 ms of vector arithmetic


class _Prepared(NamedTuple):
    plan: Schedule
    batch: int
    lanes: int
    blocks: int
    amplitudes: int
    trigonometry: tuple[np.ndarray, ...]

    @property
    def circuit(self) -> tuple:
        plan = self.plan
        tables = (plan.passes, plan.steps, plan.tables, plan.words, plan.signs)
        return self.blocks, self.amplitudes, self.lanes, *tables, *self.trigonometry

    def grain(self, work: int) -> int:
        """How many blocks make a thread worth its hand-off, with `work` operations per pass and amplitude."""
        passes = len(self.plan.passes) + len(self.plan.words) // 4 + 1
        return 1 + _GRAIN_OPERATIONS // (work * passes * self.amplitudes * self.lanes)


def forward(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> Tensor:
    """`qlayers::pauli_expval` on float32 or float64 CPU tensors."""
    job = _prepare(shared, batched, rotations, words, wires)
    values = np.empty((len(job.plan.words), job.blocks * job.lanes), job.trigonometry[0].dtype)
    parallel(lanes.forward_blocks, job.blocks, *job.circuit, values, grain=job.grain(14))
    return torch.from_numpy(np.ascontiguousarray(values[:, : job.batch].T))


def backward(
    shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """`qlayers::pauli_expval_vjp` on float32 or float64 CPU tensors."""
    job = _prepare(shared, batched, rotations, words, wires)
    dtype = job.trigonometry[0].dtype
    weights = _lane_major(grad.detach().numpy(), job.blocks * job.lanes)
    slopes = np.zeros((batched.shape[1], job.blocks * job.lanes), dtype)
    sums = np.zeros((job.blocks, shared.shape[0]), dtype)
    parallel(lanes.backward_blocks, job.blocks, *job.circuit, weights, slopes, sums, grain=job.grain(58))
    return torch.from_numpy(sums.sum(0)), torch.from_numpy(np.ascontiguousarray(slopes[:, : job.batch].T))


def _prepare(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> _Prepared:
    plan = schedule(rotations.numpy().tobytes(), words.numpy().tobytes(), wires)
    width = lanes_of(batched.element_size())
    batch = batched.shape[0]
    blocks = -(-batch // width)
    half_shared = shared.detach().numpy() * 0.5
    half_batched = _lane_major(batched.detach().numpy(), blocks * width)
    half_batched *= 0.5
    trigonometry = (np.cos(half_shared), np.sin(half_shared), np.cos(half_batched), np.sin(half_batched))
    return _Prepared(plan, batch, width, blocks, 2**wires, trigonometry)


def _lane_major(rows: np.ndarray, width: int) -> np.ndarray:
    """(b, k) to (k, width), the missing samples zero."""
    columns = np.zeros((rows.shape[1], width), rows.dtype)
    columns[:, : len(rows)] = rows.T
    return columns
