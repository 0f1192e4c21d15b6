"""Which engine the circuit op takes: a cost model in vector operations, forward and backward together.

| provider       | holds                                        | is for |
|----------------|----------------------------------------------|--------|
| `numba`        | a sample in each lane of a vector            | small states, many samples |
| `numba-single` | one state at a time, amplitudes in the lanes | large states, few samples |
| `numba-gemm`   | states as rows of a matrix                   | many samples, few wires, deep circuits |

The last one runs all rotations after the last that has an angle of the samples as one 2^n x 2^n matrix. Its
memory grows with the batch.
"""

import weakref
from typing import NamedTuple

from torch import Tensor

LANE_BYTES = 64
_TURN, _DIAGONAL, _REST = 11, 3, 30  # vector operations for each row of amplitudes
_EXCHANGED = 1.6  # how much more they take when amplitudes lie in the lanes
_BEFORE_SINGLE = 512  # operations to make a single state ready
_FAR = 4  # how much slower a block of samples gets that leaves the second cache
_NEAR_BYTES = 2**19
_PRODUCT = 6  # vector operations for each entry and row of a matrix product, at the rate that these reach
_MOST_GEMM_WIRES = 8


class Shape(NamedTuple):
    """What the cost of a circuit depends on: rotations with and without an X part, before and in its tail."""

    turns: int
    diagonals: int
    tail_turns: int
    tail_diagonals: int
    tail: int  # how many rotations at the end have shared angles


_shapes: dict[int, tuple] = {}


def version_of(tensor: Tensor) -> int:
    """How often a tensor was changed in place; those of inference mode do not count it."""
    return -1 if tensor.is_inference() else tensor._version


def shape_of(rotations: Tensor) -> Shape:
    """The shape of a table of rotations, known again by its tensor while that lives and does not change."""
    entry = _shapes.get(id(rotations))
    if entry and entry[0]() is rotations and entry[1] == version_of(rotations):
        return entry[2]
    rows = rotations.tolist()
    tail = next((i for i, row in enumerate(reversed(rows)) if row[2]), len(rows))
    turns, end = sum(row[0] != 0 for row in rows), rows[len(rows) - tail :]
    end_turns = sum(row[0] != 0 for row in end)
    shape = Shape(turns, len(rows) - turns, end_turns, tail - end_turns, tail)
    if len(_shapes) >= 1024:
        _shapes.clear()
    _shapes[id(rotations)] = weakref.ref(rotations), version_of(rotations), shape
    return shape


def _work(turns: int, diagonals: int) -> int:
    return _TURN * turns + _DIAGONAL * diagonals + _REST


def side_by_side(batched: Tensor, rotations: Tensor, wires: int) -> float:
    """The cost of a sample for each lane."""
    shape, blocks = shape_of(rotations), -(-batched.shape[0] * batched.element_size() // LANE_BYTES)
    far = _FAR if 2 * LANE_BYTES * 2**wires > _NEAR_BYTES else 1
    return far * blocks * 2**wires * _work(shape.turns, shape.diagonals)


def one_by_one(batched: Tensor, rotations: Tensor, wires: int) -> float:
    """The cost of one state at a time."""
    shape, rows = shape_of(rotations), 2**wires * batched.element_size() / LANE_BYTES
    return batched.shape[0] * (_EXCHANGED * rows + _BEFORE_SINGLE / 16) * _work(shape.turns, shape.diagonals)


def with_matrix(batched: Tensor, rotations: Tensor, wires: int) -> float:
    """The cost of a matrix for the tail."""
    shape, amplitudes = shape_of(rotations), 2**wires
    lanes = LANE_BYTES // batched.element_size()
    head = _work(shape.turns - shape.tail_turns, shape.diagonals - shape.tail_diagonals)
    of_samples = -(-batched.shape[0] // lanes) * amplitudes * (4 * head + _PRODUCT * amplitudes)
    return of_samples + 4 * amplitudes * amplitudes / lanes * _work(shape.tail_turns, shape.tail_diagonals)


def against_single(batched: Tensor, rotations: Tensor, wires: int) -> str | None:
    """Why not one state at a time, or None."""
    if 2**wires * batched.element_size() < 8 * LANE_BYTES:
        return f"a state of {wires} wires does not fill its eight rows"
    if 2 * LANE_BYTES * 2**wires <= _NEAR_BYTES and batched.shape[0] * batched.element_size() >= LANE_BYTES:
        return "a sample for each lane fills the lanes and stays near"
    return _costlier(one_by_one(batched, rotations, wires), side_by_side(batched, rotations, wires))


def against_gemm(batched: Tensor, rotations: Tensor, wires: int) -> str | None:
    """Why not a matrix, or None."""
    if wires > _MOST_GEMM_WIRES:
        return f"a matrix for {wires} wires is large (at most {_MOST_GEMM_WIRES})"
    if batched.shape[0] <= 2**wires:
        return f"pays when the batch exceeds 2^{wires}, it is {batched.shape[0]}"
    return _costlier(with_matrix(batched, rotations, wires), side_by_side(batched, rotations, wires))


def _costlier(own: float, other: float) -> str | None:
    if own < other:
        return None
    return f"takes about {own:.2g} vector operations, a sample for each lane {other:.2g}"


_AGAINST = {"numba-gemm": against_gemm, "numba-single": against_single}
_latest: tuple = (None, 0, 0, 0, 0, {})


def against(provider: str, batched: Tensor, rotations: Tensor, wires: int) -> str | None:
    """Why not this engine, or None; the answers to the latest question are kept, since they come in rows."""
    global _latest
    batch, size, version = batched.shape[0], batched.element_size(), version_of(rotations)
    latest = _latest
    if latest[0] is not rotations or latest[1:5] != (batch, size, version, wires):
        reasons = {name: rule(batched, rotations, wires) for name, rule in _AGAINST.items()}
        latest = _latest = (rotations, batch, size, version, wires, reasons)
    return latest[5].get(provider)
