"""Host side of the kernel: tensors in, blocks of samples or amplitudes through `engine.py`, tensors out."""

import weakref
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qlayers.kernels.numba.engine import run_groups
from qlayers.kernels.numba.program import Schedule, schedule
from qlayers.kernels.numba.tables import fill_tables
from qlayers.ops.engines import version_of
from shared.simd import lanes_of
from shared.threads import parallel

_GRAIN = 400_000  # vector operations that make a thread worth its hand-off: about 0.15 ms
_MOST_GROUPS = 32  # parts of the batch, in which gradients are summed
_MOST_TABLE_BYTES = 2**25  # memory for the tables of diagonal passes
_LEAST_SPARED = 4096  # vector operations that make tables worth while

_nothing = {np.dtype(kind): np.empty((0, 0), kind) for kind in ("f4", "f8")}
_no_tables = {np.dtype(kind): np.empty((0, 2, 0), kind) for kind in ("f4", "f8")}
_known: dict[tuple[int, ...], tuple[Any, ...]] = {}


def forward(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> Tensor:
    """`qlayers::pauli_expval` on float32 or float64 CPU tensors, a sample in each lane."""
    return values_of(shared, batched, layout_of(shared, batched, rotations, words, wires, single=False))


def backward(
    shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """`qlayers::pauli_expval_vjp` on float32 or float64 CPU tensors, a sample in each lane."""
    layout = layout_of(shared, batched, rotations, words, wires, single=False)
    return gradients_of(shared, batched, grad, layout)


class Layout(NamedTuple):
    """How calls of these sizes run: `blocks` blocks in `groups` parts, 2^low_bits amplitudes in the lanes."""

    found: Schedule
    wires: int
    words: int
    half: int
    low_bits: int
    blocks: int
    groups: int
    tabled: bool
    work: int  # vector operations


def values_of(shared: Tensor, batched: Tensor, layout: Layout) -> Tensor:
    """Expectation values (b, T)."""
    angles, own = _array(shared), _array(batched)
    values = np.empty((len(own), layout.words), angles.dtype)
    nothing = _nothing[angles.dtype]
    _run(layout, 2 * layout.work, angles, own, False, values, nothing, nothing)
    return torch.from_numpy(values)


def gradients_of(shared: Tensor, batched: Tensor, grad: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """The gradients of the shared and of the batched angles."""
    angles, own = _array(shared), _array(batched)
    sums = np.empty((layout.groups, len(angles)), angles.dtype)
    slopes = np.empty_like(own)
    _run(layout, 8 * layout.work, angles, own, True, _array(grad), sums, slopes)
    return torch.from_numpy(sums[0] if layout.groups == 1 else sums.sum(0)), torch.from_numpy(slopes)


def _run(
    layout: Layout,
    work: int,
    angles: np.ndarray,
    own: np.ndarray,
    backward: bool,
    values: np.ndarray,
    sums: np.ndarray,
    slopes: np.ndarray,
) -> None:
    """Compute; see `engine.run_groups` for the arrays."""
    found, wires, _, half, low_bits, blocks, groups, tabled, _ = layout
    tables = _no_tables[angles.dtype]
    if tabled:
        tables = np.empty((found.tables, 2, 2**wires), angles.dtype)
        fill_tables(found.code, angles, tables, wires)
    sizes = (groups, blocks, found.code, found.uniform, half, low_bits)
    arrays = (angles, tables, own, backward, values, sums, slopes)
    if work < 2 * _GRAIN:
        run_groups(0, groups, *sizes, *arrays)
    else:
        parallel(run_groups, groups, *sizes, *arrays, grain=1 + _GRAIN * groups // work)


def layout_of(
    shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int, *, single: bool
) -> Layout:
    """How to run a call, `single`: one state at a time; known again by the circuit's tensors and the sizes.

    Raises:
        ValueError: the tables of the circuit reach beyond the angles or wires.
    """
    batch, size = batched.shape[0], batched.element_size()
    key = (id(rotations), id(words), wires, single, size, shared.shape[0], *batched.shape)
    versions = (version_of(rotations), version_of(words))
    if (
        (entry := _known.get(key))
        and entry[0]() is rotations
        and entry[1]() is words
        and entry[2] == versions
    ):
        return entry[3]
    lanes = lanes_of(size)
    low_bits = lanes.bit_length() - 1 if single else 0
    found = schedule(rotations.numpy().tobytes(), words.numpy().tobytes(), wires, low_bits)
    if found.shared_angles > shared.shape[0] or found.batched_angles > batched.shape[1]:
        raise ValueError(
            f"rotations: expected columns below {shared.shape[0]} (shared) and {batched.shape[1]} (batched), "
            f"received up to {found.shared_angles - 1} and {found.batched_angles - 1}"
        )
    half, blocks = 2 ** (wires - low_bits), batch if single else -(-batch // lanes)
    fits = found.tables * 2 ** (wires + 1) * size <= _MOST_TABLE_BYTES
    spared = found.tabled_turns * half * (blocks - 1)  # what tables spare the blocks, against their own cost
    tabled = fits and spared > _LEAST_SPARED and (found.uniform or single)
    work = 2 * (1 + len(found.program.turns)) * half * blocks
    groups = min(blocks, _MOST_GROUPS)
    layout = Layout(found, wires, words.shape[0], half, low_bits, blocks, groups, tabled, work)
    if len(_known) >= 1024:
        _known.clear()
    _known[key] = weakref.ref(rotations), weakref.ref(words), versions, layout
    return layout


def _array(tensor: Tensor) -> np.ndarray:
    if tensor.requires_grad:
        tensor = tensor.detach()
    return tensor.contiguous().numpy()
