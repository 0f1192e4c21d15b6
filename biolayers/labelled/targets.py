"""From the texts that label records to numbers: one class each, several classes each, or quantities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from biolayers.errors import FastaError
from biolayers.labelled.labels import Cells

UNLABELLED = -1

_TRUE, _FALSE = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
_ABSENT = ("", "na", "n/a", "nan", "none", "null")  # cells that hold no quantity

_LARGEST = float(np.finfo(np.float32).max)

Where = Callable[[int], str]  # a record in words, by number


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of n records, and what they are."""

    kind: str  # "class", "multilabel", "regression" or "unlabelled"
    values: Tensor  # (n,) int64; (n, classes) float32 of 0 and 1; (n,) or (n, targets) float32; (n,) of -1
    classes: list[str]  # or the names of the targets


def unlabelled(n: int, classes: Sequence[str] | None) -> Labels:
    """Labels -1 for n records."""
    return Labels("unlabelled", torch.full((n,), UNLABELLED), list(classes or []))


def single(found: Sequence[str], classes: Sequence[str] | None, *, where: Where, source: str) -> Labels:
    """One class for each record, by default numbered in sorted order.

    Args:
        found: (n,) the label of each record.
        classes: The classes in the order of their numbers.
        where: Says where a record is, for messages.
        source: What is being labelled, for messages.

    Raises:
        FastaError: A class occurs twice, a label is none of them, or there is only one.
    """
    order = _order(set(found), classes)
    number = {label: i for i, label in enumerate(order)}
    for i, label in enumerate(found):
        if label not in number:
            raise FastaError(f"{where(i)}: expected a label among {order}, received {label!r}")
    if len(order) < 2:
        raise FastaError(
            f"{source}: expected labels of two or more classes, received only {order[0]!r}; "
            "check the source of the labels, or pass classes=[...] if others occur in other files"
        )
    return Labels("class", torch.tensor([number[label] for label in found], dtype=torch.int64), order)


def _order(found: set[str], classes: Sequence[str] | None) -> list[str]:
    order = sorted(found) if classes is None else list(classes)
    if len(set(order)) < len(order):
        raise FastaError(f"dataset: expected each class once, received classes {order}")
    return order


def several(found: Sequence[Sequence[str]], classes: Sequence[str] | None, *, where: Where) -> Labels:
    """Any number of classes for each record, from lists of them."""
    order = _order({label for labels in found for label in labels}, classes)
    number = {label: i for i, label in enumerate(order)}
    values = torch.zeros((len(found), len(order)))
    for i, labels in enumerate(found):
        for label in labels:
            if label not in number:
                raise FastaError(f"{where(i)}: expected labels among {order}, received {label!r}")
            values[i, number[label]] = 1
    return Labels("multilabel", values, order)


def separated(found: Sequence[str], separator: str, classes: Sequence[str] | None, *, where: Where) -> Labels:
    """Any number of classes for each record, from one text such as `liver;brain`; an empty text has none."""
    parts = [[label.strip() for label in text.split(separator) if label.strip()] for text in found]
    return several(parts, classes, where=where)


def columns(found: Sequence[Sequence[str]], classes: Sequence[str], *, where: Where) -> Labels:
    """Any number of classes for each record, from one column of 0 and 1 for each class."""
    values = np.empty((len(found), len(classes)), np.float32)
    for i, cells in enumerate(found):
        for j, cell in enumerate(cells):
            text = cell.lower()
            if text not in _TRUE + _FALSE:
                raise FastaError(
                    f"{where(i)}: expected 0 or 1 (or true, false, yes, no) in the column {classes[j]!r}, "
                    f"received {cell!r}"
                )
            values[i, j] = text in _TRUE
    return Labels("multilabel", torch.from_numpy(values), list(classes))


def quantities(
    found: Sequence[Cells], names: Sequence[str], *, flat: bool, missing: str, where: Where
) -> Labels:
    """One or several numbers for each record; absent ones become nan where `missing` says so.

    Args:
        found: (n,) the cells of each record, in the order of `names`; None for a record without any.
        names: Of the targets.
        flat: Whether values are (n,) instead of (n, targets).
        missing: "nan", or "error" for a cell that holds no number.
        where: Says where a record is, for messages.

    Raises:
        FastaError: A cell is no finite number.
    """
    values = np.full((len(found), len(names)), np.nan, np.float32)
    for i, cells in enumerate(found):
        if cells is not None and len(cells) != len(names):
            raise FastaError(
                f"{where(i)}: expected {len(names)} numbers for {', '.join(names)}, received {len(cells)}"
            )
        for j, cell in enumerate(cells or []):
            if cell.lower() not in _ABSENT:
                values[i, j] = _number(cell, names[j], where, i)
            elif missing == "error":
                raise FastaError(
                    f"{where(i)}: expected a number as {names[j]!r}, received {cell!r}; choose missing='nan' "
                    "to keep such records, or missing='drop' to leave them out"
                )
    result = torch.from_numpy(values)
    return Labels("regression", result[:, 0].contiguous() if flat else result, list(names))


def _number(cell: str, name: str, where: Where, i: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not abs(value) <= _LARGEST:
        raise FastaError(f"{where(i)}: expected a finite number as {name!r}, received {cell!r}")
    return value


def lacking(cells: Cells, *, regression: bool) -> bool:
    """Whether a record has no label, or not all of its quantities."""
    absent = _ABSENT if regression else ("",)
    return cells is None or any(cell.lower() in absent for cell in cells)
