"""Files of bgzip: gzip in blocks that can be decompressed one by one, and their index `.gzi`.

The block format is section 4.1 of the SAM specification (https://samtools.github.io/hts-specs/SAMv1.pdf); the
index is that of `bgzip -r`: a count and pairs (place in the file, place in the text), 64-bit little-endian,
of all blocks but the first and the empty one at the end.
"""

import logging
import os
import zlib
from collections.abc import Sequence

import numpy as np

from biolayers.errors import FastaError
from biolayers.reading.blocks import BLOCK, BlockFile
from biolayers.reading.source import MappedFile
from biolayers.reading.storing import is_fresh, store
from shared.threads import parallel

log = logging.getLogger("biolayers")

HEADER, FOOTER = 18, 8  # bytes around the deflated ones, when "BC" is the only extra field
END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")  # the last block of a file
_GRAIN = 8  # blocks that are worth a thread


def open_bgzip(absolute: str, path: str, *, store_index: bool) -> BlockFile:
    """A local file of bgzip, which is called `path` in messages; its `.gzi` is stored if wanted."""
    raw = MappedFile(absolute, path)
    places, edges = block_table(path, raw.data)
    if store_index:
        _store_table(absolute, places, edges)

    def load(numbers: Sequence[int]) -> list[bytes]:
        raw.check()
        blocks = inflate(path, [raw.data[places[k] : places[k + 1]] for k in numbers])
        raw.check()
        return blocks

    return BlockFile(path, edges, load, raw.identity, raw.check)


def block_table(path: str, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each block that holds text begins in the file and in the text, and the ends: two (m + 1,) int64.

    The headers say where the next block begins, so nothing is decompressed.
    """
    from biolayers.kernels.numba import bgzf as kernel

    places, sizes, at = kernel.walk(data)
    if at != len(data):
        raise FastaError(
            f"{path}: expected a block of bgzip at byte {at:,}, received something else or the file's end; "
            "it is cut off or damaged: copy it anew"
        )
    if data[-len(END) :].tobytes() != END:
        raise FastaError(
            f"{path}: expected the empty block that ends a bgzip file, received none; the file is cut off: "
            "copy it anew, or compress the text again (bgzip)"
        )
    return places, np.concatenate([[0], np.cumsum(sizes)])


def read_table(text: bytes, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The table from the bytes of a `.gzi`, for a file of `size` bytes; None if it cannot be one of it.

    The size of the text stands in the last block, so the last edge is left at -1.
    """
    pairs = np.frombuffer(text[: len(text) // 8 * 8], "<u8").astype(np.int64)
    if len(text) % 16 != 8 or len(pairs) != 1 + 2 * pairs[0]:
        return None
    places = np.concatenate([[0], pairs[1::2], [size]])
    edges = np.concatenate([[0], pairs[2::2], [-1]])
    steps, widths = np.diff(places), np.diff(edges[:-1])
    sound = (steps > HEADER + FOOTER).all() and (widths >= 0).all() and (widths <= BLOCK).all()
    return (places, edges) if sound else None


def table_text(places: np.ndarray, edges: np.ndarray) -> bytes:
    """The bytes of the `.gzi` of a table."""
    held = np.flatnonzero(np.diff(edges) > 0)
    held = held[held > 0]
    pairs = np.stack([places[held], edges[held]], 1).reshape(-1)
    return np.concatenate([[len(held)], pairs]).astype("<u8").tobytes()


def _store_table(path: str, places: np.ndarray, edges: np.ndarray) -> None:
    """Keep the `.gzi` beside the file, as samtools needs it, unless a good one is there."""
    stored = path + ".gzi"
    if os.path.exists(stored):
        with open(stored, "rb") as file:
            found = read_table(file.read(), int(places[-1]))
        if found is not None and _belongs(found, places, edges):
            return
        word = "does not fit" if is_fresh(stored, path) else "is older than"
        log.warning("%s %s %s: building a new index", stored, word, path)
    store(stored, [table_text(places, edges)])


def _belongs(found: tuple[np.ndarray, np.ndarray], places: np.ndarray, edges: np.ndarray) -> bool:
    """Whether a stored table names blocks of the file, and all that hold text."""
    at = np.searchsorted(places, found[0][:-1])
    held = int((np.diff(edges) > 0).sum())
    return (
        len(at) >= held
        and np.array_equal(places[at], found[0][:-1])
        and np.array_equal(edges[at], found[1][:-1])
    )


def inflate(path: str, blocks: Sequence[np.ndarray]) -> list[bytes]:
    """Decompress whole blocks, on several threads; the check sums are compared."""
    from isal import igzip_lib, isal_zlib

    out: list[bytes] = [b""] * len(blocks)
    failures: list[str] = []

    def work(first: int, last: int) -> None:
        for k in range(first, last):
            block = memoryview(blocks[k])  # type: ignore[arg-type]
            sum_, size = np.frombuffer(block[-FOOTER:], "<u4").tolist()
            start = 12 + int.from_bytes(block[10:12], "little")
            try:
                text = igzip_lib.decompress(
                    block[start:-FOOTER], igzip_lib.DECOMP_DEFLATE, bufsize=max(size, 1)
                )
            except (igzip_lib.IsalError, EOFError, ValueError) as error:
                failures.append(str(error))
                return
            if len(text) != size or isal_zlib.crc32(text) != sum_:
                failures.append("the check sum is wrong")
                return
            out[k] = text

    parallel(work, len(blocks), grain=_GRAIN)
    if failures:
        raise FastaError(f"{path}: expected sound blocks of bgzip, received a damaged one ({failures[0]}); "
                         "copy the file anew")  # fmt: skip
    return out


def deflate(text: bytes | memoryview) -> bytes:
    """One block of up to 65,280 bytes of text."""
    squeezed = zlib.compress(text, 6, -15)
    size = HEADER + len(squeezed) + FOOTER
    if size > BLOCK:  # text that cannot be made smaller is stored as it is
        squeezed = zlib.compress(text, 0, -15)
        size = HEADER + len(squeezed) + FOOTER
    head = END[:16] + (size - 1).to_bytes(2, "little")
    return head + squeezed + zlib.crc32(text).to_bytes(4, "little") + len(text).to_bytes(4, "little")
