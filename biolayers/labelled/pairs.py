"""Two inputs for each sample: two records, from two files or from one, linked by their names."""

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biolayers.batching.batches import BatchDataset
from biolayers.errors import FastaError
from biolayers.labelled.base import LabelledRecords
from biolayers.labelled.labels import Cells, cells_of, place_of
from biolayers.labelled.tables import Row, is_parquet, rows
from biolayers.labelled.targets import Labels, quantities, single, unlabelled

_FIRST = ("first", "first_name", "name1", "id1")
_SECOND = ("second", "second_name", "name2", "id2")
_LABELS = ("label", "class", "category")


class PairedDataset(BatchDataset):
    """Pairs of records with a label for each pair: enhancer and promoter, host and virus, two proteins.

    A batch is what the first dataset gives, what the second gives, and the labels of the pairs: as a rule
    tokens (b, l1) uint8, tokens (b, l2) uint8, labels. Windows and strands are drawn for each pair and each
    side anew, from the datasets' seeds.

    Args:
        first: Where the first records come from, a `FastaDataset` or `SequenceDataset`; it may be unlabelled.
        second: Where the second records come from; it may be the same dataset.
        pairs: A CSV, TSV or Parquet file with columns of first names, second names and labels, or a list of
            (first, second) or (first, second, label). By default records of the same name make a pair, and it
            has the label of the first one.
        first_column: The table's column of first names, if it is not called first, first_name, name1 or id1.
        second_column: The column of second names, if it is not called second, and so on.
        label_column: The column of labels, if it is not called label, class or category.
        target: Instead of a class, the label is a number: the title of its column (any word for a list).
        classes: The classes in the order of their numbers; by default those found, sorted.

    Raises:
        FastaError: A name has no record (with the table's line), a pair has no label while others have one,
            or names do not match and `pairs` is not given.

    Example:
        >>> from biolayers import SequenceDataset
        >>> here = SequenceDataset(["ACG", "TTT"], names=["a", "b"])
        >>> there = SequenceDataset(["GG", "CC", "AA"], names=["p", "q", "r"])
        >>> data = PairedDataset(here, there, [("b", "q", "yes"), ("a", "q", "no")])
        >>> data.batch([0, 1])
        (tensor([[3, 3, 3],
                [0, 1, 2]], dtype=torch.uint8), tensor([[1, 1],
                [1, 1]], dtype=torch.uint8), tensor([1, 0]))
    """

    def __init__(
        self,
        first: LabelledRecords,
        second: LabelledRecords,
        pairs: str | os.PathLike[str] | Sequence[Sequence[Any]] | None = None,
        *,
        first_column: str | None = None,
        second_column: str | None = None,
        label_column: str | None = None,
        target: str | None = None,
        classes: Sequence[str] | None = None,
    ):
        self.first, self.second = first, second
        if pairs is None:
            self._first, self._second = _by_name(first, second)
            labels = Labels(first.kind, first.labels, first.classes)
        else:
            self._table = os.fspath(pairs) if isinstance(pairs, (str, os.PathLike)) else "pairs"
            if isinstance(pairs, (str, os.PathLike)):
                wanted = (first_column, second_column, label_column if target is None else target)
                found = list(_table_rows(self._table, first, wanted))
            else:
                found = [(i, [str(cell) for cell in pair]) for i, pair in enumerate(pairs, 1)]
            labels = self._linked(found, target, classes)
        self.labels, self.classes, self.kind = labels.values, labels.classes, labels.kind

    def _linked(self, found: list[Row], target: str | None, classes: Sequence[str] | None) -> Labels:
        if not found:
            raise FastaError(f"{self._table}: expected at least one pair, received none")
        sizes = {len(cells) for _, cells in found}
        if sizes not in ({2}, {3}):
            raise FastaError(
                f"{self._table}: expected pairs of two names, all with a label or all without, received "
                f"{' and '.join(map(str, sorted(sizes)))} cells"
            )
        self._lines = [line for line, _ in found]
        numbers = [_numbers(side) for side in (self.first, self.second)]
        columns = [[self._number(row, j, numbers[j]) for row in found] for j in (0, 1)]
        self._first, self._second = (np.array(column, np.int64) for column in columns)
        if sizes == {2}:
            return unlabelled(len(found), classes)
        cells: list[Cells] = [[row[2]] for _, row in found]
        if target is not None:
            return quantities(cells, [target], flat=True, missing="error", where=self.where)
        return single([row[2] for _, row in found], classes, where=self.where, source=self._table)

    def _number(self, row: Row, side: int, numbers: dict[str, int]) -> int:
        line, cells = row
        if cells[side] not in numbers:
            raise FastaError(
                f"{self._table}, line {line}: expected the name of a record of the "
                f"{('first', 'second')[side]} dataset, received {cells[side]!r}"
            )
        return numbers[cells[side]]

    def __len__(self) -> int:
        """How many pairs."""
        return len(self._first)

    def batch(self, indices: Any, *, epoch: int | None = None) -> tuple[Tensor, ...]:
        """The two inputs of some pairs, and their labels; see `BatchDataset.batch`."""
        chosen = np.asarray(indices, np.int64)
        first = self.first.read(self._first[chosen], epoch=epoch, draws=2 * chosen)
        second = self.second.read(self._second[chosen], epoch=epoch, draws=2 * chosen + 1)
        return *first, *second, self.labels[torch.from_numpy(chosen)]

    @property
    def lengths(self) -> Tensor:
        """The letters of both records of each pair: (n,) int64."""
        return self.first.lengths[self._first] + self.second.lengths[self._second]

    def where(self, index: int) -> str:
        """A pair in words, for messages."""
        names = (
            f"{self.first.name(int(self._first[index]))!r} and {self.second.name(int(self._second[index]))!r}"
        )
        line = f"{self._table}, line {self._lines[index]}, " if hasattr(self, "_lines") else ""
        return f"{line}pair {names}"

    def __repr__(self) -> str:
        return f"PairedDataset({len(self):,} pairs of {self.first} and {self.second})"


def _numbers(records: LabelledRecords) -> dict[str, int]:
    """The number of each name, each of which must occur once."""
    names = [records.name(i) for i in range(len(records))]
    numbers = {name: i for i, name in enumerate(names)}
    if len(numbers) < len(names):
        twice = next(name for i, name in enumerate(names) if numbers[name] != i)
        raise FastaError(f"PairedDataset: expected each name once in {records}, received {twice!r} again")
    return numbers


def _by_name(first: LabelledRecords, second: LabelledRecords) -> tuple[np.ndarray, np.ndarray]:
    here, there = _numbers(first), _numbers(second)
    for one, other in ((here, there), (there, here)):
        missing = next((name for name in one if name not in other), None)
        if missing is not None:
            raise FastaError(
                f"PairedDataset: expected the same names in both datasets, received {missing!r} in one only; "
                "give pairs= to link them"
            )
    return np.arange(len(here)), np.array([there[name] for name in here], np.int64)


def _table_rows(
    path: str, first: LabelledRecords, wanted: tuple[str | None, str | None, str | None]
) -> Iterator[Row]:
    """Line, and first name, second name and label (if there is such a column) of each row."""
    table = rows(path)
    line, head = next(table, (1, []))
    titles = [cell.lower() for cell in head]
    usual = (_FIRST, _SECOND, _LABELS)
    places = [
        place_of(path, line, head, column, titles, names) for column, names in zip(wanted, usual, strict=True)
    ]
    titled = any(wanted) or is_parquet(path) or (places[0] is not None and places[1] is not None)
    if titled and (places[0] is None or places[1] is None):
        raise FastaError(
            f"{path}, line {line}: expected columns of first and second names, received {head}; name them "
            "with first_column= and second_column="
        )
    if titled:
        chosen = [place for place in places if place is not None]
    else:
        chosen, table = list(range(min(3, max(2, len(head))))), chain([(line, head)] if head else [], table)
    for number, cells in table:
        yield number, cells_of(path, (number, cells), chosen)
