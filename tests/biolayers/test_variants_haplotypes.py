"""Haplotypes against an editor of plain strings that applies variants one by one, window edges included."""

import multiprocessing
import pickle
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pysam
import pysam.bcftools
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from biolayers import DNA, PAD, HaplotypeDataset, Haplotypes, VariantError, Variants, haplotypes
from biolayers.batching.batches import Batch
from shared.threads import finest_grain

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 with threads

# The definition, with lists of letters


class Letter(NamedTuple):
    letter: str
    position: int  # in the reference, -1 for inserted letters
    owner: int  # the position whose window it belongs to


class Variant(NamedTuple):
    contig: str
    position: int
    ref: str
    alt: str


def minimal(variant: Variant) -> tuple[int, int, str]:
    """First replaced position, the one after the last, and the new letters."""
    _, start, ref, alt = variant
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while ref and alt and ref[0] == alt[0]:
        start, ref, alt = start + 1, ref[1:], alt[1:]
    return start, start + len(ref), alt


def edited(text: str, variants: list[Variant]) -> tuple[list[Letter], int]:
    """The contig with the variants applied, and how many overlap one before them."""
    slots = [[Letter(letter, i, i)] for i, letter in enumerate(text)]  # what stands at each position
    before: list[list[Letter]] = [[] for _ in range(len(text) + 1)]  # pure insertions before it
    taken, skipped = -1, 0
    edits = [minimal(variant) for variant in variants]
    for start, stop, new in sorted(edits, key=lambda edit: (edit[0], edit[1] > edit[0])):
        if start < taken or (start == stop and before[start]):
            skipped += 1
            continue
        taken = stop
        if start == stop:
            before[start] = [Letter(letter, -1, max(start - 1, 0)) for letter in new]
            continue
        for i in range(start, stop):
            slots[i] = [Letter(new[i - start], i, i)] if i - start < len(new) else []
        slots[stop - 1] += [Letter(letter, -1, stop - 1) for letter in new[stop - start :]]
    rows = [letter for i, slot in enumerate(slots) for letter in (*before[i], *slot)]
    return rows + before[-1], skipped


def expected_window(
    contig: list[Letter], start: int, end: int, strand: str, length: int | None
) -> tuple[list[int], list[int]]:
    """Tokens and positions of a window."""
    if length is None:
        rows = [letter for letter in contig if start <= letter.owner < end]
    elif strand == "-":
        rows = [letter for letter in contig if letter.owner < end][-length:]
    else:
        rows = [letter for letter in contig if letter.owner >= start][:length]
    tokens = DNA.tokens("".join(letter.letter for letter in rows))
    positions = [letter.position for letter in rows]
    if strand == "-":
        return DNA.reverse_complement(tokens).tolist(), positions[::-1]
    return tokens.tolist(), positions


# Random genomes


class Case(NamedTuple):
    genome: dict[str, str]
    variants: list[Variant]
    genotypes: np.ndarray  # (n, samples, ploidy)
    intervals: list[tuple[str, int, int, str]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    texts = draw(st.lists(st.text("ACGTACGTacgtNn", min_size=1, max_size=40), min_size=1, max_size=2))
    genome = {f"c{i}": text for i, text in enumerate(texts)}
    names = st.sampled_from(sorted(genome))
    variants = []
    for _ in range(draw(st.integers(0, 12))):
        contig = draw(names)
        position = draw(st.integers(0, len(genome[contig]) - 1))
        ref = genome[contig][position : position + draw(st.integers(1, 9))].upper()
        new = st.text("ACGT", min_size=1, max_size=9)
        alt = draw(new.filter(lambda alt, ref=ref: alt != ref) | new.map(lambda new, ref=ref: new + ref))
        variants.append(Variant(contig, position, ref, alt))
    shape = (len(variants), draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    carried = draw(
        st.lists(st.sampled_from([1, 1, 0]), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    )
    intervals = []
    for _ in range(draw(st.integers(1, 4))):
        contig = draw(names)
        ends = sorted(draw(st.integers(0, len(genome[contig]))) for _ in range(2))
        intervals.append((contig, *ends, draw(st.sampled_from("+-"))))
    return Case(genome, variants, np.array(carried, np.int8).reshape(shape), intervals)


def table(variants: list[Variant], genotypes: np.ndarray, phased: bool = True) -> Variants:
    contigs, positions, refs, alts = zip(*variants, strict=True) if variants else [[]] * 4
    samples = [f"s{k}" for k in range(genotypes.shape[1])]
    return Variants.of_columns(
        contigs,
        positions,
        refs,
        alts,
        [""] * len(variants),
        range(len(variants)),
        samples=samples,
        genotypes=genotypes,
        phased=np.full(genotypes.shape[:2], phased),
    )


def write_fasta(folder: Path | str, genome: dict[str, str], width: int = 9) -> str:
    path = Path(folder) / "genome.fa"
    lines = [
        f">{name}\n" + "".join(f"{text[i : i + width]}\n" for i in range(0, len(text), width))
        for name, text in genome.items()
    ]
    path.write_text("".join(lines))
    return str(path)


def copies(case: Case) -> dict[tuple[str, int, int], tuple[list[Letter], int]]:
    """Every contig of every copy, edited; and how many variants were left out."""
    made = {}
    for sample, copy in np.ndindex(case.genotypes.shape[1:]):
        calls = case.genotypes[:, sample, copy].tolist()
        for contig, text in case.genome.items():
            pairs = zip(case.variants, calls, strict=True)
            made[contig, sample, copy] = edited(text, [v for v, call in pairs if call and v.contig == contig])
    return made


def check(made: Haplotypes, case: Case, length: int | None) -> None:
    samples, ploidy = case.genotypes.shape[1:]
    texts = copies(case)
    row = 0
    for contig, start, end, strand in case.intervals:
        for sample in range(samples):
            for copy in range(ploidy):
                text, _ = texts[contig, sample, copy]
                tokens, positions = expected_window(text, start, end, strand, length)
                count, width = len(tokens), made.tokens.shape[2]
                assert made.lengths[row, copy] == count
                assert made.tokens[row, copy].tolist() == tokens + [PAD] * (width - count)
                assert made.positions[row, copy].tolist() == positions + [-1] * (width - count)
            row += 1
    assert made.tokens.shape[0] == row


@given(cases(), st.none() | st.integers(1, 60), st.booleans())
def test_windows_are_those_of_the_edited_contig(case: Case, length: int | None, fine: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_fasta(folder, case.genome)
        variants = table(case.variants, case.genotypes)
        data = HaplotypeDataset(path, variants, case.intervals, length=length, positions=True)
        if fine:
            with finest_grain():
                made = Haplotypes(*data.batch(range(len(data))))
        else:
            made = Haplotypes(*data.batch(range(len(data))))
        check(made, case, length)
        assert made.tokens.shape[2] == (int(made.lengths.max()) if length is None else length)
        plain = HaplotypeDataset(path, variants, case.intervals, length=length).batch(range(len(data)))
        assert len(plain) == 2
        assert torch.equal(plain[0], made.tokens)
        left_out = np.zeros(case.genotypes.shape[1:], np.int64)
        for (_, sample, copy), (_, lost) in copies(case).items():
            left_out[sample, copy] += lost
        assert np.array_equal(data.overlapping, left_out)


@pytest.mark.parametrize("length", [None, 1, 64, 1025])
@pytest.mark.parametrize("strand", "+-")
def test_every_place_is_written(
    tmp_path: Path, poisoned_memory: None, length: int | None, strand: str
) -> None:
    draw = np.random.default_rng(1)
    text = "".join(draw.choice(list("ACGT"), 9_000))
    variants = [
        Variant("c", p, text[p : p + n], text[p] + "".join(draw.choice(list("ACGT"), m)))
        for p, n, m in zip(
            np.sort(draw.choice(8_900, 200, replace=False)).tolist(),
            draw.integers(1, 30, 200).tolist(),
            draw.integers(0, 90, 200).tolist(),
            strict=True,
        )
    ]
    variants = [v for v in variants if v.ref != v.alt]
    variants.append(Variant("c", 1_000, text[1_000:8_500], text[1_000]))  # longer than the windows
    genotypes = draw.integers(0, 2, (len(variants), 2, 2)).astype(np.int8)
    genotypes[-1] = [[1, 0], [0, 0]]
    intervals = [("c", s, e, strand) for s, e in ((0, 300), (900, 1_050), (3_000, 4_000), (8_990, 9_000))]
    case = Case({"c": text}, variants, genotypes, intervals)
    path = write_fasta(tmp_path, case.genome, 80)
    data = HaplotypeDataset(path, table(variants, genotypes), intervals, length=length, positions=True)
    check(Haplotypes(*data.batch(range(len(data)))), case, length)


def test_whole_contigs_are_those_of_bcftools(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    text = "".join(draw.choice(list("ACGT"), 5_000))
    path = write_fasta(tmp_path, {"c": text}, 60)
    lines = []
    for position in range(20, 4_900, 30):  # far enough apart that nothing overlaps
        ref = text[position : position + int(draw.integers(1, 9))]
        alts = {ref[0] + "".join(draw.choice(list("ACGT"), draw.integers(0, 9))) for _ in range(2)} - {ref}
        calls = draw.integers(0, len(alts) + 1, (2, 2))
        genotypes = "\t".join(f"{a}|{b}" for a, b in calls)
        if alts:
            lines.append(
                f"c\t{position + 1}\t.\t{ref}\t{','.join(sorted(alts))}\t.\tPASS\t.\tGT\t{genotypes}\n"
            )
    head = '##fileformat=VCFv4.3\n##contig=<ID=c>\n##FORMAT=<ID=GT,Number=1,Type=String,Description="">\n'
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tann\tbob\n"
    (tmp_path / "x.vcf").write_text(head + columns + "".join(lines))
    packed = pysam.tabix_index(str(tmp_path / "x.vcf"), preset="vcf", keep_original=True)
    for sample in ("ann", "bob"):
        made = haplotypes(path, packed, sample, [("c", 0, 5_000)])
        for copy in (0, 1):
            out = pysam.bcftools.consensus("-f", path, "-s", sample, "-H", str(copy + 1), packed)
            assert DNA.text(made.tokens[0, copy]) == "".join(out.split("\n")[1:])


def test_an_insertion_before_the_contig(tmp_path: Path) -> None:
    path = write_fasta(tmp_path, {"c": "AACCGGTTAC"})
    windows = [("c", 0, 3), ("c", 1, 3), ("c", 0, 0), ("c", 0, 2, "-")]
    whole = haplotypes(path, [("c", 0, "A", "GTA")], None, windows)
    assert DNA.text(whole.tokens[:, 0]) == ["GTAAC", "AC", "", "TTAC"]
    four = haplotypes(path, [("c", 0, "A", "GTA")], None, windows, length=4)
    assert DNA.text(four.tokens[:, 0]) == ["GTAA", "ACCG", "GTAA", "TTAC"]
    one = haplotypes(path, [("c", 0, "A", "GTA")], None, windows[:1], length=1)
    assert DNA.text(one.tokens[:, 0]) == ["G"]


def test_deletions_are_made_up_from_beyond_the_window(tmp_path: Path) -> None:
    path = write_fasta(tmp_path, {"c": "AACCGGTTACGTAACG"})
    variants = [("c", 2, "CCG", "C"), ("c", 10, "G", "GAA")]
    made = haplotypes(path, variants, None, [("c", 0, 6), ("c", 0, 6, "-")], length=10)
    assert DNA.text(made.tokens.flatten(0, 1)) == ["AACGTTACGA", "CGTT"]
    assert made.positions[0, 0].tolist() == [0, 1, 2, 5, 6, 7, 8, 9, 10, -1]
    window = haplotypes(path, variants, None, [("c", 3, 5)])  # nothing is left of it
    assert window.tokens.shape == (1, 1, 0)
    assert window.lengths.tolist() == [[0]]


def test_overlapping_variants_first_wins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_fasta(tmp_path, {"c": "AACCGGTTAC"})
    variants = [("c", 1, "ACC", "A"), ("c", 2, "C", "T"), ("c", 2, "C", "G"), ("c", 3, "C", "CA")]
    data = HaplotypeDataset(path, variants, [("c", 0, 10)], samples=None)
    assert DNA.text(data[0][0]) == ["AA" + "A" + "GGTTAC"]  # the deletion of CC, then the insertion of A
    assert data.overlapping.tolist() == [[2]]
    assert "2 calls overlap a variant before them" in caplog.text


# Genotypes


def test_unphased_and_missing_calls(tmp_path: Path) -> None:
    path = write_fasta(tmp_path, {"c": "AACCGGTTAC"})
    snps = [Variant("c", 0, "A", "T"), Variant("c", 1, "A", "G")]
    genotypes = np.array([[[1, 1]], [[0, 1]]], np.int8)
    window = [("c", 0, 3)]
    with pytest.raises(
        VariantError, match=r"variant 1 .*expected a phased genotype such as 0\|1, .* 's0'; phase"
    ):
        haplotypes(path, table(snps, genotypes, phased=False), "s0", window)
    unphased = table(snps[:1], genotypes[:1], phased=False)  # homozygous: any order is the same
    assert DNA.text(haplotypes(path, unphased, "s0", window).tokens[0]) == ["TAC", "TAC"]
    given_order = haplotypes(path, table(snps, genotypes, phased=False), "s0", window, unphased="as given")
    assert DNA.text(given_order.tokens[0]) == ["TAC", "TGC"]
    genotypes[1, 0] = -1
    data = HaplotypeDataset(path, table(snps, genotypes), window)
    assert DNA.text(data[0][0]) == ["TAC", "TAC"]
    assert data.missing == 1
    with pytest.raises(VariantError, match="expected a genotype of sample 's0', received none"):
        haplotypes(path, table(snps, genotypes), "s0", window, missing="error")


FAULTS: dict[str, dict[str, Any]] = {
    "expected variants with genotypes, received none": {"variants": [("c", 0, "A", "T")], "sample": "s0"},
    "expected a sample of ['s0'], received 's1'": {"sample": "s1"},
    "expected length None or from 1 on, received 0": {"length": 0},
    "expected unphased to be one of 'error', 'as given', received 'guess'": {"unphased": "guess"},
    "expected missing to be one of 'error', 'reference', received 'N'": {"missing": "N"},
    "expected 'A', the letter of": {"variants": [("c", 0, "T", "C")], "sample": None},
}


@pytest.mark.parametrize("message", FAULTS)
def test_complaints(tmp_path: Path, message: str) -> None:
    path = write_fasta(tmp_path, {"c": "AACCGGTTAC"})
    good = table([Variant("c", 0, "A", "T")], np.ones((1, 1, 2), np.int8))
    options = {"variants": good, "sample": "s0", "intervals": [("c", 0, 3)], **FAULTS[message]}
    with pytest.raises(VariantError) as caught:
        haplotypes(path, **options)
    assert message in str(caught.value)


# Datasets


@pytest.fixture
def data(tmp_path: Path) -> HaplotypeDataset:
    text = "".join(np.random.default_rng(2).choice(list("ACGT"), 500))
    path = write_fasta(tmp_path, {"c": text, "d": text[::-1]})
    variants = [Variant("c", p, text[p : p + 2], text[p]) for p in range(0, 490, 10)]
    genotypes = np.random.default_rng(3).integers(0, 2, (len(variants), 3, 2)).astype(np.int8)
    intervals = [("c", 0, 50), ("d", 7, 70), ("c", 200, 220, "-")]
    return HaplotypeDataset(
        path, table(variants, genotypes), intervals, length=60, targets=torch.arange(9.0).view(3, 3)
    )


def test_items_and_batches(data: HaplotypeDataset) -> None:
    assert len(data) == 9
    assert data.contigs == ["c"] * 3 + ["d"] * 3 + ["c"] * 3
    tokens, lengths, targets = data.batch(torch.tensor([5, 0]))
    assert (tokens.shape, lengths.tolist(), targets.tolist()) == ((2, 2, 60), [[60, 60]] * 2, [5.0, 0.0])
    for found, part in zip(data[5], (tokens, lengths, targets), strict=True):
        assert torch.equal(found, part[0])
    assert torch.equal(data[Batch(np.array([5, 0]), 3)][0], tokens)
    with pytest.raises(IndexError):
        data[9]
    assert data.batch([])[0].shape == (0, 2, 60)
    assert "3 windows of" in repr(data)
    assert "3 samples, ploidy 2, 60 letters" in repr(data)
    chosen = HaplotypeDataset(data.fasta, _variants(data), data.intervals, samples=["s2", "s0"], length=60)
    assert chosen.samples == ["s2", "s0"]
    assert torch.equal(chosen[0][0], data[2][0])
    with pytest.raises(
        VariantError, match=r"expected targets \(3 windows, 2 samples, ...\), received shape \(3,\)"
    ):
        HaplotypeDataset(data.fasta, _variants(data), data.intervals, samples=["s2", "s0"], targets=[1, 2, 3])
    one_person = HaplotypeDataset(
        data.fasta, _variants(data), data.intervals, samples="s1", targets=[1, 2, 3]
    )
    assert one_person.targets.tolist() == [1, 2, 3]


def _variants(data: HaplotypeDataset) -> Variants:
    text = str(data.fasta["c"])
    variants = [Variant("c", p, text[p : p + 2], text[p]) for p in range(0, 490, 10)]
    return table(variants, np.random.default_rng(3).integers(0, 2, (len(variants), 3, 2)).astype(np.int8))


@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_see_the_same_haplotypes(data: HaplotypeDataset, method: str, workers: int) -> None:
    alone = data.batch(range(9))
    context = multiprocessing.get_context(method)
    batches = DataLoader(data, batch_size=4, num_workers=workers, multiprocessing_context=context)
    for found, part in zip(zip(*batches, strict=True), alone, strict=True):
        assert torch.equal(torch.cat(found), part)
    assert torch.equal(pickle.loads(pickle.dumps(data)).batch(range(9))[0], alone[0])
