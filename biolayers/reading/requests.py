"""What is asked of a file: columns of intervals, checked, since the kernels trust them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from biolayers.alphabet import Alphabet
from biolayers.errors import FastaError
from biolayers.reading.fai import Index


def checked(
    path: str, index: Index, ids: Any, starts: Any, ends: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three columns (n,) int64 of intervals that lie within their records.

    Raises:
        FastaError: They do not, or are no columns of integers of one length.
    """
    ids = _integers(path, "contig_ids", ids)
    starts, ends = _integers(path, "starts", starts), _integers(path, "ends", ends)
    if not len(ids) == len(starts) == len(ends):
        lengths = f"{len(ids)}, {len(starts)} and {len(ends)}"
        raise FastaError(f"{path}: expected contig_ids, starts and ends of one length, received {lengths}")
    wrong = (ids < 0) | (ids >= len(index.lengths))
    if wrong.any():
        raise FastaError(
            f"{path}: expected contig_ids 0..{len(index.lengths) - 1}, received {ids[wrong.argmax()]}"
        )
    wrong = (starts < 0) | (ends < starts) | (ends > index.lengths[ids])
    if wrong.any():
        i = int(wrong.argmax())
        name, length = index.names[ids[i]], index.lengths[ids[i]]
        raise FastaError(
            f"{path}: expected 0 <= start <= end <= {length:,} within {name!r} (its length), "
            f"received {starts[i]:,} to {ends[i]:,} as interval {i}; clip or drop the interval"
        )
    return ids, starts, ends


def minus_of(path: str, alphabet: Alphabet, strands: Any, n: int) -> np.ndarray:
    """Which intervals are read backwards: (n,) bool."""
    if strands is None:
        return np.zeros(n, bool)
    column = np.asarray(strands)
    if column.dtype.kind in "US":
        column = column.astype("U")
        minus, known = column == "-", np.isin(column, ("+", "-", "."))
    else:
        minus, known = column == -1, (column == -1) | (column == 1)
    if column.shape != (n,) or not known.all():
        what = f"shape {column.shape}" if column.shape != (n,) else repr(column[~known][0].item())
        raise FastaError(f"{path}: expected {n} strands '+' or '-' (or 1, -1), received {what}")
    if minus.any() and not alphabet.stranded:
        raise FastaError(f"{path}: expected strand '+' only, as {alphabet} has no complement, received '-'")
    return np.ascontiguousarray(minus)


def width_of(
    path: str, index: Index, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray, pad: bool | int
) -> int:
    """How long the rows of a matrix of these intervals are."""
    lengths = ends - starts
    longest = int(lengths.max()) if lengths.size else 0
    width = longest if isinstance(pad, bool) else int(pad)
    odd = (lengths != lengths[:1]) if pad is False else lengths > width
    if odd.any():
        i = int(odd.argmax())
        which = f"interval {i} ({index.names[ids[i]]}:{starts[i]}-{ends[i]}) of length {lengths[i]}"
        expected = f"length {lengths[0]} as the first" if pad is False else f"at most {width} letters"
        remedy = "pass pad=True to fill shorter rows" if pad is False else "choose a larger pad"
        raise FastaError(f"{path}: expected {expected}, received {which}; {remedy}")
    return width


def columns_of(path: str, intervals: Sequence[Any]) -> tuple[list[Any], ...]:
    """Names, starts, ends and strands of tuples `(name, start, end)` or `(name, start, end, strand)`."""
    for i, interval in enumerate(intervals):
        if len(interval) not in (3, 4):
            raise FastaError(
                f"{path}: expected (name, start, end) or (name, start, end, strand), "
                f"received {interval!r} as interval {i}"
            )
    strands = [interval[3] if len(interval) == 4 else "+" for interval in intervals]
    names, starts, ends = ([interval[k] for interval in intervals] for k in range(3))
    return names, starts, ends, strands


def _integers(path: str, what: str, column: Any) -> np.ndarray:
    values = np.asarray(column)
    if values.size == 0:
        values = values.astype(np.int64)
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise FastaError(
            f"{path}: {what}: expected a column of integers, received {values.dtype} of shape {values.shape}"
        )
    return np.ascontiguousarray(values, np.int64)
