"""How many letters of a window are G or C, for given windows and for all windows of a genome."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

import numpy as np
import torch

from biolayers.alphabet import Alphabet
from biolayers.fasta import Fasta
from biolayers.intervals.errors import IntervalError
from biolayers.intervals.table import Intervals
from shared.threads import parallel

_CHUNK = 1 << 22  # letters of a contig in memory at once
_ROW = 1 << 16  # letters that one thread fetches at a time
_SHARE = 400_000  # letters that one thread counts in about 0.2 ms


@dataclass(frozen=True, eq=False)
class Composition:
    """What windows consist of."""

    strong: np.ndarray  # (n,) int64: letters that are G or C
    plain: np.ndarray  # (n,) int64: letters that are no N, no other ambiguous letter and no padding

    @property
    def gc(self) -> np.ndarray:
        """G or C as a fraction of the plain letters, nan where there are none: (n,) float64."""
        with np.errstate(invalid="ignore"):
            return self.strong / self.plain


def of_intervals(fasta: Fasta, intervals: Intervals) -> Composition:
    """Of every interval, all of one length, as far as it lies within its contig.

    Raises:
        FastaError: A letter is refused by the alphabet's policy.
        IntervalError: The alphabet has no G and C, or the genome lacks a contig.
    """
    table = intervals.on(fasta)
    sizes = fasta.lengths[table.contig_ids]
    starts, ends = (np.clip(column, 0, sizes) for column in (table.starts, table.ends))
    width = int(table.lengths.max(initial=1))
    parts = [np.empty((0, 2), np.int64)]
    step = max(1, _CHUNK // width)
    for low in range(0, len(table), step):
        rows = slice(low, low + step)
        tokens = fasta.fetch_arrays(table.contig_ids[rows], starts[rows], ends[rows], pad=width)
        parts.append(_counted(tokens, width, fasta.alphabet))
    counts = np.concatenate(parts)
    return Composition(counts[:, 0], counts[:, 1])


def along(
    fasta: Fasta, contig: int, first: int, length: int, step: int
) -> Iterator[tuple[np.ndarray, Composition]]:
    """Of all windows of a contig, in order: chunks of their starts and of what they consist of.

    Each letter is read and counted once, whatever the step: blocks of the common divisor of length and step
    are counted, and windows are sums of blocks that slide along. Memory is bounded by a chunk.

    Args:
        fasta: The genome.
        contig: The number of a record.
        first: Where the first window starts.
        length: Of a window.
        step: From start to start.
    """
    total = (int(fasta.lengths[contig]) - first - length) // step + 1
    many = max(1, (_CHUNK - length) // step + 1)
    for low in range(0, total, many):
        n = min(many, total - low)
        start = first + low * step
        counts = _sliding(
            _letters(fasta, contig, start, start + (n - 1) * step + length), n, length, step, fasta
        )
        yield start + np.arange(n) * step, Composition(counts[:, 0], counts[:, 1])


def _sliding(tokens: torch.Tensor, n: int, length: int, step: int, fasta: Fasta) -> np.ndarray:
    """Counts of windows over tokens (letters,): (n, 2) int64."""
    from biolayers.kernels.numba import composition as kernel

    block = gcd(length, step)
    blocks = _counted(tokens, block, fasta.alphabet)
    if block == length and block == step:
        return blocks
    out = np.empty((n, 2), np.int64)
    kernel.windows(blocks, length // block, step // block, out)
    return out


def _letters(fasta: Fasta, contig: int, start: int, stop: int) -> torch.Tensor:
    """The tokens of a stretch, read by all threads: (letters,) uint8."""
    starts = np.arange(start, stop, _ROW)
    ends = np.minimum(starts + _ROW, stop)
    rows = fasta.fetch_arrays(np.full(len(starts), contig), starts, ends, pad=_ROW)
    return rows.view(-1)[: stop - start]


def _counted(tokens: torch.Tensor, size: int, alphabet: Alphabet) -> np.ndarray:
    """Counts of blocks of `size` tokens each: (blocks, 2) int64."""
    from biolayers.kernels.numba import composition as kernel

    flat = tokens.reshape(-1).numpy()
    out = np.empty((len(flat) // size, 2), np.int64)
    marked = np.zeros(256, np.uint8)
    marked[[alphabet.letters.index(letter) for letter in _strong(alphabet)]] = 1
    grain = max(1, _SHARE // size)
    parallel(kernel.count, len(out), flat, size, alphabet.channels, marked, out, grain=grain)
    return out


def _strong(alphabet: Alphabet) -> str:
    if not {"G", "C"} <= set(alphabet.letters) or not alphabet.stranded:
        raise IntervalError(f"expected DNA or RNA, whose letters pair by G and C, received {alphabet}")
    return "GC"
