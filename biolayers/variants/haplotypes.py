"""Haplotypes: windows of a genome as each copy of a person's genome has them."""

import logging
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from biolayers.batching.batches import BatchDataset
from biolayers.fasta import Fasta
from biolayers.intervals.table import Intervals
from biolayers.variants.edits import encoded
from biolayers.variants.errors import VariantError
from biolayers.variants.genomes import MISSING_CALLS, UNPHASED, genomes
from biolayers.variants.reference import matched
from biolayers.variants.splicing import Spans, Splicer, pool_of
from biolayers.variants.table import Variants
from shared.threads import parallel

log = logging.getLogger("biolayers")

_SHARE = 1000  # rows whose edits one thread follows in about 0.2 ms
_UNLIMITED = 1 << 40  # letters


class Haplotypes(NamedTuple):
    """Windows of every copy, for n windows (or a batch) and a ploidy of p.

    Args:
        tokens: (n, p, l) uint8: the letters, then `PAD`.
        lengths: (n, p) int64: how many letters each has.
        positions: (n, p, l) int64: where in the reference each letter stands; -1 for inserted letters and
            padding. Tracks are aligned by it: `track[positions.clamp(min=0)].where(positions >= 0, 0)`.
    """

    tokens: Tensor
    lengths: Tensor
    positions: Tensor


class HaplotypeDataset(BatchDataset):
    r"""Windows of a genome as the copies of one or more people have them, as tokens.

    A haplotype is the contig with all variants applied that the copy carries; of those that overlap the first
    counts (as in bcftools consensus), the others are counted in `overlapping`. A window holds the letters of
    the haplotype that stand at the interval's positions; inserted letters belong to the letter before them.
    Variants that straddle an edge are applied in part, and a deletion may leave nothing of a window. The
    strand "-" gives the reverse complement.

    Items are windows times samples, the samples of a window one after the other. `batch` gives, for p copies,
    the tokens (b, p, l) uint8 with `PAD` at the end, the lengths (b, p) int64, then the positions (b, p, l)
    int64 and the targets, if they are wanted; see `biolayers.batching` for what all datasets have in common.
    The dataset may be forked, pickled and read from several workers and threads.

    Args:
        fasta: The reference, a `Fasta` or its path.
        variants: `Variants` with genotypes, or the path of a VCF or BCF file.
        intervals: `Intervals`, or what `Intervals.of` takes: the path of a BED file, or a list of
            `(contig, start, end)` or `(contig, start, end, strand)`.
        samples: Whose copies; by default those of all samples. None where there are no genotypes: one copy
            then carries every variant.
        length: None keeps the interval's letters, padded to the longest of a batch. A number takes that many
            letters of the haplotype from the interval's first letter on (on "-" from its last letter
            backwards): deletions are made up from beyond the interval, whose other end plays no part. Only
            where the contig ends there is padding.
        positions: Whether to give the position of each letter in the reference, as in `Haplotypes`.
        unphased: What to do with heterozygous calls whose copies have no order (`0/1`): "error", or
            "as given". Phase sets are not looked at.
        missing: What to do with missing calls: "reference" (counted in `missing`) or "error".
        mismatch: What to do with variants whose reference allele is not in the file: "error" or "skip".
        contigs: The same for variants on contigs that the file does not have.
        targets: (windows, samples, ...) numbers, or (windows, ...) where there is one sample.

    Raises:
        VariantError: Some variant, genotype or option is not as it must be.
        IntervalError: Some interval does not lie on a contig of the file.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "x.fa")
        >>> with open(path, "w") as file:
        ...     _ = file.write(">one\nAACCGGTTAC\n")
        >>> variants = Variants.of([("one", 2, "C", "CAA"), ("one", 6, "TT", "T")])
        >>> data = HaplotypeDataset(path, variants, [("one", 1, 8)], samples=None, positions=True)
        >>> tokens, lengths, positions = data[0]
        >>> data.fasta.alphabet.text(tokens), lengths
        (['ACAACGGT'], tensor([8]))
        >>> positions
        tensor([[ 1,  2, -1, -1,  3,  4,  5,  7]])
    """

    def __init__(
        self,
        fasta: Fasta | str | os.PathLike[str],
        variants: Any,
        intervals: Any,
        *,
        samples: Sequence[str] | str | None = "all",
        length: int | None = None,
        positions: bool = False,
        unphased: str = "error",
        missing: str = "reference",
        mismatch: str = "error",
        contigs: str = "error",
        targets: Any = None,
    ):
        _check(length, unphased, missing)
        self.fasta = fasta if isinstance(fasta, Fasta) else Fasta(fasta)
        self.intervals = Intervals.of(intervals).fit(self.fasta)
        self.length = length
        table, _ = matched(Variants.of(variants), self.fasta, mismatch=mismatch, contigs=contigs)
        chosen = _names(samples, table)
        edits = encoded(table, self.fasta.alphabet)
        self._genomes = genomes(table, edits, chosen, len(self.fasta), unphased=unphased, missing=missing)
        self._splicer = Splicer(self.fasta, edits, self._genomes.applied, length or 0, positions=positions)
        self.targets = self._numbered(targets)
        self._tell()

    def _tell(self) -> None:
        counts = (
            ("overlap a variant before them", int(self.overlapping.sum())),
            ("are missing", self.missing),
        )
        for what, count in counts:
            if count:
                log.warning("haplotypes: %d calls %s; the reference stands there", count, what)

    def _numbered(self, given: Any) -> Tensor | None:
        """The targets, one row per item: (n, ...)."""
        if given is None:
            return None
        targets = torch.as_tensor(given if isinstance(given, Tensor) else np.asarray(given))
        windows, people = len(self.intervals), self._people
        if people == 1 and targets.shape[:2] != (windows, 1):
            targets = targets.unsqueeze(1)
        if targets.shape[:2] != (windows, people):
            raise VariantError(
                f"HaplotypeDataset: expected targets ({windows} windows, {people} samples, ...), received "
                f"shape {tuple(targets.shape)}"
            )
        return targets.flatten(0, 1)

    # -- what there is

    @property
    def samples(self) -> list[str]:
        """Whose copies; empty where one copy carries every variant."""
        return list(self._genomes.samples)

    @property
    def ploidy(self) -> int:
        """Copies per sample."""
        return self._genomes.ploidy

    @property
    def overlapping(self) -> np.ndarray:
        """How many variants of each copy were left out, as they overlap one before: (samples, ploidy)."""
        return self._genomes.overlapping.reshape(-1, self.ploidy)

    @property
    def missing(self) -> int:
        """How many calls were missing and taken for the reference."""
        return self._genomes.missing

    @property
    def _people(self) -> int:
        return max(1, len(self._genomes.samples))

    @property
    def contigs(self) -> list[str]:
        """The contig of each item, for splits by chromosome."""
        return np.repeat(self.intervals.contigs, self._people).tolist()

    def __repr__(self) -> str:
        people = f"{len(self.samples)} samples" if self.samples else "every variant"
        width = "" if self.length is None else f", {self.length:,} letters"
        return (
            f"HaplotypeDataset({len(self.intervals):,} windows of {self.fasta.path}, {people}, "
            f"ploidy {self.ploidy}{width})"
        )

    # -- samples

    def __len__(self) -> int:
        """How many items: windows times samples."""
        return len(self.intervals) * self._people

    def batch(self, indices: Any, *, epoch: int | None = None) -> tuple[Tensor, ...]:
        """Tokens, lengths, and positions and targets if they are wanted, of items by number.

        Args:
            indices: (b,) integers: window times the number of samples, plus sample.
            epoch: Without effect, as nothing is drawn.
        """
        del epoch
        chosen = np.asarray(indices, np.int64).reshape(-1)
        made = self._read(chosen)
        parts = made if self._splicer.positions else made[:2]
        return tuple(parts) if self.targets is None else (*parts, self.targets[torch.from_numpy(chosen)])

    def _read(self, chosen: np.ndarray) -> Haplotypes:
        from biolayers.kernels.numba import haplotypes as kernel

        b, p = len(chosen), self.ploidy
        window, person = np.divmod(chosen, self._people)
        copies = (person[:, None] * p + np.arange(p)).reshape(-1)  # (rows,), and all that follow
        window = np.repeat(window, p)
        contig = self.intervals.contig_ids[window]
        start, stop, backward = self._reading(window, contig)
        edits = np.stack([self._genomes.bounds[copies, contig], self._genomes.bounds[copies, contig + 1]])
        skip, counts = np.empty_like(start), np.empty_like(start)
        pool = pool_of(self._splicer.edits, self._splicer.applied)
        width = _UNLIMITED if self.length is None else self.length
        parallel(kernel.extents, b * p, pool, width, backward, edits, start, stop, skip, counts, grain=_SHARE)
        if self.length is None:
            width = int(counts.max(initial=0))
        made = self._splicer.sized(width)(
            Spans(contig[::p], start.reshape(b, p).min(1), stop.reshape(b, p).max(1)),
            window=np.repeat(np.arange(b), p),
            start=start,
            stop=stop,
            skip=skip,
            lead=np.zeros_like(start),
            first=edits[0],
            last=edits[1],
            minus=self.intervals.strands[window] < 0,
        )
        return Haplotypes(
            made.tokens.view(b, p, width),
            made.lengths.view(b, p),
            made.positions.view(b, p, made.positions.shape[1]),
        )

    def _reading(self, window: np.ndarray, contig: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From where to where rows may read, and which of them read backward."""
        start, stop = self.intervals.starts[window], self.intervals.ends[window]
        if self.length is None:
            return start, stop, np.zeros(len(window), bool)
        backward = self.intervals.strands[window] < 0
        end = self.fasta.lengths[contig]
        return np.where(backward, 0, start), np.where(backward, stop, end), backward


def haplotypes(
    fasta: Fasta | str | os.PathLike[str],
    variants: Any,
    sample: str | None,
    intervals: Any,
    *,
    length: int | None = None,
    **options: Any,
) -> Haplotypes:
    r"""The sequences of some windows as the copies of one sample have them, with positions in the reference.

    Args:
        fasta: The reference, a `Fasta` or its path.
        variants: `Variants` with genotypes, or the path of a VCF or BCF file.
        sample: Whose copies; None for one copy that carries every variant.
        intervals: `Intervals`, or what `Intervals.of` takes, such as a list of `(contig, start, end)`.
        length: None for the letters of each interval, padded to the longest; or how many letters to take, as
            in `HaplotypeDataset`.
        **options: `unphased`, `missing`, `mismatch` and `contigs` of `HaplotypeDataset`.

    Raises:
        VariantError: Some variant, genotype or option is not as it must be.
        IntervalError: Some interval does not lie on a contig of the file.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "x.fa")
        >>> with open(path, "w") as file:
        ...     _ = file.write(">one\nAACCGGTTAC\n")
        >>> made = haplotypes(path, [("one", 4, "GGT", "G")], None, [("one", 3, 6), ("one", 6, 10)])
        >>> [Fasta(path).alphabet.text(copy) for window in made.tokens for copy in window]
        ['CG', 'TAC']
        >>> made.lengths.tolist()
        [[2], [3]]
    """
    chosen = None if sample is None else [sample]
    data = HaplotypeDataset(
        fasta, variants, intervals, samples=chosen, length=length, positions=True, **options
    )
    return Haplotypes(*data.batch(np.arange(len(data))))


def _check(length: int | None, unphased: str, missing: str) -> None:
    if length is not None and length < 1:
        raise VariantError(f"HaplotypeDataset: expected length None or from 1 on, received {length}")
    for name, value, known in (("unphased", unphased, UNPHASED), ("missing", missing, MISSING_CALLS)):
        if value not in known:
            raise VariantError(
                f"HaplotypeDataset: expected {name} to be one of {', '.join(map(repr, known))}, "
                f"received {value!r}"
            )


def _names(samples: Sequence[str] | str | None, variants: Variants) -> list[str] | None:
    if samples is None:
        return None
    if samples == "all":
        return list(variants.samples)
    return [samples] if isinstance(samples, str) else list(samples)
