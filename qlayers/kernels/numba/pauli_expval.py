"""Host side of the kernel: tensors in, blocks of samples or amplitudes through `engine.py`, tensors out."""

import weakref
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayers.kernels.numba.engine import run_groups
from qlayers.kernels.numba.program import Schedule, schedule
from qlayers.kernels.numba.tables import fill_tables
from shared.simd import lanes_of
from shared.threads import parallel

_GRAIN = 1_500_000  # operations that make a thread worth its hand-off
_MOST_GROUPS = 32  # parts of the batch, in which gradients are summed
_MOST_TABLE_BYTES = 2**25  # memory for the tables of diagonal passes

_nothing = {np.dtype(kind): np.empty((0, 0), kind) for kind in ("f4", "f8")}
_no_tables = {np.dtype(kind): np.empty((0, 2, 0), kind) for kind in ("f4", "f8")}
_known: dict[tuple[int, int, int, int], tuple[Any, ...]] = {}


def forward(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> Tensor:
    """`qlayers::pauli_expval` on float32 or float64 CPU tensors, a sample in each lane."""
    return values_of(job_of(shared, batched, rotations, words, wires, single=False))


def backward(
    shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """`qlayers::pauli_expval_vjp` on float32 or float64 CPU tensors, a sample in each lane."""
    return gradients_of(job_of(shared, batched, rotations, words, wires, single=False), grad)


def values_of(job: "Job") -> Tensor:
    """Expectation values (b, T)."""
    kind = job.batched.dtype
    values = np.empty((job.batched.shape[0], len(job.found.program.words)), kind)
    _run(job, False, values, _nothing[kind], _nothing[kind])
    return torch.from_numpy(values)


def gradients_of(job: "Job", grad: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the shared and of the batched angles."""
    sums = np.empty((job.groups, job.shared.shape[0]), job.batched.dtype)
    slopes = np.empty(job.batched.shape, job.batched.dtype)
    _run(job, True, _array(grad), sums, slopes)
    return torch.from_numpy(sums[0] if job.groups == 1 else sums.sum(0)), torch.from_numpy(slopes)


class Job(NamedTuple):
    """One call: `blocks` blocks in `groups` parts, each block of 2^low_bits amplitudes in the lanes."""

    found: Schedule
    shared: np.ndarray
    batched: np.ndarray
    tables: np.ndarray
    half: int
    low_bits: int
    blocks: int
    groups: int


def job_of(
    shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int, *, single: bool
) -> Job:
    """The call with these arguments; `single`: one state at a time."""
    batch, size = batched.shape[0], batched.element_size()
    lanes = lanes_of(size)
    low_bits = lanes.bit_length() - 1 if single else 0
    found = _schedule(rotations, words, wires, low_bits)
    if found.shared_angles > shared.shape[0] or found.batched_angles > batched.shape[1]:
        raise ValueError(
            f"rotations: expected columns below {shared.shape[0]} (shared) and {batched.shape[1]} "
            f"(batched), received up to {found.shared_angles - 1} and {found.batched_angles - 1}"
        )
    blocks = batch if low_bits else -(-batch // lanes)
    angles = _array(shared)
    tables = _no_tables[angles.dtype]
    fits = found.tables * 2 ** (wires + 1) * size <= _MOST_TABLE_BYTES
    if found.tables and fits and blocks > 1 and (found.uniform or low_bits):
        tables = np.empty((found.tables, 2, 2**wires), angles.dtype)
        fill_tables(found.code, angles, tables, wires)
    groups = min(blocks, _MOST_GROUPS)
    return Job(found, angles, _array(batched), tables, 2 ** (wires - low_bits), low_bits, blocks, groups)


def _run(job: Job, backward: bool, values: np.ndarray, sums: np.ndarray, slopes: np.ndarray) -> None:
    """Compute; see `engine.run_groups` for the arrays."""
    found, shared, batched, tables, half, low_bits, blocks, groups = job
    work = (
        (12 if backward else 3) * (1 + len(found.program.turns)) * half * blocks * lanes_of(shared.itemsize)
    )
    sizes = (groups, blocks, found.code, found.uniform, half, low_bits)
    arrays = (shared, tables, batched, backward, values, sums, slopes)
    if work < 2 * _GRAIN:
        run_groups(0, groups, *sizes, *arrays)
    else:
        parallel(run_groups, groups, *sizes, *arrays, grain=1 + _GRAIN * groups // (1 + work))


def _schedule(rotations: Tensor, words: Tensor, wires: int, low_bits: int) -> Schedule:
    """The schedule of a circuit, known again by its tensors while these live and do not change."""
    key = (id(rotations), id(words), wires, low_bits)
    versions = (rotations._version, words._version)
    if (
        (entry := _known.get(key))
        and entry[0]() is rotations
        and entry[1]() is words
        and entry[2] == versions
    ):
        return entry[3]
    found = schedule(rotations.numpy().tobytes(), words.numpy().tobytes(), wires, low_bits)
    if len(_known) >= 1024:
        _known.clear()
    _known[key] = weakref.ref(rotations), weakref.ref(words), versions, found
    return found


def _array(tensor: Tensor) -> np.ndarray:
    if tensor.requires_grad:
        tensor = tensor.detach()
    return tensor.contiguous().numpy()
