"""Variants against their reference: does the allele stand there, and how far left can an indel move?"""

from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache

import numpy as np

from biolayers.alphabet import DNA
from biolayers.fasta import Fasta
from biolayers.naming import other_style
from biolayers.variants.edits import trimmed
from biolayers.variants.errors import VariantError
from biolayers.variants.strings import Strings
from biolayers.variants.table import Variants

# reads every letter, lower case as capitals: without the refusals and masks that are wanted for training
_READING = DNA.with_policy(ut="convert", other="unknown")
_LETTERS = 1 << 24  # of the reference that are looked at together
_STEP = 64  # letters that an indel's left side is read in
_REASONS = {"mismatch": "mismatch", "contigs": "contig"}  # options, and what `skipped` calls them


def matched(variants: Variants, fasta: Fasta, *, mismatch: str, contigs: str) -> tuple[Variants, np.ndarray]:
    """See `Variants.matched`; also which variants are left: (k,) int64."""
    for name, choice in (("mismatch", mismatch), ("contigs", contigs)):
        if choice not in ("error", "skip"):
            raise VariantError(f"Variants: expected {name} 'error' or 'skip', received {choice!r}")
    numbers = np.array([fasta.ids([name])[0] if name in fasta else -1 for name in variants.contigs], np.int64)
    found = numbers[variants.contig] >= 0
    if not found.all() and contigs == "error":
        raise VariantError(_unknown_contig(variants, fasta, int((~found).argmax())))
    known = variants.without(found, _REASONS["contigs"])
    known = replace(known, contigs=list(fasta), contig=numbers[known.contig])
    fits = _fits(known, fasta)
    if not fits.all() and mismatch == "error":
        raise VariantError(_mismatch(known, fasta, int((~fits).argmax())))
    return known.without(fits, _REASONS["mismatch"]), np.flatnonzero(found)[fits]


def _unknown_contig(variants: Variants, fasta: Fasta, index: int) -> str:
    name = variants.name(index)
    other = other_style(name, fasta)
    close = get_close_matches(name, list(fasta)[:10_000], 1) if other is None else [other]
    remedy = (
        f"if it is called {close[0]!r} there, use variants.rename({{{name!r}: {close[0]!r}}})"
        if close
        else "take the FASTA file that the variants were called with, or pass contigs='skip'"
    )
    return f"{variants.where(index)}: expected a contig of {fasta.path}, received {name!r}; {remedy}"


def _fits(variants: Variants, fasta: Fasta) -> np.ndarray:
    """Whether each reference allele stands at its place: (n,) bool."""
    lengths = variants.ref.lengths
    fits = (variants.position >= 0) & (variants.position + lengths <= fasta.lengths[variants.contig])
    reader, accepted = fasta.with_alphabet(_READING), _accepted()
    for rows in _chunks(lengths, np.flatnonzero(fits)):
        width = int(lengths[rows].max())
        starts = variants.position[rows]
        tokens = reader.fetch_arrays(variants.contig[rows], starts, starts + lengths[rows], pad=width).numpy()
        letters = variants.ref.taken(rows).matrix(width)
        beyond = np.arange(width) >= lengths[rows, None]
        fits[rows] = (accepted[tokens, letters] | beyond).all(1)
    return fits


def _chunks(lengths: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows by length, in pieces of a bounded size when padded to their longest."""
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    while len(rows):
        sizes = lengths[rows] * np.arange(1, len(rows) + 1)  # of the first rows, each as long as the last
        count = max(1, int(np.searchsorted(sizes, _LETTERS, "right")))
        yield rows[:count]
        rows = rows[count:]


@lru_cache(maxsize=1)
def _accepted() -> np.ndarray:
    """Which letter of a VCF file may stand for which token of the reference: (256, 256) bool."""
    table = np.zeros((256, 256), bool)
    for letter, meaning in DNA.meanings.items():
        token = int(DNA.tokens(letter)[0])
        table[token, ord(letter)] = table[token, ord("N")] = True
        if letter != "N":
            table[token, ord(min(meaning))] = True
    for plain in DNA.letters:
        table[DNA.letters.index(plain), ord("N")] = False
    return table


def _mismatch(variants: Variants, fasta: Fasta, index: int) -> str:
    contig, position, ref, _ = variants[index]
    length = len(fasta[contig])
    if position < 0 or position + len(ref) > length:
        return (
            f"{variants.where(index)}: expected a reference allele within {contig!r} of {fasta.path} "
            f"({length:,} letters), received {len(ref)} letters from the {position + 1:,}th on; "
            "take the FASTA file that the variants were called with, or pass mismatch='skip'"
        )
    found = fasta[contig][position : position + len(ref)]
    accepted = _accepted()[_READING.tokens(found).numpy(), np.frombuffer(ref.encode(), np.uint8)]
    at = int((~accepted).argmax())
    return (
        f"{variants.where(index)}: expected {found[at]!r}, the letter of {fasta.path} at {contig!r}:"
        f"{position + at + 1:,} (counted from 1), received {ref[at]!r} in the reference allele; "
        "take the FASTA file that the variants were called with, or pass mismatch='skip'"
    )


def normalized(variants: Variants, fasta: Fasta) -> Variants:
    """See `Variants.normalized`; the variants are matched already."""
    spans = trimmed(variants)
    reader = fasta.with_alphabet(_READING)
    refs, alts, positions = list(variants.ref), list(variants.alt), variants.position.copy()
    lengths = spans.stop - spans.start
    longer = (variants.ref.lengths > 1) | (variants.alt.lengths > 1)
    for i in np.flatnonzero(longer).tolist():
        start, inserted = int(spans.start[i]), spans.insert[i]
        before = start - int(positions[i])
        deleted = refs[i][before : before + int(lengths[i])]
        left = _Left(reader, int(variants.contig[i]), start)
        if not (inserted and deleted):
            start, deleted, inserted = _shifted(left, start, deleted, inserted)
        positions[i], refs[i], alts[i] = _anchored(left, start, deleted, inserted)
    return replace(variants, position=positions, ref=Strings.of(refs), alt=Strings.of(alts))


def _shifted(left: "_Left", start: int, deleted: str, inserted: str) -> tuple[int, str, str]:
    """Move a pure insertion or deletion to the left while the letter before it is its last one."""
    text, shift = deleted or inserted, 0
    while text and start - shift > 0 and left[start - shift - 1] == text[-1 - shift % len(text)]:
        shift += 1
    cut = len(text) - shift % len(text) if text else 0
    text = text[cut:] + text[:cut]
    return start - shift, text if deleted else "", text if inserted else ""


def _anchored(left: "_Left", start: int, deleted: str, inserted: str) -> tuple[int, str, str]:
    """Add a shared letter where an allele would be empty: the one before, or else the one after."""
    if deleted and inserted:
        return start, deleted, inserted
    if start > 0:
        return start - 1, left[start - 1] + deleted, left[start - 1] + inserted
    after = left[len(deleted)]
    return start, deleted + after, inserted + after


class _Left:
    """The letters around a place of a contig, read in pieces as they are asked for."""

    def __init__(self, reader: Fasta, contig: int, start: int) -> None:
        self.reader, self.contig = reader, contig
        self.low, self.text = start, ""

    def __getitem__(self, position: int) -> str:
        if position < self.low:
            low = max(0, min(position, self.low - _STEP))
            self.text = self._read(low, self.low) + self.text
            self.low = low
        if position - self.low >= len(self.text):
            self.text += self._read(self.low + len(self.text), position + 1)
        return self.text[position - self.low]

    def _read(self, start: int, stop: int) -> str:
        return _READING.text(self.reader.fetch_arrays([self.contig], [start], [stop])[0])
