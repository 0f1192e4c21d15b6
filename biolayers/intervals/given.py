"""Intervals from what a user has in memory, and tables put together."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from biolayers.intervals.errors import IntervalError
from biolayers.intervals.table import STRANDS, Intervals
from biolayers.naming import titles_of, usual_title

# What tables call the columns, see `usual_title`.
_TITLES = {
    "contig": ("contig", "chrom", "chr", "chromosome", "seqname", "seqnames", "seqid"),
    "start": ("start", "chromstart"),
    "end": ("end", "chromend", "stop"),
    "strand": ("strand",),
}


def of(given: Any) -> Intervals:
    """Intervals from what a user has.

    Args:
        given: `Intervals` (returned as they are), the path of a BED file, a list of `(contig, start, end)` or
            `(contig, start, end, strand)`, or a pandas or Polars frame or a mapping from title to column. Its
            columns contig, start, end and strand may go by their usual names (chrom, chromStart, seqname,
            Chromosome, ...); all others are kept.

    Raises:
        IntervalError: It is something else, a column is missing, or a place is not as it must be.

    Example:
        >>> of({"chrom": ["chr1", "chr1"], "start": [0, 5], "end": [5, 9], "label": ["a", "b"]}).columns
        {'label': array(['a', 'b'], dtype=object)}
    """
    if isinstance(given, Intervals):
        return given
    if isinstance(given, (str, os.PathLike)):
        return Intervals.read(given)
    if isinstance(given, Mapping) or hasattr(given, "columns"):
        return _of_columns(given)
    if isinstance(given, Iterable):
        return _of_rows(list(given))
    raise IntervalError(
        "intervals: expected Intervals, the path of a BED file, a list of (contig, start, end) or a frame, "
        f"received {type(given).__name__}"
    )


def _of_rows(rows: list[Any]) -> Intervals:
    for i, row in enumerate(rows):
        if not isinstance(row, (tuple, list)) or len(row) not in (3, 4):
            raise IntervalError(
                f"intervals, interval {i}: expected (contig, start, end) or (contig, start, end, strand), "
                f"received {row!r}"
            )
    contigs, starts, ends = ([row[k] for row in rows] for k in range(3))
    return _made(contigs, starts, ends, [row[3] if len(row) == 4 else "." for row in rows], {})


def _of_columns(frame: Any) -> Intervals:
    titles = titles_of(frame)
    found = {name: usual_title(titles, known) for name, known in _TITLES.items()}
    for name in ("contig", "start", "end"):
        if found[name] is None:
            raise IntervalError(
                f"intervals: expected a column {name!r} (or {', '.join(_TITLES[name][1:])}), "
                f"received {titles}"
            )
    strands = None if found["strand"] is None else list(np.asarray(frame[found["strand"]]))
    own = {str(title): _column(frame[title]) for title in titles if title not in found.values()}
    contigs, starts, ends = (list(np.asarray(frame[found[name]])) for name in ("contig", "start", "end"))
    return _made(contigs, starts, ends, ["."] * len(contigs) if strands is None else strands, own)


def _column(values: Any) -> np.ndarray:
    """Numbers as they are, all else as objects."""
    column = np.asarray(values)
    return column if column.dtype.kind in "iufb" else column.astype(object)


def _made(contigs: list, starts: list, ends: list, strands: list, own: dict[str, np.ndarray]) -> Intervals:
    names = [str(name) for name in contigs]
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    lengths = {len(contigs), len(starts), len(ends), len(strands)}
    if len(lengths) > 1:
        raise IntervalError(f"intervals: expected columns of one length, received lengths {sorted(lengths)}")
    signs = {**STRANDS, **{sign: sign for sign in STRANDS.values()}, None: 0}
    for i, strand in enumerate(strands):
        if strand not in signs:
            raise IntervalError(
                f"intervals, interval {i}: expected strand '+', '-' or '.', received {strand!r}"
            )
    table = Intervals(
        tuple(number),
        np.array([number[name] for name in names], np.int64),
        _positions(starts, "start"),
        _positions(ends, "end"),
        np.array([signs[strand] for strand in strands], np.int8),
        own,
    )
    if (table.starts < 0).any():
        i = int((table.starts < 0).argmax())
        raise IntervalError(f"{table.where(i)}: expected a start from 0 on, received {table.starts[i]:,}")
    return table


def _positions(values: list, name: str) -> np.ndarray:
    column = np.array(values) if values else np.empty(0, np.int64)
    if column.dtype.kind not in "iu" or column.ndim != 1:
        raise IntervalError(
            f"intervals: expected whole numbers as {name}, received {column.dtype} such as {values[0]!r}"
        )
    return column.astype(np.int64)


def joined(first: Intervals, second: Intervals) -> Intervals:
    """`Intervals.__add__`."""
    more = first._beside(second)
    names = more.contig_names if len(more.contig_names) > len(first.contig_names) else first.contig_names
    same_file = first.source == second.source and first.lines is not None and second.lines is not None

    def stacked(column: str) -> np.ndarray:
        return np.concatenate([getattr(first, column), getattr(more, column)])

    return Intervals(
        names,
        *(stacked(column) for column in ("contig_ids", "starts", "ends", "strands")),
        {name: _stacked(first, more, name) for name in {**first.columns, **second.columns}},
        stacked("lines") if same_file else None,
        first.source if same_file else f"{first.source} + {second.source}",
        (*first.changes, *second.changes),
    )


def _stacked(first: Intervals, second: Intervals, name: str) -> np.ndarray:
    """One column of both; where one table lacks it, nan if it holds numbers, else "."."""
    given = [table.columns.get(name) for table in (first, second)]
    numeric = all(column is None or column.dtype.kind in "iufb" for column in given)
    parts = []
    for table, column in zip((first, second), given, strict=True):
        if column is None:
            column = np.full(len(table), np.nan) if numeric else np.full(len(table), ".", object)
        parts.append(column if numeric else column.astype(object))
    return np.concatenate(parts)
