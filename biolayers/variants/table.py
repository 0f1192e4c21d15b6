"""The table of variants: where, what, and who carries it; from a file, tuples or a data frame."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from biolayers.fasta import Fasta
from biolayers.variants.errors import VariantError
from biolayers.variants.strings import Strings

log = logging.getLogger("biolayers")

MISSING = -1  # in genotypes: the call says nothing


@dataclass(frozen=True)
class Source:
    """Where variants came from, so that messages can say where to mend them."""

    path: str = ""  # empty for variants given as tuples or a frame
    header_lines: int | None = None  # None where the file has no lines (BCF)


@dataclass(frozen=True, eq=False)
class Variants:
    """Variants with one alternative allele each, as columns; records with several are split.

    Alleles are upper-case letters as in the file, with the letters that reference and alternative share
    (`AT` to `A`); what differs is worked out where it is needed. An object is never changed: operations
    return another. Make one with `Variants.read` (VCF, BCF) or `Variants.of` (tuples,
    a data frame).

    Args:
        contigs: The names of the contigs.
        contig: (n,) int64: which of `contigs`.
        position: (n,) int64: 0-based place of the first letter of `ref`.
        ref: The n reference alleles.
        alt: The n alternative alleles.
        id: The n identifiers; empty where the file has none.
        samples: The names of the samples.
        genotypes: (n, samples, ploidy) int8: 1 where that copy carries this alternative, 0 where it carries
            the reference or another one, -1 where the call is missing.
        phased: (n, samples) bool: whether the order of the copies is known.
        record: (n,) int64: which record of the file (or item of the list) each came from, counted from 0.
        source: For messages.
        skipped: What was left out on reading, by kind: `{"<DEL>": 3, "*": 1}`.

    Example:
        >>> variants = Variants.of([("chr1", 9, "A", "G"), ("chr1", 20, "C", "CTT", "rs7")])
        >>> variants
        Variants(2 on 1 contig: 1 substitution, 1 insertion)
        >>> variants[1]
        ('chr1', 20, 'C', 'CTT')
        >>> variants.select(variants.position < 10)
        Variants(1 on 1 contig: 1 substitution)
    """

    contigs: list[str]
    contig: np.ndarray
    position: np.ndarray
    ref: Strings
    alt: Strings
    id: Strings
    samples: list[str] = field(default_factory=list)
    genotypes: np.ndarray | None = None
    phased: np.ndarray | None = None
    record: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    source: Source = field(default_factory=Source)
    skipped: Mapping[str, int] = field(default_factory=dict)

    # -- making one

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        *,
        samples: Sequence[str] | None = None,
        symbolic: str = "error",
        passing: bool = False,
    ) -> "Variants":
        r"""Read a VCF or BCF file, plain or compressed with gzip or bgzip (through pysam: `qbio[variants]`).

        Args:
            path: Of the file; it needs no index.
            samples: Whose genotypes to read, in this order; by default those of all samples. An empty list
                saves their time and memory.
            symbolic: What to do with alternatives that are no letters (`<DEL>`, `*`, breakends): "error", or
                "skip", which leaves them out and counts them in `skipped` and in the log. A copy that carries
                a skipped alternative counts as one with the reference. Records without an alternative (`.`)
                are always left out and counted.
            passing: Whether to leave out and count records whose FILTER is neither PASS nor `.`.

        Raises:
            VariantError: The file cannot be read or is malformed (with the line), a sample is not in it, an
                allele is refused, or the calls of a record are of another ploidy (haploid ones apart, whose
                allele stands for every copy).

        Example:
            >>> import tempfile, os
            >>> path = os.path.join(tempfile.mkdtemp(), "x.vcf")
            >>> with open(path, "w") as file:
            ...     _ = file.write(
            ...         "##fileformat=VCFv4.3\n##contig=<ID=1>\n"
            ...         '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
            ...         "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tann\n"
            ...         "1\t3\trs5\tA\tG,AT\t.\tPASS\t.\tGT\t1|2\n"
            ...     )
            >>> variants = Variants.read(path)
            >>> variants[0], variants[1], variants.genotypes[:, 0].tolist()
            (('1', 2, 'A', 'G'), ('1', 2, 'A', 'AT'), [[1, 0], [0, 1]])
        """
        from biolayers.variants.vcf import read

        return read(path, samples=samples, symbolic=symbolic, passing=passing)

    @classmethod
    def of(cls, given: Any, *, one_based: bool | None = None) -> "Variants":
        """Variants from what a user has: see `biolayers.variants.given.of`."""
        from biolayers.variants import given as sources

        return sources.of(given, one_based=one_based)

    @classmethod
    def of_columns(
        cls,
        contig: Sequence[str],
        position: Sequence[int],
        ref: Sequence[str],
        alt: Sequence[str],
        id: Sequence[str],
        record: Sequence[int],
        **others: Any,
    ) -> "Variants":
        """Make the table from checked columns; alleles become upper case."""
        number = {name: i for i, name in enumerate(dict.fromkeys(contig))}
        return cls(
            list(number),
            np.array([number[name] for name in contig], np.int64),
            np.array(position, np.int64),
            Strings.of(allele.upper() for allele in ref),
            Strings.of(allele.upper() for allele in alt),
            Strings.of(id),
            record=np.array(record, np.int64),
            **others,
        )

    # -- looking at it

    def __len__(self) -> int:
        """How many variants."""
        return len(self.position)

    def __getitem__(self, index: int) -> tuple[str, int, str, str]:
        """Contig, 0-based position, reference and alternative allele of one variant."""
        index = range(len(self))[index]
        return self.name(index), int(self.position[index]), self.ref[index], self.alt[index]

    def name(self, index: int) -> str:
        """The contig of one variant."""
        return self.contigs[self.contig[index]]

    @property
    def ploidy(self) -> int:
        """How many copies a call of a genotype has; 0 without genotypes."""
        return 0 if self.genotypes is None else self.genotypes.shape[2]

    @property
    def kinds(self) -> dict[str, int]:
        """How many substitutions (of one letter or more), insertions, deletions and others there are."""
        change = self.alt.lengths - self.ref.lengths
        counts = {"substitution": change == 0, "insertion": change > 0, "deletion": change < 0}
        return {kind: int(which.sum()) for kind, which in counts.items()}

    def where(self, index: int) -> str:
        """File, line and variant, for messages; positions count from 1 if the file's do."""
        contig, position, ref, alt = self[index]
        number = int(self.record[index])
        if not self.source.path:
            return f"variant {number} ({contig!r}, {position}, {ref!r}, {alt!r})"
        lines = self.source.header_lines
        place = f"record {number + 1}" if lines is None else f"line {lines + number + 1}"
        return f"{self.source.path}, {place} ({contig}:{position + 1} {ref}>{alt})"

    def __repr__(self) -> str:
        kinds = [f"{n:,} {kind}{'s' * (n > 1)}" for kind, n in self.kinds.items() if n]
        people = f"; {len(self.samples):,} sample{'s' * (len(self.samples) > 1)}" if self.samples else ""
        contigs = f"{len(self.contigs)} contig{'s' * (len(self.contigs) != 1)}"
        return f"Variants({len(self):,} on {contigs}{': ' if kinds else ''}{', '.join(kinds)}{people})"

    def frame(self) -> Any:
        """The columns contig, position (0-based), id, ref, alt as a pandas data frame."""
        import pandas as pd

        contig = [self.contigs[i] for i in self.contig]
        return pd.DataFrame(
            {
                "contig": contig,
                "position": self.position,
                "id": list(self.id),
                "ref": list(self.ref),
                "alt": list(self.alt),
            }
        )

    # -- changing it

    def select(self, rows: Any) -> "Variants":
        """Some variants: by a mask (n,) bool, or by indices in the order wanted."""
        chosen = np.arange(len(self))[np.asarray(rows) if np.size(rows) else np.zeros(0, np.int64)]
        return replace(
            self,
            contig=self.contig[chosen],
            position=self.position[chosen],
            ref=self.ref.taken(chosen),
            alt=self.alt.taken(chosen),
            id=self.id.taken(chosen),
            genotypes=None if self.genotypes is None else self.genotypes[chosen],
            phased=None if self.phased is None else self.phased[chosen],
            record=self.record[chosen],
        )

    def rename(self, names: Mapping[str, str]) -> "Variants":
        """Call contigs otherwise: `variants.rename({"1": "chr1"})`; names not mentioned stay."""
        for name in names:
            if name not in self.contigs:
                raise VariantError(f"rename: expected one of the contigs {self.contigs}, received {name!r}")
        renamed = [names.get(name, name) for name in self.contigs]
        if len(set(renamed)) < len(renamed):
            raise VariantError(f"rename: expected another name for each contig, received {renamed}")
        return replace(self, contigs=renamed)

    def matched(self, fasta: Fasta, *, mismatch: str = "error", contigs: str = "error") -> "Variants":
        """Those whose reference allele stands in the FASTA file at their place; contigs numbered as there.

        Lower-case letters match their capitals. A letter of the FASTA file for several bases matches itself,
        N, and the alphabetically first of its bases, as the VCF specification (4.3, section 1.6.1) has it.

        Args:
            fasta: The reference.
            mismatch: What to do with a variant that does not fit: "error", or "skip", which leaves it out
                and counts it in `skipped` (as "mismatch") and in the log.
            contigs: The same for contigs that the file does not have (as "contig").

        Raises:
            VariantError: Some variant does not fit (with file, line and both letters), or a contig is
                unknown.
        """
        from biolayers.variants.reference import matched

        return matched(self, fasta, mismatch=mismatch, contigs=contigs)[0]

    def normalized(self, fasta: Fasta) -> "Variants":
        """Left-aligned and as short as possible (Tan, Abecasis & Kang, Bioinformatics 31, 2015).

        The same insertion or deletion in a repeat can be written at several places; afterwards it stands at
        the leftmost one, with one shared letter before it. The order of the variants stays.

        Args:
            fasta: The reference; the variants are matched with it first (`matched`).
        """
        from biolayers.variants.reference import normalized

        return normalized(self.matched(fasta), fasta)

    def without(self, kept: np.ndarray, reason: str) -> "Variants":
        """Leave out where `kept` (n,) is False; count them in `skipped` and say so in the log."""
        lost = int(len(kept) - np.count_nonzero(kept))
        if not lost:
            return self
        log.warning(
            "%s: left out %d of %d variants (%s)", self.source.path or "variants", lost, len(self), reason
        )
        counts = {**self.skipped, reason: self.skipped.get(reason, 0) + lost}
        return replace(self.select(kept), skipped=counts)
