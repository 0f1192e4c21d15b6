"""The edits that each copy of a person's genome carries."""

from dataclasses import dataclass

import numpy as np

from biolayers.variants.edits import Edits
from biolayers.variants.errors import VariantError
from biolayers.variants.table import MISSING, Variants
from shared.threads import parallel

UNPHASED = ("error", "as given")
MISSING_CALLS = ("error", "reference")


@dataclass(frozen=True, eq=False)
class Genomes:
    """For each copy and contig the list of its edits, sorted and without overlaps.

    Args:
        samples: The names of the samples.
        ploidy: Copies per sample.
        applied: (k,) int64: the lists, one after the other.
        bounds: (samples * ploidy, contigs + 1) int64: where the list of each contig begins and ends.
        overlapping: (samples * ploidy,) int64: how many edits were left out, as they overlap one before.
        missing: How many calls were missing and taken for the reference.
    """

    samples: list[str]
    ploidy: int
    applied: np.ndarray
    bounds: np.ndarray
    overlapping: np.ndarray
    missing: int


def genomes(
    variants: Variants, edits: Edits, samples: list[str] | None, contigs: int, *, unphased: str, missing: str
) -> Genomes:
    """The edits of each copy; of edits that overlap, the first counts, as in bcftools consensus.

    Edits are compared without the letters that both alleles share, so an insertion after a changed letter is
    no overlap; bcftools compares whole records and leaves out some of these, too.

    Args:
        variants: The table, with genotypes unless `samples` is None.
        edits: Its edits, in the same order.
        samples: Whose copies; None for one copy that carries every variant.
        contigs: How many contigs there are.
        unphased: What to do with heterozygous calls whose copies have no order: "error" or "as given".
        missing: What to do with calls that are missing: "error" or "reference".
    """
    if samples is None:
        carried, ploidy, absent = np.ones((1, len(variants)), bool), 1, 0
    else:
        carried, absent = _carried(variants, samples, unphased, missing)
        ploidy = variants.ploidy
    order = np.lexsort((edits.stop > edits.start, edits.start, edits.contig))  # equal ones as in the file
    starts = np.searchsorted(edits.contig[order], np.arange(contigs + 1))
    applied, bounds, skipped = _lists(edits, carried, order, starts)
    return Genomes(samples or [], ploidy, applied, bounds, skipped, absent)


def _carried(variants: Variants, samples: list[str], unphased: str, missing: str) -> tuple[np.ndarray, int]:
    """Which edits each copy carries, (samples * ploidy, n) bool; and how many calls are missing."""
    if variants.genotypes is None or variants.phased is None:
        raise VariantError(
            "haplotypes: expected variants with genotypes, received none; read them from a VCF file with "
            "samples, or give sample=None for one sequence with every variant"
        )
    for name in samples:
        if name not in variants.samples:
            raise VariantError(f"haplotypes: expected a sample of {variants.samples}, received {name!r}")
    chosen = [variants.samples.index(name) for name in samples]
    calls, phased = variants.genotypes[:, chosen], variants.phased[:, chosen]  # (n, samples, ploidy)
    mixed = (calls != calls[:, :, :1]).any(2) & ~phased
    if unphased == "error" and mixed.any():
        row, sample = np.argwhere(mixed)[0]
        raise VariantError(
            f"{variants.where(int(row))}: expected a phased genotype such as 0|1, received an unphased one "
            f"of sample {samples[sample]!r}; phase the calls, or pass unphased='as given'"
        )
    absent = (calls == MISSING).any(2)
    if missing == "error" and absent.any():
        row, sample = np.argwhere(absent)[0]
        raise VariantError(
            f"{variants.where(int(row))}: expected a genotype of sample {samples[sample]!r}, received none; "
            "pass missing='reference' to take it for the reference"
        )
    copies = calls.reshape(len(variants), len(samples) * variants.ploidy).T == 1
    return np.ascontiguousarray(copies), int(absent.sum())


def _lists(
    edits: Edits, carried: np.ndarray, order: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The lists of all copies, where they begin, and how many edits overlap: one pass counts, one writes."""
    from biolayers.kernels.numba import haplotypes as kernel
    from biolayers.variants.splicing import pool_of

    bounds = np.zeros((len(carried), len(starts)), np.int64)
    skipped = np.zeros(len(carried), np.int64)
    applied = np.empty(0, np.int64)
    pool = pool_of(edits, applied)
    for _ in range(2):
        parallel(kernel.choose, len(carried), pool, order, starts, carried, bounds, applied, skipped, grain=1)
        if not len(applied):
            counts = bounds[:, -1].copy()
            bounds[:, 0] = np.cumsum(counts) - counts
            applied = np.empty(int(counts.sum()), np.int64)
    return applied, bounds, skipped
