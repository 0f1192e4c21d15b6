"""Rows of tokens with edits applied: the reference letters are read once, then copied into every row.

Reading goes through `Fasta.fetch_arrays`, which every kind of file has (plain, compressed, remote); a second
kernel puts the rows together from what was read, while that is still in the cache. So the letters of a window
are decoded once for all its alleles, copies and strands.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from biolayers.alphabet import PAD
from biolayers.fasta import Fasta
from biolayers.variants.edits import Edits
from shared.threads import parallel

_SHARE = 1 << 20  # tokens that one thread copies in about 0.2 ms
_SPARE = 4096  # letters by which a window may exceed the rows before it is read by itself


class Spans(NamedTuple):
    """Parts of the reference to be read, one per window."""

    contig: np.ndarray  # (windows,) int64
    low: np.ndarray  # (windows,) int64
    high: np.ndarray  # (windows,) int64


class Spliced(NamedTuple):
    """Rows of tokens."""

    tokens: Tensor  # (rows, width) uint8
    positions: Tensor  # (rows, width) int64, or (rows, 0)
    lengths: Tensor  # (rows,) int64


def pool_of(edits: Edits, applied: np.ndarray) -> Any:
    """What the kernels read: edits with tokens, and lists of them."""
    from biolayers.kernels.numba import splice as kernel

    return kernel.Pool(edits.start, edits.stop, edits.insert.letters, edits.insert.offsets, applied)


@dataclass(frozen=True)
class Splicer:
    """Puts rows together.

    Args:
        fasta: The reference.
        edits: What rows may replace, with tokens.
        applied: (k,) int64: lists of edits, each sorted and without overlaps.
        width: Places of a row.
        fill: The token of places beyond the letters.
        turn_fill: Whether on the other strand what fills the end comes first, or stays at the end.
        positions: Whether positions are wanted.
    """

    fasta: Fasta
    edits: Edits
    applied: np.ndarray
    width: int
    fill: int = PAD
    turn_fill: bool = False
    positions: bool = False

    def __call__(self, spans: Spans, **rows: np.ndarray) -> Spliced:
        """Make the rows.

        Args:
            spans: The windows; each holds all reference letters of its rows.
            **rows: The columns of `biolayers.kernels.numba.splice.Rows`, each (rows,).
        """
        long = spans.high - spans.low > 2 * self.width + _SPARE
        if not long.any():
            return self._together(spans, rows)
        n = len(rows["window"])  # a window with a long deletion would make all others as wide
        out = Spliced(
            torch.empty((n, self.width), dtype=torch.uint8),
            torch.empty((n, self.width * self.positions), dtype=torch.int64),
            torch.empty(n, dtype=torch.int64),
        )
        for group in (np.flatnonzero(~long), *np.flatnonzero(long)[:, None]):
            chosen = np.flatnonzero(np.isin(rows["window"], group))
            part = {name: column[chosen] for name, column in rows.items()}
            part["window"] = np.searchsorted(group, part["window"])
            made = self._together(Spans(*(column[group] for column in spans)), part)
            for whole, piece in zip(out, made, strict=True):
                whole[torch.from_numpy(chosen)] = piece
        return out

    def _together(self, spans: Spans, rows: dict[str, np.ndarray]) -> Spliced:
        from biolayers.kernels.numba import splice as kernel

        n, pad = len(rows["window"]), int((spans.high - spans.low).max(initial=0))
        source = self.fasta.fetch_arrays(*spans, pad=pad)
        tokens = torch.empty((n, self.width), dtype=torch.uint8)
        positions = torch.empty((n, self.width * self.positions), dtype=torch.int64)
        lengths = torch.empty(n, dtype=torch.int64)
        alphabet = self.fasta.alphabet
        parallel(
            kernel.splice,
            n,
            kernel.Source(source.numpy(), spans.low),
            pool_of(self.edits, self.applied),
            kernel.Rows(**rows, fill=np.uint8(self.fill), turn_fill=self.turn_fill),
            alphabet.complement_table if alphabet.stranded else _NO_PARTNERS,
            tokens.numpy(),
            positions.numpy(),
            lengths.numpy(),
            grain=max(1, _SHARE // max(1, self.width * (1 + 8 * self.positions))),
        )
        return Spliced(tokens, positions, lengths)

    def sized(self, width: int) -> "Splicer":
        """The same for rows of another width."""
        return replace(self, width=width)


_NO_PARTNERS = np.arange(256, dtype=np.uint8)  # of an alphabet without strands, whose rows are never turned
