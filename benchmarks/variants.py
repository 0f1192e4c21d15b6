"""Windows of variants and haplotypes against the usual way: strings by pysam, edited in Python, then a table.

    python benchmarks/variants.py [--write] [--threads N] [--seconds S]

The results are compared first: no time is shown for paths that disagree. The genome and the variants are
random; GenVarLoader's authors publish 2.02 ms for a batch of 32 diploid windows of 16,384 letters.
"""

from collections.abc import Iterator

import numpy as np
import pysam
from torch import Tensor
from turns import Case, compare, tokens_of

from biolayers import HaplotypeDataset, VariantDataset, Variants

LETTERS = 20_000_000
PAIR, PAIRS = 1000, 256  # letters of a window, pairs of a batch
WINDOW, WINDOWS = 16_384, 32  # of haplotypes
EVERY = 1000  # letters between two variants of a person
COPIES = 2


def cases(path: str, draw: np.random.Generator) -> Iterator[Case]:
    variants = some_variants(path, draw)
    yield pairs(path, variants, draw)
    yield haplotypes(path, variants, draw)


def some_variants(path: str, draw: np.random.Generator) -> Variants:
    """Four of five change a letter, the others insert or delete up to 20."""
    rows = []
    with pysam.FastaFile(path) as fasta:
        text = fasta.fetch("chr1")
    for position in range(EVERY, LETTERS - EVERY, EVERY):
        kind, size = draw.integers(10), int(draw.integers(1, 21))
        ref = text[position : position + 1 + size * (kind == 0)]
        new = "".join(draw.choice(list("ACGT"), size * (kind == 1)))
        alt = ref[0] + new if kind < 2 else "ACGT"["ACGT".index(ref) - 1]
        rows.append(("chr1", position, ref, alt))
    table = Variants.of(rows)
    carried = draw.integers(0, 2, (len(rows), 1, COPIES)).astype(np.int8)
    columns = {"samples": ["ann"], "genotypes": carried, "phased": np.ones((len(rows), 1), bool)}
    names, places, refs, alts = zip(*rows, strict=True)
    return Variants.of_columns(names, places, refs, alts, list(table.id), table.record, **columns)


def pairs(path: str, variants: Variants, draw: np.random.Generator) -> Case:
    data = VariantDataset(path, variants, length=PAIR)
    fasta = pysam.FastaFile(path)
    chosen = draw.choice(np.arange(5, len(variants) - 5), PAIRS, replace=False)

    def strings(batch: int) -> Tensor:
        rows = []
        for i in chosen.tolist():
            contig, position, ref, alt = variants[i]
            shared = len(ref) != len(alt) and ref[-1] != alt[-1]  # the first letter; else the last, or none
            start = position + shared - PAIR // 2
            text = fasta.fetch(contig, start, start + PAIR + len(ref))
            edited = text[: position - start] + alt + text[position - start + len(ref) :]
            rows += [text[:PAIR], edited[:PAIR]]
        return tokens_of(rows).view(PAIRS, 2, PAIR)

    letters = 2 * PAIRS * PAIR
    return Case("256 pairs of 1,000", letters, 1, lambda batch: data.batch(chosen)[0], strings)


def haplotypes(path: str, variants: Variants, draw: np.random.Generator) -> Case:
    starts = draw.integers(0, LETTERS - 2 * WINDOW, WINDOWS).tolist()
    data = HaplotypeDataset(path, variants, [("chr1", s, s + WINDOW) for s in starts], length=WINDOW)
    fasta = pysam.FastaFile(path)
    carried, positions = variants.genotypes[:, 0], variants.position

    def strings(batch: int) -> Tensor:
        rows = []
        for start in starts:
            text = fasta.fetch("chr1", start, start + 2 * WINDOW)
            low, high = np.searchsorted(positions, [start, start + 2 * WINDOW - 100])
            for copy in range(COPIES):
                pieces, at = [], 0
                for i in (low + np.flatnonzero(carried[low:high, copy])).tolist():
                    _, position, ref, alt = variants[i]
                    pieces += [text[at : position - start], alt]
                    at = position - start + len(ref)
                rows.append(("".join(pieces) + text[at:])[:WINDOW])
        return tokens_of(rows).view(WINDOWS, COPIES, WINDOW)

    letters, rows = COPIES * WINDOWS * WINDOW, range(WINDOWS)
    return Case("32 diploid windows of 16,384", letters, 1, lambda batch: data.batch(rows)[0], strings)


if __name__ == "__main__":
    compare("variants", "Windows of variants", __doc__.split("\n", 1)[0], cases, LETTERS)
