"""Rows of a table as text, with the line of each for messages: CSV, TSV and Parquet."""

import csv
import os
from collections.abc import Iterator

from biolayers.errors import FastaError

Row = tuple[int, list[str]]  # line from 1 (in Parquet the row, where the titles are row 1), and its cells

_PARQUET = (".parquet", ".pq")


def is_parquet(path: str | os.PathLike[str]) -> bool:
    """Whether a table is Parquet, by its name; such a table always has titles."""
    return os.fspath(path).lower().endswith(_PARQUET)


def rows(path: str | os.PathLike[str]) -> Iterator[Row]:
    """The rows of a table that are not blank; in text, tabs separate if the first row has one, else commas.

    An absent value of Parquet is an empty cell.

    Raises:
        FastaError: The table cannot be read, or pyarrow is missing for Parquet.
    """
    path = os.fspath(path)
    return _parquet_rows(path) if is_parquet(path) else _text_rows(path)


def _text_rows(path: str) -> Iterator[Row]:
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


def _parquet_rows(path: str) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise FastaError(
            f"{path}: expected pyarrow for a Parquet table, found none; pip install 'qbio[parquet]', or save "
            "the table as CSV"
        ) from error
    try:
        file = parquet.ParquetFile(path)
        yield 1, list(file.schema_arrow.names)
        line = 1
        for batch in file.iter_batches():
            for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                line += 1
                yield line, ["" if cell is None else str(cell) for cell in cells]
    except OSError as error:
        reason = error.strerror or error
        raise FastaError(f"{path}: expected a table of labels, but it cannot be read: {reason}") from error
    except ArrowException as error:
        raise FastaError(f"{path}: expected a Parquet table: {str(error).splitlines()[0]}") from error
