"""Host side of the state kernels: many small states by lanes, few or large ones amplitude by amplitude."""

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayers.kernels.numba.evolve_lanes import backward_blocks, forward_blocks
from qlayers.kernels.numba.evolve_passes import Angles
from qlayers.kernels.numba.evolve_wide import apply_rotation, undo_rotation
from qlayers.kernels.numba.schedule import (
    Passes,
    Rotation,
    _check_tables,
    _grouped,
    _joined_diagonals,
    _laid_out,
)
from shared.simd import lanes_of
from shared.threads import parallel

_GRAIN = 4_000_000  # operations that make a thread worth its hand-off: about 0.1 ms of vector arithmetic
_WIDE = 15  # wires from which on a block of states by lanes leaves the cache
_CHUNK = 1024  # rows of vectors in one piece of work on a single state


class Evolution(NamedTuple):
    """What a table of rotations comes to."""

    passes: Passes
    terms: np.ndarray  # (K, 5) int64: x, z, power of i, source, column
    shared_angles: int
    batched_angles: int


def forward(state: Tensor, shared: Tensor, batched: Tensor, rotations: Tensor, wires: int) -> Tensor:
    """`qlayers::pauli_evolve` on float32 or float64 CPU tensors."""
    plan = _checked(rotations, wires, shared, batched)
    begin = _numbers(state)
    out = np.empty((batched.shape[0], 2, 2**wires), _numbers(shared).dtype)
    if _by_lanes(batched, wires):
        angles = _lane_angles(shared, batched)
        grain = _grain(plan, 14, wires, angles.lanes)
        parallel(forward_blocks, angles.blocks, 2**wires, plan.passes, angles, begin, out, grain=grain)
    else:
        for sample, (cosines, sines) in enumerate(_sample_angles(plan, shared, batched)):
            _begin(begin, sample, out[sample])
            _run_wide(plan, out[sample], cosines, sines)
    return torch.from_numpy(out)


def backward(
    state: Tensor, shared: Tensor, batched: Tensor, rotations: Tensor, wires: int, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`qlayers::pauli_evolve_vjp` on float32 or float64 CPU tensors."""
    plan = _checked(rotations, wires, shared, batched)
    begin, weights = _numbers(state), np.ascontiguousarray(_numbers(grad))
    each = len(state) > 1 or len(state) == len(batched)  # a gradient for each sample, none is shared
    # samples that share an initial state add their gradients up afterwards, in order: no thread shows
    of_state = np.empty(weights.shape if len(state) else (0, 2, 2**wires), weights.dtype)
    if _by_lanes(batched, wires):
        angles = _lane_angles(shared, batched)
        slopes = np.zeros_like(angles.batched_cos)
        sums = np.zeros((angles.blocks, shared.shape[0]), slopes.dtype)
        grain = _grain(plan, 58, wires, angles.lanes)
        outputs = (weights, of_state, slopes, sums)
        parallel(backward_blocks, angles.blocks, 2**wires, plan.passes, angles, begin, *outputs, grain=grain)
        of_batched = np.ascontiguousarray(slopes[:, : batched.shape[0]].T)
    else:
        sums = np.zeros((batched.shape[0], shared.shape[0]), weights.dtype)
        of_batched = np.zeros((batched.shape[0], batched.shape[1]), weights.dtype)
        psi, co = np.empty((2, 2, 2**wires), weights.dtype)
        for sample, (cosines, sines) in enumerate(_sample_angles(plan, shared, batched)):
            _begin(begin, sample, psi)
            _run_wide(plan, psi, cosines, sines)
            co[:] = weights[sample]
            _undo_wide(plan, psi, co, cosines, sines, sums[sample], of_batched[sample])
            if len(of_state):
                of_state[sample] = co
    if len(state) and not each:
        of_state = of_state.sum(0, keepdims=True)
    return torch.from_numpy(of_state), torch.from_numpy(sums.sum(0)), torch.from_numpy(of_batched)


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _by_lanes(batched: Tensor, wires: int) -> bool:
    """Whether states side by side, one per lane, beat one after the other."""
    lanes = lanes_of(batched.element_size())
    return 2**wires < 2 * lanes or (wires < _WIDE and 4 * batched.shape[0] >= lanes)


def _checked(rotations: Tensor, wires: int, shared: Tensor, batched: Tensor) -> Evolution:
    plan = evolution(rotations.numpy().tobytes(), wires)
    if plan.shared_angles > shared.shape[0] or plan.batched_angles > batched.shape[1]:
        raise ValueError(
            f"rotations: expected columns below {shared.shape[0]} (shared) and {batched.shape[1]} (batched), "
            f"received up to {plan.shared_angles - 1} and {plan.batched_angles - 1}"
        )
    return plan


@functools.lru_cache(maxsize=256)
def evolution(rotations: bytes, wires: int) -> Evolution:
    """The passes of the int64 table `rotations` (K, 4) with these bytes, each over all amplitudes."""
    table = np.frombuffer(rotations, np.int64).reshape(-1, 4)
    _check_tables(table, np.zeros((0, 2), np.int64), wires)
    rows = table.tolist()
    terms = [(x, z, (x & z).bit_count() % 4, source, column) for x, z, source, column in rows]
    columns = [1 + max((row[3] for row in rows if row[2] == source), default=-1) for source in (0, 1)]
    # a word without letters turns the phase of all amplitudes: a diagonal turn like any other
    groups = _joined_diagonals(_grouped(Rotation(*row) for row in rows))
    everywhere = [1 << bit for bit in range(wires)]  # an initial state may have any amplitude
    nothing = np.zeros((0, 3), np.int64), np.zeros((0, 1), np.int8)
    passes = Passes(*_laid_out(groups, everywhere), *nothing)
    return Evolution(passes, np.array(terms, np.int64).reshape(-1, 5), *columns)


def _grain(plan: Evolution, operations: int, wires: int, lanes: int) -> int:
    """How many blocks one thread should have at least, by operations per amplitude and pass."""
    return 1 + _GRAIN // (operations * (4 + len(plan.passes.passes)) * 2**wires * lanes)


def _lane_angles(shared: Tensor, batched: Tensor) -> Angles:
    lanes = lanes_of(batched.element_size())
    blocks = -(-batched.shape[0] // lanes)
    half_shared = shared.detach().numpy() * 0.5
    half_batched = np.zeros((batched.shape[1], blocks * lanes), half_shared.dtype)
    half_batched[:, : batched.shape[0]] = batched.detach().numpy().T
    half_batched *= 0.5
    trigonometry = (np.cos(half_shared), np.sin(half_shared), np.cos(half_batched), np.sin(half_batched))
    return Angles(*trigonometry, blocks, lanes)


# one state after the other


def _sample_angles(plan: Evolution, shared: Tensor, batched: Tensor):
    """Cos and sin of half the angle of each rotation, sample by sample."""
    half_shared, half_batched = 0.5 * _numbers(shared), 0.5 * _numbers(batched)
    from_batch, column = plan.terms[:, 3] == 1, plan.terms[:, 4]
    half = np.zeros(len(plan.terms), half_shared.dtype)
    half[~from_batch] = half_shared[column[~from_batch]]
    for row in half_batched:
        half[from_batch] = row[column[from_batch]]
        yield np.cos(half), np.sin(half)


def _begin(begin: np.ndarray, sample: int, psi: np.ndarray) -> None:
    """Put the initial state of a sample into `psi` (2, 2^n)."""
    if len(begin):
        psi[:] = begin[sample if len(begin) > 1 else 0]
    else:
        psi[:] = 0
        psi[0, 0] = 1


def _run_wide(plan: Evolution, psi: np.ndarray, cosines: np.ndarray, sines: np.ndarray) -> None:
    rows = psi.shape[1] // lanes_of(psi.itemsize)
    flat = psi.reshape(-1)
    for term, c, s in zip(plan.terms, cosines, sines, strict=True):
        parallel(apply_rotation, rows, flat, rows, *map(int, term[:3]), c, s, grain=_CHUNK * 64)


def _undo_wide(plan: Evolution, psi, co, cosines, sines, sums, slopes) -> None:
    rows = psi.shape[1] // lanes_of(psi.itemsize)
    psi, co = psi.reshape(-1), co.reshape(-1)
    chunks = -(-rows // _CHUNK)
    for k in range(len(plan.terms) - 1, -1, -1):
        x, z, power, source, column = map(int, plan.terms[k])
        parts = np.zeros(chunks, psi.dtype)
        arguments = (psi, co, rows, _CHUNK, x, z, power, cosines[k], sines[k], parts)
        parallel(undo_rotation, chunks, *arguments, grain=64)
        (slopes if source else sums)[column] += parts.sum()
