"""Host side of the kernel: tensors in, blocks of samples or amplitudes through `engine.py`, tensors out."""

import weakref
from typing import Any

import torch
from torch import Tensor

from qlayers.kernels.numba.block import room_for
from qlayers.kernels.numba.code import Picked, Sizes, as_they_are, coded
from qlayers.kernels.numba.engine import BACKWARD, KNOWN, SHARED, compiled
from qlayers.kernels.numba.program import Schedule, schedule
from qlayers.ops.engines import LANE_BYTES, version_of
from shared import relay
from shared.pace import Pace
from shared.simd import lanes_of

_GRAIN = 60_000  # vector operations that make a thread worth its hand-off: about 0.02 ms
_MOST_PARTS = 32  # of the batch, in which gradients are summed
_MOST_TABLE_BYTES = 2**25  # memory for the tables of diagonal passes
_LEAST_SPARED = 4096  # vector operations that make tables worth while
_MOST_KEPT_BYTES = 2**24  # memory for the states at the end of forward
_LEAST_KEPT = 2000  # vector operations of a forward pass that are worth a tensor to keep


class Launch:
    """How calls of one circuit on batches of one size and dtype run.

    `sizes` and `schedule` are what the kernel gets, `keeps` the bytes that forward keeps for backward.

    Args:
        rotations: (K, 4) int64, with `words` (T, 2) int64 and `wires` as `qlayers::pauli_expval` takes them.
        words: see there.
        wires: see there.
        sources: S, numbers that shared angles are made of.
        batch: b.
        features: F, numbers that the angles of a sample are made of.
        dtype: float32 or float64.
        single: one state at a time, its amplitudes in the lanes; else a sample in each lane.
        picked: how shared angles and those of the samples are made; default: they are the numbers.

    Raises:
        ValueError: the tables of the circuit reach beyond the angles or wires.
    """

    def __init__(
        self,
        rotations: Tensor,
        words: Tensor,
        wires: int,
        sources: int,
        batch: int,
        features: int,
        dtype: torch.dtype,
        *,
        single: bool,
        picked: tuple[Picked, Picked] | None = None,
    ):
        size = dtype.itemsize
        lanes = lanes_of(size)
        low_bits = lanes.bit_length() - 1 if single else 0
        found = schedule(rotations.numpy().tobytes(), words.numpy().tobytes(), wires, low_bits)
        shared, own = picked or (as_they_are(sources), as_they_are(features))
        _check_columns(found, len(shared.index), len(own.index))
        _check_numbers("weights", shared, sources)
        _check_numbers("features", own, features)
        half, blocks = 2 ** (wires - low_bits), batch if single else -(-batch // lanes)
        fits = found.tables * 2 ** (wires + 1) * size <= _MOST_TABLE_BYTES
        spared = found.tabled_turns * half * (blocks - 1)
        tabled = fits and spared > _LEAST_SPARED and (found.uniform or single)
        self.schedule = found
        self.sizes = Sizes(
            parts=min(blocks, _MOST_PARTS),
            blocks=blocks,
            half=half,
            low_bits=low_bits,
            uniform=int(found.uniform),
            tables=found.tables if tabled else 0,
            batch=batch,
            sources=sources,
            features=features,
        )
        self._code = coded(self.sizes, found.program, shared, own)
        self._kernel, self._code_at = compiled(size).address, self._code.ctypes.data
        self._dtype, self._angles = dtype, len(shared.index)
        self._room = room_for(self.sizes, found.program, len(shared.index), len(own.index), size)
        self._values, self._tables = (batch, words.shape[0]), (self.sizes.tables, 2, 2**wires)
        self._work = 2 * (1 + len(found.program.turns)) * half * blocks  # vector operations
        states, tables = 2 * half * lanes * blocks, self.sizes.tables * 2 ** (wires + 1)
        self._paces = Pace(), Pace()  # forward, backward
        self._kept, self._tables_at = states + tables, states * size
        bytes = self._kept * size
        self.keeps = bytes if bytes <= _MOST_KEPT_BYTES and self._work >= _LEAST_KEPT else 0

    def forward(self, shared: Tensor, own: Tensor, *, keep: bool = False) -> tuple[Tensor, Tensor | None]:
        """Expectation values (b, T), and what `backward` may be given again.

        Args:
            shared: S contiguous numbers in any shape.
            own: (b, F), contiguous.
            keep: whether to keep the states at the end, if they take little memory.
        """
        values = own.new_empty(self._values)
        kept = own.new_empty(self._kept) if keep and self.keeps else None
        kept_at = 0 if kept is None else kept.data_ptr()
        places = shared.data_ptr(), own.data_ptr(), values.data_ptr(), 0, 0, 0, kept_at
        self._run(0, 2 * self._work, own, places)
        return values, kept

    def backward(
        self, shared: Tensor, own: Tensor, grad: Tensor, kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The gradients of the shared numbers and of the samples', in their shapes.

        Args:
            shared: as for `forward`.
            own: as for `forward`.
            grad: (b, T), contiguous.
            kept: what `forward` has kept of these numbers.
        """
        sums, slopes = torch.empty_like(shared), torch.empty_like(own)
        work = (8 if kept is None else 6) * self._work
        parts = own.new_empty((self.sizes.parts, self._angles)) if work >= 2 * _GRAIN else None
        places = (
            shared.data_ptr(),
            own.data_ptr(),
            grad.data_ptr(),
            0 if parts is None else parts.data_ptr(),
            sums.data_ptr(),
            slopes.data_ptr(),
            0 if kept is None else kept.data_ptr(),
        )
        self._run(BACKWARD, work, own, places)
        return sums, slopes

    def _run(self, task: int, work: int, own: Tensor, places: tuple[int, ...]) -> None:
        """Compute, with tables and threads where they pay; see `engine.run` for the places."""
        parts, tables_at = self.sizes.parts, 0
        if self.sizes.tables and places[-1]:  # behind the states, since backward has the same
            tables_at = places[-1] + self._tables_at
            if task & BACKWARD:
                task |= KNOWN
        elif self.sizes.tables:
            tables = own.new_empty(self._tables)
            tables_at = tables.data_ptr()
        if work < 2 * _GRAIN:
            relay.run_alone(self._kernel, parts, (task, self._code_at, *places, tables_at), room=self._room)
        else:
            numbers, grain = (task | SHARED, self._code_at, *places, tables_at), 1 + _GRAIN * parts // work
            pace = self._paces[task & BACKWARD]
            relay.run(self._kernel, parts, numbers, grain=grain, room=self._room, pace=pace, ends=True)


def _check_columns(found: Schedule, angles: int, columns: int) -> None:
    if found.shared_angles > angles or found.batched_angles > columns:
        raise ValueError(
            f"rotations: expected columns below {angles} (shared) and {columns} (batched), "
            f"received up to {found.shared_angles - 1} and {found.batched_angles - 1}"
        )


def _check_numbers(name: str, picked: Picked, count: int) -> None:
    read = picked.index[picked.scale != 0]
    if len(read) and read.max() >= count:
        raise ValueError(f"{name}: expected at least {read.max() + 1} numbers, received {count}")


def checked(grad: Tensor, own: Tensor, words: Tensor) -> Tensor:
    """The gradients of the expectation values, contiguous.

    Raises:
        ValueError: they do not have the shape (b, T).
    """
    wanted = (own.shape[0], words.shape[0])
    if grad.shape != wanted:
        raise ValueError(f"grad: expected shape {wanted}, received {tuple(grad.shape)}")
    return grad.contiguous()


_known: dict[tuple[int, ...], tuple[Any, ...]] = {}


def launch_of(
    provider: str, shared: Tensor, own: Tensor, rotations: Tensor, words: Tensor, wires: int
) -> Launch:
    """The launch for these arguments of the op, known again by the circuit's tensors and the sizes."""
    single = is_single(provider, wires, own.dtype)
    key = (id(rotations), id(words), wires, single, shared.dtype.itemsize, shared.numel(), *own.shape)
    versions = (version_of(rotations), version_of(words))
    if (
        (entry := _known.get(key))
        and entry[0]() is rotations
        and entry[1]() is words
        and entry[2] == versions
    ):
        return entry[3]
    launch = Launch(rotations, words, wires, shared.numel(), *own.shape, own.dtype, single=single)
    if len(_known) >= 1024:
        _known.clear()
    _known[key] = weakref.ref(rotations), weakref.ref(words), versions, launch
    return launch


def is_single(provider: str, wires: int, dtype: torch.dtype) -> bool:
    """Whether a provider of the op holds one state at a time; small states do not fill the lanes."""
    return provider == "numba-single" and 2**wires * dtype.itemsize >= 8 * LANE_BYTES
