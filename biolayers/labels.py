"""Where the labels of a FASTA file come from: its headers, a table beside it, or a mapping."""

import csv
import os
import re
from collections.abc import Iterator, Mapping

from biolayers.errors import FastaError
from biolayers.fasta import Fasta

_NAMES = (
    "name",
    "id",
    "record",
    "sequence_name",
    "seqname",
    "seq_id",
)  # what headers call the column of names
_LABELS = ("label", "class", "target", "category")


def from_headers(fasta: Fasta, pattern: str) -> list[str]:
    """The label of each record: the group `label` of the pattern in its header, else the first group."""
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise FastaError(f"label pattern {pattern!r}: expected a regular expression: {error}") from error
    if regex.groups == 0:
        raise FastaError(
            f"label pattern {pattern!r}: expected a group around the label, received none; write class=(\\w+)"
        )
    group: str | int = "label" if "label" in regex.groupindex else 1
    labels = []
    for i, header in enumerate(fasta.headers()):
        match = regex.search(header)
        if match is None or not match[group]:
            raise FastaError(
                f"{fasta.path}, line {fasta.line(i)}: expected a label by the pattern {pattern!r}, "
                f"received the header {header[:100]!r}; mend the header or the pattern"
            )
        labels.append(match[group])
    return labels


def from_mapping(fasta: Fasta, labels: Mapping[str, str]) -> list[str]:
    """The label of each record from a mapping of names; neither side may have a name that the other lacks."""
    for name in labels:
        if name not in fasta:
            raise FastaError(f"{fasta.path}: expected a record for every label, received none for {name!r}")
    for i, name in enumerate(fasta):
        if name not in labels:
            raise FastaError(
                f"{fasta.path}, line {fasta.line(i)}: expected a label for record {name!r}, received none"
            )
    return [str(labels[name]) for name in fasta]


def from_table(
    fasta: Fasta,
    path: str | os.PathLike[str],
    *,
    name_column: str | None = None,
    label_column: str | None = None,
) -> list[str]:
    """The label of each record from a CSV or TSV file.

    The columns are those that the header names, or the first two where there is no header. A first row counts
    as a header when a column is named by an option, or when it has a usual title for both (name or id; label
    or class) and is no record itself.
    """
    path = os.fspath(path)
    rows = _rows(path)
    first_line, first = next(rows, (1, None))
    if first is None:
        raise FastaError(f"{path}: expected rows of name and label, received an empty file")
    columns = _header(fasta, path, first_line, first, name_column, label_column)
    found: dict[str, tuple[str, int]] = {}
    for line, row in _chain(None if columns else (first_line, first), rows):
        name, label = _cells(path, line, row, columns or (0, 1))
        if name not in fasta:
            raise FastaError(
                f"{path}, line {line}: expected a record of {fasta.path}, received the name {name!r}"
            )
        if name in found:
            raise FastaError(
                f"{path}, line {line}: expected each name once, received {name!r} again "
                f"(first on line {found[name][1]})"
            )
        found[name] = label, line
    for i, name in enumerate(fasta):
        if name not in found:
            raise FastaError(
                f"{path}: expected a label for every record, received none for {name!r} "
                f"({fasta.path}, line {fasta.line(i)})"
            )
    return [found[name][0] for name in fasta]


def _rows(path: str) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row that is not blank; tabs separate if the first row has one, else commas."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            delimiter = "\t" if "\t" in file.readline() else ","
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, [cell.strip() for cell in row]
    except OSError as error:
        raise FastaError(
            f"{path}: expected a table of labels, but it cannot be read: {error.strerror}"
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise FastaError(f"{path}: expected a CSV or TSV text file: {error}") from error


def _chain(
    first: tuple[int, list[str]] | None, rest: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    if first is not None:
        yield first
    yield from rest


def _header(
    fasta: Fasta, path: str, line: int, row: list[str], name_column: str | None, label_column: str | None
) -> tuple[int, int] | None:
    """The places of the two columns, or None where the first row is data."""
    titles = [cell.lower() for cell in row]
    name = _place(path, line, row, name_column, titles, _NAMES)
    label = _place(path, line, row, label_column, titles, _LABELS)
    named = name_column is not None or label_column is not None
    if not named and (name is None or label is None or row[name] in fasta):
        return None
    if name is None or label is None:
        what, option = ("names", "name_column") if name is None else ("labels", "label_column")
        raise FastaError(
            f"{path}, line {line}: expected a column of {what}, received {row}; name it with {option}="
        )
    return name, label


def _place(
    path: str, line: int, row: list[str], wanted: str | None, titles: list[str], usual: tuple[str, ...]
) -> int | None:
    if wanted is not None:
        if wanted not in row:
            raise FastaError(f"{path}, line {line}: expected a column {wanted!r}, received {row}")
        return row.index(wanted)
    return next((titles.index(title) for title in usual if title in titles), None)


def _cells(path: str, line: int, row: list[str], columns: tuple[int, int]) -> tuple[str, str]:
    if len(row) <= max(columns):
        raise FastaError(
            f"{path}, line {line}: expected at least {max(columns) + 1} columns, received {len(row)}"
        )
    name, label = row[columns[0]], row[columns[1]]
    if not name or not label:
        raise FastaError(f"{path}, line {line}: expected a name and a label, received {row}")
    return name, label
