"""Host side of the kernels of noisy circuits: numbers by lanes, memory, threads."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from qlayers.kernels.numba.transfer_blocks import Entries
from qlayers.kernels.numba.transfer_schedule import TransferSchedule, transfer_schedule
from qlayers.kernels.numba.transfer_sweeps import Sections, backward_blocks, forward_blocks
from shared.simd import lanes_of
from shared.threads import parallel

_GRAIN = 4_000_000  # operations that make a thread worth its hand-off: about 0.1 ms of vector arithmetic
_KEPT_BYTES = 2**22  # of the states before all channels: up to so many none is computed anew


def forward(
    state: Tensor,
    shared: Tensor,
    batched: Tensor,
    steps: Tensor,
    generators: Tensor,
    words: Tensor,
    forms: str,
    wires: int,
) -> Tensor:
    """`qlayers::pauli_transfer` on float32 or float64 CPU tensors."""
    plan = _checked(state, shared, batched, steps, generators, words, forms, wires)
    entries = _entries(plan, shared, batched)
    out = np.empty((batched.shape[0], words.shape[0]), entries.shared.dtype)
    work = (wires, _largest(plan.forms), plan.walks, entries, _numbers(state), out)
    parallel(forward_blocks, entries.blocks, *work, grain=_grain(plan.forms, wires, entries.lanes))
    return torch.from_numpy(out)


def backward(
    state: Tensor,
    shared: Tensor,
    batched: Tensor,
    steps: Tensor,
    generators: Tensor,
    words: Tensor,
    forms: str,
    wires: int,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """`qlayers::pauli_transfer_vjp` on float32 or float64 CPU tensors."""
    plan = _checked(state, shared, batched, steps, generators, words, forms, wires)
    entries, begin = _entries(plan, shared, batched), _numbers(state)
    # samples that share an initial state add their gradients up afterwards, in order: no thread shows
    of_state = np.empty((batched.shape[0] if len(begin) else 0, 4**wires), entries.shared.dtype)
    slopes = np.zeros((max(batched.shape[1], 1), entries.blocks * entries.lanes), of_state.dtype)
    sums = np.zeros((entries.blocks, shared.shape[0]), of_state.dtype)
    sections = sections_of(plan.forms, 4**wires * entries.lanes * of_state.itemsize)
    work = (wires, _largest(plan.forms), plan.walks, sections, entries, begin, _numbers(grad))
    grain = _grain(plan.forms, wires, entries.lanes)
    parallel(backward_blocks, entries.blocks, *work, of_state, slopes, sums, grain=1 + grain // 4)
    if len(begin) == 1:
        of_state = of_state.sum(0, keepdims=True)
    of_batched = np.ascontiguousarray(slopes[: batched.shape[1], : batched.shape[0]].T)
    return torch.from_numpy(of_state), torch.from_numpy(sums.sum(0)), torch.from_numpy(of_batched)


def sections_of(forms: Sequence[int], state_bytes: int) -> Sections:
    """The sections in which the way back runs the steps again, see `transfer_sweeps.py`."""
    channels = [i for i, form in enumerate(forms) if form]
    most = len(channels)
    if most * state_bytes > _KEPT_BYTES:
        most = math.isqrt(most - 1) + 1
    bounds = [0, *channels[most::most], len(forms)] if most else [0, len(forms)]
    return Sections(np.array(bounds, np.int64), most)


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _checked(state, shared, batched, steps, generators, words, forms, wires) -> TransferSchedule:
    tables = (table.numpy().tobytes() for table in (steps, generators, words))
    plan = transfer_schedule(*tables, forms, wires, state.shape[0] > 0)
    if plan.reach[0] > shared.shape[0] or plan.reach[1] > batched.shape[1]:
        raise ValueError(
            f"steps: expected columns below {shared.shape[0]} (shared) and {batched.shape[1]} (batched), "
            f"received up to {plan.reach[0] - 1} and {plan.reach[1] - 1}"
        )
    if state.shape[0] not in (0, 1, batched.shape[0]) or (state.shape[0] and state.shape[1] != 4**wires):
        raise ValueError(
            f"state: expected (s, {4**wires}) with s = 0, 1 or {batched.shape[0]}, received "
            f"{tuple(state.shape)}"
        )
    return plan


def _entries(plan: TransferSchedule, shared: Tensor, batched: Tensor) -> Entries:
    lanes = lanes_of(batched.element_size())
    blocks = -(-batched.shape[0] // lanes)
    own = _numbers(shared)
    rows = np.zeros((max(batched.shape[1], 1), blocks * lanes), own.dtype)
    rows[: batched.shape[1], : batched.shape[0]] = batched.detach().numpy().T
    angles = [numbers[list(columns)] for numbers, columns in zip((own, rows), plan.angles, strict=True)]
    trigonometry = [function(angle) for angle in angles for function in (np.cos, np.sin)]
    return Entries(own, rows, *trigonometry, blocks, lanes)


def _largest(forms: Sequence[int]) -> int:
    """The numbers of the largest channel."""
    return max((16 ** abs(form) for form in forms), default=1)


def _grain(forms: Sequence[int], wires: int, lanes: int) -> int:
    """How many blocks one thread should have at least."""
    each = sum(4 if form <= 0 else 2 * 4**form + 8 for form in forms)
    return 1 + _GRAIN // ((4 + each) * 4**wires * lanes)
