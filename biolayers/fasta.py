"""Random access to a FASTA file: by name and slice, and many intervals at once into one tensor of tokens."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biolayers.alphabet import DNA, Alphabet
from biolayers.errors import FastaError
from biolayers.kernels.numba.memory import fresh_bytes
from biolayers.policy import LetterCounts
from biolayers.reading.fai import Index, head_of, index_of
from biolayers.reading.faults import line_number
from biolayers.reading.gathering import Wanted, gather
from biolayers.reading.locate import pieces
from biolayers.reading.opening import open_source
from biolayers.reading.records import beginning_of
from biolayers.reading.requests import checked, columns_of, minus_of, width_of
from biolayers.reading.source import Identity, Source
from biolayers.reading.window import Window


class Fasta:
    r"""A FASTA file of any size, indexed as by `samtools faidx`: plain or bgzip text, local or remote.

    A plain local file is mapped into memory; of others, blocks are decompressed or fetched when they are
    wanted, and kept. The index is read from `path + ".fai"` if that is fresh and fits the file, else built
    and stored there (in memory only where the folder cannot be written, the file is remote, or the lines of a
    record are of different lengths, which samtools does not index). Coordinates are 0-based and half-open.
    An object may be used from several threads, forked and pickled; a process that receives it opens the file
    by itself, and refuses a file that has changed since.

    Names are unique, or the file is refused. Line endings, blank lines, lines of any length and a byte-order
    mark leave no trace in sequences; any other byte that is no printable letter is refused with its line.

    Args:
        path: Of the file, or its address as fsspec reads it (`https://`, `s3://`, ...).
        alphabet: How letters become tokens, with its policy.
        store_index: Whether a new index may be written (for bgzip also the `.gzi` of its blocks).
        index: Where the `.fai` is, as a local file; by default beside the file.
        convert: Of a gzip file, which has no random access: where to put a copy that has it (bgzip), which is
            then read; made when it is missing or older than the file.
        storage_options: Of a remote file, for its file system, such as credentials.

    Raises:
        FastaError: The file is missing, empty, of another kind, or not well formed (with the line number).

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

    _fastq = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        alphabet: Alphabet = DNA,
        store_index: bool = True,
        index: str | os.PathLike[str] | None = None,
        convert: str | os.PathLike[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ):
        self.path = os.fspath(path)
        self.alphabet = alphabet
        self._options = dict(storage_options or {})
        opened = open_source(self.path, self._options, store_index=store_index, convert=convert)
        self._absolute = opened.absolute
        self._opened: Source | None = opened.source
        self._identity: Identity = opened.source.identity  # of the file that was indexed
        self._refuse_other_text()
        self._index: Index = index_of(
            self.path,
            opened.source,
            stored=f"{opened.absolute}.fai" if index is None else os.fspath(index),
            keep=store_index and (index is not None or not opened.remote),
            file=None if opened.remote else opened.absolute,
            text=None if index is not None else opened.index,
        )
        opened.source.check()

    def _refuse_other_text(self) -> None:
        _, fastq = beginning_of(head_of(self._source))
        if fastq != self._fastq:
            raise FastaError(
                f"{self.path}: expected FASTA text; the file starts with '@' and looks like FASTQ; "
                "use biolayers.Fastq, or biolayers.read_batches"
                if fastq
                else f"{self.path}: expected FASTQ text, which starts with '@'; for FASTA use biolayers.Fasta"
            )

    # -- the file

    @property
    def _source(self) -> Source:
        """The text of the file; opened when first wanted in this process."""
        if self._opened is None:
            self._opened = open_source(
                self._absolute, self._options, name=self.path, store_index=False
            ).source
            if self._opened.identity != self._identity:
                self._opened = None
                raise FastaError(
                    f"{self.path}: the file changed after it was indexed; make a new Fasta of it"
                )
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def with_alphabet(self, alphabet: Alphabet) -> "Fasta":
        """The same open file and index, read by another alphabet or policy."""
        other = copy(self)
        other.alphabet = alphabet
        return other

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
        return len(self._index.lengths)

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of the file."""
        return iter(self._index.names)

    def __contains__(self, name: object) -> bool:
        return name in self._index.ids

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
            return self._index.ids[name]
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
        return self._headers(np.array([record]))[0]

    def headers(self) -> list[str]:
        """The header lines of all records, without the `>`."""
        return self._headers(np.arange(len(self)))

    def _headers(self, ids: np.ndarray) -> list[str]:
        from biolayers.kernels.numba import fai

        starts, stops = self._index.headers[ids] + 1, self._index.offsets[ids]
        text, places = self._spans(starts, stops)
        ends = places + stops - starts
        ends -= text[ends - 1] == 10  # a last header may have no newline
        lines = fai.gather(text, places, ends).tobytes().decode("utf-8", "surrogateescape")
        return [line.strip() for line in lines.split("\n")[:-1]]

    def _window(self) -> Window:
        source = self._source
        source.check()
        return source.window()

    def _spans(self, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        source = self._source
        source.check()
        return source.spans(starts, stops)

    def line(self, record: int) -> int:
        """The line (from 1) of a record's header; reads the file up to it."""
        return line_number(self._window(), int(self._index.headers[record]))

    def counts(self) -> LetterCounts:
        """How many letters of the whole file each clause of the policy touches (reads all of it)."""
        from biolayers.kernels.numba import scan

        ids = np.arange(len(self))
        starts, stops = pieces(self._index, ids, np.zeros_like(ids), self._index.lengths).bytes()
        counts = np.zeros(256, np.int64)
        window = self._window()
        while True:
            end = window.base + len(window.data)
            first, last = np.searchsorted(stops, window.base, "right"), np.searchsorted(starts, end, "left")
            low, high = np.maximum(starts[first:last], window.base), np.minimum(stops[first:last], end)
            scan.tally(window.data, low - window.base, high - window.base, counts)
            window.check()
            if window.final:
                return self.alphabet.counts_of(counts)
            window.advance(len(window.data))

    def _places(self, record: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """The first byte of each piece of an interval, and the one after its last."""
        ids, starts, stops = (np.array([value]) for value in (record, start, stop))
        return pieces(self._index, ids, starts, stops).bytes()

    def _text(self, record: int, start: int, stop: int) -> str:
        """The letters as they stand in the file, for checked bounds."""
        firsts, lasts = self._places(record, start, max(start, stop))
        text, places = self._spans(firsts, lasts)
        parts = [text[at : at + size].tobytes() for at, size in zip(places, lasts - firsts, strict=True)]
        self._source.check()
        letters = b"".join(parts).translate(None, b"\r\n\t\v\f ")
        if len(letters) != max(0, stop - start):
            raise FastaError(
                f"{self.path}: expected {stop - start:,} letters where the index says, received "
                f"{len(letters):,}; the index belongs to another file: remove it, and open the file again"
            )
        return letters.decode("latin-1")

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
        names, starts, ends, strands = columns_of(self.path, list(intervals))
        known = None if set(strands) <= {"+"} else strands
        return self.fetch_arrays(self.ids(names), starts, ends, known, pad=pad)

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
        ids, starts, ends = checked(self.path, self._index, contig_ids, starts, ends)
        minus = minus_of(self.path, self.alphabet, strands, len(ids))
        width = width_of(self.path, self._index, ids, starts, ends, pad)
        out = fresh_bytes(len(ids), width)
        places = np.arange(0, len(ids) * width, width) if width else np.zeros(len(ids), np.int64)
        rooms = np.full(len(ids), width)
        self._fill(out.view(-1).numpy(), Wanted(ids, starts, ends, minus, places, rooms))
        return out

    def fetch_ragged(
        self, contig_ids: Any, starts: Any, ends: Any, strands: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Intervals of any lengths, one after the other: tokens (letters,) uint8, and offsets (n + 1,) int64.

        Interval i is `tokens[offsets[i] : offsets[i + 1]]`; arguments as of `fetch_arrays`.
        """
        ids, starts, ends = checked(self.path, self._index, contig_ids, starts, ends)
        minus = minus_of(self.path, self.alphabet, strands, len(ids))
        offsets = np.concatenate([[0], np.cumsum(ends - starts)])
        out = fresh_bytes(int(offsets[-1]))
        self._fill(out.numpy(), Wanted(ids, starts, ends, minus, offsets[:-1], ends - starts))
        return out, torch.from_numpy(offsets)

    def _fill(self, out: np.ndarray, wanted: Wanted) -> None:
        """Write the tokens of checked intervals to `out`."""
        from biolayers.kernels.numba import fetch as kernel

        refused = gather(kernel.fetch, self._source, self._index, self.alphabet, wanted, out)
        if refused is not None:
            row, letter = refused
            raise FastaError(self._refusal(int(wanted.ids[row]), int(wanted.starts[row] + letter)))

    def _refusal(self, record: int, position: int) -> str:
        letter = self._text(record, position, position + 1)
        firsts, _ = self._places(record, position, position + 1)
        line = line_number(self._window(), int(firsts[0]))
        where = f"{self.path}, line {line}, record {self._index.names[record]!r}"
        return self.alphabet.complaint(where, letter, position + 1)


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


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return shown if len(names) <= 5 else f"{shown}, ... ({len(names):,} in all)"
