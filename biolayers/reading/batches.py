"""Read a file once from start to end: records in batches, their letters as tokens."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biolayers.alphabet import DNA, PAD, Alphabet
from biolayers.errors import FastaError
from biolayers.kernels.numba.memory import fresh_bytes
from biolayers.reading.records import Found, Scanner
from biolayers.reading.streams import open_window
from shared.threads import parallel

_SHARE = 400_000  # letters that one thread encodes in about 0.1 ms


@dataclass(frozen=True, eq=False)
class RecordBatch:
    """Records that stand one after the other in a file.

    The tokens of record i are `tokens[offsets[i] : offsets[i + 1]]`, and its qualities likewise.
    """

    tokens: Tensor  # (letters,) uint8
    offsets: Tensor  # (n + 1,) int64
    qualities: Tensor | None  # (letters,) uint8, of FASTQ: the Phred scores
    _names: bytes  # each with a newline after it
    _headers: bytes

    @cached_property
    def names(self) -> list[str]:
        """The name of each record: its header up to the first blank."""
        return self._names.decode("utf-8", "surrogateescape").split("\n")[:-1]

    @cached_property
    def headers(self) -> list[str]:
        """The header line of each record, without its first character."""
        lines = self._headers.decode("utf-8", "surrogateescape").split("\n")[:-1]
        return [line.strip() for line in lines]

    @property
    def lengths(self) -> Tensor:
        """How many letters each record has: (n,) int64."""
        return self.offsets.diff()

    def __len__(self) -> int:
        """How many records."""
        return len(self.offsets) - 1

    def padded(self, width: int | None = None) -> Tensor:
        """The tokens as a matrix: (n, width) uint8, `PAD` after the end; by default as wide as the longest.

        Raises:
            FastaError: A record is longer than `width`.
        """
        lengths = self.lengths
        longest = int(lengths.max()) if len(self) else 0
        width = longest if width is None else width
        if longest > width:
            i = int(lengths.argmax())
            raise FastaError(
                f"RecordBatch: expected records of at most {width} letters, received {self.names[i]!r} of "
                f"{longest}; choose a larger width"
            )
        if bool((lengths == width).all()):
            return self.tokens.view(len(self), width)
        out = torch.full((len(self), width), PAD, dtype=torch.uint8)
        out[torch.arange(width) < lengths[:, None]] = self.tokens
        return out


def read_batches(
    path: str | os.PathLike[str],
    *,
    alphabet: Alphabet = DNA,
    storage_options: Mapping[str, Any] | None = None,
) -> Iterator[RecordBatch]:
    r"""Read all records of a FASTA or FASTQ file in order, some 30 MB of text at a time.

    Nothing is indexed or stored, and names may occur more than once. Memory is bounded by a few batches, and
    by the longest record.

    Args:
        path: Of a plain, gzip or bgzip file, or an address as fsspec reads it.
        alphabet: How letters become tokens, with its policy.
        storage_options: Of a remote file, for its file system.

    Raises:
        FastaError: The file cannot be read, is not well formed, cut off or damaged, or has a letter that the
            policy refuses (with the line number).

    Example:
        >>> import gzip, os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "reads.fq.gz")
        >>> with gzip.open(path, "wt") as file:
        ...     _ = file.write("@a lane 1\nACGT\n+\nII#I\n@b\nNA\n+\n!!\n")
        >>> for batch in read_batches(path):
        ...     print(batch.names, batch.offsets.tolist())
        ...     print(batch.padded())
        ...     print(batch.qualities)
        ['a', 'b'] [0, 4, 6]
        tensor([[  0,   1,   2,   3],
                [  4,   0, 255, 255]], dtype=torch.uint8)
        tensor([40, 40,  2, 40,  0,  0], dtype=torch.uint8)
    """
    path = os.fspath(path)
    scanner = Scanner(path, partial(open_window, path, storage_options or {}), whole=True)
    first = 0  # the number of the next record
    for found in scanner:
        count = sum(piece.shape[1] for piece in found.headers)
        if count:
            yield _batch(scanner, found, alphabet, first)
        first += count
    if first == 0:
        raise FastaError(
            f"{path}: expected at least one record ('>name', then letters), found blank lines only"
        )


def _batch(scanner: Scanner, found: Found, alphabet: Alphabet, first: int) -> RecordBatch:
    headers, segments = np.concatenate(found.headers, 1), np.concatenate(found.segments, 1)
    names = b"".join(found.names)
    records, letters, *table = segments
    totals = np.concatenate([[0], np.cumsum(letters)])
    count = headers.shape[1]
    edges = np.concatenate([[0], np.cumsum(np.bincount(records - first, minlength=count))])
    offsets = totals[edges]
    table = np.maximum(np.stack(table), 1)
    table[0] -= scanner.window.base
    tokens = fresh_bytes(int(totals[-1]))
    refused = _encode("fetch", scanner, table, letters, totals, alphabet, tokens)
    scanner.window.check()
    if refused is not None:
        segment, letter = refused
        raise FastaError(_refusal(scanner, names, segments, alphabet, first, segment, letter))
    qualities = None
    if found.qualities is not None:
        qualities = fresh_bytes(len(tokens))
        places = np.stack([found.qualities[records - first] - scanner.window.base, *table[1:]])
        _encode("fetch_qualities", scanner, places, letters, totals, alphabet, qualities)
    return RecordBatch(tokens, torch.from_numpy(offsets), qualities, names, _headers(scanner, headers, names))


def _encode(
    kernel: str, scanner: Scanner, table: np.ndarray, letters: np.ndarray, totals: np.ndarray,
    alphabet: Alphabet, out: Tensor,
) -> tuple[int, int] | None:  # fmt: skip
    """Run a kernel of `kernels.numba.fetch`: the first refused letter as segment and place in it, or None."""
    from biolayers.kernels.numba import fetch

    count = len(letters)
    refused = np.full(count, -1, np.int64)
    parallel(
        getattr(fetch, kernel), count, scanner.window.data, table, np.arange(count),
        np.zeros(count, np.int64),
        letters, np.zeros(count, bool), fetch.recipe(alphabet), out.numpy(), totals[:-1], letters, refused,
        grain=max(1, _SHARE * count // max(1, len(out))),
    )  # fmt: skip
    if not count or refused.max() < 0:
        return None
    at = int((refused >= 0).argmax())
    return at, int(refused[at])


def _headers(scanner: Scanner, headers: np.ndarray, names: bytes) -> bytes:
    from biolayers.kernels.numba import fai

    data, base = scanner.window.data, scanner.window.base
    starts, stops = headers[0] + 1 - base, headers[3] - base
    stops -= data[stops - 1] == 10  # a last header may have no newline
    if np.array_equal(stops - starts, headers[2] - headers[1]):
        return names
    return fai.gather(data, starts, stops).tobytes()


def _refusal(
    scanner: Scanner,
    names: bytes,
    segments: np.ndarray,
    alphabet: Alphabet,
    first: int,
    segment: int,
    letter: int,
) -> str:
    record, _, offset, bases, width = segments[:, segment].tolist()
    own = segments[0, :segment] == record
    at = offset - scanner.window.base + letter // bases * width + letter % bases
    data = scanner.window.data
    name = names.decode("utf-8", "surrogateescape").split("\n")[record - first]
    position = int(segments[1, :segment][own].sum()) + letter + 1
    return alphabet.complaint(
        f"{scanner.path}, line {scanner.line(at)}, record {name!r}", chr(data[at]), position
    )
