"""Angles at run time: a table of expressions turned into a few vectorised torch calls.

Every row has a place in one of two value vectors: `shared` (the same for all samples: weights, constants and
what is made of them) or `batched` (one row per sample). Rows of one depth and function are computed together:
gather their arguments, apply the function, append the results. A last gather, scale and offset gives the
angles. Steps that would do nothing (all features in order, all scales 1) are left out.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qlayers.expressions import FUNCTIONS, LEAVES, MANY, Row, children_of

SHARED, BATCHED = 0, 1


@dataclass(frozen=True)
class Gather:
    """vector[index] * scale + offset, as plain data; None where there is nothing to do."""

    index: tuple[int, ...] | None
    scale: tuple[float, ...] | None
    offset: tuple[float, ...] | None

    def tables(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor | None, ...]:
        index = None if self.index is None else torch.tensor(self.index, dtype=torch.int64, device=device)
        floats = [
            None if values is None else torch.tensor(values, dtype=dtype, device=device)
            for values in (self.scale, self.offset)
        ]
        return index, *floats


@dataclass(frozen=True)
class Step:
    """All rows of one depth, function and kind of arguments: gather the arguments, apply, append."""

    function: str  # a name of FUNCTIONS or MANY
    side: int  # where the results go
    count: int  # number of rows
    arguments: tuple[tuple[int, Gather], ...]  # the side to gather from, and what


@dataclass(frozen=True)
class Schedule:
    """How the angles of a circuit follow from its weights and the input features.

    `weights` are the names in order of flattening; `constants` come after them in `shared`; `steps` then
    append to either side; `finals` pick the angles out of each side, or leave it whole if most of it serves.
    """

    weights: tuple[str, ...]
    constants: tuple[float, ...]
    steps: tuple[Step, ...]
    finals: tuple[Gather, Gather]

    def affine(self, weights: int, features: int) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """Index, scale and offset of the shared angles in the weights and of the others in the features.

        For a schedule without steps. A constant has the scale 0.

        Args:
            weights: how many numbers all weights have.
            features: how many a sample has.
        """
        sides = (np.concatenate([np.zeros(weights), self.constants]), np.zeros(features))
        found = []
        for gather, constants, count in zip(self.finals, sides, (weights, features), strict=True):
            index = np.arange(len(constants)) if gather.index is None else np.array(gather.index, np.int64)
            scale = np.ones(len(index)) if gather.scale is None else np.array(gather.scale)
            offset = np.zeros(len(index)) if gather.offset is None else np.array(gather.offset)
            of_weight = index < count
            found.append(
                (
                    np.where(of_weight, index, 0),
                    np.where(of_weight, scale, 0.0),
                    np.where(of_weight, offset, scale * constants[index] + offset),
                )
            )
        return found[0], found[1]

    def tables(self, device: torch.device, dtype: torch.dtype) -> "Tables":
        """The schedule with its numbers as tensors on a device, in a floating dtype."""
        constants = torch.tensor(self.constants, dtype=dtype, device=device) if self.constants else None
        steps = [
            (
                step.function,
                step.side,
                step.count,
                [(side, g.tables(device, dtype)) for side, g in step.arguments],
            )
            for step in self.steps
        ]
        return constants, steps, [final.tables(device, dtype) for final in self.finals]


Tables = tuple  # (constants, steps, finals): what `angles` reads


def angles(inputs: Tensor, weights: Sequence[Tensor], tables: Tables) -> tuple[Tensor, Tensor]:
    """The angles that all samples share, (Ks,), and those of each sample, (b, Kb).

    Args:
        inputs: (b, features), in the dtype of the tables.
        weights: the weights of the schedule, in its order and in the dtype of the tables, of any shape.
        tables: from `Schedule.tables`.
    """
    constants, steps, finals = tables
    flat = [weight.reshape(-1) for weight in weights]
    if constants is not None:
        flat.append(constants)
    values = [inputs.new_empty(0) if not flat else flat[0] if len(flat) == 1 else torch.cat(flat), inputs]
    for function, side, count, arguments in steps:
        gathered = [_gather(values[source], *table) for source, table in arguments]
        values[side] = torch.cat([values[side], _apply(function, count, gathered)], -1)
    return _gather(values[SHARED], *finals[SHARED]), _gather(values[BATCHED], *finals[BATCHED])


def _gather(vector: Tensor, index: Tensor | None, scale: Tensor | None, offset: Tensor | None) -> Tensor:
    if index is not None:
        vector = vector.index_select(-1, index)
    if scale is not None:
        vector = vector * scale
    return vector if offset is None else vector + offset


def scatter(
    slope: Tensor, length: int, index: Tensor | None, scale: Tensor | None, offset: Tensor | None
) -> Tensor:
    """The gradient of a gathered vector's source, of the given length: what `_gather` does, transposed."""
    if scale is not None:
        slope = slope * scale
    if index is None:
        return slope
    return slope.new_zeros((*slope.shape[:-1], length)).index_add(-1, index, slope)


def _apply(function: str, count: int, arguments: list[Tensor]) -> Tensor:
    if function not in MANY:
        return FUNCTIONS[function][1](*arguments)
    # an argument holds the children of all rows on one side, row after row; then the sides are joined
    parts = [MANY[function](x.reshape(*x.shape[:-1], count, x.shape[-1] // count)) for x in arguments]
    if len(parts) == 1:
        return parts[0]
    return parts[0] + parts[1] if function == "sum" else parts[0] * parts[1]


class Scheduler:
    """Builds the `Schedule` that computes `outputs`, (row, scale, offset) for scale * row + offset.

    `schedule` is the result, and `places[i]` the (side, column) of output i in what `angles` returns; equal
    outputs have one column. `weights` names weights to flatten although no output may need them.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        sizes: dict[str, int],
        features: int,
        outputs: Sequence[tuple],
        weights: Iterable[str] = (),
    ):
        self._rows = rows
        self._at: dict[int, tuple[int, int]] = {}  # row -> (side, position) for every row but affine ones
        self._length = [0, features]
        weights = tuple(dict.fromkeys([*weights, *(row[1] for row in rows if row[0] == "weight")]))
        constants = tuple(dict.fromkeys(row[1] for row in rows if row[0] == "constant"))
        self._place_leaves(weights, constants, sizes)
        steps = tuple(self._step(key, numbers) for key, numbers in sorted(self._groups().items()))
        found = [self._resolve(*output) for output in outputs]
        columns = [self._columns(side, [f for f in found if f[0] == side]) for side in (SHARED, BATCHED)]
        self.places = [(f[0], columns[f[0]][f]) for f in found]
        finals = tuple(self._gather(side, list(columns[side])) for side in (SHARED, BATCHED))
        self.schedule = Schedule(weights, constants, steps, finals)

    def _place_leaves(
        self, weights: Sequence[str], constants: Sequence[float], sizes: dict[str, int]
    ) -> None:
        starts = {}
        for name in weights:
            starts[name] = self._length[SHARED]
            self._length[SHARED] += sizes[name]
        places = {("constant", value): self._length[SHARED] + i for i, value in enumerate(constants)}
        self._length[SHARED] += len(constants)
        for number, row in enumerate(self._rows):
            if row[0] == "input":
                self._at[number] = BATCHED, row[1]
            elif row[0] == "weight":
                self._at[number] = SHARED, starts[row[1]] + row[2]
            elif row[0] == "constant":
                self._at[number] = SHARED, places[row]

    def _groups(self) -> dict[tuple, list[int]]:
        """The rows to compute, by (depth, function, sides of the arguments)."""
        depth, side, groups = {}, {}, defaultdict(list)
        for number, row in enumerate(self._rows):
            children = children_of(row)
            affine = row[0] == "affine"
            depth[number] = max((depth[child] for child in children), default=0) + (
                bool(children) and not affine
            )
            side[number] = max((side[child] for child in children), default=SHARED)
            if row[0] in LEAVES:
                side[number] = self._at[number][0]
            elif not affine:
                groups[depth[number], row[0], self._kind(row, [side[child] for child in children])].append(
                    number
                )
        return groups

    @staticmethod
    def _kind(row: Row, sides: list[int]) -> tuple[int, ...]:
        return (sides.count(SHARED), sides.count(BATCHED)) if row[0] in MANY else tuple(sides)

    def _step(self, key: tuple, numbers: list[int]) -> Step:
        _, function, _ = key
        children = [[self._resolve(child) for child in children_of(self._rows[number])] for number in numbers]
        if function in MANY:
            parts = [
                (side, [c for row in children for c in row if c[0] == side]) for side in (SHARED, BATCHED)
            ]
            arguments = [(side, self._gather(side, found)) for side, found in parts if found]
        else:
            arguments = [
                (column[0][0], self._gather(column[0][0], column)) for column in zip(*children, strict=True)
            ]
        side = max(source for source, _ in arguments)
        for number in numbers:
            self._at[number] = side, self._length[side]
            self._length[side] += 1
        return Step(function, side, len(numbers), tuple(arguments))

    def _resolve(self, number: int, scale: float = 1.0, offset: float = 0.0) -> tuple[int, int, float, float]:
        """(side, position, scale, offset) of scale * row + offset; affine rows are never computed."""
        row = self._rows[number]
        if row[0] == "affine":
            return *self._at[row[3]], scale * row[1], scale * row[2] + offset
        return *self._at[number], scale, offset

    def _columns(self, side: int, found: Sequence[tuple[int, int, float, float]]) -> dict[tuple, int]:
        """The column of each output of a side; that of its value, to gather nothing, if most values serve."""
        wanted = dict.fromkeys(found)
        length = self._length[side]
        at = {key[1]: key for key in wanted}
        if len(at) == len(wanted) and 2 * len(at) > length:
            wanted = dict.fromkeys(at.get(position, (side, position, 1.0, 0.0)) for position in range(length))
        return {key: column for column, key in enumerate(wanted)}

    def _gather(self, side: int, found: Sequence[tuple[int, int, float, float]]) -> Gather:
        positions = tuple(position for _, position, _, _ in found)
        scales = tuple(scale for _, _, scale, _ in found)
        offsets = tuple(offset for _, _, _, offset in found)
        return Gather(
            None if positions == tuple(range(self._length[side])) else positions,
            None if all(scale == 1.0 for scale in scales) else scales,
            None if all(offset == 0.0 for offset in offsets) else offsets,
        )
