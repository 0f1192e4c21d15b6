"""Host side of the kernel: tensors in, blocks of samples or of amplitudes through `engine.py`, tensors out."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayers.kernels.numba.engine import Shared, prepare_shared, run_groups
from qlayers.kernels.numba.program import Program, schedule
from shared.simd import lanes_of
from shared.threads import parallel

_GRAIN = 2_000_000  # operations that make a thread worth its hand-off
_MOST_GROUPS = 32  # parts of the batch, in which gradients are summed
_MOST_TABLE_BYTES = 2**25  # memory for the tables of diagonal passes


class _Job(NamedTuple):
    program: Program
    shared: Shared
    batched: np.ndarray
    half: int
    low_bits: int
    blocks: int
    groups: int

    def run(self, backward: bool, values: np.ndarray, sums: np.ndarray, slopes: np.ndarray) -> None:
        work = (12 if backward else 3) * (1 + len(self.program.turns)) * self.half * lanes_of(values.itemsize)
        grain = 1 + _GRAIN * self.groups // (1 + work * self.blocks)
        common = (self.groups, self.blocks, self.program, self.half, self.low_bits, self.shared, self.batched)
        parallel(run_groups, self.groups, *common, backward, values, sums, slopes, grain=grain)


def forward(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> Tensor:
    """`qlayers::pauli_expval` on float32 or float64 CPU tensors."""
    job = _prepare(shared, batched, rotations, words, wires)
    values = np.empty((batched.shape[0], words.shape[0]), job.batched.dtype)
    nothing = values[:0]
    job.run(False, values, nothing, nothing)
    return torch.from_numpy(values)


def backward(
    shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """`qlayers::pauli_expval_vjp` on float32 or float64 CPU tensors."""
    job = _prepare(shared, batched, rotations, words, wires)
    lanes = lanes_of(batched.element_size())
    sums = np.zeros((job.groups, shared.shape[0] * lanes), job.batched.dtype)
    slopes = np.empty(batched.shape, job.batched.dtype)
    job.run(True, _contiguous(grad), sums, slopes)
    return torch.from_numpy(sums.reshape(job.groups, shared.shape[0], lanes).sum((0, 2))), torch.from_numpy(
        slopes
    )


def _prepare(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> _Job:
    batch, lanes = batched.shape[0], lanes_of(batched.element_size())
    low_bits = lanes.bit_length() - 1 if _one_by_one(batch, wires, lanes) else 0
    found = schedule(rotations.numpy().tobytes(), words.numpy().tobytes(), wires, low_bits)
    if found.shared_angles > shared.shape[0] or found.batched_angles > batched.shape[1]:
        raise ValueError(
            f"rotations: expected columns below {shared.shape[0]} (shared) and {batched.shape[1]} (batched), "
            f"received up to {found.shared_angles - 1} and {found.batched_angles - 1}"
        )
    blocks = batch if low_bits else -(-batch // lanes)
    tabled = blocks > 1 and (found.uniform or low_bits > 0)
    tabled = tabled and found.tables * 2 ** (wires + 1) * batched.element_size() <= _MOST_TABLE_BYTES
    common = prepare_shared(found.program, tabled, found.uniform, _contiguous(shared), wires)
    groups = min(blocks, _MOST_GROUPS)
    return _Job(
        found.program, common, _contiguous(batched), 2 ** (wires - low_bits), low_bits, blocks, groups
    )


def _one_by_one(batch: int, wires: int, lanes: int) -> bool:
    """Whether one sample at a time, its amplitudes in the lanes, costs less than a sample for each lane."""
    amplitudes = 2**wires
    if amplitudes < 8 * lanes:
        return False
    side_by_side = -(-batch // lanes) * lanes * amplitudes * (1 if amplitudes <= 512 else 2)
    return batch * (amplitudes + 64 * lanes) < side_by_side


def _contiguous(tensor: Tensor) -> Any:
    return np.ascontiguousarray(tensor.detach().numpy())
