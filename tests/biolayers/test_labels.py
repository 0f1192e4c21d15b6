"""Every kind of label, from every source: several classes, quantities, absent ones, and in memory."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from Bio.Seq import Seq
from Bio.SeqRecord import SeqRecord
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from biolayers import DNA, PAD, PROTEIN, FastaDataset, FastaError, SequenceDataset, loader
from shared.errors import UserError

FASTA = ">a v=1.5 w=2\nACGT\n>b v=-2 w=0\nTTTT\n>c v=0 w=7e2\nGGNN\n"
NAN = float("nan")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def write(text: str, name: str = "x.fa") -> str:
        path = tmp_path / name
        path.write_text(text, newline="")
        return str(path)

    return write


# Several classes


@pytest.mark.parametrize(
    ("table", "options"),
    [
        ("name,label\na,liver; brain\nb,\nc,brain\n", {"separator": ";"}),
        ("name,brain,liver\na,1,true\nb,0,no\nc,yes,0.0\n", {"label_column": ["brain", "liver"]}),
    ],
)
def test_several_classes(write: Callable[..., str], table: str, options: dict[str, Any]) -> None:
    data = FastaDataset(write(FASTA), labels=write(table, "y.csv"), **options)
    assert data.kind == "multilabel"
    assert data.classes == ["brain", "liver"]
    assert data.labels.tolist() == [[1, 1], [0, 0], [1, 0]]
    assert data.labels.dtype == torch.float32
    assert len(set(data.strata.tolist())) == 3
    tokens, labels = next(iter(DataLoader(data, batch_size=3)))
    assert torch.equal(labels, data.labels)
    assert tokens.shape == (3, 4)


def test_several_classes_in_headers(write: Callable[..., str]) -> None:
    path = write(">a in=x,y\nAC\n>b in=y\nGT\n")
    data = FastaDataset(path, label_pattern="in=(.*)", separator=",", classes=["y", "x", "z"])
    assert data.labels.tolist() == [[1, 1, 0], [1, 0, 0]]


# Quantities


@pytest.mark.parametrize("targets", ["v", ["v"], ["w", "v"]])
def test_quantities_in_headers_and_tables(write: Callable[..., str], targets: Any) -> None:
    path = write(FASTA)
    pattern = r"v=(?P<v>\S+) w=(?P<w>\S+)"
    table = write("name,w,v\nc,7e2,0\na,2,1.5\nb,0,-2\n", "y.csv")
    columns = {"v": [1.5, -2.0, 0.0], "w": [2.0, 0.0, 700.0]}
    expected = torch.tensor(columns["v"])
    if targets != "v":
        expected = torch.tensor([columns[name] for name in targets]).T
    for data in (
        FastaDataset(path, label_pattern=pattern, targets=targets),
        FastaDataset(path, labels=table, targets=targets),
    ):
        assert data.kind == "regression"
        assert torch.equal(data.labels, expected)
        assert data.classes == ([targets] if targets == "v" else targets)
        assert torch.equal(next(iter(DataLoader(data, batch_size=3)))[1], expected)
        assert data.strata.tolist() == [-1, -1, -1]


def test_one_number_by_any_group(write: Callable[..., str]) -> None:
    assert FastaDataset(write(FASTA), label_pattern=r"v=(\S+)", targets="x").labels.tolist() == [1.5, -2, 0]
    mapped = FastaDataset(write(FASTA), labels={"a": 1, "b": [2], "c": "3"}, targets="x")
    assert mapped.labels.tolist() == [1, 2, 3]
    several = FastaDataset(write(FASTA), labels={name: [1, 2.5] for name in "abc"}, targets=["x", "y"])
    assert several.labels.tolist() == [[1, 2.5]] * 3


def test_absent_quantities(write: Callable[..., str]) -> None:
    table = write("name,v,w\na,1,\nc,NaN,3\n", "y.csv")
    path = write(FASTA)
    kept = FastaDataset(path, labels=table, targets=["v", "w"], missing="nan")
    expected = torch.tensor([[1, NAN], [NAN, NAN], [NAN, 3]])
    torch.testing.assert_close(kept.labels, expected, equal_nan=True)
    dropped = FastaDataset(path, labels=table, targets="w", missing="drop")
    assert dropped.labels.tolist() == [3]
    assert dropped.names == ["c"]
    assert DNA.text(dropped.tokens) == ["GGNN"]
    assert dropped.dropped == 2
    assert "2 without label left out" in repr(dropped)
    assert dropped.where(0) == f"{path}, line 5, record 'c'"


def test_absent_classes(write: Callable[..., str]) -> None:
    data = FastaDataset(write(FASTA), labels=write("a,x\nc,y\n", "y.csv"), missing="drop")
    assert data.names == ["a", "c"]
    assert data.labels.tolist() == [0, 1]
    some = FastaDataset(write(FASTA), label_pattern="v=([01])", missing="drop")
    assert (some.names, some.classes) == (["a", "c"], ["0", "1"])


# Tables in Parquet


def test_parquet(write: Callable[..., str], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"name": ["b", "a", "c"], "v": [0.1, 1e-30, None], "label": ["p", "q", "p"]})
    frame.to_parquet(tmp_path / "y.parquet")
    classes = FastaDataset(write(FASTA), labels=tmp_path / "y.parquet")
    assert [classes.classes[label] for label in classes.labels] == ["q", "p", "p"]
    numbers = FastaDataset(write(FASTA), labels=tmp_path / "y.parquet", targets="v", missing="nan")
    expected = torch.tensor([1e-30, 0.1, NAN])
    torch.testing.assert_close(numbers.labels, expected, rtol=0, atol=0, equal_nan=True)
    with pytest.raises(FastaError, match=r"y\.parquet, line 4: expected a name and a label"):
        FastaDataset(write(FASTA), labels=tmp_path / "y.parquet", targets="v")
    broken = write("no parquet", "z.parquet")
    with pytest.raises(FastaError, match=r"z\.parquet: expected a Parquet table"):
        FastaDataset(write(FASTA), labels=broken)
    with pytest.raises(FastaError, match=r"nothing\.pq: expected a table of labels, but it cannot be read"):
        FastaDataset(write(FASTA), labels=tmp_path / "nothing.pq")


def test_parquet_without_pyarrow(write: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FastaError, match=r"expected pyarrow for a Parquet table, found none; pip install"):
        FastaDataset(write(FASTA), labels=write("", "y.parquet"))


# Windows, padding and packing


@given(
    st.lists(st.text("ACGTN", min_size=1, max_size=30), min_size=1, max_size=8),
    st.integers(1, 12),
    st.integers(0, 5),
    st.integers(0, 3),
)
def test_windows_are_those_of_the_records(texts: list[str], window: int, jitter: int, epoch: int) -> None:
    options = {"window": window, "jitter": jitter, "reverse_complement": 0.5, "seed": 2}
    data = SequenceDataset(texts, targets=np.arange(len(texts)), pad_to="batch", **options)
    for i, (row, label) in enumerate(zip(*data.batch(range(len(texts)), epoch=epoch), strict=True)):
        found = DNA.text(row)
        length = min(window, len(texts[i]))
        middle = (len(texts[i]) - length) // 2
        places = range(max(0, middle - jitter), min(len(texts[i]) - length, middle + jitter) + 1)
        forward = {texts[i][place : place + length] for place in places}
        reverse = {DNA.text(DNA.reverse_complement(DNA.tokens(text))) for text in forward}
        assert found in forward | reverse
        assert label == i
    plain = data.batch(range(len(texts)))[0]
    assert DNA.text(plain) == [text[(len(text) - min(window, len(text))) // 2 :][:window] for text in texts]


def test_jitter_reaches_every_place_evenly() -> None:
    data = SequenceDataset(["ACGTN"] * 3000, window=1, jitter=2)
    counts = torch.bincount(data.batch(range(3000), epoch=0)[0].flatten().int(), minlength=5)
    assert ((counts - 600) ** 2 / 600).sum() < 4 + 4 * 8**0.5


@pytest.mark.parametrize("make", ["file", "files", "memory"])
def test_packed_is_padded_without_padding(write: Callable[..., str], make: str) -> None:
    texts = ["ACGTN", "T", "GG", "CAT"]

    def data(**options: Any) -> Any:
        options = {"window": 4, "jitter": 1, "reverse_complement": 0.5, "seed": 3, **options}
        if make == "memory":
            return SequenceDataset(texts, ["x", "y", "x", "y"], **options)
        entries = [f">s{i} k={'xy'[i % 2]}\n{text}\n" for i, text in enumerate(texts)]
        if make == "file":
            return FastaDataset(write("".join(entries)), label_pattern="k=(.)", **options)
        return FastaDataset(
            {"x": write("".join(entries[::2]), "one.fa"), "y": write("".join(entries[1::2]), "two.fa")},
            **options,
        )

    chosen = [3, 0, 1, 3, 2]
    for epoch in (None, 0, 1, 2):
        values, offsets, labels = data(packed=True).batch(chosen, epoch=epoch)
        tokens, lengths, again = data(pad_to="batch", return_lengths=True).batch(chosen, epoch=epoch)
        assert torch.equal(offsets.diff(), lengths)
        assert torch.equal(values, tokens[torch.arange(tokens.shape[1]) < lengths[:, None]])
        assert (tokens[torch.arange(tokens.shape[1]) >= lengths[:, None]] == PAD).all()
        assert torch.equal(labels, again)
    assert torch.equal(data(packed=True)[0][0], data(pad_to="longest")[0][0][:4])
    letters = [int(batch[1][-1]) for batch in loader(data(packed=True), letters=5)]
    assert max(letters) <= 5
    assert sum(letters) == 4 + 1 + 2 + 3


# Sequences in memory


@pytest.mark.parametrize(
    "sequences",
    [
        ["ACGT", "TTGN"],
        (b"ACGT", b"TTGN"),
        [Seq("ACGT"), Seq("TTGN")],
        [SeqRecord(Seq("ACGT"), id="p"), SeqRecord(Seq("TTGN"), id="q")],
        pandas.DataFrame({"s": ["ACGT", "TTGN"]}, index=[7, 3])["s"],
        (text for text in ("ACGT", "TTGN")),
    ],
    ids=["list", "bytes", "Seq", "SeqRecord", "pandas", "generator"],
)
def test_sequences_in_memory(sequences: Any) -> None:
    data = SequenceDataset(sequences, ["yes", "no"])
    assert data.classes == ["no", "yes"]
    assert data.tokens.tolist() == [[0, 1, 2, 3], [3, 3, 2, 4]]
    assert data[1][1] == 0
    assert torch.equal(pickle.loads(pickle.dumps(data)).batch([1])[0], data.batch([1])[0])


def test_names_in_memory() -> None:
    records = [SeqRecord(Seq("AC"), id="p"), SeqRecord(Seq("GT"), id="q")]
    assert SequenceDataset(records).names == ["p", "q"]
    assert SequenceDataset(["AC", "GT"]).names == ["sequence 1", "sequence 2"]
    assert SequenceDataset(["AC", "GT"], names=["u", "v"]).where(1) == "v"


def test_labels_in_memory() -> None:
    texts = ["AC", "GT", "TT"]
    assert SequenceDataset(texts, np.array([10, 2, 10])).classes == ["2", "10"]
    assert SequenceDataset(texts, pandas.Series(["b", "a", "b"])).labels.tolist() == [1, 0, 1]
    assert SequenceDataset(texts, [["x"], [], {"y", "x"}]).labels.tolist() == [[1, 0], [0, 0], [1, 1]]
    assert SequenceDataset(texts).labels.tolist() == [-1] * 3
    assert SequenceDataset(texts, targets=[[1, 2], [3, NAN], [5, 6]]).labels.shape == (3, 2)
    assert SequenceDataset(["MK", "WL"], [0, 1], alphabet=PROTEIN).width == 2


FAULTS: dict[str, Callable[[], Any]] = {
    "expected 2 labels, one each, received 1": lambda: SequenceDataset(["A", "C"], ["x"]),
    "expected 2 names, one each, received 1": lambda: SequenceDataset(["A", "C"], names=["x"]),
    "expected labels or targets, received both": lambda: SequenceDataset(["A"], ["x"], targets=[1]),
    "received 0.5; give numbers to predict as targets=": lambda: SequenceDataset(["A", "C"], [0.5, 1.5]),
    "expected targets (1,) or (1, targets), finite or nan": lambda: SequenceDataset(["A"], targets=[np.inf]),
    "sequence 2: expected 2 letters as in record 'sequence 1', received 1": lambda: SequenceDataset(
        ["AC", "C"]
    ),
    "sequence 2: expected letters, received no sequence": lambda: SequenceDataset(
        ["AC", ""], pad_to="longest"
    ),
    "expected at least one record, received none": lambda: SequenceDataset([]),
    "expected letters ACGT or NRYSWKMBDHV-, received 'J' at position 2": lambda: SequenceDataset(["AJ"]),
    "expected jitter from 0 on, and a window that it moves": lambda: SequenceDataset(["A"], jitter=2),
    "expected a window from 1 letter on, received 0": lambda: SequenceDataset(["A"], window=0),
    "expected reverse_complement as a probability": lambda: SequenceDataset(["A"], reverse_complement=2),
    "expected reverse_complement=0, as PROTEIN has no complement": lambda: SequenceDataset(
        ["M"], alphabet=PROTEIN, reverse_complement=0.5
    ),
    "expected packed without pad_to": lambda: SequenceDataset(["A"], packed=True, pad_to="batch"),
}


@pytest.mark.parametrize("message", FAULTS)
def test_complaints_about_sequences(message: str) -> None:
    with pytest.raises(UserError) as caught:
        FAULTS[message]()
    assert message in str(caught.value)


TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    "record 'b': expected a finite number as 'v', received 'much'": (
        "name,v\na,1\nb,much\nc,3\n",
        {"targets": "v"},
    ),
    "record 'b': expected a finite number as 'v', received '1e99'": (
        "name,v\na,1\nb,1e99\nc,3\n",
        {"targets": "v"},
    ),
    "record 'a': expected 0 or 1 (or true, false, yes, no) in the column 'q', received '2'": (
        "name,p,q\na,1,2\nb,1,1\nc,1,1\n",
        {"label_column": ["p", "q"]},
    ),
    "record 'c': expected labels among ['p'], received 'q'": (
        "name,label\na,p\nb,p\nc,p;q\n",
        {"separator": ";", "classes": ["p"]},
    ),
    "expected a column 'w', received ['name', 'v']": ("name,v\na,1\n", {"targets": ["v", "w"]}),
    "expected missing 'error' or 'drop', received 'nan'": ("a,x\n", {"missing": "nan"}),
    "expected one kind of label, received separator and targets": (
        "a,x\n",
        {"separator": ";", "targets": "v"},
    ),
    "x.fa, line 5, record 'c': expected a label, received none; choose missing='drop'": (
        "name,label\na,p\nb,q\n",
        {"separator": ";"},
    ),
}


@pytest.mark.parametrize("message", TABLES)
def test_complaints_about_labels(write: Callable[..., str], message: str) -> None:
    table, options = TABLES[message]
    with pytest.raises(FastaError) as caught:
        FastaDataset(write(FASTA), labels=write(table, "y.csv"), **options)
    assert message in str(caught.value)


def test_complaints_about_groups(write: Callable[..., str]) -> None:
    with pytest.raises(FastaError, match="expected groups called v, u, received none called 'u'"):
        FastaDataset(write(FASTA), label_pattern=r"v=(?P<v>\S+)", targets=["v", "u"])
    with pytest.raises(FastaError, match="expected 2 numbers for v, u, received 1"):
        FastaDataset(write(FASTA), labels=dict.fromkeys("abc", 1), targets=["v", "u"])


def test_samples_are_written_to_poisoned_memory(poisoned_memory: None) -> None:
    texts = ["A" * n for n in (1, 2, 63, 64, 65, 130)]
    data = SequenceDataset(texts, pad_to=131)
    for row, text in zip(data.tokens, texts, strict=True):
        assert row.tolist() == [0] * len(text) + [PAD] * (131 - len(text))
