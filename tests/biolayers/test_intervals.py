"""Intervals against naive loops: sweeps, shapes, sources in memory, leakage, and every complaint."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Subset

from biolayers import Fasta, IntervalError, Intervals, overlap_leakage
from biolayers.intervals.sweep import Spans, merged

Row = tuple[str, int, int, str]

GENOME = {"chr1": 60, "chr2": 40, "chrM": 20}


@st.composite
def rows(draw: st.DrawFn, most: int = 12) -> list[Row]:
    found = []
    for _ in range(draw(st.integers(0, most))):
        contig = draw(st.sampled_from(["chr1", "chr2", "chrM"]))
        start = draw(st.integers(0, 25))
        found.append((contig, start, start + draw(st.integers(0, 12)), draw(st.sampled_from("+-."))))
    return found


def tuples(table: Intervals) -> list[Row]:
    return [tuple(row) for row in table]


def lane(row: Row, stranded: bool) -> tuple[str, str]:
    return row[0], row[3] if stranded else "."


def share(a: Row, b: Row, stranded: bool) -> bool:
    return lane(a, stranded) == lane(b, stranded) and bool(set(range(*a[1:3])) & set(range(*b[1:3])))


# Sweeps


@given(rows(), rows(), st.booleans())
def test_overlaps(ours: list[Row], others: list[Row], stranded: bool) -> None:
    a, b = Intervals.of(ours), Intervals.of(others)
    expected = [(i, j) for i, x in enumerate(ours) for j, y in enumerate(others) if share(x, y, stranded)]
    first, second = a.overlaps(b, stranded=stranded)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == expected
    counts = a.overlap_counts(b, stranded=stranded)
    assert counts.tolist() == [sum(i == k for i, _ in expected) for k in range(len(ours))]
    kept = a.exclude(b, stranded=stranded)
    assert tuples(kept) == [x for x, count in zip(ours, counts, strict=True) if not count]
    lost = len(ours) - len(kept)
    assert [(change.touched, change.total) for change in kept.changes] == (
        [(lost, len(ours))] if lost else []
    )


def naive_merge(given: list[Row], gap: int, stranded: bool) -> list[Row]:
    unions: list[list[Any]] = []
    for contig, start, end, strand in sorted(given, key=lambda row: (*lane(row, stranded), row[1], row[2])):
        key = contig, strand if stranded else "."
        if unions and unions[-1][0] == key and start <= unions[-1][2] + gap:
            unions[-1][2] = max(unions[-1][2], end)
        else:
            unions.append([key, start, end])
    return [(key[0], start, end, key[1]) for key, start, end in unions]


@given(rows(), st.integers(0, 6), st.booleans())
def test_merge(given: list[Row], gap: int, stranded: bool) -> None:
    table = Intervals.of(given)
    union = table.merge(gap=gap, stranded=stranded)
    assert sorted(tuples(union)) == sorted(naive_merge(given, gap, stranded))
    for i, number in enumerate(table.clusters(gap=gap, stranded=stranded).tolist()):
        contig, start, end, _ = union[number]
        assert contig == given[i][0]
        assert start <= given[i][1] <= given[i][2] <= end


@given(rows(), rows(), st.booleans())
def test_subtract(ours: list[Row], others: list[Row], stranded: bool) -> None:
    table = Intervals.of(ours).with_columns(number=np.arange(len(ours)))
    left = table.subtract(Intervals.of(others), stranded=stranded)
    letters: list[set[int]] = [set() for _ in ours]
    for number, piece in zip(left.column("number").tolist(), left, strict=True):
        assert (piece.contig, piece.strand) == (ours[number][0], ours[number][3])
        place = set(range(piece.start, piece.end))
        assert not place & letters[number]
        letters[number] |= place
    for mine, row in zip(letters, ours, strict=True):
        holes = {p for y in others if lane(y, stranded) == lane(row, stranded) for p in range(y[1], y[2])}
        assert mine == set(range(row[1], row[2])) - holes


def test_an_interval_without_letters() -> None:
    point = Intervals.of([("chr1", 5, 5)])
    hole = Intervals.of([("chr1", 3, 8)])
    assert point.overlap_counts(hole).tolist() == hole.overlap_counts(point).tolist() == [0]
    assert tuples(hole.subtract(point)) == tuples(hole)
    assert tuples(point.subtract(Intervals.of([("chr1", 5, 8)]))) == [("chr1", 5, 5, ".")]


def test_sweeps_are_exact_far_out() -> None:
    """Contigs of billions of letters, thousands of contigs: sums beyond 2**53 must stay exact."""
    lanes = np.array([0, 4_000_000, 4_000_000])
    starts = np.array([2**40 - 10, 1, 2**40 - 5])
    unions, number = merged(Spans(lanes, starts, starts + 3), 0)
    assert unions.starts.tolist() == [2**40 - 10, 1, 2**40 - 5]
    assert number.tolist() == [0, 1, 2]


def test_tables_with_different_contigs() -> None:
    a = Intervals.of([("chr2", 0, 5), ("chr1", 0, 5)])
    b = Intervals.of([("chr3", 0, 5), ("chr1", 4, 6), ("chr2", 5, 6)])
    assert [column.tolist() for column in a.overlaps(b)] == [[1], [1]]
    assert tuples(a + b) == tuples(a) + tuples(b)
    apart = Intervals.of([("chr9", 0, 5)])
    assert a.overlap_counts(apart).tolist() == [0, 0]
    with pytest.raises(IntervalError, match="received '1' where that has 'chr1'; give both the same names"):
        a.overlaps(Intervals.of([("1", 0, 5)]))
    assert a.overlap_counts(Intervals.of([("1", 0, 5)]).rename({"1": "chr1"})).tolist() == [0, 1]


# One by one


@given(rows(), st.integers(1, 9), st.integers(1, 9), st.sampled_from(["drop", "clip", "shift"]))
def test_tiles(given: list[Row], length: int, step: int, last: str) -> None:
    expected = []
    for contig, start, end, strand in given:
        at = start
        while at + length <= end:
            expected.append((contig, at, at + length, strand))
            at += step
        covered = at - step + length if at > start else start
        if covered < end and at < end and last == "clip":
            expected.append((contig, at, end, strand))
        if covered < end and at < end and last == "shift" and end - start >= length:
            expected.append((contig, end - length, end, strand))
    assert tuples(Intervals.of(given).tiles(length, step, last=last)) == expected


def test_whole_and_bins(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_text(">chr1\n" + "A" * 12 + "\n>chr2\nACGTA\n")
    whole = Intervals.whole(Fasta(tmp_path / "x.fa"))
    assert tuples(whole) == [("chr1", 0, 12, "."), ("chr2", 0, 5, ".")]
    assert tuples(whole.only("chr1").bins(3)) == [("chr1", k, k + 4, ".") for k in (0, 4, 8)]
    with pytest.raises(IntervalError, match="expected a length that 3 bins divide, received 5 letters"):
        whole.bins(3)


@given(rows(), st.integers(1, 30), st.sampled_from(["error", "clip", "drop", "shift"]), st.integers(0, 2))
def test_fit(given: list[Row], length: int, beyond: str, margin: int) -> None:
    table = Intervals.of(given).resize(length)
    out = [row[1] < margin or row[2] > GENOME[row[0]] - margin for row in table]
    room = all(length <= GENOME[row[0]] - 2 * margin for row, far in zip(table, out, strict=True) if far)
    if any(out) and (beyond == "error" or (beyond == "shift" and not room)):
        with pytest.raises(IntervalError, match="expected a" if beyond == "shift" else "more such"):
            table.fit(GENOME, beyond=beyond, margin=margin)
        return
    fitted = table.fit(GENOME, beyond=beyond, margin=margin)
    expected = []
    for (contig, start, end, strand), far in zip(table, out, strict=True):
        low, high = margin, GENOME[contig] - margin
        if not far:
            expected.append((contig, start, end, strand))
        elif beyond == "shift":
            moved = min(max(start, low), high - length)
            expected.append((contig, moved, moved + length, strand))
        elif beyond == "clip" and max(start, low) < min(end, high):
            expected.append((contig, max(start, low), min(end, high), strand))
    assert tuples(fitted) == expected
    assert sum(change.touched for change in fitted.changes) == sum(out)
    assert fitted.contig_names == tuple(GENOME)


def test_resize() -> None:
    table = Intervals.of([("chr1", 10, 15, "+"), ("chr1", 10, 16, "-")]).with_columns(summit=[1, 4])
    around = {
        "centre": [(10, 14), (11, 15)],
        "start": [(10, 14), (10, 14)],
        "end": [(11, 15), (12, 16)],
        "five_prime": [(10, 14), (12, 16)],
        "three_prime": [(11, 15), (10, 14)],
        "summit": [(9, 13), (12, 16)],
    }
    for where, expected in around.items():
        assert [row[1:3] for row in table.resize(4, where)] == expected
    assert [row[1:3] for row in table.resize(5)] == [(10, 15), (11, 16)]
    with pytest.raises(
        IntervalError, match=r"interval 1: expected a summit within the 6 letters.*received -1"
    ):
        table.with_columns(summit=[0, -1]).resize(4, "summit")
    with pytest.raises(IntervalError, match="expected a column 'summit', received none but the places"):
        Intervals.of([("chr1", 1, 2)]).resize(4, "summit")


def test_sort_only_take_and_rename() -> None:
    table = Intervals.of([("b", 5, 9), ("a", 7, 8), ("b", 5, 6), ("a", 1, 2)])
    assert [row[0] + str(row[1]) for row in table.sort()] == ["a1", "a7", "b5", "b5"]
    assert table.sort()[2].end == 6
    assert [row[0] for row in table.sort(["b", "a"])] == ["b", "b", "a", "a"]
    with pytest.raises(IntervalError, match="expected a contig of the genome, received 'a'; it has 'b'"):
        table.sort(["b"])
    assert tuples(table.only("a")) == [("a", 7, 8, "."), ("a", 1, 2, ".")]
    with pytest.raises(IntervalError, match="received 'c'"):
        table.only("c")
    assert tuples(table[1:3]) == tuples(table)[1:3]
    assert tuples(table[[3, 0]]) == [tuples(table)[3], tuples(table)[0]]
    assert tuples(table[np.array([True, False, False, True])]) == [tuples(table)[0], tuples(table)[3]]
    assert len(table[[]]) == len(table[table.lengths > 9]) == 0
    assert tuple(table[-1]) == ("a", 1, 2, ".")
    with pytest.raises(IndexError):
        table[4]
    both = table.rename({"b": "a"})
    assert both.contig_names == ("a",)
    assert both.contigs.tolist() == ["a"] * 4
    assert repr(table) == "Intervals(4 on 2 contigs, 7 letters)"


def test_contigs_that_the_genome_lacks(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "x.bed").write_text("chr1\t0\t5\nMT\t0\t3\n")
    table = Intervals.read(tmp_path / "x.bed")
    message = (
        r"x\.bed, line 2: expected a contig of the genome, received 'MT', which seems to be called 'chrM'"
    )
    with pytest.raises(IntervalError, match=message):
        table.on(GENOME)
    with caplog.at_level("INFO", "biolayers"):
        kept = table.on(GENOME, unknown="drop")
    assert tuples(kept) == [("chr1", 0, 5, ".")]
    assert "dropped, as the genome lacks their contig: 1 of 2 intervals" in caplog.text
    assert "1 of 2" in repr(kept)
    with pytest.raises(IntervalError, match=r"did you mean 'chr1'"):
        Intervals.of([("chr11", 0, 5)]).on({"chr1": 9})


# From memory


def test_from_frames_and_mappings() -> None:
    frame = pd.DataFrame(
        {"Chromosome": ["a", "b"], "Start": [1, 2], "End": [3, 4], "Strand": ["+", "."], "value": [0.5, 2.0]}
    )
    table = Intervals.of(frame)
    assert tuples(table) == [("a", 1, 3, "+"), ("b", 2, 4, ".")]
    assert table.column("value").tolist() == [0.5, 2.0]
    renamed = frame.set_axis(["#chrom", "chromStart", "chromEnd", "strand", "kind"], axis=1)
    assert tuples(Intervals.of(renamed)) == tuples(table)
    assert tuples(Intervals.of({"contig": ["a"], "start": [1], "end": [3], "strand": [-1]})) == [
        ("a", 1, 3, "-")
    ]
    assert Intervals.of(table) is table
    assert len(Intervals.of([])) == 0
    assert pickle.loads(pickle.dumps(table)).columns.keys() == table.columns.keys()


GIVEN: dict[str, Any] = {
    "expected Intervals, the path of a BED file, a list of (contig, start, end) or a frame, received int": 3,
    "interval 1: expected (contig, start, end) or (contig, start, end, strand), received ('a', 1)": [
        ("a", 1, 2),
        ("a", 1),
    ],
    "interval 0: expected strand '+', '-' or '.', received 'x'": [("a", 1, 2, "x")],
    "expected whole numbers as start, received float64 such as 0.5": [("a", 0.5, 2)],
    "interval 1: expected a start from 0 on, received -1": [("a", 0, 2), ("a", -1, 2)],
    "interval 0: expected start <= end < 1,099,511,627,776, received 5 to 2": [("a", 5, 2)],
    "expected a column 'end' (or chromend, stop), received ['chrom', 'start']": {"chrom": [], "start": []},
    "expected columns of one length, received lengths [1, 2]": {"chr": ["a"], "start": [1, 2], "end": [3]},
}


@pytest.mark.parametrize("message", GIVEN)
def test_complaints_about_what_is_given(message: str) -> None:
    with pytest.raises(IntervalError) as caught:
        Intervals.of(GIVEN[message])
    assert message in str(caught.value)


def test_adding_fills_columns_that_one_side_lacks() -> None:
    a = Intervals.of([("a", 0, 1)]).with_columns(score=[1.5], kind="x")
    b = Intervals.of([("b", 0, 1)]).with_columns(gc=0.5)
    both = a + b
    assert both.column("score").tolist()[0] == 1.5
    assert np.isnan(both.column("score")[1])
    assert both.column("kind").tolist() == ["x", "."]
    assert np.isnan(both.column("gc")[0])
    assert both.column("gc")[1] == 0.5


# Leakage


@given(rows(), rows(), st.integers(0, 3))
def test_overlap_leakage(train: list[Row], test: list[Row], gap: int) -> None:
    found = overlap_leakage(Intervals.of(train), Intervals.of(test), gap=gap)
    expected = {}
    for i, x in enumerate(train):
        for j, y in enumerate(test):
            wide = (x[0], x[1] - gap, x[2] + gap, x[3])
            if share(wide, y, False):
                expected[i, j] = max(0, min(x[2], y[2]) - max(x[1], y[1]))
    pairs = list(zip(found.train.tolist(), found.test.tolist(), strict=True))
    assert dict(zip(pairs, found.letters.tolist(), strict=True)) == expected
    assert bool(found) == bool(expected)
    assert found.indices(1) == sorted({j for _, j in expected})
    assert "overlap" in str(found)


def test_leakage_wants_intervals() -> None:
    with pytest.raises(IntervalError, match="expected Intervals, an IntervalDataset or a Subset of one"):
        overlap_leakage(Subset([1, 2], [0]), Intervals.of([]))  # type: ignore[arg-type]
