"""Variants as edits: replace the letters from `start` to `stop` of a contig by others."""

from dataclasses import dataclass

import numpy as np

from biolayers.alphabet import ILLEGAL, Alphabet
from biolayers.variants.errors import VariantError
from biolayers.variants.strings import Strings
from biolayers.variants.table import Variants
from shared.threads import parallel

_SHARE = 20_000  # variants that one thread trims in about 0.2 ms


@dataclass(frozen=True, eq=False)
class Edits:
    """One edit per row; nothing that both alleles share is part of it.

    Args:
        contig: (n,) int64.
        start: (n,) int64: the first letter that is replaced.
        stop: (n,) int64: after the last; equal to `start` for a pure insertion, which stands before `start`.
        insert: What stands there instead: letters, or tokens after `encoded`.
    """

    contig: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    insert: Strings

    def __len__(self) -> int:
        return len(self.start)

    @property
    def growth(self) -> np.ndarray:
        """How many letters longer the contig becomes: (n,) int64."""
        return self.insert.lengths - (self.stop - self.start)


def trimmed(variants: Variants) -> Edits:
    """What each variant changes, without the letters that its alleles share (the end's first)."""
    from biolayers.kernels.numba import alleles as kernel

    ref, alt = variants.ref, variants.alt
    shared = np.empty((2, len(variants)), np.int64)
    parallel(
        kernel.trim, len(variants), ref.letters, ref.offsets, alt.letters, alt.offsets, shared, grain=_SHARE
    )
    before, after = shared
    return Edits(
        variants.contig,
        variants.position + before,
        variants.position + ref.lengths - after,
        alt.cut(alt.offsets[:-1] + before, alt.offsets[1:] - after),
    )


def encoded(variants: Variants, alphabet: Alphabet) -> Edits:
    """The edits with tokens in place of letters.

    Raises:
        VariantError: An inserted letter is refused by the alphabet's policy.
    """
    edits = trimmed(variants)
    tokens = alphabet.byte_table[edits.insert.letters]
    if (tokens == ILLEGAL).any():
        at = int((tokens == ILLEGAL).argmax())
        row = int(np.searchsorted(edits.insert.offsets, at, "right")) - 1
        position = at - int(edits.insert.offsets[row]) + 1
        letter = chr(edits.insert.letters[at])
        raise VariantError(alphabet.complaint(f"{variants.where(row)}, alternative", letter, position))
    return Edits(edits.contig, edits.start, edits.stop, Strings(tokens, edits.insert.offsets))
