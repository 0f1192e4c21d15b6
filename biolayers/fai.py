"""The samtools index of a FASTA file: read it, check it against the file, or build and store it.

The layout is that of the faidx manual page of samtools (https://www.htslib.org/doc/faidx.html): one line per
record with NAME, LENGTH, OFFSET, LINEBASES and LINEWIDTH, separated by tabs.
"""

import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from biolayers.errors import FastaError

log = logging.getLogger("biolayers")

# The first bytes of files that people hand over as FASTA, and what to say about them.
_MAGIC = (
    (b"\x1f\x8b", "is compressed with gzip or bgzip; decompress it first (gzip -dk FILE)"),
    (b"BZh", "is compressed with bzip2; decompress it first (bunzip2 -k FILE)"),
    (b"\xfd7zXZ\x00", "is compressed with xz; decompress it first (unxz -k FILE)"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; decompress it first (unzstd FILE)"),
    (b"PK\x03\x04", "is a zip archive; unpack it first"),
    (b"\xef\xbb\xbf", "starts with a byte-order mark; save it as plain ASCII text, without the mark"),
    (b"\xff\xfe", "is UTF-16 text or no text; save it as plain ASCII text"),
    (b"@", "starts with '@' and looks like FASTQ; convert it to FASTA first (seqtk seq -A FILE)"),
)


@dataclass(frozen=True, eq=False)
class Index:
    """Where each record of a FASTA file lies; one column per fact, in the order of the file.

    `offsets` is the byte of the first letter, and letter p of record i is the byte
    `offsets[i] + p // bases[i] * widths[i] + p % bases[i]`.
    """

    names: list[str]
    lengths: np.ndarray  # (n,) int64: letters
    offsets: np.ndarray  # (n,) int64: byte of the first letter
    bases: np.ndarray  # (n,) int64: letters of a full line
    widths: np.ndarray  # (n,) int64: bytes of a full line, line ending included
    headers: np.ndarray  # (n,) int64: byte of the `>`


def index_of(path: str, data: np.ndarray, *, store: bool) -> Index:
    """The index of `path`, whose bytes are `data`: the stored one if it is fresh and fits, else a new one.

    A new index is written beside the file, at once and whole (a temporary file takes the name), byte for byte
    as samtools does, unless `store` is off or the folder cannot be written; then it lives in memory only.

    Raises:
        FastaError: The file is no well-formed FASTA.
    """
    stored = path + ".fai"
    if _is_fresh(stored, path):
        index = _read(stored, path, data)
        if index is not None:
            return index
        log.warning("%s does not fit %s: building a new index", stored, path)
    elif os.path.exists(stored):
        log.info("%s is older than %s: building a new index", stored, path)
    return build(path, data, store=store)


def build(path: str, data: np.ndarray, *, store: bool) -> Index:
    """Scan the whole file, and store what was found."""
    from biolayers.kernels.numba import fai, scan

    _refuse_other_formats(path, data)
    columns, code, at = scan.scan(data)
    if code != scan.FINE:
        raise FastaError(_fault(path, data, code, at))
    index = _index(path, data, columns)
    if not index.names:
        raise FastaError(
            f"{path}: expected at least one record ('>name', then letters), found blank lines only"
        )
    if store:
        _write(path + ".fai", fai.write(data, columns).tobytes())
    return index


def spans(data: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> list[str]:
    """Pieces of the file that hold no newline, as strings; bytes that are no UTF-8 survive as surrogates."""
    from biolayers.kernels.numba import fai

    return fai.gather(data, starts, stops).tobytes().decode("utf-8", "surrogateescape").split("\n")[:-1]


def line_number(data: np.ndarray, at: int) -> int:
    """The line (from 1) of a byte of the file."""
    step = 1 << 24
    return 1 + sum(int(np.count_nonzero(data[i : min(i + step, at)] == 10)) for i in range(0, at, step))


def _index(path: str, data: np.ndarray, columns: np.ndarray) -> Index:
    headers, starts, stops, lengths, offsets, bases, widths = columns
    names = spans(data, starts, stops)
    if len(set(names)) < len(names):
        raise FastaError(_duplicate(path, data, names, headers))
    return Index(names, lengths.copy(), offsets.copy(), bases.copy(), widths.copy(), headers.copy())


def _duplicate(path: str, data: np.ndarray, names: Sequence[str], headers: np.ndarray) -> str:
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        first = seen.setdefault(name, i)
        if first != i:
            lines = [line_number(data, int(headers[k])) for k in (i, first)]
            return (
                f"{path}, line {lines[0]}: expected each name once, received {name!r} again "
                f"(first on line {lines[1]}); rename one of the two records"
            )
    raise AssertionError("called without a duplicate")


def _refuse_other_formats(path: str, data: np.ndarray) -> None:
    start = data[:8].tobytes()
    for magic, remark in _MAGIC:
        if start.startswith(magic):
            raise FastaError(
                f"{path}: expected FASTA text; the file {remark.replace('FILE', os.path.basename(path))}"
            )


def _fault(path: str, data: np.ndarray, code: int, at: int) -> str:
    from biolayers.kernels.numba import scan

    line, byte = line_number(data, at), int(data[at])
    shown = repr(chr(byte)) if 32 < byte < 127 else f"byte 0x{byte:02x}"
    what = {
        scan.NO_HEADER: f"expected '>' as the first character, received {shown}; is this a FASTA file?",
        scan.NO_NAME: "expected a name after '>', received none; give the record a name",
        scan.CARRIAGE_RETURN: "expected lines that end in LF or CRLF, received a lone carriage return; "
        "convert the line endings (tr '\\r' '\\n')",
        scan.CONTROL_BYTE: f"expected text in the header, received {shown}; is this a FASTA file?",
        scan.STRAY_BYTE: f"expected a letter, received {shown} in column {_before(data, at) + 1}; remove it",
        scan.TOO_LONG: "expected a line no longer than the record's first, received a longer one; "
        "wrap the record's lines to one length (seqtk seq -l 60)",
        scan.AFTER_SHORT: f"expected '>' after a shorter or blank line, received {shown}; "
        "all lines of a record but its last must be alike (seqtk seq -l 60 wraps them anew)",
    }[code]
    return f"{path}, line {line}: {what}"


def _before(data: np.ndarray, at: int) -> int:
    """How many bytes of its line stand before `at`."""
    begin = at
    while begin > 0 and data[begin - 1] != 10:
        begin -= 1
    return at - begin


def _is_fresh(stored: str, path: str) -> bool:
    try:
        return os.stat(stored).st_mtime_ns >= os.stat(path).st_mtime_ns
    except OSError:
        return False


def _read(stored: str, path: str, data: np.ndarray) -> Index | None:
    """The stored index, or None where it is damaged or belongs to another file."""
    from biolayers.kernels.numba import fai, scan

    try:
        text = np.fromfile(stored, np.uint8)
    except OSError:
        return None
    numbers, names, edges, sound = fai.parse(text)
    if not sound:
        return None
    columns, fits = scan.walk(data, numbers, names, edges)
    return _index(path, data, columns) if fits and columns.shape[1] else None


def _write(stored: str, text: bytes) -> None:
    """Put the whole index in place at once; a folder that cannot be written is no fault."""
    temporary = f"{stored}.tmp{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with open(temporary, "xb") as file:
            file.write(text)
        os.replace(temporary, stored)
    except OSError as error:
        log.info("%s cannot be written (%s): the index stays in memory", stored, error.strerror)
        if os.path.exists(temporary):
            os.unlink(temporary)
