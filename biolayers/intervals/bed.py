"""BED files in and out, after the GA4GH specification BED v1.0 and UCSC's narrowPeak and broadPeak.

https://samtools.github.io/hts-specs/BEDv1.pdf and https://genome.ucsc.edu/FAQ/FAQformat.html
"""

import gzip
import math
import os
from collections.abc import Callable, Sequence

import numpy as np

from biolayers.intervals.errors import IntervalError
from biolayers.intervals.genome import check_choice
from biolayers.intervals.table import _SIGNS, STRANDS, Intervals

_BED = ("contig", "start", "end", "name", "score", "strand")
_THICK = ("thick_start", "thick_end", "item_rgb", "block_count", "block_sizes", "block_starts")
_PEAK = ("signal", "p_value", "q_value")  # the last two as -log10, -1 where there is none
_FORMATS = {"bed": (), "narrowPeak": (*_PEAK, "summit"), "broadPeak": _PEAK}  # columns after the first six
_NUMERIC = {"score", *_PEAK, "summit"}
_MISSING = ("", ".")


def read(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    standard: int | None = None,
    columns: Sequence[str] | None = None,
) -> Intervals:
    """Read a BED file, plain or gzip, with tabs or (if its first row has no tab) blanks between the cells.

    Lines that are blank, or start with `#`, `track` or `browser`, are passed over. Scores and the numbers of
    peaks become float64, nan for "."; a peak's summit counts from its start (-1: not called). Every other
    column stays text (`Intervals.numbers` turns one into numbers).

    Args:
        path: Of the file.
        format: "bed", "narrowPeak" or "broadPeak"; by default what the file's name says, else "bed".
        standard: How many columns are BED's own (3 to 6, or 12); the others are the user's (BED3+, BED6+). By
            default 12 where there are 12, else up to 6.
        columns: Names of the user's columns; by default those of a last comment line `#chrom start end ...`
            with one name for each column, else column7 for the seventh, and so on.

    Raises:
        IntervalError: The file cannot be read, or a line is not as it must be (file, line, and what).
    """
    path = os.fspath(path)
    lines, numbers, heading = _lines(_text(path))
    form = format or next(
        (f for f in _FORMATS if path.removesuffix(".gz").lower().endswith(f.lower())), "bed"
    )
    check_choice("format", form, tuple(_FORMATS))
    if not lines:
        raise IntervalError(f"{path}: expected at least one interval, received none")
    cells = _cut(path, lines, numbers)
    full = len(_BED) + len(_FORMATS[form])
    if form != "bed" and len(cells) != full:
        raise IntervalError(
            f"{path}, line {numbers[0]}: expected {full} columns of {form}, received {len(cells)}"
        )
    titles = _titles(path, numbers[0], len(cells), form, standard, columns, heading)
    return _table(path, dict(zip(titles, cells, strict=True)), np.array(numbers, np.int64))


def _table(path: str, cells: dict[str, list[str]], lines: np.ndarray) -> Intervals:
    def where(i: int) -> str:
        return f"{path}, line {lines[i]}"

    starts, ends = (_positions(cells.pop(name), name, where) for name in ("start", "end"))
    names = cells.pop("contig")
    if "" in names:
        raise IntervalError(f"{where(names.index(''))}: expected the name of a contig, received none")
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    signs = cells.pop("strand", ["."] * len(names))
    for i, sign in enumerate(signs) if not set(signs) <= set(STRANDS) else ():
        if sign not in STRANDS:
            raise IntervalError(
                f"{where(i)}: expected strand '+', '-' or '.' in column 6, received {sign!r}; "
                "pass standard=5 or less if the columns from there on are your own"
            )
    columns = {
        name: numbers(column, lambda i, name=name: f"{where(i)}, column {name!r}")
        if name in _NUMERIC
        else np.array(column, object)
        for name, column in cells.items()
    }
    ids = np.array([number[name] for name in names], np.int64)
    strands = np.array([STRANDS[sign] for sign in signs], np.int8)
    return Intervals(tuple(number), ids, starts, ends, strands, columns, lines, path)


# -- lines


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise IntervalError(
            f"{path}: expected a BED file, plain or gzip, but it cannot be read: {reason}"
        ) from error


def _lines(text: str) -> tuple[list[str], list[int], list[str]]:
    """The lines of intervals, their numbers (from 1), and the cells of the comment before the first."""
    every = text.replace("\r\n", "\n").rstrip("\r").split("\n")
    numbers = [number for number, line in enumerate(every, 1) if not _passed_over(line)]
    comments = [line[1:] for line in every[: numbers[0] if numbers else 0] if line.startswith("#")]
    heading = comments[-1].split("\t" if "\t" in comments[-1] else None) if comments else []
    return [every[number - 1] for number in numbers], numbers, heading


def _passed_over(line: str) -> bool:
    if not line or line[0] == "#":
        return True
    return line.isspace() or (line[0] in "tb" and line.split(None, 1)[0] in ("track", "browser"))


def _cut(path: str, lines: list[str], numbers: list[int]) -> list[list[str]]:
    """The columns of all lines, each a list of cells."""
    separator = "\t" if "\t" in lines[0] else None
    widths = [line.count("\t") + 1 for line in lines] if separator else [len(line.split()) for line in lines]
    width = widths[0]
    if width < 3 or width != min(widths) or width != max(widths):
        i = 0 if width < 3 else next(i for i, each in enumerate(widths) if each != width)
        expected = f"{width} columns as in the first row" if i else "at least 3 columns"
        raise IntervalError(
            f"{path}, line {numbers[i]}: expected {expected}, with {'tabs' if separator else 'blanks'} "
            f"between them, received {widths[i]}"
        )
    cells = (separator or " ").join(lines).split(separator)  # one list for all lines: many lists are slow
    return [cells[column::width] for column in range(width)]


def _titles(
    path: str,
    line: int,
    width: int,
    form: str,
    standard: int | None,
    names: Sequence[str] | None,
    heading: list[str],
) -> list[str]:
    """A name for every column of the file."""
    if standard is None:
        standard = 12 if width == 12 and form == "bed" and not names else min(width, 6)
    if standard not in (3, 4, 5, 6, 12) or standard > width:
        raise IntervalError(
            f"{path}, line {line}: expected standard from 3 to 6 or 12 of {width} columns, "
            f"received {standard}"
        )
    known = [*_BED[:standard], *(_THICK if standard == 12 else ()), *_FORMATS[form]]
    own = width - len(known)
    if names is None:
        named = len(heading) == width and heading[0].strip().lower() in ("chrom", "chr", "contig")
        names = [h.strip() for h in heading[len(known):]] if named else [
            f"column{i}" for i in range(len(known) + 1, width + 1)
        ]  # fmt: skip
    titles = [*known, *names]
    if len(names) != max(own, 0) or len(set(titles)) != len(titles):
        raise IntervalError(
            f"{path}, line {line}: expected {max(own, 0)} new names for the columns after {known}, "
            f"received {list(names)}"
        )
    return titles


# -- cells


def _positions(cells: Sequence[str], name: str, where: Callable[[int], str]) -> np.ndarray:
    if not all(map(str.isdecimal, cells)) or max(map(len, cells)) > 12:
        i = next(i for i, cell in enumerate(cells) if not cell.isdecimal() or len(cell) > 12)
        raise IntervalError(
            f"{where(i)}: expected a whole number from 0 on as {name}, received {cells[i]!r}; "
            "BED counts from 0, and the first three columns are contig, start and end"
        )
    return np.array(list(map(int, cells)), np.int64)


def numbers(cells: Sequence[object], where: Callable[[int], str]) -> np.ndarray:
    """Cells as numbers, nan where one is "." or empty: (n,) float64."""
    try:
        return np.array(list(map(float, cells)))  # type: ignore[arg-type]
    except (ValueError, TypeError):
        values = np.empty(len(cells))
    for i, cell in enumerate(cells):
        try:
            values[i] = math.nan if cell in _MISSING or cell is None else float(cell)  # type: ignore[arg-type]
        except (ValueError, TypeError):
            raise IntervalError(f"{where(i)}: expected a number or '.', received {cell!r}") from None
    return values


# -- out


def write(table: Intervals, path: str | os.PathLike[str]) -> None:
    """Write a BED file with tabs, gzip if its name ends in ".gz"; `read` gives the same intervals back.

    A comment line names the columns where there are some that BED does not know. Missing scores are ".".

    Raises:
        IntervalError: An interval begins before 0, or a cell holds a tab or newline.
    """
    path = os.fspath(path)
    if (table.starts < 0).any():
        i = int((table.starts < 0).argmax())
        raise IntervalError(
            f"{table.where(i)}: expected a start from 0 on, received {table.starts[i]:,}; "
            "fit the intervals to their genome first"
        )
    columns = _written(table)
    text = "".join("\t".join(row) + "\n" for row in zip(*columns.values(), strict=True))
    if text.count("\t") != max(len(columns) - 1, 0) * len(table) or text.count("\n") != len(table):
        raise IntervalError(f"{path}: expected cells without tabs and newlines, received some with them")
    if set(columns) - set(_BED):
        text = "#chrom" + "".join(f"\t{name}" for name in list(columns)[1:]) + "\n" + text
    data = text.encode()
    with open(path, "wb") as file:
        file.write(gzip.compress(data, mtime=0) if path.endswith(".gz") else data)


def _written(table: Intervals) -> dict[str, list[str]]:
    """The text of every column, by name, in the order of the file."""
    own = [name for name in table.columns if name not in ("name", "score")]
    stranded = bool(table.strands.any()) or bool(own)
    blank = [] if not len(table) else ["."] * len(table)
    columns = {
        "contig": list(table.contigs),
        "start": list(map(str, table.starts.tolist())),
        "end": list(map(str, table.ends.tolist())),
    }
    if stranded or "score" in table.columns or "name" in table.columns:
        columns["name"] = _cells(table.columns["name"]) if "name" in table.columns else blank
    if stranded or "score" in table.columns:
        columns["score"] = _cells(table.columns["score"]) if "score" in table.columns else blank
    if stranded:
        columns["strand"] = [_SIGNS[strand] for strand in table.strands.tolist()]
    return columns | {name: _cells(table.columns[name]) for name in own}


def _cells(column: np.ndarray) -> list[str]:
    return [_cell(value) for value in column.tolist()]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "." if math.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
    return "." if value is None else str(value)
