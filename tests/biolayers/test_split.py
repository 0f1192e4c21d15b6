"""Splits against their promises: disjoint, stratified, honest, repeatable; and the report of duplicates."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted import mutated, random_texts, reverse_complement, window
from torch.utils.data import Subset, TensorDataset

from biolayers import DNA, PROTEIN, Alphabet, FastaDataset, Near, SequenceDataset, duplicates, leakage, split
from shared.errors import UserError

PARTNER = str.maketrans("ACGTN", "TGCAN")


@contextmanager
def dataset(records: Sequence[tuple[str, str]], alphabet: Alphabet = DNA) -> Iterator[FastaDataset]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.fa")
        with open(path, "w") as file:
            file.writelines(f">s{i} k={label}\n{text}\n" for i, (text, label) in enumerate(records))
        classes = sorted({label for _, label in records} | {"p", "q"})
        yield FastaDataset(path, label_pattern="k=(.)", classes=classes, pad_to="longest", alphabet=alphabet)


def canonical(text: str) -> str:
    return min(text, text.translate(PARTNER)[::-1])


def word(number: int, letters: int = 6) -> str:
    """A word of its own for each number, none the reverse complement of another."""
    return "A" * letters + "".join("ACGT"[number // 4**k % 4] for k in range(letters)) + "C" * letters


# Distinct words in each class, and copies of some of them
_records = st.tuples(
    st.integers(3, 60), st.integers(3, 40), st.lists(st.integers(0, 99), max_size=25), st.integers(0, 9)
)


@given(_records, st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.5), (1.0,), (0.34, 0.33, 0.33)]), st.booleans())
def test_promises(shape: tuple[int, int, list[int], int], fractions: tuple[float, ...], both: bool) -> None:
    first, second, copies, seed = shape
    singles = [(word(i), "p" if i < first else "q") for i in range(first + second)]
    extra = [singles[i % len(singles)] for i in copies]
    if both:
        extra = [
            (text.translate(PARTNER)[::-1] if i % 2 else text, label) for i, (text, label) in enumerate(extra)
        ]
    records = singles + extra
    with dataset(records) as data:
        parts = split(data, fractions, seed=seed, reverse_complement=both)
        assert [part.indices for part in split(data, fractions, seed=seed, reverse_complement=both)] == [
            part.indices for part in parts
        ]
        assert sorted(i for part in parts for i in part.indices) == list(range(len(records)))
        assert all(part.indices == sorted(part.indices) for part in parts)
        side: dict[str, int] = {}
        for number, part in enumerate(parts):
            for i in part.indices:
                text = canonical(records[i][0]) if both else records[i][0]
                assert side.setdefault(text, number) == number
        assert not duplicates(parts, reverse_complement=both) or len(parts) == 1
        largest = max(Counter(canonical(text) for text, _ in records).values())
        for label in "pq":
            whole = sum(kind == label for _, kind in records)
            for part, fraction in zip(parts, fractions, strict=True):
                held = sum(records[i][1] == label for i in part.indices)
                assert held >= 1
                assert abs(held - whole * fraction) <= largest + 1


def test_sizes_are_exact_where_single_sequences_allow() -> None:
    records = [(word(i), "pq"[i % 2]) for i in range(100)] + [(word(0), "p")] * 10 + [(word(1), "q")] * 10
    with dataset(records) as data:
        for seed in range(10):
            parts = split(data, (0.8, 0.1, 0.1), seed=seed)
            assert [len(part) for part in parts] == [96, 12, 12]
            assert [Counter(records[i][1] for i in part.indices) for part in parts] == [
                {"p": 48, "q": 48},
                {"p": 6, "q": 6},
                {"p": 6, "q": 6},
            ]


def test_seeds_differ_and_duplicates_go_anywhere() -> None:
    records = [(word(i), "pq"[i % 2]) for i in range(200)] + [
        (word(i), "pq"[i % 2]) for i in range(0, 200, 5)
    ]
    with dataset(records) as data:
        held = [split(data, (0.7, 0.3), seed=seed)[1].indices for seed in range(20)]
    assert len({tuple(indices) for indices in held}) == 20
    copies = sum(i >= 200 for indices in held for i in indices) / 20
    assert 8 < copies < 16  # 0.3 of 40: repeated sequences are not kept for the first part


def test_conflicting_labels_stay_together() -> None:
    records = [(word(i), "pq"[i % 2]) for i in range(40)] + [(word(i), "qp"[i % 2]) for i in range(10)]
    with dataset(records) as data:
        parts = split(data, (0.5, 0.5), seed=3)
        assert not duplicates(parts)
        assert duplicates(data).conflicting == 10
        for part in parts:
            assert {records[i][1] for i in part.indices} == {"p", "q"}


def test_small_classes_reach_every_part_or_are_refused() -> None:
    records = [(word(i), "p") for i in range(97)] + [(word(i), "q") for i in range(97, 100)]
    with dataset(records) as data:
        for seed in range(5):
            parts = split(data, seed=seed)
            assert [sum(records[i][1] == "q" for i in part.indices) for part in parts] == [1, 1, 1]
    records += [(word(99), "r"), (word(200), "r"), (word(200), "r")]
    with (
        dataset(records) as data,
        pytest.raises(
            UserError, match="at least 3 different sequences in class 'r', one per part, received 2; add"
        ),
    ):
        split(data)


def test_parts_of_parts() -> None:
    with dataset([(word(i), "pq"[i % 2]) for i in range(60)]) as data:
        rest, test = split(data, (0.8, 0.2))
        train, dev = split(rest, (0.5, 0.5), seed=1)
        assert train.dataset is rest
        assert not duplicates([train, dev, test])
        assert len(train) == len(dev) == 24
        first = train[0][0]
        assert torch.equal(first, data.tokens[rest.indices[train.indices[0]]])


def test_unlabelled_and_proteins_split_too() -> None:
    with dataset([("MKV" + "ACDEFGHIKL"[i] * 3, "p") for i in range(10)], PROTEIN) as data:
        assert [len(part) for part in split(data, (0.5, 0.5))] == [5, 5]
        bare = FastaDataset(data.files[0].path, unlabelled=True, alphabet=PROTEIN)
        assert [len(part) for part in split(bare, (0.9, 0.1))] == [9, 1]


@pytest.mark.parametrize("fractions", [(), (0.5, 0.4), (1.2, -0.2), (1.0, 0.0), (0.5, float("nan"))])
def test_odd_fractions(fractions: tuple[float, ...]) -> None:
    with (
        dataset([(word(i), "pq"[i % 2]) for i in range(8)]) as data,
        pytest.raises(UserError, match="expected fractions above 0 that sum to 1, received"),
    ):
        split(data, fractions)


def test_other_datasets_are_refused() -> None:
    other = TensorDataset(torch.zeros(3))
    with pytest.raises(UserError, match="expected a FastaDataset or a Subset of one, received TensorDataset"):
        duplicates([Subset(other, [0])])


def test_report_of_duplicates() -> None:
    texts = ["AACCG", "CGGTT", "AACCG", "TTTTT", "ACGT", "ACGT", "GGGGG", "CCCCC", "AAAAA"]
    labels = "pqpppqppp"
    with dataset(list(zip(texts, labels, strict=True))) as data:
        whole = duplicates(data)
        assert [group.names for group in whole.groups] == [
            ("s0", "s1", "s2"),
            ("s3", "s8"),
            ("s4", "s5"),
            ("s6", "s7"),
        ]
        assert whole.groups[0].reversed == (False, True, False)
        assert whole.groups[0].labels == (0, 1, 0)
        assert whole.groups[2].reversed == (False, False)  # ACGT is its own reverse complement
        assert (whole.records, whole.repeated, whole.exact, whole.reverse_complements) == (9, 9, 2, 2)
        assert whole.conflicting == 2
        assert str(whole) == (
            "4 sequences occur more than once in the dataset, in 9 of 9 records "
            "(2 equal, 2 only as reverse complement, 2 with different labels)"
        )
        forward = duplicates(data, reverse_complement=False)
        assert [group.names for group in forward.groups] == [("s0", "s2"), ("s4", "s5")]
        parts = [Subset(data, [0, 2, 3, 4]), Subset(data, [8, 1, 5, 6])]
        across = duplicates(parts)
        assert [group.names for group in across.groups] == [("s0", "s2", "s1"), ("s3", "s8"), ("s4", "s5")]
        assert across.groups[0].parts == (0, 0, 1)
        assert across.groups[0].indices == (0, 1, 1)
        assert (across.exact, across.reverse_complements, across.indices(1)) == (1, 2, [0, 1, 2])
        assert str(duplicates([parts[0], Subset(data, [6])])) == (
            "no sequence occurs twice between the parts (5 records)"
        )
        assert not duplicates(Subset(data, [0, 3]))


def test_duplicates_across_files_of_different_padding() -> None:
    with (
        dataset([("ACG", "p"), ("ACGTT", "q")]) as one,
        dataset([("ACG", "p"), ("CGT", "q"), ("A", "p")]) as two,
    ):
        found = duplicates([one, two])
        assert [group.names for group in found.groups] == [("s0", "s0", "s1")]


def test_similar_sequences_stay_together() -> None:
    rng = np.random.default_rng(0)
    texts = random_texts(rng, 120, 100)
    records = [(text, "pq"[i % 2]) for i, text in enumerate(texts)]
    records += [(mutated(rng, texts[i], 0.06), "pq"[i % 2]) for i in range(0, 40)]
    records += [(reverse_complement(window(rng, texts[i], 30)), "pq"[i % 2]) for i in range(20)]
    with dataset(records) as data:
        for seed in range(3):
            parts = split(data, by="similarity", seed=seed)
            for i in range(20):
                assert len({side(parts, j) for j in (i, 120 + i, 160 + i)}) == 1
            assert not leakage(parts[0], parts[2])
            assert not leakage(parts[1], parts[2])
            assert sum(parts.reached) == pytest.approx(1)
            for got, wanted in zip(parts.reached, parts.wanted, strict=True):
                assert abs(got - wanted) < 0.03
            for counts in parts.classes.values():
                assert abs(counts[0] / sum(counts) - 0.8) < 0.05
        by_sequence = split(data, seed=0)
        assert leakage(by_sequence[0], by_sequence[2])
        strict = split(data, by="similarity", near=Near(identity=0.99, coverage=1.0), seed=0)
        assert len(np.unique(strict.groups)) == len(records)
        assert [part.indices for part in split(data, by="similarity", seed=1)] == [
            part.indices for part in split(data, by="similarity", seed=1)
        ]


def side(parts: Sequence[Subset], sample: int) -> int:
    return next(number for number, part in enumerate(parts) if sample in part.indices)


def test_what_was_reached_is_printed() -> None:
    with dataset([(word(i // 2), "pq"[i % 2]) for i in range(40)]) as data:
        parts = split(data, (0.75, 0.25))
        assert len(parts) == 2
        assert parts.reached == (0.75, 0.25)
        assert parts.classes == {"p": [15, 5], "q": [15, 5]}
        assert str(parts) == (
            "40 samples split by sequence into 30 (75.0%), 10 (25.0%), wanted 75.0%, 25.0%\n"
            "20 groups, 20 of several samples (40 in all, the largest 2); 0 moved so that no part lacks a "
            "class\n"
            "class p: 15, 5\nclass q: 15, 5"
        )
        assert repr(parts) == "Split(30, 10 samples by sequence)"


def named(names: Sequence[str], **options: Any) -> SequenceDataset:
    texts = [word(i) for i in range(len(names))]
    return SequenceDataset(texts, ["pq"[i % 2] for i in range(len(names))], names=names, **options)


def test_contigs_stay_together() -> None:
    data = named([f"chr{1 + i % 5}:{10 * i}-{10 * i + 9}" for i in range(60)])
    parts = split(data, (0.6, 0.2, 0.2), by="contig", seed=2)
    contigs = [{data.name(i).split(":")[0] for i in part.indices} for part in parts]
    assert sorted(map(len, contigs)) == [1, 1, 3]
    assert set.union(*contigs) == {f"chr{i}" for i in range(1, 6)}
    train, val, test = split(data, by="contig", members=(None, ["chr4"], ["chr2", "chr5"]))
    assert {data.name(i)[:4] for i in test.indices} == {"chr2", "chr5"}
    assert {data.name(i)[:4] for i in val.indices} == {"chr4"}
    assert len(train) == 24
    assert "sequences were not looked at: no sequence occurs twice between the parts" in str(parts)


def test_groups_stay_together() -> None:
    names = [f"patient{i % 12}_{i}" for i in range(60)]
    data = named(names)
    wanted = [name.split("_")[0] for name in names]
    for groups in (wanted, dict(zip(names, wanted, strict=True)), r"^([^_]+)"):
        parts = split(data, (0.5, 0.25, 0.25), by="group", groups=groups, seed=1)
        held = [{wanted[i] for i in part.indices} for part in parts]
        assert sum(map(len, held)) == len(set.union(*held)) == 12
        assert all(abs(len(part) - size) <= 5 for part, size in zip(parts, (30, 15, 15), strict=True))


def test_without_strata_a_small_class_may_be_missing() -> None:
    records = [(word(i), "p") for i in range(97)] + [(word(97), "q")]
    with dataset(records) as data:
        with pytest.raises(UserError, match="expected at least 3 different sequences in class 'q'"):
            split(data)
        parts = split(data, stratify=False)
        assert [len(part) for part in parts] == [78, 10, 10]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "luck"}, "expected by to be 'sequence', 'similarity', 'contig' or 'group', received 'luck'"),
        ({"by": "group"}, "expected groups for by='group', received none"),
        ({"groups": ["a"] * 8}, "expected groups only with by='contig' or 'group', not 'sequence'"),
        ({"near": Near()}, "expected near only with by='similarity', not 'sequence'"),
        ({"by": "group", "groups": ["a"]}, "expected 8 groups, one per sample, received 1"),
        ({"by": "group", "groups": {"chr1:0": "a"}}, "received none for 'chr2:1'"),
        ({"by": "group", "groups": "(x+)"}, r"pattern '\(x\+\)', received the name 'chr1:0'"),
        ({"by": "group", "groups": "("}, "expected a regular expression"),
        ({"by": "contig", "members": (["chr1"], ["chr9"])}, "received 'chr9'; there are chr1, chr2"),
        ({"by": "contig", "members": (["chr1"], ["chr1"])}, "received 'chr1' in two"),
        ({"by": "contig", "members": (["chr1"],)}, "received no part for chr2"),
        ({"by": "contig", "members": (None, None)}, "received None twice"),
        ({"by": "contig"}, "at least 3 different contigs in class 'p', one per part, received 1"),
    ],
)
def test_odd_ways_to_split(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        split(named([f"chr{1 + i % 2}:{i}" for i in range(8)]), **options)
