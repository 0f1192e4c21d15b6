"""Classes and targets from the columns of intervals."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from biolayers.intervals.errors import IntervalError
from biolayers.intervals.table import Intervals


def classes_of(
    tables: Sequence[Intervals], name: str, classes: Sequence[str] | None
) -> tuple[list[str], Tensor]:
    """The classes of a column, sorted unless given, and the number of each interval's: (n,) int64.

    Raises:
        IntervalError: The column is missing, or holds what is no class (file and line).
    """
    columns = [list(map(_text, table.column(name).tolist())) for table in tables]
    order = sorted({label for column in columns for label in column}) if classes is None else list(classes)
    number = {label: i for i, label in enumerate(order)}
    if len(number) < len(order):
        raise IntervalError(f"IntervalDataset: expected each class once, received classes {order}")
    for table, column in zip(tables, columns, strict=True):
        for i, label in enumerate(column):
            if label not in number or label in ("", "."):
                raise IntervalError(
                    f"{table.where(i)}: expected a class in column {name!r}"
                    f"{'' if classes is None else f' among {order}'}, received {label!r}"
                )
    return order, torch.tensor([number[label] for column in columns for label in column], dtype=torch.int64)


def _text(value: object) -> str:
    """Classes are compared as text: 1 and 1.0 of tables are one class."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def targets_of(tables: Sequence[Intervals], names: str | Sequence[str]) -> Tensor:
    """Columns of numbers: (n, targets) float32.

    Raises:
        IntervalError: A column is missing, or holds something else or nothing (file and line).
    """
    names = [names] if isinstance(names, str) else list(names)
    parts = []
    for table in tables:
        values = np.stack([table.numbers(name) for name in names], 1)  # (n, targets)
        wrong = ~np.isfinite(values)
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            raise IntervalError(
                f"{table.where(row)}: expected a number in column {names[column]!r}, received "
                f"{table.column(names[column])[row]!r}; drop such intervals"
            )
        parts.append(values)
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))
