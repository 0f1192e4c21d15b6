"""Random access to a FASTA file: by name and slice, and many intervals at once into one tensor of tokens."""

import mmap
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biolayers.alphabet import DNA, Alphabet
from biolayers.errors import FastaError
from biolayers.fai import Index, index_of, line_number, spans
from biolayers.policy import LetterCounts
from shared.threads import parallel

_SHARE = 400_000  # letters that one thread fetches in about 0.2 ms


class Fasta:
    r"""A FASTA file, mapped into memory and indexed as by `samtools faidx`.

    The index is read from `path + ".fai"` if that is fresh and fits the file, else built and stored there
    (in memory only where the folder cannot be written). Coordinates are 0-based and half-open. An object may
    be used from several threads, forked and pickled; a process that receives it opens the file by itself, and
    refuses a file that has changed since.

    Args:
        path: Of the file, as plain text.
        alphabet: How letters become tokens, with its policy.
        store_index: Whether a new index may be written beside the file.

    Raises:
        FastaError: The file is missing, empty, compressed, or not well formed (with the line number).

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "two.fa")
        >>> with open(path, "w") as file:
        ...     _ = file.write(">one first\nACGTAC\nGTN\n>two\nGGGTTT\n")
        >>> fa = Fasta(path)
        >>> list(fa), fa["one"][4:8], fa["one"].header
        (['one', 'two'], 'ACGT', 'one first')
        >>> fa.fetch([("one", 4, 8), ("two", 2, 6, "-")])
        tensor([[0, 1, 2, 3],
                [0, 0, 0, 1]], dtype=torch.uint8)
    """

    def __init__(self, path: str | os.PathLike[str], *, alphabet: Alphabet = DNA, store_index: bool = True):
        self.path = os.fspath(path)
        self.alphabet = alphabet
        self._absolute = os.path.abspath(self.path)
        self._identity: tuple[int, int] | None = None  # size and time of change of the file that was indexed
        self._mapped: tuple[mmap.mmap, np.ndarray] | None = None
        self._index: Index = index_of(self.path, self._data, store=store_index)
        self._prepare()
        if _identity(os.stat(self._absolute)) != self._identity:
            raise FastaError(f"{self.path}: the file changed while it was indexed; open it again")

    def _prepare(self) -> None:
        index = self._index
        self._ids = {name: i for i, name in enumerate(index.names)}
        self._records = np.stack([index.offsets, np.maximum(index.bases, 1), index.widths])  # (3, n)

    # -- the file

    @property
    def _data(self) -> np.ndarray:
        """The bytes of the file: (size,) uint8; opened when first wanted in this process."""
        if self._mapped is None:
            self._mapped = self._open()
        file, data = self._mapped
        if file.size() != len(data):
            raise FastaError(f"{self.path}: the file changed after it was opened; open it again")
        return data

    def _open(self) -> tuple[mmap.mmap, np.ndarray]:
        try:
            if not stat.S_ISREG(os.stat(self._absolute).st_mode):
                raise FastaError(
                    f"{self.path}: expected a file, received a folder or a device; give a FASTA file"
                )
            with open(self._absolute, "rb") as file:
                found = _identity(os.fstat(file.fileno()))
                if found[0] == 0:
                    raise FastaError(f"{self.path}: expected at least one record, received an empty file")
                if self._identity not in (None, found):
                    raise FastaError(
                        f"{self.path}: the file changed after it was indexed; make a new Fasta of it"
                    )
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise FastaError(
                f"{self.path}: expected a FASTA file, but it cannot be read: {error.strerror}"
            ) from error
        self._identity = found
        return mapped, np.frombuffer(mapped, np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None, "_ids": None, "_records": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    # -- records

    @property
    def names(self) -> list[str]:
        """The names of all records, in the order of the file."""
        return list(self._index.names)

    @property
    def lengths(self) -> np.ndarray:
        """The number of letters of each record: (n,) int64."""
        return self._index.lengths.copy()

    def __len__(self) -> int:
        """How many records there are."""
        return len(self._index.names)

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of the file."""
        return iter(self._index.names)

    def __contains__(self, name: object) -> bool:
        return name in self._ids

    def __getitem__(self, name: str) -> "Record":
        """The record called `name`."""
        return Record(self, name, self._id(name))

    def __repr__(self) -> str:
        total = int(self._index.lengths.sum())
        return f"Fasta({self.path!r}: {len(self):,} records, {total:,} letters, {self.alphabet})"

    def ids(self, names: Iterable[Any]) -> np.ndarray:
        """The numbers of named records, for `fetch_arrays`: (n,) int64."""
        return np.array([self._id(name) for name in names], np.int64)

    def _id(self, name: object) -> int:
        try:
            return self._ids[name]
        except (KeyError, TypeError):
            close = get_close_matches(str(name), self._index.names, 3) if len(self) < 10_000 else []
            hint = (
                f"did you mean {' or '.join(map(repr, close))}?"
                if close
                else f"it has {_some(self._index.names)}"
            )
            raise FastaError(
                f"{self.path}: expected the name of a record, received {name!r}; {hint}"
            ) from None

    def header(self, record: int) -> str:
        """The whole header line of a record by number, without the `>`."""
        start, stop = self._index.headers[record] + 1, self._index.offsets[record]
        return self._data[start:stop].tobytes().decode("utf-8", "surrogateescape").strip()

    def headers(self) -> list[str]:
        """The header lines of all records, without the `>`."""
        return [text.strip() for text in spans(self._data, self._index.headers + 1, self._header_ends())]

    def _header_ends(self) -> np.ndarray:
        offsets = self._index.offsets
        return offsets - (self._data[offsets - 1] == 10)  # a last header may have no newline

    def line(self, record: int) -> int:
        """The line (from 1) of a record's header."""
        return line_number(self._data, int(self._index.headers[record]))

    def counts(self) -> LetterCounts:
        """How many letters of the whole file each clause of the policy touches (reads all of it)."""
        from biolayers.kernels.numba import scan

        index = self._index
        stops = self._bytes_at(np.arange(len(self)), np.maximum(index.lengths - 1, 0)) + (index.lengths > 0)
        return self.alphabet.counts_of(scan.tally(self._data, index.offsets, stops))

    def _bytes_at(self, ids: np.ndarray, letters: np.ndarray) -> np.ndarray:
        offset, bases, width = self._records[:, ids]
        return offset + letters // bases * width + letters % bases

    def _text(self, record: int, start: int, stop: int) -> str:
        """The letters as they stand in the file, for checked bounds."""
        if start >= stop:
            return ""
        first, last = self._bytes_at(np.array([record]), np.array([start, stop - 1])).tolist()
        return self._data[first : last + 1].tobytes().translate(None, b"\r\n\t\v\f ").decode("latin-1")

    # -- many intervals at once

    def fetch(self, intervals: Iterable[tuple[Any, ...]], *, pad: bool | int = False) -> Tensor:
        """Read intervals into one matrix of tokens: (n, length) uint8.

        Args:
            intervals: `(name, start, end)` or `(name, start, end, strand)`, 0-based and half-open; strand "-"
                gives the reverse complement.
            pad: What to do with different lengths: False is an error, True fills shorter rows with `PAD` up
                to the longest, a number up to that length.

        Raises:
            FastaError: An unknown name, an interval beyond its record, different lengths without `pad`, or a
                letter that the alphabet's policy refuses.
        """
        intervals = list(intervals)
        for i, interval in enumerate(intervals):
            if len(interval) not in (3, 4):
                raise FastaError(
                    f"{self.path}: expected (name, start, end) or (name, start, end, strand), "
                    f"received {interval!r} as interval {i}"
                )
        strands = [interval[3] if len(interval) == 4 else "+" for interval in intervals]
        ids = self.ids(interval[0] for interval in intervals)
        starts = [interval[1] for interval in intervals]
        ends = [interval[2] for interval in intervals]
        return self.fetch_arrays(
            ids, starts, ends, strands if "-" in strands or set(strands) - {"+"} else None, pad=pad
        )

    def fetch_arrays(
        self,
        contig_ids: Any,
        starts: Any,
        ends: Any,
        strands: Any = None,
        *,
        pad: bool | int = False,
    ) -> Tensor:
        """`fetch` from columns, without a Python loop: (n, length) uint8.

        Args:
            contig_ids: (n,) integers (array, tensor or list): records by number, as `ids` gives them.
            starts: (n,) integers: 0-based.
            ends: (n,) integers: half-open.
            strands: (n,) of 1 and -1, or of "+", "-" and "."; all forward by default.
            pad: As in `fetch`.
        """
        from biolayers.kernels.numba import fetch as kernel

        data = self._data
        ids, starts, ends = self._check(contig_ids, starts, ends)
        minus = self._minus(strands, len(ids))
        width = self._width(ids, starts, ends, pad)
        out = torch.empty((len(ids), width), dtype=torch.uint8)
        refused = np.empty(len(ids), np.int64)
        parallel(
            kernel.fetch,
            len(ids),
            data,
            self._records,
            ids,
            starts,
            ends,
            minus,
            kernel.recipe(self.alphabet),
            out.numpy(),
            refused,
            grain=max(1, _SHARE // max(1, width)),
        )
        if refused.size and refused.max() >= 0:
            row = int((refused >= 0).argmax())
            raise FastaError(self._refusal(int(ids[row]), int(starts[row] + refused[row])))
        return out

    def _check(self, ids: Any, starts: Any, ends: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        columns = [_integers(f"{self.path}: {what}", column) for what, column in
                   (("contig_ids", ids), ("starts", starts), ("ends", ends))]  # fmt: skip
        ids, starts, ends = columns
        if not len(ids) == len(starts) == len(ends):
            lengths = f"{len(ids)}, {len(starts)} and {len(ends)}"
            raise FastaError(
                f"{self.path}: expected contig_ids, starts and ends of one length, received {lengths}"
            )
        wrong = (ids < 0) | (ids >= len(self))
        if wrong.any():
            raise FastaError(
                f"{self.path}: expected contig_ids 0..{len(self) - 1}, received {ids[wrong.argmax()]}"
            )
        wrong = (starts < 0) | (ends < starts) | (ends > self._index.lengths[ids])
        if wrong.any():
            i = int(wrong.argmax())
            name, length = self._index.names[ids[i]], self._index.lengths[ids[i]]
            raise FastaError(
                f"{self.path}: expected 0 <= start <= end <= {length:,} within {name!r} (its length), "
                f"received {starts[i]:,} to {ends[i]:,} as interval {i}; clip or drop the interval"
            )
        return ids, starts, ends

    def _minus(self, strands: Any, n: int) -> np.ndarray:
        """Which rows to reverse: (n,) bool."""
        if strands is None:
            return np.zeros(n, bool)
        column = np.asarray(strands)
        if column.dtype.kind in "US":
            column = column.astype("U")
            minus, known = column == "-", np.isin(column, ("+", "-", "."))
        else:
            minus, known = column == -1, np.isin(column, (1, -1))
        if column.shape != (n,) or not known.all():
            what = f"shape {column.shape}" if column.shape != (n,) else repr(column[~known][0].item())
            raise FastaError(f"{self.path}: expected {n} strands '+' or '-' (or 1, -1), received {what}")
        if minus.any() and not self.alphabet.stranded:
            raise FastaError(
                f"{self.path}: expected strand '+' only, as {self.alphabet} has no complement, received '-'"
            )
        return np.ascontiguousarray(minus)

    def _width(self, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray, pad: bool | int) -> int:
        lengths = ends - starts
        longest = int(lengths.max()) if lengths.size else 0
        width = longest if isinstance(pad, bool) else int(pad)
        odd = (lengths != lengths[:1]) if pad is False else lengths > width
        if odd.any():
            i = int(odd.argmax())
            which = f"interval {i} ({self._index.names[ids[i]]}:{starts[i]}-{ends[i]}) of length {lengths[i]}"
            expected = f"length {lengths[0]} as the first" if pad is False else f"at most {width} letters"
            remedy = "pass pad=True to fill shorter rows" if pad is False else "choose a larger pad"
            raise FastaError(f"{self.path}: expected {expected}, received {which}; {remedy}")
        return width

    def _refusal(self, record: int, position: int) -> str:
        at = int(self._bytes_at(np.array([record]), np.array([position]))[0])
        where = f"{self.path}, line {line_number(self._data, at)}, record {self._index.names[record]!r}"
        return self.alphabet.complaint(where, chr(self._data[at]), position + 1)


@dataclass(frozen=True)
class Record:
    """One record of a `Fasta`: a view, which reads only what is asked for."""

    fasta: Fasta
    name: str
    id: int

    @property
    def header(self) -> str:
        """The whole header line, without the `>`."""
        return self.fasta.header(self.id)

    def __len__(self) -> int:
        """How many letters."""
        return int(self.fasta._index.lengths[self.id])

    def __getitem__(self, key: int | slice) -> str:
        """Letters as they stand in the file, by Python's rules for strings (slices are clipped)."""
        if not isinstance(key, slice):
            place = range(len(self))[key]
            return self.fasta._text(self.id, place, place + 1)
        start, stop, step = key.indices(len(self))
        if step > 0:
            return self.fasta._text(self.id, start, stop)[::step]
        return self.fasta._text(self.id, stop + 1, start + 1)[::-1][::-step]

    def __str__(self) -> str:
        return self[:]

    def __repr__(self) -> str:
        return f"Record({self.name!r}: {len(self):,} letters)"

    def tokens(self, start: int = 0, end: int | None = None, *, strand: str = "+") -> Tensor:
        """The tokens of a 0-based half-open interval, by default of the whole record: (length,) uint8."""
        end = len(self) if end is None else end
        return self.fasta.fetch_arrays([self.id], [start], [end], [strand])[0]


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _integers(what: str, column: Any) -> np.ndarray:
    values = np.asarray(column)
    if values.size == 0:
        values = values.astype(np.int64)
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise FastaError(
            f"{what}: expected a column of integers, received {values.dtype} of shape {values.shape}"
        )
    return np.ascontiguousarray(values, np.int64)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return shown if len(names) <= 5 else f"{shown}, ... ({len(names):,} in all)"
