"""BED files in and out: widths, separators, peaks, gzip, round trips, and every complaint."""

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biolayers import IntervalError, Intervals

Row = tuple[str, int, int, str]


def tuples(table: Intervals) -> list[Row]:
    return [tuple(row) for row in table]


@pytest.fixture
def bed(tmp_path: Path) -> Callable[..., str]:
    def bed(text: str, name: str = "x.bed") -> str:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return str(path)

    return bed


def test_bed_of_every_width(bed: Callable[..., str]) -> None:
    full = "chr1\t10\t30\tpeak one\t960\t-\t12\t20\t255,0,0\t2\t5,5,\t0,15,"
    for width in (3, 4, 5, 6, 12):
        table = Intervals.read(bed("\t".join(full.split("\t")[:width]) + "\n"))
        assert tuples(table) == [("chr1", 10, 30, "-" if width > 5 else ".")]
        assert list(table.columns)[:2] == ["name", "score"][: max(0, width - 3)]
    assert table.column("name").tolist() == ["peak one"]
    assert table.column("score").tolist() == [960.0]
    assert table.column("block_sizes").tolist() == ["5,5,"]
    assert table.numbers("thick_start").tolist() == [12.0]


def test_bed_lines_that_hold_no_interval(bed: Callable[..., str]) -> None:
    text = (
        "browser position chr7:1-2\r\n#comment\r\ntrack name=x\r\n\r\nchr1 0  5 a\r\n \t \r\n"
        "tracker 7 9 b\r\n#end\r\nbear 1 2 c"
    )
    table = Intervals.read(bed(text))
    assert tuples(table) == [("chr1", 0, 5, "."), ("tracker", 7, 9, "."), ("bear", 1, 2, ".")]
    assert table.column("name").tolist() == ["a", "b", "c"]
    assert [table.where(i).rsplit(", ", 1)[1] for i in range(3)] == ["line 5", "line 7", "line 9"]


def test_bed_columns_of_the_user(bed: Callable[..., str]) -> None:
    plus = "chr1\t0\t5\tx\t.\t+\tliver\t2.5\nchr1\t6\t9\ty\t7\t.\t.\t.\n"
    table = Intervals.read(bed(plus))
    assert list(table.columns) == ["name", "score", "column7", "column8"]
    assert np.isnan(table.column("score")[0])
    assert table.column("column7").tolist() == ["liver", "."]
    assert table.numbers("column8").tolist()[0] == 2.5
    with pytest.raises(IntervalError, match=r"x\.bed, line 1, column 'column7': expected a number or '\.'"):
        table.numbers("column7")
    named = Intervals.read(bed(plus), columns=["tissue", "value"])
    assert list(named.columns)[2:] == ["tissue", "value"]
    heading = Intervals.read(bed("#chrom\tstart\tend\tlabel\tfold\nchr1\t0\t5\tx\t1.5\n"), standard=3)
    assert heading.column("label").tolist() == ["x"]
    assert heading.numbers("fold").tolist() == [1.5]


def test_peaks(bed: Callable[..., str]) -> None:
    line = "chr1\t100\t200\tp1\t1337\t.\t8.5\t4.25\t-1\t30\n"
    for path in (bed(line, "x.narrowPeak"), bed(line, "y.narrowpeak")):
        peaks = Intervals.read(path)
        assert peaks.column("summit").tolist() == [30.0]
        assert [row[1:3] for row in peaks.resize(10, "summit")] == [(125, 135)]
    assert Intervals.read(bed(line), format="narrowPeak").column("signal").tolist() == [8.5]
    broad = Intervals.read(bed("\t".join(line.split("\t")[:9]) + "\n", "x.broadPeak"))
    assert list(broad.columns) == ["name", "score", "signal", "p_value", "q_value"]


def test_gzip_and_writing(bed: Callable[..., str], tmp_path: Path) -> None:
    text = "chr1\t0\t5\tx\t960\t+\tliver\nchr2\t6\t9\t.\t.\t.\t.\n"
    plain = Intervals.read(bed(text), columns=["tissue"])
    (tmp_path / "y.bed.gz").write_bytes(gzip.compress(text.encode()))
    assert tuples(Intervals.read(tmp_path / "y.bed.gz")) == tuples(plain)
    for name in ("out.bed", "out.bed.gz"):
        plain.write(tmp_path / name)
        again = Intervals.read(tmp_path / name)
        assert tuples(again) == tuples(plain)
        assert {key: list(map(str, column)) for key, column in again.columns.items()} == {
            key: list(map(str, column)) for key, column in plain.columns.items()
        }
    assert (tmp_path / "out.bed").read_text() == "#chrom\tstart\tend\tname\tscore\tstrand\ttissue\n" + text
    places = Intervals.of([("chr1", 0, 5)])
    places.write(tmp_path / "places.bed")
    assert (tmp_path / "places.bed").read_text() == "chr1\t0\t5\n"
    with pytest.raises(IntervalError, match="expected a start from 0 on, received -8"):
        places.resize(20).write(tmp_path / "no.bed")
    with pytest.raises(IntervalError, match="expected cells without tabs and newlines"):
        places.with_columns(name="a\tb").write(tmp_path / "no.bed")
    assert not (tmp_path / "no.bed").exists()


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    found = []
    for _ in range(draw(st.integers(1, 12))):
        start = draw(st.integers(0, 2**39))
        strand = draw(st.sampled_from("+-."))
        found.append(
            (draw(st.sampled_from(["chr1", "2", "track1"])), start, start + draw(st.integers(0, 99)), strand)
        )
    return found


@given(rows())
def test_any_table_survives_a_file(given: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Intervals.of(given).write(f"{folder}/x.bed")
        assert tuples(Intervals.read(f"{folder}/x.bed")) == given


FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "x.bed: expected at least one interval, received none": ("#nothing\n\n", {}),
    "line 2: expected 3 columns as in the first row, with tabs between them, received 2": (
        "a\t1\t2\na\t3\n",
        {},
    ),
    "line 1: expected at least 3 columns, with blanks between them, received 2": ("a 1\n", {}),
    "line 2: expected a whole number from 0 on as start, received '-1'; BED counts from 0": (
        "a\t1\t2\na\t-1\t4\n",
        {},
    ),
    "line 1: expected a whole number from 0 on as start, received 'start'": ("chrom\tstart\tend\n", {}),
    "line 1: expected a whole number from 0 on as end, received '9999999999999'": (
        "a\t1\t9999999999999\n",
        {},
    ),
    "line 3: expected start <= end < 1,099,511,627,776, received 5 to 4": ("a\t1\t2\n#\na\t5\t4\n", {}),
    "line 1: expected the name of a contig, received none": ("\t1\t2\n", {}),
    "line 2, column 'score': expected a number or '.', received 'high'": (
        "a\t1\t2\tx\t5\na\t1\t2\ty\thigh\n",
        {},
    ),
    "line 1: expected strand '+', '-' or '.' in column 6, received 'liver'; pass standard=5": (
        "a\t1\t2\tx\t5\tliver\n",
        {},
    ),
    "line 1: expected 10 columns of narrowPeak, received 4": ("a\t1\t2\tx\n", {"format": "narrowPeak"}),
    "expected format to be one of 'bed', 'narrowPeak', 'broadPeak', received 'gff'": (
        "a\t1\t2\n",
        {"format": "gff"},
    ),
    "line 1: expected standard from 3 to 6 or 12 of 3 columns, received 4": ("a\t1\t2\n", {"standard": 4}),
    "expected 1 new names for the columns after ['contig', 'start', 'end'], received ['p', 'q']": (
        "a\t1\t2\tx\n",
        {"standard": 3, "columns": ["p", "q"]},
    ),
}


@pytest.mark.parametrize("message", FAULTS)
def test_complaints_about_files(bed: Callable[..., str], message: str) -> None:
    text, options = FAULTS[message]
    with pytest.raises(IntervalError) as caught:
        Intervals.read(bed(text), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(IntervalError, match=r"no\.bed: expected a BED file.*: No such file"):
        Intervals.read(tmp_path / "no.bed")
    for data in (b"\x1f\x8bnot gzip", gzip.compress(b"a\t1\t2\n")[:-4], b"\xff\xfea\t1"):
        (tmp_path / "x.bed").write_bytes(data)
        with pytest.raises(IntervalError, match=r"x\.bed: expected a BED file, plain or gzip"):
            Intervals.read(tmp_path / "x.bed")
