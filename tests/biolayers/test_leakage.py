"""Leakage: planted duplicates are found and named, and nothing else is."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from Bio.Align import PairwiseAligner
from Bio.Seq import Seq
from Bio.SeqRecord import SeqRecord
from hypothesis import given
from hypothesis import strategies as st
from planted import mutated, random_texts, reverse_complement, window
from torch.utils.data import Subset

from biolayers import DNA, PROTEIN, RNA, Fasta, FastaDataset, Near, SequenceDataset, leakage
from biolayers.comparing.leaks import leaks_between
from biolayers.comparing.sequences import collect
from biolayers.comparing.similarity import Search, clusters
from shared.errors import UserError

CHANGES = {
    "1 % substitutions": lambda rng, text: mutated(rng, text, 0.01),
    "5 % substitutions": lambda rng, text: mutated(rng, text, 0.05),
    "10 % substitutions": lambda rng, text: mutated(rng, text, 0.10),
    "3 % substitutions, 3 % indels": lambda rng, text: mutated(rng, text, 0.03, 0.03),
    "5 % substitutions, other strand": lambda rng, text: reverse_complement(mutated(rng, text, 0.05)),
    "a window 20 % further": lambda rng, text: window(rng, text, len(text) // 5),
    "a window 40 % further, other strand": lambda rng, text: reverse_complement(
        window(rng, text, 2 * len(text) // 5)
    ),
}


@pytest.mark.parametrize("length", [70, 200, 1000])
def test_planted_near_duplicates_are_found_and_nothing_else(length: int) -> None:
    rng = np.random.default_rng(length)
    train = random_texts(rng, 1500, length)
    test = random_texts(rng, 300, length)
    planted: dict[int, tuple[str, int]] = {}
    for i in range(140):
        change = list(CHANGES)[i % len(CHANGES)]
        place = int(rng.integers(len(train)))
        test[2 * i] = CHANGES[change](rng, train[place])
        planted[2 * i] = change, place
    found = {leak.test_index: leak for leak in leakage(train, test).leaks}
    assert set(found) <= set(planted)  # precision 1
    for change in CHANGES:
        mine = [i for i in planted if planted[i][0] == change]
        recall = sum(i in found for i in mine) / len(mine)
        assert recall >= (0.85 if length == 70 else 1.0), (change, recall)
    for i, leak in found.items():
        change, place = planted[i]
        assert leak.train_index == place
        assert leak.strand == ("-" if "other strand" in change else "+") or leak.kind == "exact"
        assert leak.identity >= 0.8
        assert leak.coverage >= 0.5


def test_equal_sequences_are_all_found() -> None:
    rng = np.random.default_rng(1)
    train = [*random_texts(rng, 200, 40), "ACGT", "A", "ACGGN"]
    test = [train[3], reverse_complement(train[9]), "ACGT", "A", "NCCGT", "TTTTT", train[3]]
    report = leakage(train, test)
    assert [(leak.kind, leak.test_index, leak.train_index, leak.strand) for leak in report.leaks] == [
        ("exact", 0, 3, "+"),
        ("reverse complement", 1, 9, "-"),
        ("exact", 2, 200, "+"),
        ("exact", 3, 201, "+"),
        ("reverse complement", 4, 202, "-"),
        ("exact", 6, 3, "+"),
    ]
    assert report.indices() == [0, 1, 2, 3, 4, 6]
    assert (report.count("exact"), report.count("reverse complement"), report.count("near")) == (4, 2, 0)
    forward = leakage(train, test, reverse_complement=False)
    assert forward.indices() == [0, 2, 3, 6]
    assert leakage(train, test, near=None).leaks == report.leaks
    assert str(report).startswith(
        "leakage: 6 of 7 test sequences (85.7%) are in the 203 for training (4 exact, 2 reverse complement"
    )
    clean = leakage(train, ["CCCCCCCCCTTTT"])
    assert not clean
    assert str(clean).startswith("no leakage: none of 1 test sequences is equal or similar to one of the 203")


def test_every_kind_of_source_says_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    train, test = random_texts(rng, 30, 60), random_texts(rng, 10, 60)
    test[4] = reverse_complement(train[7])
    test[6] = mutated(rng, train[8], 0.05)
    paths = [tmp_path / "train.fa", tmp_path / "test.fa"]
    for path, texts in zip(paths, (train, test), strict=True):
        path.write_text("".join(f">{path.stem}{i}\n{text}\n" for i, text in enumerate(texts)))
    tokens = [DNA.tokens(texts) for texts in (train, test)]
    sources = [
        (train, test),
        tokens,
        [list(rows) for rows in tokens],
        [[SeqRecord(Seq(text), id=f"r{i}") for i, text in enumerate(texts)] for texts in (train, test)],
        paths,
        list(map(str, paths)),
        list(map(Fasta, paths)),
        [FastaDataset(path, unlabelled=True) for path in paths],
        [SequenceDataset(texts) for texts in (train, test)],
        [Subset(SequenceDataset(train + test), range(a, b)) for a, b in ((0, 30), (30, 40))],
    ]
    wanted = [("reverse complement", 4, 7, "-"), ("near", 6, 8, "+")]
    for source in sources:
        report = leakage(*source)
        assert [
            (leak.kind, leak.test_index, leak.train_index, leak.strand) for leak in report.leaks
        ] == wanted
    assert [(leak.test, leak.train) for leak in leakage(*paths).leaks] == [
        ("test4", "train7"),
        ("test6", "train8"),
    ]


def test_the_table(tmp_path: Path) -> None:
    train = SequenceDataset(["ACGGTCA", "TTTTGGA"], ["p", "q"], names=["a", "b"])
    test = SequenceDataset(["TCCAAAA", "ACGGTCA"], ["p", "q"], names=["c", "d"], classes=["p", "q"])
    report = leakage(train, test)
    report.write_csv(tmp_path / "leaks.csv")
    with open(tmp_path / "leaks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["test"], row["train"], row["strand"], row["identity"]) for row in rows] == [
        ("reverse complement", "c", "b", "-", "1.0000"),
        ("exact", "d", "a", "+", "1.0000"),
    ]
    assert [row["same_label"] for row in rows] == ["False", "False"]
    assert len(report.figure().axes) == 1
    between = leaks_between([train, test], ["train", "val"])
    assert list(between) == ["val in train"]
    assert len(between["val in train"]) == 2


@given(st.text("ACGTN", min_size=1, max_size=40), st.text("ACGTN", min_size=1, max_size=40), st.booleans())
def test_scores_are_those_of_biopython(a: str, b: str, other: bool) -> None:
    aligner = PairwiseAligner(mode="local", match_score=1, mismatch_score=-1, gap_score=-2)
    aligner.wildcard = None
    # an N matches nothing, not even another N
    left, right = a.replace("N", "X"), b.replace("N", "Y")
    wanted = aligner.score(left, right) if set(left) & set(right) else 0
    from biolayers.kernels.numba import align as kernel

    query = DNA.tokens(reverse_complement(a) if other else a).numpy()
    target = DNA.tokens(b).numpy()
    out = np.full((1, kernel.COLUMNS), -7, np.int64)
    edges = [np.array([0, len(row)]) for row in (query, target)]
    pair = np.array([[0, 0, int(other), 0]])
    sides = [(query, edges[0]), (target, edges[1])]
    kernel.align(0, 1, pair, *sides, DNA.complement_table, 4, np.array([90]), out)
    score, matches, columns, first, last, start, stop = out[0].tolist()
    assert score == wanted
    if score:
        assert 0 <= first < last <= len(a)
        assert 0 <= start < stop <= len(b)
        assert columns >= max(last - first, stop - start) >= matches
        assert aligner.score(left[first:last], right[start:stop]) == score


def test_estimates_are_mash_distances() -> None:
    rng = np.random.default_rng(3)
    text = random_texts(rng, 1, 3000)[0]
    near = Near(align=False, identity=0.5, sketch=10_000, k=12)
    for rate in (0.01, 0.05, 0.1):
        other = mutated(rng, text, rate)
        (leak,) = leakage([text], [other], near=near).leaks
        words = [
            {min(t[i : i + 12], reverse_complement(t[i : i + 12])) for i in range(len(t) - 11)}
            for t in (text, other)
        ]
        share = len(words[0] & words[1]) / len(words[0] | words[1])
        assert leak.identity == pytest.approx(1 + np.log(2 * share / (1 + share)) / 12)
        assert abs(leak.identity - (1 - rate)) < 0.03
        assert np.isnan(leak.coverage)


def test_clusters_are_chains_and_do_not_depend_on_order() -> None:
    rng = np.random.default_rng(4)
    texts = random_texts(rng, 60, 150)
    for i in range(20):
        texts += [window(rng, texts[i], 50), reverse_complement(mutated(rng, texts[i], 0.05)), texts[i]]
    for i in range(5):  # a chain: each overlaps with the one before only
        texts.append(window(rng, texts[-1] if i else texts[50], 60))
    sequences = collect(texts, DNA)
    found = clusters(sequences, Near())
    for i in range(20):
        assert {int(found[60 + 3 * i + j]) for j in range(3)} == {i}
    assert {int(found[j]) for j in range(120, 125)} == {50}
    assert len(set(found.tolist())) == 60
    order = rng.permutation(len(texts))
    again = clusters(sequences.take(order), Near())
    assert ((again[:, None] == again[None, :]) == (found[order][:, None] == found[order][None, :])).all()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert np.array_equal(clusters(sequences, Near()), found)
    finally:
        torch.set_num_threads(threads)


def test_words_that_very_many_share_do_not_hide_pairs() -> None:
    rng = np.random.default_rng(5)
    repeat = random_texts(rng, 1, 40)[0]
    texts = [repeat + text for text in random_texts(rng, 1500, 160)]
    texts += [mutated(rng, text, 0.05) for text in texts[:50]]
    found = clusters(collect(texts, DNA), Near())
    assert np.array_equal(found[1500:], np.arange(50))
    assert len(set(found.tolist())) == 1500  # 40 of 200 letters are not enough


def test_proteins_and_rna() -> None:
    rng = np.random.default_rng(6)
    letters = np.array(list(PROTEIN.letters))
    train = ["".join(row) for row in letters[rng.integers(0, 20, (300, 120))]]
    changed = list(train[5])
    for i in range(0, 120, 9):
        changed[i] = "W" if changed[i] != "W" else "C"
    report = leakage(train, ["".join(changed), train[9], train[8][::-1]], alphabet=PROTEIN)
    assert [(leak.kind, leak.train_index) for leak in report.leaks] == [("near", 5), ("exact", 9)]
    dna = random_texts(rng, 50, 80)
    rna = [text.replace("T", "U") for text in dna]
    turned = reverse_complement(dna[3]).replace("T", "U")
    assert leakage(rna, [turned], alphabet=RNA).leaks[0].strand == "-"


def test_few_and_short_sequences() -> None:
    assert not leakage([], ["ACGT"])
    assert not leakage(["ACGT"], [])
    assert str(leakage([], [])).startswith("no leakage: none of 0")
    assert len(leakage(["A"], ["A", "C", "T"])) == 2
    assert not leakage(["NNNNNNNNNNNNNNNNNNNNNN"], ["NNNNNNNNNNNNNNNNNNNNN"])
    assert len(leakage(["ACGTTGCATTGCAGCAGCGGA" * 2], ["NACGTTGCATTGCAGCAGCGGAN"])) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Near(identity=0), "identity: expected a share above 0 up to 1, received 0"),
        (lambda: Near(coverage=1.5), "coverage: expected a share above 0 up to 1, received 1.5"),
        (lambda: Near(k=0), "k: expected a whole number from 1 on, received 0"),
        (lambda: leakage(["ACGT"], ["ACGT"], near=Near(k=40)), "k: expected at most 15"),
        (lambda: leakage(["AC"], 3), "test: expected a FastaDataset or a Subset of one, received int"),
        (lambda: leakage(["AC", 3], ["AC"]), "train: expected strings, .* received int at index 1"),
        (lambda: leakage(["AC!"], ["AC"]), "train, record 0: expected letters .* received '!'"),
        (
            lambda: leakage(SequenceDataset(["ACD"], alphabet=PROTEIN), ["AC"]),
            "expected sequences of one alphabet, received PROTEIN and DNA",
        ),
    ],
)
def test_odd_arguments(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_a_search_among_few_uses_short_words() -> None:
    few = collect(["ACGTACGTTGCA"] * 3, DNA)
    many = collect(torch.zeros((2000, 500), dtype=torch.uint8), DNA)
    assert Search(few, None, Near(), reverse_complement=True).k == 4
    assert Search(many, None, Near(), reverse_complement=True).k == 11
