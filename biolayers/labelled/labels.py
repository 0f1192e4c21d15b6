"""Where the labels of records come from: their headers, a table beside the file, or a mapping.

Each source gives one row of texts per record: a label, or several columns; None where a record has no label
and that is admitted.
"""

import os
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from biolayers.errors import FastaError
from biolayers.fasta import Fasta
from biolayers.labelled.tables import Row, is_parquet, rows

Cells = list[str] | None

# What headers call the column of names, and that of labels.
_NAMES = ("name", "id", "record", "sequence_name", "seqname", "seq_id")
_LABELS = ("label", "class", "target", "category")


def label_regex(pattern: str, groups: Sequence[str] = ()) -> tuple[re.Pattern[str], list[str | int]]:
    """The compiled pattern and its groups that are meant: those named, else `label`, else the first one."""
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise FastaError(f"label pattern {pattern!r}: expected a regular expression: {error}") from error
    if regex.groups == 0:
        raise FastaError(
            f"label pattern {pattern!r}: expected a group around the label, received none; write class=(\\w+)"
        )
    if len(groups) > 1 or set(groups) & set(regex.groupindex):
        missing = [name for name in groups if name not in regex.groupindex]
        if missing:
            raise FastaError(
                f"label pattern {pattern!r}: expected groups called {', '.join(groups)}, "
                f"received none called {missing[0]!r}; write (?P<{missing[0]}>...)"
            )
        return regex, list(groups)
    return regex, ["label" if "label" in regex.groupindex else 1]


def from_headers(
    fasta: Fasta, pattern: str, groups: Sequence[str] = (), *, optional: bool = False
) -> list[Cells]:
    """What the pattern's groups find in the header of each record; see `label_regex`."""
    regex, wanted = label_regex(pattern, groups)
    labels: list[Cells] = []
    for i, header in enumerate(fasta.headers()):
        match = regex.search(header)
        if match is not None and all(match[group] for group in wanted):
            labels.append([match[group] for group in wanted])
        elif optional:
            labels.append(None)
        else:
            raise FastaError(
                f"{fasta.path}, line {fasta.line(i)}: expected a label by the pattern {pattern!r}, "
                f"received the header {header[:100]!r}; mend the header or the pattern"
            )
    return labels


def from_mapping(fasta: Fasta, labels: Mapping[str, Any], *, optional: bool = False) -> list[Cells]:
    """The label of each record, or its row of them, from a mapping of names; no name may lack its record."""
    for name in labels:
        if name not in fasta:
            raise FastaError(f"{fasta.path}: expected a record for every label, received none for {name!r}")
    for i, name in enumerate(fasta):
        if name not in labels and not optional:
            raise FastaError(
                f"{fasta.path}, line {fasta.line(i)}: expected a label for record {name!r}, received none"
            )
    return [_row(labels[name]) if name in labels else None for name in fasta]


def _row(value: Any) -> list[str]:
    return [str(cell) for cell in value] if isinstance(value, (list, tuple)) else [str(value)]


def from_table(
    fasta: Fasta,
    path: str | os.PathLike[str],
    *,
    name_column: str | None = None,
    columns: Sequence[str] = (),
    optional: bool = False,
) -> list[Cells]:
    """The label of each record, or its cells of several columns, from a CSV, TSV or Parquet file.

    The columns are those that the header names, or the first two where there is no header. A first row counts
    as a header when a column is named by an option, or when it has a usual title for both (name or id; label
    or class) and is no record itself.

    Args:
        fasta: The records.
        path: Of the table.
        name_column: The title of the names' column, if it is not a usual one.
        columns: The titles of the labels' columns; by default one with a usual title.
        optional: Whether records may have no row, and cells may be empty.
    """
    path = os.fspath(path)
    table = rows(path)
    first_line, first = next(table, (1, None))
    if first is None:
        raise FastaError(f"{path}: expected rows of name and label, received an empty file")
    places = _header(fasta, path, first_line, first, name_column, columns)
    data = table if places else chain([(first_line, first)], table)
    found = _collected(fasta, path, data, places or [0, 1], optional=optional)
    for i, name in enumerate(fasta):
        if name not in found and not optional:
            raise FastaError(
                f"{path}: expected a label for every record, received none for {name!r} "
                f"({fasta.path}, line {fasta.line(i)})"
            )
    return [found[name][0] if name in found else None for name in fasta]


def _collected(
    fasta: Fasta, path: str, data: Any, places: list[int], *, optional: bool
) -> dict[str, tuple[list[str], int]]:
    """The cells of each name, and its line."""
    found: dict[str, tuple[list[str], int]] = {}
    for line, row in data:
        name, *cells = cells_of(path, (line, row), places, optional=optional)
        if name not in fasta:
            raise FastaError(
                f"{path}, line {line}: expected a record of {fasta.path}, received the name {name!r}"
            )
        if name in found:
            raise FastaError(
                f"{path}, line {line}: expected each name once, received {name!r} again "
                f"(first on line {found[name][1]})"
            )
        found[name] = cells, line
    return found


def _header(
    fasta: Fasta, path: str, line: int, row: list[str], name_column: str | None, columns: Sequence[str]
) -> list[int] | None:
    """The places of the names and of the labels' columns, or None where the first row is data."""
    titles = [cell.lower() for cell in row]
    name = place_of(path, line, row, name_column, titles, _NAMES)
    wanted = [place_of(path, line, row, column, titles, _LABELS) for column in columns or (None,)]
    named = name_column is not None or bool(columns) or is_parquet(path)
    if not named and (name is None or wanted[0] is None or row[name] in fasta):
        return None
    if name is None or wanted[0] is None:
        what, option = ("names", "name_column") if name is None else ("labels", "label_column")
        raise FastaError(
            f"{path}, line {line}: expected a column of {what}, received {row}; name it with {option}="
        )
    return [name, *wanted]  # type: ignore[list-item]


def place_of(
    path: str, line: int, row: list[str], wanted: str | None, titles: list[str], usual: Sequence[str] = ()
) -> int | None:
    """Where a column is: the one that is wanted, else the first with a usual title."""
    if wanted is not None:
        if wanted not in row:
            raise FastaError(f"{path}, line {line}: expected a column {wanted!r}, received {row}")
        return row.index(wanted)
    return next((titles.index(title) for title in usual if title in titles), None)


def cells_of(path: str, row: Row, places: list[int], *, optional: bool = False) -> list[str]:
    """The cells at some places of a row; the first is a name, the others may be empty if `optional`."""
    line, cells = row
    if len(cells) <= max(places):
        raise FastaError(
            f"{path}, line {line}: expected at least {max(places) + 1} columns, received {len(cells)}"
        )
    found = [cells[place] for place in places]
    if not found[0] or not (optional or all(found)):
        raise FastaError(f"{path}, line {line}: expected a name and a label, received {cells}")
    return found
