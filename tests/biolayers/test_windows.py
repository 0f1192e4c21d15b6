"""Windows over genomes against a naive reader of strings: edges, strands, jitter, workers."""

import multiprocessing
import pickle
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from biolayers import (
    DNA,
    PAD,
    PROTEIN,
    Fasta,
    IntervalDataset,
    IntervalError,
    Intervals,
    Tracks,
    loader,
    negatives,
    overlap_leakage,
    split,
)
from biolayers.batching.batches import Batch, Part
from biolayers.batching.randomness import coin, integers

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 with threads

SEQUENCES = {
    name: "".join(np.random.default_rng(seed).choice(list("ACGTN"), size, p=[0.24] * 4 + [0.04]))
    for seed, (name, size) in enumerate({"chr1": 203, "chr2": 90, "tiny": 12}.items())
}
COMPLEMENT = str.maketrans("ACGTN*", "TGCAN*")


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("genome") / "x.fa"
    with path.open("w") as file:
        for name, text in SEQUENCES.items():
            lines = [text[i : i + 37] for i in range(0, len(text), 37)]
            file.write(f">{name}\n" + "\n".join(lines) + "\n")
    return str(path)


def naive(contig: str, start: int, end: int, minus: bool) -> str:
    """Letters of a window, `*` beyond the contig."""
    text = SEQUENCES[contig]
    letters = "".join(text[i] if 0 <= i < len(text) else "*" for i in range(start, end))
    return letters.translate(COMPLEMENT)[::-1] if minus else letters


def text(tokens: Tensor) -> list[str]:
    letters = np.where(tokens.numpy() == PAD, ord("*"), DNA.letter_table[tokens.numpy()])
    return [row.astype(np.uint8).tobytes().decode() for row in letters]


@st.composite
def intervals(draw: st.DrawFn) -> list[tuple[str, int, int, str]]:
    found = []
    for _ in range(draw(st.integers(1, 8))):
        contig = draw(st.sampled_from(list(SEQUENCES)))
        start = draw(st.integers(0, len(SEQUENCES[contig]) - 1))
        end = draw(st.integers(start, min(start + 30, len(SEQUENCES[contig]))))
        found.append((contig, start, end, draw(st.sampled_from("+-."))))
    return found


@given(
    intervals(),
    st.integers(1, 40),
    st.integers(0, 9),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from(["pad", "unknown", "drop", "shift"]),
    st.booleans(),
    st.sampled_from([None, 0, 7]),
)
def test_windows_are_those_of_a_naive_reader(
    genome: str,
    given: list[tuple[str, int, int, str]],
    length: int,
    jitter: int,
    probability: float,
    beyond: str,
    stranded: bool,
    epoch: int | None,
) -> None:
    options: dict[str, Any] = {
        "length": length,
        "jitter": jitter,
        "reverse_complement": probability,
        "beyond": beyond,
        "stranded": stranded,
        "seed": 5,
    }
    table = Intervals.of(given).resize(length)
    if beyond == "drop":
        table = table.fit(Fasta(genome), beyond="drop", margin=jitter)
    elif beyond == "shift":
        if any(length + 2 * jitter > len(SEQUENCES[row[0]]) for row in given):
            with pytest.raises(IntervalError, match="expected a contig with room for"):
                IntervalDataset(genome, given, **options)
            return
        table = table.fit(Fasta(genome), beyond="shift", margin=jitter)
    if not len(table):
        with pytest.raises(IntervalError, match="expected at least one window"):
            IntervalDataset(genome, given, **options)
        return
    data = IntervalDataset(genome, given, **options)
    chosen = np.arange(len(data))[::-1]
    shifts, turns = np.zeros(len(data), np.int64), np.zeros(len(data), bool)
    if epoch is not None:
        shifts = integers(5, epoch, chosen, "jitter", -jitter, jitter + 1)
        turns = coin(5, epoch, chosen, "strand", probability)
    expected = []
    for i, shift, turn in zip(chosen, shifts, turns, strict=True):
        contig, start, end, strand = table[int(i)]
        expected.append(naive(contig, start + shift, end + shift, (stranded and strand == "-") != turn))
    if beyond == "unknown":
        expected = [letters.replace("*", "N") for letters in expected]
    assert text(data.batch(chosen, epoch=epoch)[0]) == expected


def test_protocol(genome: str) -> None:
    table = Intervals.whole(Fasta(genome)).tiles(10).with_columns(kind="a", value=1.5)
    table.columns["kind"] = np.where(np.arange(len(table)) % 3, "even", "odd").astype(object)
    data = IntervalDataset(
        genome, table[5:], jitter=2, labels="kind", targets=["value", "value"], beyond="pad"
    )
    tokens, labels, targets = data.batch([3, 0])
    assert (tokens.shape, tokens.dtype) == ((2, 10), torch.uint8)
    assert (labels.tolist(), data.classes) == ([0, 0], ["even", "odd"])
    assert (targets.tolist(), targets.dtype) == ([[1.5, 1.5]] * 2, torch.float32)
    assert all(
        torch.equal(a, b)
        for a, b in zip(data[3], (part[0] for part in (tokens, labels, targets)), strict=True)
    )
    moved = data[Batch(np.array([3, 0]), 1)]
    assert all(torch.equal(a, b) for a, b in zip(moved, data.batch([3, 0], epoch=1), strict=True))
    assert not torch.equal(moved[0], tokens)
    together = next(iter(DataLoader(data, batch_size=2, sampler=[3, 0])))
    assert all(torch.equal(a, b) for a, b in zip(together, (tokens, labels, targets), strict=True))
    assert data.batch([])[0].shape == (0, 10)
    with pytest.raises(IndexError):
        data[len(data)]
    assert torch.equal(Part(data, [4, 3]).batch([1], epoch=1)[0], moved[0][:1])
    assert data.contigs.tolist()[:2] == ["chr1", "chr1"]
    assert data.lengths.tolist() == [10] * len(data)
    assert data.name(0) == "chr1:50-60"
    assert data.where(0) == "intervals, interval 0"
    assert "windows of 10, classes even, odd, 2 targets, DNA" in repr(data)


def test_splits_and_loaders(genome: str) -> None:
    windows = Intervals.whole(Fasta(genome)).tiles(10, 5).with_columns(label="x")
    data = IntervalDataset(genome, windows, labels="label", classes=["x", "y"], reverse_complement=0.5)
    parts = split(data, by="contig", members=(None, ["chr2"]))
    assert set(data.contigs[parts[1].indices]) == {"chr2"}
    assert not overlap_leakage(*parts)
    mixed = split(data, (0.5, 0.5))
    assert overlap_leakage(*mixed)
    apart = split(data, (0.7, 0.3), by="group", groups=data.regions.clusters().tolist())
    assert not overlap_leakage(*apart)
    assert torch.equal(data.rows([3, 1]), data.batch([3, 1])[0])
    for tokens, labels in loader(parts[1], batch_size=4, shuffle=True, seed=1):
        assert (tokens.shape[1], labels.sum()) == (10, 0)


def test_without_labels(genome: str) -> None:
    data = IntervalDataset(genome, [("chr1", 0, 10, "-")])
    assert len(data.batch([0])) == 1
    assert data.labels.tolist() == [-1]
    assert data.names == ["chr1:0-10(-)"]


def test_classes_of_numbers_and_text(genome: str) -> None:
    places = {"chrom": ["chr1"] * 3, "start": [0, 5, 9], "end": [4, 9, 13]}
    for column in ([1, 0, 1], [1.0, 0.0, 1.0], ["1", "0", "1"]):
        data = IntervalDataset(genome, {**places, "label": column}, labels="label")
        assert (data.classes, data.labels.tolist()) == (["0", "1"], [1, 0, 1])
    data = IntervalDataset(
        genome, {**places, "label": ["b", "a", "b"]}, labels="label", classes=["b", "c", "a"]
    )
    assert data.labels.tolist() == [0, 2, 0]


def test_jitter_is_even_and_strands_are_fair(genome: str) -> None:
    place = ("chr1", 50, 70)
    data = IntervalDataset(genome, [place] * 2000, jitter=2, reverse_complement=0.25)
    windows = {naive("chr1", k, k + 20, minus): (k, minus) for k in range(48, 53) for minus in (False, True)}
    seen = Counter(windows[letters] for letters in text(data.batch(range(2000), epoch=1)[0]))
    assert len(windows) == 10
    assert all(320 < seen[k, False] + seen[k, True] < 480 for k in range(48, 53))  # 400 +- 4.5 deviations
    assert 410 < sum(seen[k, True] for k in range(48, 53)) < 590


def test_several_genomes(genome: str, tmp_path: Path) -> None:
    other = tmp_path / "other.fa"
    other.write_text(">chr1\n" + "ACGT" * 10 + "\n")
    given = {"human": [("chr1", 0, 8), ("chr2", 3, 11)], "mouse": [("chr1", 1, 9, "-")]}
    data = IntervalDataset({"human": genome, "mouse": other}, given)
    assert text(data.batch([2, 0, 2, 1])[0]) == [
        "TACGTACG",
        SEQUENCES["chr1"][:8],
        "TACGTACG",
        SEQUENCES["chr2"][3:11],
    ]
    assert data.contigs.tolist() == ["human:chr1", "human:chr2", "mouse:chr1"]
    assert data.name(2) == "chr1:1-9(-)"


def test_leakage_counts_the_jitter(genome: str) -> None:
    windows = Intervals.of([("chr1", 20, 30), ("chr1", 34, 44), ("chr2", 20, 30)])
    still, moving = IntervalDataset(genome, windows), IntervalDataset(genome, windows, jitter=3)
    assert not overlap_leakage(Subset(still, [0]), Subset(still, [1, 2]))
    found = overlap_leakage(Part(moving, [2, 0]), Subset(moving, [1]))
    assert (found.train.tolist(), found.test.tolist(), found.letters.tolist()) == ([1], [0], [2])


# Workers


@pytest.fixture(scope="module")
def rich(genome: str, tmp_path_factory: pytest.TempPathFactory) -> IntervalDataset:
    """Everything at once: jitter, strands, classes, shuffled negatives and tracks."""
    path = str(tmp_path_factory.mktemp("tracks") / "x.bw")
    with pyBigWig.open(path, "w") as file:
        file.addHeader([(name, len(letters)) for name, letters in SEQUENCES.items()])
        for name, letters in SEQUENCES.items():
            values = np.random.default_rng(3).random(len(letters))
            file.addEntries(name, 0, values=values, span=1, step=1)
    positives = Intervals.of([("chr1", k, k + 20, "+-"[k % 2]) for k in range(0, 180, 9)]).with_columns(
        label="1"
    )
    shuffled = negatives(genome, positives, kind="shuffle").with_columns(label="0")
    return IntervalDataset(
        genome,
        positives + shuffled,
        jitter=3,
        reverse_complement=0.5,
        beyond="pad",
        labels="label",
        tracks=Tracks({"a": (path, path), "b": path}, bins=5),
        seed=2,
    )


class Epoch:
    """Batches of an epoch, as a sampler of whole batches gives them."""

    def __init__(self, n: int, epoch: int):
        self.batches = [Batch(np.arange(i, min(i + 7, n)), epoch) for i in range(0, n, 7)]

    def __iter__(self) -> Any:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_see_the_same_bytes(rich: IntervalDataset, method: str) -> None:
    def read(**options: Any) -> list[tuple[Tensor, ...]]:
        return list(DataLoader(rich, sampler=Epoch(len(rich), 4), batch_size=None, **options))

    alone = read()  # the files are open in this process from here on
    context = multiprocessing.get_context(method)
    for together, batch in zip(read(num_workers=2, multiprocessing_context=context), alone, strict=True):
        assert len(together) == len(batch) == 3
        assert all(torch.equal(a, b) for a, b in zip(together, batch, strict=True))


def test_batches_do_not_depend_on_their_company(rich: IntervalDataset) -> None:
    whole = rich.batch(range(len(rich)), epoch=1)
    order = np.random.default_rng(0).permutation(len(rich))
    parts = [rich.batch(order[i : i + 3], epoch=1) for i in range(0, len(order), 3)]
    for column, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(column[torch.from_numpy(order)], torch.cat(pieces))


def test_shuffled_negatives(rich: IntervalDataset) -> None:
    n = len(rich) // 2
    tokens, labels, _ = rich.batch(range(2 * n))
    assert labels.tolist() == [1] * n + [0] * n
    changed = 0
    for real, shuffled in zip(text(tokens[:n]), text(tokens[n:]), strict=True):
        changed += real != shuffled
        assert Counter(pairwise(real)) == Counter(pairwise(shuffled))
    assert changed > n // 2


def test_pickles(rich: IntervalDataset) -> None:
    before = rich.batch([5, 1], epoch=3)
    again = pickle.loads(pickle.dumps(rich))
    assert all(torch.equal(a, b) for a, b in zip(again.batch([5, 1], epoch=3), before, strict=True))


# Complaints

PEAKS = {
    "chrom": ["chr1", "chr1"],
    "start": [0, 20],
    "end": [10, 30],
    "kind": ["a", "."],
    "value": [1.0, np.nan],
}
FAULTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "interval 1: expected a contig of": ([("chr1", 0, 9), ("1", 0, 9)], {}),
    "received '1', which seems to be called 'chr1' there": ([("1", 0, 9)], {}),
    "interval 0: expected an interval within 'tiny' of 12 letters, received 5 to 13 (and 0 more such)": (
        [("tiny", 5, 13)],
        {"beyond": "pad"},
    ),
    "within 'tiny' of 12 letters with 3 letters to spare, received 2 to 6": ([("tiny", 2, 6)], {"jitter": 3}),
    "interval 1: expected 5 letters as in the first interval, received 6; give length=": (
        [("chr1", 0, 5), ("chr1", 0, 6)],
        {},
    ),
    "expected at least one window, received none": ([], {}),
    "expected beyond to be one of 'error', 'drop', 'shift', 'pad', 'unknown', received 'clip'": (
        [],
        {"beyond": "clip"},
    ),
    "expected jitter from 0 on and a probability reverse_complement from 0 to 1, received -1 and 0.0": (
        [],
        {"jitter": -1},
    ),
    "interval 1: expected a class in column 'kind', received '.'": (PEAKS, {"labels": "kind"}),
    "interval 1: expected a class in column 'kind' among ['a', 'b'], received '.'": (
        PEAKS,
        {"labels": "kind", "classes": ["a", "b"]},
    ),
    "expected each class once, received classes ['a', 'a']": (
        PEAKS,
        {"labels": "kind", "classes": ["a", "a"]},
    ),
    "interval 1: expected a number in column 'value', received": (PEAKS, {"targets": "value"}),
    "expected a column 'nothing', received 'kind', 'value'": (PEAKS, {"targets": "nothing"}),
    "expected a mapping with intervals for each of the genomes": ({}, {"several": True}),
}


@pytest.mark.parametrize("message", FAULTS)
def test_complaints(genome: str, message: str) -> None:
    given, options = FAULTS[message]
    source: Any = {"x": genome} if options.pop("several", False) else genome
    with pytest.raises(IntervalError) as caught:
        IntervalDataset(source, given, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_proteins_have_one_strand(tmp_path: Path, genome: str) -> None:
    (tmp_path / "p.fa").write_text(">a\nMKVLAW\n")
    data = IntervalDataset(tmp_path / "p.fa", [("a", 1, 4), ("a", 2, 5)], alphabet=PROTEIN)
    assert PROTEIN.text(data.batch([0, 1])[0]) == ["KVL", "VLA"]
    with pytest.raises(IntervalError, match="expected genomes of one alphabet"):
        IntervalDataset(
            {"p": Fasta(tmp_path / "p.fa", alphabet=PROTEIN), "d": Fasta(genome)},
            {"p": [("a", 1, 4)], "d": [("chr1", 1, 4)]},
        )


def test_strands_of_an_alphabet_without(tmp_path: Path) -> None:
    (tmp_path / "p.fa").write_text(">a\nMKVLAW\n")
    with pytest.raises(IntervalError, match="expected an alphabet with complements"):
        IntervalDataset(tmp_path / "p.fa", [("a", 1, 4)], alphabet=PROTEIN, reverse_complement=0.5)
