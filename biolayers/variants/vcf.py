"""Variants of a VCF or BCF file, read by htslib through pysam.

pysam (MIT) rather than cyvcf2 (MIT): both bring htslib in wheels for the supported Pythons, but pysam depends
on nothing else and reads FASTA, too; a million genotypes take it about half a second.
"""

import gzip
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from biolayers.variants.alleles import check_letters, kind_of
from biolayers.variants.errors import VariantError
from biolayers.variants.table import MISSING, Source, Variants, log


def read(
    path: str | os.PathLike[str], *, samples: Sequence[str] | None, symbolic: str, passing: bool
) -> Variants:
    """See `Variants.read`."""
    path = os.fspath(path)
    if symbolic not in ("error", "skip"):
        raise VariantError(f"Variants: expected symbolic 'error' or 'skip', received {symbolic!r}")
    source = Source(path, _header_lines(path))
    with _opened(path) as file:
        known = list(file.header.samples)
        chosen = _chosen(path, known, samples)
        file.subset_samples(chosen)  # records then give them in the order of the file
        order = np.argsort(np.argsort([known.index(name) for name in chosen]))
        return _Reader(source, chosen, order, symbolic, passing).table(file)


class _Reader:
    """Collects columns while the records go by."""

    def __init__(
        self, source: Source, samples: list[str], order: np.ndarray, symbolic: str, passing: bool
    ) -> None:
        self.source, self.samples, self.symbolic, self.passing = source, samples, symbolic, passing
        self.order = order  # (samples,): the place of each sample in a record
        self.rows: list[tuple[str, int, str, str, str, int]] = []
        self.skipped: Counter[str] = Counter()
        self.calls: list[np.ndarray] = []  # (samples, ploidy) int16 for each row: numbers of alleles
        self.alleles: list[int] = []  # the number of each row's alternative in its record
        self.phases: list[np.ndarray] = []  # (samples,) bool for each row

    def table(self, file: Any) -> Variants:
        number = 0
        try:
            for record in file:
                self.add(number, record)
                number += 1
        except OSError as error:
            raise VariantError(
                f"{self.where(number)}: expected a VCF record (CHROM, POS, ID, REF, ALT, QUAL, "
                f"FILTER, INFO, separated by tabs), or one near it; htslib says: {error}"
            ) from error
        for kind, count in self.skipped.items():
            log.warning("%s: left out %d (%s)", self.source.path, count, kind)
        columns = zip(*self.rows, strict=True) if self.rows else [[]] * 6
        return Variants.of_columns(
            *columns,
            samples=self.samples,
            source=self.source,
            skipped=dict(self.skipped),
            genotypes=self.genotypes() if self.samples else None,
            phased=np.array(self.phases, bool).reshape(-1, len(self.samples)) if self.samples else None,
        )

    def add(self, number: int, record: Any) -> None:
        """The rows of one record: one for each alternative."""
        if self.passing and set(record.filter) - {"PASS"}:
            self.skipped["filtered"] += 1
            return
        alternatives = record.alts or (".",)
        rows = [(k, alt) for k, alt in enumerate(alternatives, 1) if self.wanted(number, alt)]
        if not rows:
            return
        for _, alt in rows:
            check_letters(self.where(number), record.ref, alt)
        calls, phased = self.calls_of(number, record) if self.samples else (None, None)
        for k, alt in rows:
            self.rows.append((record.contig, record.start, record.ref, alt, record.id or "", number))
            if calls is not None:
                self.calls.append(calls)
                self.alleles.append(k)
                self.phases.append(phased)

    def wanted(self, number: int, alt: str) -> bool:
        """Whether an alternative has letters; counts or refuses it if not."""
        kind = kind_of(alt)
        if kind == "letters":
            return True
        if kind != "no alternative" and (kind == "unknown" or self.symbolic == "error"):
            raise VariantError(
                f"{self.where(number)}: expected alternatives of letters, received {alt!r}; "
                "pass symbolic='skip' to leave out and count symbolic alleles and breakends"
            )
        self.skipped[alt if kind == "symbolic" else kind] += 1
        return False

    def calls_of(self, number: int, record: Any) -> tuple[np.ndarray, np.ndarray]:
        """The allele of each copy (samples, ploidy) and whether the copies are in order (samples,)."""
        calls = record.samples.values()
        alleles = [call.allele_indices or (None,) for call in calls]
        ploidy = max(map(len, alleles))
        full = [numbers if len(numbers) == ploidy else numbers * ploidy for numbers in alleles]
        flat = [MISSING if number is None else number for numbers in full for number in numbers]
        if len(flat) != len(alleles) * ploidy:
            odd = next(len(numbers) for numbers in alleles if len(numbers) not in (1, ploidy))
            raise VariantError(
                f"{self.where(number)}: expected calls of {ploidy} copies or 1, received one of {odd}"
            )
        found = np.array(flat, np.int16).reshape(len(alleles), ploidy)
        return found[self.order], np.array([call.phased for call in calls], bool)[self.order]

    def genotypes(self) -> np.ndarray:
        """Who carries each alternative; haploid calls stand for every copy: (n, samples, ploidy) int8."""
        ploidy = max((calls.shape[1] for calls in self.calls), default=1)
        out = np.empty((len(self.calls), len(self.samples), ploidy), np.int16)
        for i, calls in enumerate(self.calls):
            if calls.shape[1] not in (1, ploidy):
                raise VariantError(
                    f"{self.where(self.rows[i][-1])}: expected calls of {ploidy} copies or 1 as elsewhere, "
                    f"received {calls.shape[1]}; read samples of one ploidy together"
                )
            out[i] = calls
        carried = out == np.array(self.alleles, np.int16)[:, None, None]
        return np.where(out == MISSING, MISSING, carried).astype(np.int8)

    def where(self, number: int) -> str:
        lines = self.source.header_lines
        place = f"record {number + 1}" if lines is None else f"line {lines + number + 1}"
        return f"{self.source.path}, {place}"


def _chosen(path: str, known: list[str], samples: Sequence[str] | None) -> list[str]:
    if samples is None:
        return known
    if isinstance(samples, str):
        raise VariantError(f"Variants: expected samples as a list, received {samples!r}; write [{samples!r}]")
    for name in samples:
        if name not in known:
            raise VariantError(f"{path}: expected samples among {_some(known)}, received {name!r}")
    if len(set(samples)) < len(samples):
        raise VariantError(f"{path}: expected each sample once, received {list(samples)}")
    return list(samples)


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names):,} in all)" if len(names) > 5 else "")


def _header_lines(path: str) -> int | None:
    """How many lines stand before the first record, or None where the file is no text."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else open(path, "rb") as file:
            if file.read(3) == b"BCF":
                return None
            file.seek(0)
            count = 0
            while file.readline().startswith(b"#"):
                count += 1
            return count
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VariantError(f"{path}: expected a VCF or BCF file, but it cannot be read: {reason}") from error


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """The file open in pysam, whose remarks on standard error are kept quiet: ours say more."""
    try:
        import pysam
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'reading VCF files needs pysam; install it with: pip install "qbio[variants]"', name="pysam"
        ) from error
    before = pysam.set_verbosity(0)
    try:
        with _seekable(path) as plain:
            try:
                file = pysam.VariantFile(plain)
            except (OSError, ValueError) as error:
                raise VariantError(
                    f"{path}: expected a whole VCF or BCF file ('##fileformat=VCF...' first), but it cannot "
                    f"be opened; htslib says: {error}"
                ) from error
            with file:
                yield file
    finally:
        pysam.set_verbosity(before)


@contextmanager
def _seekable(path: str) -> Iterator[str]:
    """The path itself; of a gzip file without bgzip's blocks, which pysam does not open, that of a copy."""
    with open(path, "rb") as file:
        start = file.read(14)
    if start[:2] != b"\x1f\x8b" or start[12:14] == b"BC":  # SAM specification, section 4.1
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=".vcf") as copy, gzip.open(path) as packed:
        shutil.copyfileobj(packed, copy)
        copy.flush()
        yield copy.name
