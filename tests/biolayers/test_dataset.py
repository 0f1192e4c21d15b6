"""Labelled datasets: every source of labels, every complaint, every way of reading."""

import multiprocessing
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from biolayers import DNA, PAD, RNA, FastaDataset, FastaError

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 with threads

FIVE = ">a class=x\nACGT\n>b class=y\nTTTT\n>c class=x\nGGNN\n>d class=z\nCCCC\n>e class=y\nacgt\n"
TOKENS = [[0, 1, 2, 3], [3, 3, 3, 3], [2, 2, 4, 4], [1, 1, 1, 1], [0, 1, 2, 3]]
PATTERN = r"class=(\w+)"
LABELS = {"a": "x", "b": "y", "c": "x", "d": "z", "e": "y"}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    def write(text: str, name: str = "x.fa") -> str:
        path = tmp_path / name
        path.write_text(text, newline="")
        return str(path)

    return write


def check_five(data: FastaDataset) -> None:
    assert data.classes == ["x", "y", "z"]
    assert data.labels.tolist() == [0, 1, 0, 2, 1]
    assert data.labels.dtype == torch.int64
    assert data.names == ["a", "b", "c", "d", "e"]
    assert data.tokens.tolist() == TOKENS
    assert data.tokens.dtype == torch.uint8
    assert len(data) == 5


# Sources of labels


@pytest.mark.parametrize("pattern", [PATTERN, r"(cl)ass=(?P<label>\w+)", "=(.)$"])
def test_labels_from_headers(write: Callable[..., str], pattern: str) -> None:
    check_five(FastaDataset(write(FIVE), label_pattern=pattern))


ROWS = ["a,x", "b,y", "c,x", "d,z", "e,y"]


@pytest.mark.parametrize(
    ("table", "options"),
    [
        ("\n".join(ROWS), {}),
        ("name,label\n" + "\n".join(reversed(ROWS)) + "\n\n", {}),
        ("ID,extra,Class\r\n" + "\r\n".join(row.replace(",", ",0,") for row in ROWS) + "\r\n", {}),
        ("\n".join(ROWS).replace(",", "\t"), {}),
        ("\ufeffname,label\n" + "\n".join(ROWS), {}),
        ('"name","label"\n' + "\n".join(f'"{row[0]}", {row[2]} ' for row in ROWS), {}),
        (
            "kind,who\n" + "\n".join(f"{row[2]},{row[0]}" for row in ROWS),
            {"name_column": "who", "label_column": "kind"},
        ),
        ("kind,name\n" + "\n".join(f"{row[2]},{row[0]}" for row in ROWS), {"label_column": "kind"}),
    ],
)
def test_labels_from_tables(write: Callable[..., str], table: str, options: dict[str, str]) -> None:
    check_five(FastaDataset(write(FIVE), labels=write(table, "labels.csv"), **options))


def test_a_record_may_be_called_name(write: Callable[..., str]) -> None:
    fasta = write(">name\nAC\n>b\nGT\n")
    data = FastaDataset(fasta, labels=write("name,label\nb,other\n", "labels.csv"))
    assert data.classes == ["label", "other"]


def test_labels_from_a_mapping(write: Callable[..., str]) -> None:
    check_five(FastaDataset(write(FIVE), labels=LABELS))


def test_one_file_per_class(write: Callable[..., str]) -> None:
    one = write(">a\nACGT\n>c\nGGNN\n", "one.fa")
    two = write(">a\nTTTT\n", "two.fa")
    data = FastaDataset({"late": one, "early": two})
    assert data.classes == ["early", "late"]
    assert data.labels.tolist() == [1, 1, 0]
    assert data.names == ["a", "c", "a"]
    assert data.tokens.tolist() == [TOKENS[0], TOKENS[2], TOKENS[1]]
    assert data.batch([2, 0, 2])[0].tolist() == [TOKENS[1], TOKENS[0], TOKENS[1]]
    assert data.where(2) == f"{two}, line 1, record 'a'"
    assert FastaDataset({"late": one, "early": two}, classes=["late", "early"]).labels.tolist() == [0, 0, 1]


def test_given_classes_set_the_order(write: Callable[..., str]) -> None:
    data = FastaDataset(write(FIVE), label_pattern=PATTERN, classes=["z", "y", "x", "w"])
    assert data.classes == ["z", "y", "x", "w"]
    assert data.labels.tolist() == [2, 1, 2, 0, 1]
    one = FastaDataset(write(">a k=x\nAC\n"), label_pattern="k=(.)", classes=["x", "y"])
    assert one.labels.tolist() == [0]


def test_without_labels(write: Callable[..., str]) -> None:
    data = FastaDataset(write(FIVE), unlabelled=True, classes=["x", "y"])
    assert data.labels.tolist() == [-1] * 5
    assert data.classes == ["x", "y"]
    assert data[3][1] == -1
    assert FastaDataset(write(FIVE), unlabelled=True).classes == []


# Lengths and letters


def test_padding(write: Callable[..., str]) -> None:
    path = write(">a k=x\nACG\n>b k=y\nT\n")
    longest = FastaDataset(path, label_pattern="k=(.)", pad_to="longest")
    assert longest.tokens.tolist() == [[0, 1, 2], [3, PAD, PAD]]
    assert longest.lengths.tolist() == [3, 1]
    five = FastaDataset(path, label_pattern="k=(.)", pad_to=5)
    assert five[1][0].tolist() == [3, PAD, PAD, PAD, PAD]
    assert five.width == 5


def test_alphabet_and_counts(write: Callable[..., str]) -> None:
    data = FastaDataset(write(FIVE), label_pattern=PATTERN, alphabet=DNA.with_policy(lower="mask"))
    assert data.tokens[4].tolist() == [4] * 4
    assert str(data.counts()) == "20 letters (4 lower, 2 ambiguous)"
    rna = FastaDataset({"x": write(">a\nAU\n"), "y": write(">b\nGU\n", "y.fa")}, alphabet=RNA)
    assert rna.tokens.tolist() == [[0, 3], [2, 3]]
    assert str(rna.counts()) == "4 letters, all plain"
    assert repr(rna).endswith("y.fa: 2 sequences of 2, classes x, y, RNA)")


# Reading


def test_samples_and_batches(write: Callable[..., str]) -> None:
    data = FastaDataset(write(FIVE), label_pattern=PATTERN)
    assert [(tokens.tolist(), label) for tokens, label in (data[i] for i in range(5))] == list(
        zip(TOKENS, data.labels.tolist(), strict=True)
    )
    assert data[-1][0].tolist() == TOKENS[4]
    with pytest.raises(IndexError):
        data[5]
    tokens, labels = data.batch(torch.tensor([4, 1]))
    assert (tokens.tolist(), labels.tolist()) == ([TOKENS[4], TOKENS[1]], [1, 1])
    assert [(row.tolist(), label) for row, label in data.__getitems__([3, 0])] == [
        (TOKENS[3], 2),
        (TOKENS[0], 0),
    ]
    assert data.batch([])[0].shape == (0, 4)


def epoch(data: FastaDataset, **options: Any) -> list[tuple[list[list[int]], list[int]]]:
    return [
        (tokens.tolist(), labels.tolist()) for tokens, labels in DataLoader(data, batch_size=2, **options)
    ]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_see_the_same_batches(write: Callable[..., str], method: str) -> None:
    data = FastaDataset(write(FIVE), label_pattern=PATTERN)
    alone = epoch(data)
    assert [row for rows, _ in alone for row in rows] == TOKENS
    assert epoch(data, num_workers=2, multiprocessing_context=multiprocessing.get_context(method)) == alone


def test_pickles_are_small_and_complete(write: Callable[..., str]) -> None:
    data = FastaDataset(write(FIVE), label_pattern=PATTERN)
    before = len(pickle.dumps(data))
    check_five(data)  # reads and keeps all tokens
    assert len(pickle.dumps(data)) == before
    check_five(pickle.loads(pickle.dumps(data)))


@given(
    st.lists(
        st.tuples(st.text("ACGTN", min_size=1, max_size=30), st.sampled_from("pqr")), min_size=1, max_size=12
    )
)
def test_any_records(records: list[tuple[str, str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.fa")
        with open(path, "w") as file:
            file.writelines(f">s{i} k={label}\n{text}\n" for i, (text, label) in enumerate(records))
        data = FastaDataset(path, label_pattern="k=(.)", classes=["p", "q", "r"], pad_to="longest")
        assert DNA.text(data.tokens) == [text for text, _ in records]
        assert [data.classes[label] for label in data.labels] == [label for _, label in records]


# Complaints

ANY = {"label_pattern": PATTERN}
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "expected one source of labels, received none; give label_pattern=": (FIVE, {}),
    "expected one source of labels, received label_pattern and labels; give": (
        FIVE,
        {**ANY, "labels": LABELS},
    ),
    "x.fa, line 3: expected a label by the pattern 'class=(\\\\w+)', received the header 'b kind=y'; mend": (
        ">a class=x\nAC\n>b kind=y\nGT\n",
        ANY,
    ),
    "label pattern 'class=(': expected a regular expression: missing )": (FIVE, {"label_pattern": "class=("}),
    "label pattern 'class=': expected a group around the label, received none; write class=(\\w+)": (
        FIVE,
        {"label_pattern": "class="},
    ),
    "expected labels of two or more classes, received only 'x'; check the source of the labels": (
        ">a class=x\nAC\n>b class=x\nGT\n",
        ANY,
    ),
    "x.fa, line 7, record 'd': expected a label among ['x', 'y'], received 'z'": (
        FIVE,
        {**ANY, "classes": ["x", "y"]},
    ),
    "expected each class once, received classes ['x', 'x']": (FIVE, {**ANY, "classes": ["x", "x"]}),
    "x.fa, line 3, record 'b': expected 2 letters as in record 'a', received 3; choose pad_to='longest'": (
        ">a class=x\nAC\n>b class=y\nGTA\n",
        ANY,
    ),
    "x.fa, line 3, record 'b': expected at most 2 letters, received 3; choose pad_to='longest'": (
        ">a class=x\nAC\n>b class=y\nGTA\n",
        {**ANY, "pad_to": 2},
    ),
    "expected pad_to None, 'longest', 'batch' or a length, received 'all'": (FIVE, {**ANY, "pad_to": "all"}),
    "expected pad_to None, 'longest', 'batch' or a length, received 0": (FIVE, {**ANY, "pad_to": 0}),
    "x.fa, line 3, record 'b': expected letters, received no sequence": (
        ">a class=x\nAC\n>b class=y\n>c class=y\nGT\n",
        {**ANY, "pad_to": "longest"},
    ),
    "x.fa, line 6, record 'b': expected letters ACGT or NRYSWKMBDHV-, received 'J' at position 3; mend": (
        ">a class=x\nAC\nGT\n>b class=y\nGT\nJT\n",
        ANY,
    ),
    "x.fa, line 3: expected a label for record 'b', received none": (FIVE, {"labels": {"a": "x"}}),
    "x.fa: expected a record for every label, received none for 'q'": (
        FIVE,
        {"labels": {**LABELS, "q": "x"}},
    ),
}


@pytest.mark.parametrize("message", FAULTS)
def test_complaints(write: Callable[..., str], message: str) -> None:
    text, options = FAULTS[message]
    with pytest.raises(FastaError) as caught:
        FastaDataset(write(text), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


TABLES = {
    "labels.csv: expected rows of name and label, received an empty file": ("", {}),
    "labels.csv, line 3: expected a record of": ("name,label\na,x\nq,y\n", {}),
    "received the name 'q'": ("a,x\nq,y\n", {}),
    "labels.csv, line 3: expected each name once, received 'a' again (first on line 1)": (
        "a,x\nb,y\na,x\n",
        {},
    ),
    "labels.csv: expected a label for every record, received none for 'c' (": ("a,x\nb,y\n", {}),
    "x.fa, line 5)": ("a,x\nb,y\n", {}),
    "labels.csv, line 2: expected at least 2 columns, received 1": ("a,x\nb\n", {}),
    "labels.csv, line 2: expected a name and a label, received ['b', '']": ("a,x\nb,\n", {}),
    "labels.csv, line 1: expected a column 'kind', received ['name', 'label']": (
        "name,label\na,x\n",
        {"label_column": "kind"},
    ),
    "labels.csv, line 1: expected a column of labels, received ['name', 'kind']; name it with label_column": (
        "name,kind\na,x\n",
        {"name_column": "name"},
    ),
    "labels.csv: expected a CSV or TSV text file:": ('a,"x\n', {}),
}


@pytest.mark.parametrize("message", TABLES)
def test_complaints_about_tables(write: Callable[..., str], message: str) -> None:
    table, options = TABLES[message]
    with pytest.raises(FastaError) as caught:
        FastaDataset(write(FIVE), labels=write(table, "labels.csv"), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tables_that_are_no_text(write: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(FastaError, match=r"nothing\.csv: expected a table of labels, but it cannot"):
        FastaDataset(write(FIVE), labels=tmp_path / "nothing.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FastaError, match=r"binary\.csv: expected a CSV or TSV text file:"):
        FastaDataset(write(FIVE), labels=tmp_path / "binary.csv")


def test_columns_are_named_for_tables_only(write: Callable[..., str]) -> None:
    with pytest.raises(FastaError, match="name_column and label_column belong to a table of labels"):
        FastaDataset(write(FIVE), label_pattern=PATTERN, label_column="kind")


def test_no_files() -> None:
    with pytest.raises(FastaError, match="expected at least one file, received an empty mapping"):
        FastaDataset({})
