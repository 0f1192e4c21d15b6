"""The samtools index of a FASTA or FASTQ file: read it, check it against the file, or build and store it.

The layout is that of the faidx manual page of samtools (https://www.htslib.org/doc/faidx.html): one line per
record with NAME, LENGTH, OFFSET, LINEBASES and LINEWIDTH, for FASTQ also QUALOFFSET, separated by tabs.
"""

import logging
import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from biolayers.errors import FastaError
from biolayers.reading.faults import line_number
from biolayers.reading.fit import fit
from biolayers.reading.records import HEAD, Found, Scanner, beginning_of
from biolayers.reading.source import Source
from biolayers.reading.storing import is_fresh, store
from shared.threads import parallel

log = logging.getLogger("biolayers")

_PIECE = 1 << 14  # records whose lines of an index one thread writes in about 1 ms


@dataclass(frozen=True, eq=False)
class Index:
    """Where each record lies; one column per fact, in the order of the file.

    Letter p of a segment is the byte `offset + p // bases * width + p % bases`; a record is one segment, or
    several where its lines are of different lengths.
    """

    text: bytes  # the names, each with a newline after it
    lengths: np.ndarray  # (n,) int64: letters
    headers: np.ndarray  # (n,) int64: byte of the `>` or `@`
    offsets: np.ndarray  # (n,) int64: first byte after the header's line
    segments: np.ndarray  # (3, m) int64: byte of the first letter, letters and bytes of a full line
    firsts: np.ndarray  # (m,) int64: the first letter of each segment, counted over all records
    edges: np.ndarray  # (n + 1,) int64: the segments of record i are edges[i] to edges[i + 1]
    qualities: np.ndarray | None  # (n,) int64, of FASTQ: byte of the first quality

    @cached_property
    def names(self) -> list[str]:
        """The names; bytes that are no UTF-8 survive as surrogates."""
        return self.text.decode("utf-8", "surrogateescape").split("\n")[:-1]

    @cached_property
    def ids(self) -> dict[str, int]:
        """The number of each record by its name."""
        return dict(zip(self.names, range(len(self.lengths)), strict=True))

    @cached_property
    def starts(self) -> np.ndarray:
        """The number of each record's first letter, counted over all records: (n,) int64."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def regular(self) -> bool:
        """Whether each record is one segment, or none, right after its header: what samtools can index."""
        counts = np.diff(self.edges)
        return bool((counts <= 1).all()) and np.array_equal(self.segments[0], self.offsets[counts == 1])

    @cached_property
    def table(self) -> np.ndarray:
        """Of a regular index: offset, letters (at least 1) and bytes of a full line: (3, n) int64."""
        table = np.stack([self.offsets, np.ones_like(self.offsets), np.zeros_like(self.offsets)])
        table[:, np.diff(self.edges) == 1] = self.segments
        return np.stack([table[0], np.maximum(table[1], 1), table[2]])

    @cached_property
    def quality_table(self) -> np.ndarray:
        """Of FASTQ: as `table`, for the qualities."""
        assert self.qualities is not None
        return np.stack([self.qualities, *self.table[1:]])


def index_of(
    path: str, source: Source, *, stored: str, keep: bool, file: str | None = None, text: bytes | None = None
) -> Index:
    """The index of `path`: the stored one if it is fresh and fits, else a new one.

    A new index is stored at once and whole (a temporary file takes the name), byte for byte as samtools does,
    unless `keep` is off, the folder cannot be written, or samtools could not index the file, since the lines
    of a record are of different lengths; then it lives in memory only.

    Args:
        path: Of the file, for messages.
        source: Its text.
        stored: Where its index is.
        keep: Whether a new index may be stored there.
        file: The local file whose age tells whether the stored index is fresh; None if it is not local.
        text: The content of an index that does not lie in a local file.

    Raises:
        FastaError: The file is not well formed.
    """
    if text is None and os.path.exists(stored):
        if file is None or is_fresh(stored, file):
            text = _content(stored)
        else:
            log.info("%s is older than %s: building a new index", stored, path)
    if text is not None:
        index = _read(text, source)
        if index is not None:
            return _checked(path, source, index)
        log.warning("%s does not fit %s: building a new index", stored, path)
    index = build(path, source)
    if keep and index.regular:
        store(stored, _texts(index))
    elif keep:
        log.info("%s has lines of different lengths within a record: the index stays in memory", path)
    return index


def _content(stored: str) -> bytes | None:
    """What a stored index holds, or None if it may not be read."""
    try:
        with open(stored, "rb") as file:
            return file.read()
    except OSError as error:
        log.info("%s cannot be read (%s): building a new index", stored, error.strerror)
        return None


def build(path: str, source: Source) -> Index:
    """Read the whole file, and note where its records are."""
    index = _joined(list(Scanner(path, source.window)))
    if not len(index.lengths):
        raise FastaError(
            f"{path}: expected at least one record ('>name', then letters), found blank lines only"
        )
    return _checked(path, source, index)


def _joined(found: list[Found]) -> Index:
    headers = [piece for part in found for piece in part.headers]
    segments = np.concatenate([piece for part in found for piece in part.segments], 1)
    text = b"".join(piece for part in found for piece in part.names)
    qualities = [part.qualities for part in found if part.qualities is not None]
    starts, offsets = (np.concatenate([piece[row] for piece in headers]) for row in (0, 3))
    return _index(text, starts, offsets, segments, np.concatenate(qualities) if qualities else None)


def _index(
    text: bytes,
    headers: np.ndarray,
    offsets: np.ndarray,
    segments: np.ndarray,
    qualities: np.ndarray | None,
) -> Index:
    """From segments (5, m) as `kernels.numba.scan` gives them, and the columns of `Index`."""
    records, letters = segments[:2]
    count = len(headers)
    edges = np.concatenate([[0], np.cumsum(np.bincount(records, minlength=count))])
    totals = np.concatenate([[0], np.cumsum(letters)])
    lengths = np.diff(totals[edges])
    return Index(text, lengths, headers, offsets, segments[2:], totals[:-1], edges, qualities)


def _checked(path: str, source: Source, index: Index) -> Index:
    """The index, if each name occurs once."""
    twice = _duplicate(index)
    if twice is None:
        return index
    lines = [line_number(source.window(), int(index.headers[k])) for k in reversed(twice)]
    raise FastaError(
        f"{path}, line {lines[0]}: expected each name once, received {index.names[twice[0]]!r} again "
        f"(first on line {lines[1]}); rename one of the two records"
    )


def _duplicate(index: Index) -> tuple[int, int] | None:
    """The first two records with one name. Hashes show fast that there are none."""
    from biolayers.kernels.numba import names

    if not names.may_repeat(np.frombuffer(index.text, np.uint8), len(index.lengths)):
        return None
    seen: dict[str, int] = {}
    for i, name in enumerate(index.names):
        if seen.setdefault(name, i) != i:
            return seen[name], i
    return None


def head_of(source: Source) -> bytes:
    """The first bytes of the text."""
    text, places = source.spans(np.array([0]), np.array([min(HEAD, source.size)]))
    return text[int(places[0]) :][: min(HEAD, source.size)].tobytes()


def _texts(index: Index) -> list[memoryview]:
    """What samtools writes, in parts: no line for an empty record without any line of letters."""
    from biolayers.kernels.numba import fai

    held = np.diff(index.edges) == 1
    columns = [index.lengths[held], *index.segments]
    columns += [] if index.qualities is None else [index.qualities[held]]
    table, names = np.stack(columns), np.frombuffer(index.text, np.uint8)
    count = max(1, len(held) // _PIECE)
    records = np.linspace(0, len(held), count + 1).astype(np.int64)
    rows = np.concatenate([[0], np.cumsum(held)])[records]
    places = fai.places(names, records)
    texts: list[np.ndarray] = [names] * count

    def work(first: int, last: int) -> None:
        for k in range(first, last):
            own = slice(records[k], records[k + 1])
            texts[k] = fai.write(names[places[k] : places[k + 1]], held[own], table[:, rows[k] : rows[k + 1]])

    parallel(work, count, grain=1)
    return [text.data for text in texts]


def _read(text: bytes, source: Source) -> Index | None:
    """The stored index, or None where it is damaged or belongs to another file."""
    from biolayers.kernels.numba import fai

    first, fastq = beginning_of(head_of(source))
    data = np.frombuffer(text, np.uint8)
    rows, names, edges, sound = fai.parse(data, 5 if fastq else 4)
    if not sound or len(edges) == 1:
        return None
    found = fit(source, rows, names, edges, first, fastq=fastq)
    if found is None:
        return None
    headers, segments = found
    lines, places = source.spans(headers[1], headers[2])
    texts = fai.gather(lines, places, places + headers[2] - headers[1]).tobytes()
    return _index(texts, headers[0], headers[3], segments, rows[4].copy() if fastq else None)
