"""The table of variants: VCF files as htslib reads them, tuples, frames; the reference; every complaint."""

import gzip
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biolayers import DNA, Fasta, VariantError, Variants
from biolayers.variants.edits import trimmed
from biolayers.variants.strings import Strings

HEADER = """##fileformat=VCFv4.3
##FILTER=<ID=weak,Description="Low quality">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##contig=<ID=1>
##contig=<ID=2>
"""
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
RECORDS = [
    "1\t3\trs1\tC\tg\t.\tPASS\t.\tGT\t0|1\t1/1\t.",
    "1\t4\t.\tCGG\tC,CT\t9\t.\t.\tGT\t1|2\t0/2\t.|1",
    "2\t1\trs2;x\tT\tTAC\t.\tweak\t.\tGT\t1\t0\t1",
]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def write(text: str, name: str = "x.vcf") -> str:
        path = tmp_path / name
        path.write_text(text, newline="")
        return str(path)

    return write


def vcf(*records: str, samples: str = "\tFORMAT\tann\tbob\tcleo") -> str:
    return HEADER + COLUMNS + samples + "\n" + "".join(f"{record}\n" for record in records)


def rows(variants: Variants) -> list[tuple[str, int, str, str]]:
    return [variants[i] for i in range(len(variants))]


THREE = [("1", 2, "C", "G"), ("1", 3, "CGG", "C"), ("1", 3, "CGG", "CT"), ("2", 0, "T", "TAC")]


def check_three(variants: Variants) -> None:
    assert rows(variants) == THREE
    assert list(variants.id) == ["rs1", "", "", "rs2;x"]
    assert variants.record.tolist() == [0, 1, 1, 2]
    assert variants.samples == ["ann", "bob", "cleo"]
    assert variants.genotypes is not None
    assert variants.genotypes.dtype == np.int8
    assert variants.genotypes.tolist() == [
        [[0, 1], [1, 1], [-1, -1]],
        [[1, 0], [0, 0], [-1, 1]],
        [[0, 1], [0, 1], [-1, 0]],
        [[1, 1], [0, 0], [1, 1]],  # haploid calls stand for both copies
    ]
    assert variants.phased is not None
    assert variants.phased[:3, 0].all()
    assert not variants.phased[:3, 1].any()
    assert variants.skipped == {}


# Files


def test_formats(write: Callable[..., str], tmp_path: Path) -> None:
    plain = write(vcf(*RECORDS))
    check_three(Variants.read(plain))
    check_three(Variants.of(plain))
    check_three(pickle.loads(pickle.dumps(Variants.read(plain))))
    check_three(Variants.read(write(vcf(*RECORDS).replace("\n", "\r\n"), "crlf.vcf")))
    with gzip.open(tmp_path / "x.vcf.gz", "wt") as file:
        file.write(vcf(*RECORDS))
    check_three(Variants.read(tmp_path / "x.vcf.gz"))
    pysam.tabix_compress(plain, str(tmp_path / "y.vcf.gz"))
    check_three(Variants.read(tmp_path / "y.vcf.gz"))
    with (
        pysam.VariantFile(plain) as source,
        pysam.VariantFile(tmp_path / "x.bcf", "wb", header=source.header) as out,
    ):
        for record in source:
            out.write(record)
    check_three(Variants.read(tmp_path / "x.bcf"))
    assert Variants.read(tmp_path / "x.bcf").where(3).endswith("x.bcf, record 3 (2:1 T>TAC)")
    assert Variants.read(tmp_path / "y.vcf.gz").where(3).endswith("y.vcf.gz, line 9 (2:1 T>TAC)")


def test_samples_in_the_order_asked_for(write: Callable[..., str]) -> None:
    path = write(vcf(*RECORDS))
    full, some = Variants.read(path), Variants.read(path, samples=["cleo", "ann"])
    assert some.samples == ["cleo", "ann"]
    assert full.genotypes is not None
    assert full.phased is not None
    assert np.array_equal(some.genotypes, full.genotypes[:, [2, 0]])
    assert np.array_equal(some.phased, full.phased[:, [2, 0]])
    none = Variants.read(path, samples=[])
    assert (none.genotypes, none.ploidy, rows(none)) == (None, 0, THREE)
    sites = Variants.read(write(vcf("1\t3\t.\tC\tG\t.\t.\t.", samples=""), "sites.vcf"))
    assert (rows(sites), sites.samples, sites.genotypes) == (THREE[:1], [], None)


def test_what_is_left_out_is_counted(write: Callable[..., str], caplog: pytest.LogCaptureFixture) -> None:
    odd = [
        "1\t5\t.\tG\t<DEL>,A,*\t.\t.\t.\tGT\t1|2\t2|3\t0|0",
        "1\t6\t.\tG\t]2:4]G\t.\t.\t.\tGT\t1|1\t0|0\t0|0",
        "1\t7\t.\tG\t.\t.\t.\t.\tGT\t0|0\t0|0\t0|0",
        "1\t8\t.\tG\t<DEL>\t.\t.\t.\tGT\t0|0\t0|0\t0|0",
    ]
    path = write(vcf(*odd, *RECORDS))
    variants = Variants.read(path, symbolic="skip", passing=True)
    assert variants.skipped == {"<DEL>": 2, "*": 1, "breakend": 1, "no alternative": 1, "filtered": 1}
    assert rows(variants) == [("1", 4, "G", "A"), *THREE[:3]]
    assert variants.genotypes is not None
    assert variants.genotypes[0].tolist() == [[0, 1], [1, 0], [0, 0]]
    assert "x.vcf: left out 2 (<DEL>)" in caplog.text
    with pytest.raises(
        VariantError, match=r"x\.vcf, line 7: expected alternatives of letters, received '<DEL>'; pass"
    ):
        Variants.read(path)
    empty = Variants.read(write(vcf(odd[3]), "empty.vcf"), symbolic="skip")
    assert (len(empty), empty.genotypes.shape) == (0, (0, 3, 1))
    assert repr(empty) == "Variants(0 on 0 contigs; 3 samples)"


FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "x.vcf, line 8: expected a VCF record (CHROM, POS": (vcf(RECORDS[0], "1\tfour\t.\tC\tG\t.\t.\t."), {}),
    "x.vcf, line 7: expected a VCF record (CHROM, POS": (vcf("1\t4\t."), {}),
    "x.vcf: expected a whole VCF or BCF file": (">one\nACGT\n", {}),
    "x.vcf: expected samples among ann, bob, cleo, received 'dan'": (
        vcf(*RECORDS),
        {"samples": ["ann", "dan"]},
    ),
    "expected samples as a list, received 'ann'; write ['ann']": (vcf(*RECORDS), {"samples": "ann"}),
    "expected each sample once, received ['ann', 'ann']": (vcf(*RECORDS), {"samples": ["ann", "ann"]}),
    "expected symbolic 'error' or 'skip', received 'drop'": (vcf(*RECORDS), {"symbolic": "drop"}),
    "line 7: expected calls of 3 copies or 1, received one of 2": (
        vcf("1\t4\t.\tC\tG\t.\t.\t.\tGT\t0|1|1\t0|1\t0"),
        {},
    ),
    "line 7: expected calls of 3 copies or 1 as elsewhere, received 2": (
        vcf("1\t4\t.\tC\tG\t.\t.\t.\tGT\t0|1\t0|1\t0", "1\t5\t.\tC\tG\t.\t.\t.\tGT\t0|1|0\t0\t0"),
        {},
    ),
    "line 7: expected two alleles that differ, received 'C' and 'c'": (
        vcf("1\t4\t.\tC\tc\t.\t.\t.\tGT\t0\t0\t0"),
        {},
    ),
    "line 7: expected alternatives of letters, received 'A-'": (
        vcf("1\t4\t.\tC\tA-\t.\t.\t.\tGT\t0\t0\t0"),
        {"symbolic": "skip"},
    ),
}


@pytest.mark.parametrize("message", FAULTS)
def test_complaints_about_files(
    write: Callable[..., str], capfd: pytest.CaptureFixture, message: str
) -> None:
    text, options = FAULTS[message]
    with pytest.raises(VariantError) as caught:
        Variants.read(write(text), **options)
    assert message in str(caught.value)
    assert capfd.readouterr().err == ""


def test_files_that_are_none(tmp_path: Path, write: Callable[..., str]) -> None:
    with pytest.raises(
        VariantError, match=r"nothing\.vcf: expected a VCF or BCF file, but it cannot be read: No"
    ):
        Variants.read(tmp_path / "nothing.vcf")
    with pytest.raises(VariantError, match=r"empty\.vcf: expected a whole VCF or BCF file"):
        Variants.read(write("", "empty.vcf"))
    whole = tmp_path / "whole.vcf.gz"
    draw = random.Random(0)
    many = [
        f"1\t{k}\t.\tC\tG{''.join(draw.choices('ACGT', k=40))}\t.\t.\t.\tGT\t0\t0\t0" for k in range(1, 4000)
    ]
    pysam.tabix_compress(write(vcf(*many)), str(whole))
    (tmp_path / "cut.vcf.gz").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(
        VariantError, match=r"cut\.vcf\.gz: expected a whole VCF or BCF file .* may be truncated"
    ):
        Variants.read(tmp_path / "cut.vcf.gz")


# Tuples and frames


def test_from_memory() -> None:
    variants = Variants.of([("c", 4, "a", "G,AT"), ("d", 0, "AC", "A", "rs7")])
    assert rows(variants) == [("c", 4, "A", "G"), ("c", 4, "A", "AT"), ("d", 0, "AC", "A")]
    assert (list(variants.id), variants.record.tolist()) == (["", "", "rs7"], [0, 0, 1])
    assert variants.where(1) == "variant 0 ('c', 4, 'A', 'AT')"
    assert Variants.of(variants) is variants
    assert rows(Variants.of(variants.frame())) == rows(variants)
    frame = pd.DataFrame(
        {"#CHROM": [1, 1], "POS": [5, 6], "ref": ["A", "C"], "Alt": ["G", "CT"], "ID": ["x", None]}
    )
    numbered = Variants.of(frame, one_based=True)
    assert rows(numbered) == [("1", 4, "A", "G"), ("1", 5, "C", "CT")]
    assert list(numbered.id) == ["x", ""]
    assert len(Variants.of([])) == 0
    assert variants.kinds == {"substitution": 1, "insertion": 1, "deletion": 1}
    assert rows(variants.select([2, 0])) == [("d", 0, "AC", "A"), ("c", 4, "A", "G")]
    assert rows(variants.select([])) == []
    assert variants.rename({"c": "chrC"})[0][0] == "chrC"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("c", 4, "A")], r"variant 0: expected \(contig, position, ref, alt\) or"),
        ([("c", 4.0, "A", "G")], "variant 0: expected a whole number as position, received 4.0"),
        (
            [("c", 4, "A", "G"), ("c", 4, "A", "")],
            "variant 1: expected alleles of letters .*, received ''; write a",
        ),
        ([("c", 4, "A", "<DEL>")], "variant 0: expected alleles of letters .*, received '<DEL>'"),
        ([("c", 4, "A", None)], "variant 0: expected alleles of letters .*, received None"),
        ([("c", 4, "A", "a")], "variant 0: expected two alleles that differ"),
        (
            {"contig": ["c"], "ref": ["A"], "alt": ["G"]},
            r"expected a column 'position' \(or start, pos\), received",
        ),
        (
            {"contig": ["c"], "pos": [1], "ref": ["A"], "alt": ["G"]},
            "expected one_based=True or one_based=False for",
        ),
        (
            {"contig": [], "position": [1], "ref": ["A"], "alt": ["G"]},
            r"of one length, received lengths \[0, 1, 1, 1\]",
        ),
        (7, "expected Variants, the path of a VCF file, a list of .* or a frame, received int"),
    ],
)
def test_complaints_about_memory(given: Any, message: str) -> None:
    with pytest.raises(VariantError, match=message):
        Variants.of(given)


def test_complaints_about_names() -> None:
    variants = Variants.of([("c", 4, "A", "G"), ("d", 4, "A", "G")])
    with pytest.raises(VariantError, match=r"expected one of the contigs \['c', 'd'\], received 'e'"):
        variants.rename({"e": "f"})
    with pytest.raises(VariantError, match="expected another name for each contig"):
        variants.rename({"c": "d"})


# The reference


@pytest.fixture
def fasta(tmp_path: Path) -> Fasta:
    path = tmp_path / "genome.fa"
    path.write_text(">chr1\nAACCGGtt\nACGTRNY\n>2\nGATTACA\n")
    return Fasta(path)


def test_matching(fasta: Fasta, caplog: pytest.LogCaptureFixture) -> None:
    good = [("2", 0, "GAT", "G"), ("chr1", 6, "T", "C"), ("chr1", 6, "tta", "t"), ("chr1", 14, "C", "G")]
    iupac = [("chr1", 12, "A", "C"), ("chr1", 12, "N", "C"), ("chr1", 12, "R", "C"), ("chr1", 13, "N", "A")]
    bad = [
        ("chr1", 12, "G", "C"),
        ("2", 6, "AC", "A"),
        ("2", -1, "G", "A"),
        ("chr1", 0, "N", "C"),
        ("chr1", 13, "A", "C"),
    ]
    variants = Variants.of([*good, *iupac])
    matched = variants.matched(fasta)
    assert rows(matched) == rows(variants)
    assert matched.contigs == ["chr1", "2"]
    for variant in bad:
        with pytest.raises(VariantError, match="variant 0"):
            Variants.of([variant]).matched(fasta)
    skipped = Variants.of([*bad, ("3", 1, "A", "C"), *good]).matched(fasta, mismatch="skip", contigs="skip")
    assert rows(skipped) == rows(variants)[:4]
    assert skipped.skipped == {"contig": 1, "mismatch": 5}
    assert "left out 5 of 9 variants (mismatch)" in caplog.text
    masked = Fasta(fasta.path, alphabet=DNA.with_policy(lower="mask", ambiguous="error"))
    assert rows(variants.matched(masked)) == rows(variants)


def test_mismatches_name_both_letters_and_the_line(fasta: Fasta, write: Callable[..., str]) -> None:
    records = ["2\t3\t.\tTTACG\tT\t.\t.\t.\tGT\t0\t0\t0", "1\t3\t.\tC\tT\t.\t.\t.\tGT\t0\t0\t0"]
    variants = Variants.read(write(vcf(*records)))
    message = (
        r"x\.vcf, line 7 \(2:3 TTACG>T\): expected 'A', the letter of .*genome\.fa at '2':7 .*, received 'G'"
    )
    with pytest.raises(VariantError, match=message):
        variants.matched(fasta, contigs="skip")
    message = (
        r"line 8 \(1:3 C>T\): expected a contig of .*, received '1'; .* variants\.rename\(\{'1': 'chr1'\}\)"
    )
    with pytest.raises(VariantError, match=message):
        variants.matched(fasta)
    assert rows(variants.rename({"1": "chr1"}).select([1]).matched(fasta)) == [("chr1", 2, "C", "T")]
    with pytest.raises(
        VariantError, match=r"within '2' of .* \(7 letters\), received 2 letters from the 7th on"
    ):
        Variants.of([("2", 6, "AC", "A")]).matched(fasta)


def test_many_reference_alleles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biolayers.variants.reference._LETTERS", 50)  # several chunks, one allele beyond it
    text = "".join(np.random.default_rng(0).choice(list("ACGT"), 300))
    (tmp_path / "g.fa").write_text(f">c\n{text}\n")
    given = [("c", p, text[p : p + n], "N") for p, n in zip(range(0, 180, 3), range(1, 61), strict=True)]
    variants = Variants.of([*given, ("c", 200, text[200:290], "N"), ("c", 5, "N", "A")])
    assert rows(variants.matched(Fasta(tmp_path / "g.fa"), mismatch="skip")) == rows(variants)[:-1]


# Normalisation


def left_aligned(text: str, position: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Algorithm 1 of Tan et al., letter by letter."""
    changed = True
    while changed:
        changed = False
        if ref and alt and ref[-1] == alt[-1]:
            ref, alt, changed = ref[:-1], alt[:-1], True
        if (not ref or not alt) and position > 0:
            position -= 1
            ref, alt, changed = text[position] + ref, text[position] + alt, True
        elif not ref or not alt:  # the first letter of the contig: the one after is shared instead
            after = text[position + len(ref)]
            return position, ref + after, alt + after
    while len(ref) > 1 and len(alt) > 1 and ref[0] == alt[0]:
        position, ref, alt = position + 1, ref[1:], alt[1:]
    return position, ref, alt


@given(st.data(), st.text("AC", min_size=2, max_size=300))
def test_normalisation(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, text: str) -> None:
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text(f">c\n{text}\n")
    variants = []
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(text) - 1))
        ref = text[position : position + data.draw(st.integers(1, 8))]
        alt = data.draw(st.text("AC", min_size=1, max_size=8).filter(lambda alt, ref=ref: alt != ref))
        if len(ref) < len(text):  # else nothing would be left to anchor at
            variants.append(("c", position, ref, alt))
    made = Variants.of(variants).normalized(Fasta(path))
    assert rows(made) == [("c", *left_aligned(text, *rest)) for _, *rest in variants]
    for (_, position, ref, alt), (_, start, old, new) in zip(rows(made), variants, strict=True):
        assert (
            text[:position] + alt + text[position + len(ref) :]
            == text[:start] + new + text[start + len(old) :]
        )


def test_normalisation_moves_far(tmp_path: Path) -> None:
    (tmp_path / "g.fa").write_text(">c\nG" + "ca" * 5000 + "T\n")
    made = Variants.of([("c", 9_999, "CAT", "T"), ("c", 5_000, "A", "ACA")]).normalized(
        Fasta(tmp_path / "g.fa")
    )
    assert rows(made) == [("c", 0, "GCA", "G"), ("c", 0, "G", "GCA")]


# Columns


@given(st.lists(st.text("ACGT", max_size=9)), st.data())
def test_strings(texts: list[str], data: st.DataObject) -> None:
    column = Strings.of(texts)
    assert list(column) == texts
    assert column.lengths.tolist() == list(map(len, texts))
    chosen = data.draw(st.lists(st.integers(0, len(texts) - 1))) if texts else []
    assert list(column.taken(chosen)) == [texts[i] for i in chosen]
    rows = column.matrix(9)
    assert [bytes(row).rstrip(b"\0").decode() for row in rows] == texts


def test_trimming_takes_the_end_first() -> None:
    alleles = [("CAA", "CA"), ("A", "G"), ("ACGT", "AGGT"), ("A", "ATT"), ("GA", "GTA"), ("AT", "CG")]
    edits = trimmed(Variants.of([("c", 10, ref, alt) for ref, alt in alleles]))
    assert edits.start.tolist() == [11, 10, 11, 11, 11, 10]
    assert edits.stop.tolist() == [12, 11, 12, 11, 11, 12]
    assert list(edits.insert) == ["", "G", "G", "TT", "T", "CG"]
    assert edits.growth.tolist() == [-1, 0, 0, 2, 1, 0]
