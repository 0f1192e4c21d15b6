"""The reader against whole-file parsing written out here, and against samtools 1.24 on odd files."""

import bz2
import gzip
import logging
import lzma
import mmap
import multiprocessing
import os
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import methodcaller
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biolayers import DNA, PAD, PROTEIN, RNA, Alphabet, Fasta, FastaError
from biolayers.alphabet import ILLEGAL
from biolayers.kernels.numba import fetch as kernel
from biolayers.policy import LetterCounts

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 with threads

PARTNER = str.maketrans("ACGTNRYSWKMBDHVacgtnryswkmbdhv-", "TGCANYRSWMKVHDBtgcanyrswmkvhdb-")


def written(folder: Path, content: bytes, name: str = "x.fa") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def parse(content: bytes) -> dict[str, str]:
    """Records by name: the naive way, for well-formed files."""
    records: dict[str, str] = {}
    for line in content.decode().splitlines():
        if line.startswith(">"):
            name = line[1:].split()[0]
            records[name] = ""
        elif line.strip():
            records[name] += line.strip()
    return records


def spell(text: str, strand: str = "+") -> list[int]:
    """Tokens of letters in the file: the naive way."""
    text = text.translate(PARTNER)[::-1] if strand == "-" else text
    return ["ACGTNRYSWKMBDHV-".index(letter) for letter in text.upper()]


@st.composite
def fastas(draw: st.DrawFn, *, empty: bool = True) -> bytes:
    """A well-formed file with whatever line width, line ending, blank lines and end it may have."""
    parts = [draw(st.sampled_from([b"", b"\n", b"\r\n"]))]
    for i in range(draw(st.integers(1, 4))):
        width = draw(st.sampled_from([1, 2, 7, 60, 63, 64, 65, 130]))
        ending = draw(st.sampled_from([b"\n", b"\r\n"]))
        size = draw(st.integers(0 if empty else 1, 400))
        letters = draw(st.binary(min_size=size, max_size=size))
        text = bytes(b"ACGTacgtNRYn-"[byte % 13] for byte in letters)
        header = draw(st.sampled_from([b">s%d", b">s%d some words", b">s%d\ttab", b">  s%d x>y"]))
        lines = [header % i] + [text[k : k + width] for k in range(0, size, width)]
        parts += [line + ending for line in lines]
        parts.append(draw(st.sampled_from([b"", ending, 2 * ending])) if size else b"")
    content = b"".join(parts)
    return content.rstrip(b"\r\n") if draw(st.booleans()) and size else content


@given(fastas(), st.data())
def test_any_interval_of_any_file(content: bytes, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), content)
        records = parse(content)
        for fa in (Fasta(path), Fasta(path)):  # the second reads the index that the first has written
            assert list(fa) == fa.names == list(records)
            assert {name: str(fa[name]) for name in fa} == records
            assert fa.lengths.tolist() == [len(fa[name]) for name in fa] == list(map(len, records.values()))
        intervals = []
        for _ in range(data.draw(st.integers(0, 5))):
            name = data.draw(st.sampled_from(list(records)))
            start = data.draw(st.integers(0, len(records[name])))
            end = data.draw(st.integers(start, len(records[name])))
            intervals.append((name, start, end, data.draw(st.sampled_from("+-."))))
        rows = fa.fetch(intervals, pad=True)
        for row, (name, start, end, strand) in zip(rows.tolist(), intervals, strict=True):
            expected = spell(records[name][start:end], strand)
            assert row == expected + [PAD] * (len(row) - len(expected))
            assert fa[name].tokens(start, end, strand=strand).tolist() == expected
            assert fa[name][start:end] == records[name][start:end]
        expected = LetterCounts()
        for text in records.values():
            expected += DNA.counts(text)
        assert fa.counts() == expected


@given(st.text("ACGTN", max_size=150), st.integers(1, 70), st.slices(150))
def test_slices_follow_python(text: str, width: int, key: slice) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = "\n".join(text[k : k + width] for k in range(0, len(text), width))
        record = Fasta(written(Path(folder), f">a b\n{lines}\n".encode()))["a"]
        assert record[key] == text[key]
        assert (len(record), str(record), record.header) == (len(text), text, "a b")
        if text:
            assert (record[0], record[-1]) == (text[0], text[-1])
        with pytest.raises(IndexError):
            record[len(text)]


# What `samtools faidx` 1.24 writes for files that it accepts.
SAMTOOLS = {
    b">a\n>b\nACGT\n": b"b\t4\t6\t4\t5\n",
    b">a\n\n>b\nACGT\n": b"b\t4\t7\t4\t5\n",
    b">a\n\n\n>b\nAC\n": b"b\t2\t8\t2\t3\n",
    b">a d\r\nACGT\r\nACG\r\n": b"a\t7\t6\t4\t6\n",
    b">a\nACGT\nAC": b"a\t6\t3\t4\t5\n",
    b">a\nACGT\nACGT": b"a\t8\t3\t4\t5\n",
    b">a\r\nACGT\r\nACGT": b"a\t8\t4\t4\t6\n",
    b">a\nACGT": b"a\t4\t3\t4\t5\n",
    b">a\r\nACGT": b"a\t4\t4\t4\t5\n",
    b">a\nACGT\n\n\n": b"a\t4\t3\t4\t5\n",
    b">a\nACGT\n\n>b\nAC\n": b"a\t4\t3\t4\t5\nb\t2\t12\t2\t3\n",
    b"\n\n>a\nAC\n": b"a\t2\t5\t2\t3\n",
    b">  a b\nACGT\n": b"a\t4\t7\t4\t5\n",
    b">a\tb\nACGT\n": b"a\t4\t5\t4\t5\n",
    b">a\x0bb\nACGT\n": b"a\t4\t5\t4\t5\n",
    b">a\nACGT \nACGT \nAC \n": b"a\t10\t3\t4\t6\n",
    b">a\nACGT\r\nACG\n": b"a\t7\t3\t4\t6\n",
    b">a\nACGT\nACG\r\n": b"a\t7\t3\t4\t5\n",
    b">a\nACGT\nACGT\nAC\r\n": b"a\t10\t3\t4\t5\n",
    b">a\nAC>T\n": b"a\t4\t3\t4\t5\n",
    b">a\r\nACGT\r\n\r\n>b\r\nAC\r\n": b"a\t4\t4\t4\t6\nb\t2\t16\t2\t4\n",
    b">a\r\n\r\n>b\r\nAC\r\n": b"a\t0\t4\t0\t2\nb\t2\t10\t2\t4\n",
    b">a\nACGT\n \n>b\nAC\n": b"a\t4\t3\t4\t5\nb\t2\t13\t2\t3\n",
    b">\xff\xfe\nACGT\n": b"\xff\xfe\t4\t4\t4\t5\n",
}


@pytest.mark.parametrize("content", SAMTOOLS)
def test_index_is_that_of_samtools(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path, content)
    first = Fasta(path)
    assert Path(f"{path}.fai").read_bytes() == SAMTOOLS[content]
    assert sorted(os.listdir(tmp_path)) == ["x.fa", "x.fa.fai"]
    again = Fasta(path)
    assert again.names == first.names  # empty records are found again, though samtools leaves them out
    assert [str(again[name]) for name in again] == [str(first[name]) for name in first]


FAULTS = {
    b"": "expected at least one record, received an empty file",
    b"\n \r\n": "expected at least one record ('>name', then letters), found blank lines only",
    b"ACGT\n": "line 1: expected '>' as the first character, received 'A'; is this a FASTA file?",
    b"\n\n;c\n>a\nAC\n": "line 3: expected '>' as the first character, received ';'",
    b" >a\nAC\n": "line 1: expected '>' as the first character, received '>'",
    b">\nACGT\n": "line 1: expected a name after '>', received none; give the record a name",
    b">a\nAC\n>  \nACGT\n": "line 3: expected a name after '>', received none",
    b">a\nAC\n>b\nG\n>a\nT\n": "line 5: expected each name once, received 'a' again (first on line 1)",
    b">a\nACGT\nAC\n >b\nA\n": "line 4: expected a letter, received byte 0x20 in column 1; remove it",
    b">a\nAC GT\n": "line 2: expected a letter, received byte 0x20 in column 3; remove it",
    b">a\nACGT\nAC\0T\n": "line 3: expected a letter, received byte 0x00 in column 3; remove it",
    b">a\nAC\xffT\n": "line 2: expected a letter, received byte 0xff in column 3",
    b">a\rACGT\r": "line 1: expected lines that end in LF or CRLF, received a lone carriage return",
    b">a\nAC\rGT\r": "line 2: expected lines that end in LF or CRLF, received a lone carriage return",
    b">a\0b\nACGT\n": "line 1: expected text in the header, received byte 0x00; is this a FASTA file?",
    b"\x7fELF\x02\x01": "line 1: expected '>' as the first character, received byte 0x7f",
    b"@r\nAC\n+\nII\n": "the file starts with '@' and looks like FASTQ; use biolayers.Fastq",
    gzip.compress(
        b">a\nAC\n"
    ): "random access, received gzip, which can only be read from its start; convert it",
    bz2.compress(b">a\nAC\n"): "compressed with bzip2; decompress it first (bunzip2 -k x.fa)",
    lzma.compress(b">a\nAC\n"): "compressed with xz; decompress it first (unxz -k x.fa)",
}


@pytest.mark.parametrize("content", FAULTS)
def test_faults_of_files(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path, content)
    with pytest.raises(FastaError) as caught:
        Fasta(path)
    assert str(caught.value).startswith(str(path))
    assert FAULTS[content] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["x.fa"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FastaError, match=r"missing\.fa: .* cannot be read: No such file or directory"):
        Fasta(tmp_path / "missing.fa")
    with pytest.raises(FastaError, match="expected a file, received a folder or a device"):
        Fasta(tmp_path)


# Requests


@pytest.fixture
def two(tmp_path: Path) -> Fasta:
    return Fasta(written(tmp_path, b">one first\nACGTAC\nGTN\n>two\nGGGTTT\n>none\n>odd\nACJT\n"))


REQUESTS = {
    "expected the name of a record, received 'tow'; did you mean 'two'?": lambda fa: fa["tow"],
    "expected the name of a record, received 'x'; it has 'one', 'two', 'none', 'odd'": lambda fa: fa.ids(
        ["x"]
    ),
    "expected the name of a record, received 3": lambda fa: fa.fetch([(3, 0, 1)]),
    "expected 0 <= start <= end <= 9 within 'one' (its length), received 5 to 10 as interval 1; clip": (
        lambda fa: fa.fetch([("two", 0, 5), ("one", 5, 10)])
    ),
    "received -1 to 2 as interval 0": lambda fa: fa.fetch([("one", -1, 2)]),
    "received 3 to 2 as interval 0": lambda fa: fa["one"].tokens(3, 2),
    "within 'none' (its length), received 0 to 1": lambda fa: fa.fetch([("none", 0, 1)]),
    "expected (name, start, end) or (name, start, end, strand), received ('one', 1)": lambda fa: fa.fetch(
        [("one", 0, 1), ("one", 1)]
    ),
    "expected length 2 as the first, received interval 1 (two:0-3) of length 3; pass": lambda fa: fa.fetch(
        [("one", 0, 2), ("two", 0, 3)]
    ),
    "expected at most 2 letters, received interval 1 (two:0-3) of length 3": lambda fa: fa.fetch(
        [("one", 0, 2), ("two", 0, 3)], pad=2
    ),
    "expected 1 strands '+' or '-' (or 1, -1), received 'x'": lambda fa: fa.fetch([("one", 0, 2, "x")]),
    "expected 1 strands '+' or '-' (or 1, -1), received 0": lambda fa: fa.fetch_arrays([0], [0], [1], [0]),
    "expected 1 strands '+' or '-' (or 1, -1), received shape (2,)": lambda fa: fa.fetch_arrays(
        [0], [0], [1], [1, 1]
    ),
    "starts: expected a column of integers, received float64 of shape (1,)": lambda fa: fa.fetch_arrays(
        [0], [0.5], [1]
    ),
    "ends: expected a column of integers, received int64 of shape ()": lambda fa: fa.fetch_arrays(
        [0], [0], 1
    ),
    "expected contig_ids, starts and ends of one length, received 1, 2 and 1": lambda fa: fa.fetch_arrays(
        [0], [0, 1], [1]
    ),
    "expected contig_ids 0..3, received 4": lambda fa: fa.fetch_arrays([4], [0], [1]),
    "expected contig_ids 0..3, received -1": lambda fa: fa.fetch_arrays([-1], [0], [1]),
    "x.fa, line 8, record 'odd': expected letters ACGT or NRYSWKMBDHV-, received 'J' at": lambda fa: fa[
        "odd"
    ].tokens(),
    "record 'odd': expected letters ACGT or NRYSWKMBDHV-, received 'J' at position 3": lambda fa: fa.fetch(
        [("one", 0, 3), ("odd", 1, 4, "-")]
    ),
}


@pytest.mark.parametrize("message", REQUESTS)
def test_faults_of_requests(two: Fasta, message: str) -> None:
    with pytest.raises(FastaError) as caught:
        REQUESTS[message](two)
    assert message in str(caught.value)


def test_nouns_print(two: Fasta) -> None:
    assert repr(two) == f"Fasta({two.path!r}: 4 records, 19 letters, DNA)"
    assert repr(two["one"]) == "Record('one': 9 letters)"
    assert "one" in two
    assert "first" not in two
    assert two.headers() == ["one first", "two", "none", "odd"]


def test_columns_of_any_kind(two: Fasta) -> None:
    expected = [[0, 1, 2, 3], [0, 0, 0, 1]]
    assert two.fetch([("one", 4, 8), ("two", 2, 6, "-")]).tolist() == expected
    for kind in (list, np.array, torch.tensor):
        columns = [kind(column) for column in ([0, 1], [4, 2], [8, 6], [1, -1])]
        assert two.fetch_arrays(*columns).tolist() == expected
    strided = np.array([[0, 4, 8], [1, 2, 6]], np.int32)
    assert two.fetch_arrays(*strided.T, strands=["+", "-"]).tolist() == expected
    assert two.fetch_arrays([0, 1], [4, 2], [8, 6], np.array(["+", "-"]), pad=5).tolist() == [
        [*row, PAD] for row in expected
    ]
    assert two.fetch([]).shape == (0, 0)
    assert two.fetch([("none", 0, 0), ("one", 3, 3)]).shape == (2, 0)
    assert two.fetch([("none", 0, 0)], pad=3).tolist() == [[PAD] * 3]
    assert two["none"].tokens().shape == (0,)


def test_proteins_have_one_strand(tmp_path: Path) -> None:
    fa = Fasta(written(tmp_path, b">p\nMKVBX*\n"), alphabet=PROTEIN)
    assert fa["p"].tokens().tolist() == PROTEIN.tokens("MKVBX*").tolist()
    with pytest.raises(FastaError, match=r"strand '\+' only, as PROTEIN has no complement"):
        fa["p"].tokens(strand="-")


POLICIES = [
    DNA,
    DNA.with_policy(ambiguous="error", gap="error"),
    DNA.with_policy(ambiguous="unknown", gap="unknown", lower="mask", ut="convert"),
    DNA.with_policy(other="unknown", gap="error"),
    DNA.with_policy(lower="error", other="unknown"),
    RNA,
    RNA.with_policy(ut="convert", lower="mask", other="unknown"),
    PROTEIN,
    PROTEIN.with_policy(ambiguous="unknown", lower="error"),
    Alphabet("abAB", unknown="?", complements="baBA"),
]


@pytest.mark.parametrize("alphabet", POLICIES, ids=str)
@pytest.mark.parametrize("minus", [False, True])
def test_kernel_on_all_256_bytes(alphabet: Alphabet, minus: bool) -> None:
    """The comparisons of the kernel say the same as the byte table, in every lane and tail."""
    data = np.arange(256, dtype=np.uint8).repeat(3)
    starts = np.arange(0, 700, 7)
    stops = np.minimum(starts + np.arange(100) * 3, len(data))
    minus = np.full(100, minus and alphabet.stranded)
    out = np.full((100, 300), 77, np.uint8)
    refused = np.empty(100, np.int64)
    records = np.array([[0], [1000], [1001]])
    ids, places, rooms = np.zeros(100, np.int64), np.arange(0, 30_000, 300), np.full(100, 300)
    intervals = ids, starts, stops, minus
    kernel.fetch(
        0, 100, data, records, *intervals, kernel.recipe(alphabet), out.reshape(-1), places, rooms, refused
    )
    for i in range(100):
        tokens = alphabet.byte_table[data[starts[i] : stops[i]]]
        wrong = np.flatnonzero(tokens == ILLEGAL)
        assert refused[i] == (wrong[0] if len(wrong) else -1)
        expected = alphabet.complement_table[tokens][::-1] if minus[i] else tokens
        assert out[i].tolist() == expected.tolist() + [PAD] * (300 - len(expected))


def test_file_that_ends_with_its_page(tmp_path: Path) -> None:
    """Nothing beyond the last byte may be read: the next page does not exist."""
    text = "ACGT" * ((mmap.PAGESIZE - 4) // 4) + "G"
    path = written(tmp_path, b">a\n" + text.encode())
    assert path.stat().st_size % mmap.PAGESIZE == 0
    fa = Fasta(path)
    for start in (0, len(text) - 64, len(text) - 1, len(text)):
        assert fa["a"].tokens(start, len(text)).tolist() == spell(text[start:])


def test_many_rows_are_shared_among_threads(tmp_path: Path, poisoned_memory: None) -> None:
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("ACGT"), 50_000))
    lines = "\n".join(text[k : k + 61] for k in range(0, len(text), 61))
    fa = Fasta(written(tmp_path, f">a\n{lines}\n".encode()))
    starts = rng.integers(0, 49_000, 2_000)
    strands = rng.choice([-1, 1], 2_000)
    rows = fa.fetch_arrays(np.zeros(2_000, np.int64), starts, starts + 1_000, strands)
    expected = DNA.tokens(text).numpy()[starts[:, None] + np.arange(1_000)]
    expected[strands < 0] = 3 - expected[strands < 0, ::-1]
    assert np.array_equal(rows.numpy(), expected)


# The stored index


def test_stale_index_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, b">a\nACGT\nAC\n")
    Fasta(path)
    path.write_bytes(b">a\nACG\nTTT\n>b\nCC\n")
    os.utime(f"{path}.fai", ns=(0, path.stat().st_mtime_ns - 1))
    with caplog.at_level(logging.INFO, "biolayers"):
        assert str(Fasta(path)["b"]) == "CC"
    assert "is older than" in caplog.text
    assert Path(f"{path}.fai").read_bytes() == b"a\t6\t3\t3\t4\nb\t2\t14\t2\t3\n"


FOREIGN = [
    b"",
    b"\n",
    b"junk",
    b"a\t6\t3\t4\n",
    b"a\t6\t3\t4\t5\tmore\n",
    b"a\t6\t3\t4\tx\n",
    b"a\t-6\t3\t4\t5\n",
    b"a\t99999999999999999999999\t3\t4\t5\n",
    b"b\t6\t3\t4\t5\n",  # another name
    b"a\t6\t3\t4\t5\nb\t1\t13\t1\t2\n",  # more records than there are
    b"a\t5\t3\t4\t5\n",  # too short
    b"a\t7\t3\t4\t5\n",  # too long
    b"a\t6\t4\t4\t5\n",  # another place
    b"a\t6\t3\t6\t7\n",  # another width
    b"a\t6\t3\t3\t5\n",
    b"a\t6\t3\t0\t5\n",
    b"a\t6\t3\t4\t4\n",
    b"a\t4611686018427387000\t3\t4\t5\n",
    b"\xff" * 5000,
]


@pytest.mark.parametrize("index", FOREIGN)
def test_foreign_index_is_noticed_and_replaced(
    tmp_path: Path, index: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, b">a\nACGT\nAC\n")
    stored = written(tmp_path, index, "x.fa.fai")
    assert str(Fasta(path)["a"]) == "ACGTAC"
    assert "does not fit" in caplog.text
    assert stored.read_bytes() == b"a\t6\t3\t4\t5\n"


def test_index_in_other_line_endings_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, b">a\nACGT\nAC\n")
    stored = written(tmp_path, b"a\t6\t3\t4\t5\r\n", "x.fa.fai")
    assert str(Fasta(path)["a"]) == "ACGTAC"
    assert stored.read_bytes() == b"a\t6\t3\t4\t5\r\n"
    assert not caplog.text


def test_index_is_stored_only_when_wanted(tmp_path: Path) -> None:
    path = written(tmp_path, b">a\nACGT\n")
    assert str(Fasta(path, store_index=False)["a"]) == "ACGT"
    assert os.listdir(tmp_path) == ["x.fa"]


@contextmanager
def as_nobody() -> Iterator[None]:
    """The superuser may write anywhere, so step down for a while."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_read_only_folder() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), b">a\nACGT\nAC\n")
        os.chmod(folder, 0o555)
        with as_nobody():
            assert not os.access(folder, os.W_OK, effective_ids=True)
            fa = Fasta(path)
            assert str(fa["a"]) == "ACGTAC"
            assert str(pickle.loads(pickle.dumps(fa))["a"]) == "ACGTAC"
        assert os.listdir(folder) == ["x.fa"]
        os.chmod(folder, 0o755)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, b">a\nACGT\nAC\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert str(Fasta(path)["a"]) == "ACGTAC"
    assert os.listdir(tmp_path) == ["x.fa"]


# Processes and threads


@pytest.fixture
def genome(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    rng = np.random.default_rng(1)
    records = {f"chr{i}": "".join(rng.choice(list("ACGTNacgt"), 5_000 + i)) for i in range(8)}
    lines = (
        f">{name}\n" + "\n".join(text[k : k + 50] for k in range(0, len(text), 50))
        for name, text in records.items()
    )
    return written(tmp_path, ("\n".join(lines) + "\n").encode()), records


def _requests(
    records: dict[str, str], seed: int, n: int = 200
) -> tuple[list[tuple[str, int, int, str]], list[list[int]]]:
    rng = np.random.default_rng(seed)
    names, starts = rng.choice(list(records), n).tolist(), rng.integers(0, 4_900, n).tolist()
    strands = rng.choice(["+", "-"], n).tolist()
    intervals = [(name, s, s + 100, strand) for name, s, strand in zip(names, starts, strands, strict=True)]
    return intervals, [spell(records[name][a:b], strand) for name, a, b, strand in intervals]


def _answer(
    fa: Fasta, intervals: list[tuple[str, int, int, str]], results: "multiprocessing.Queue[list]"
) -> None:
    results.put([fa.fetch([interval]).tolist()[0] for interval in intervals])


def test_forked_processes_and_threads_at_once(genome: tuple[Path, dict[str, str]]) -> None:
    path, records = genome
    fa = Fasta(path)
    fa.fetch(_requests(records, 0)[0])  # open and used before the fork
    context = multiprocessing.get_context("fork")
    jobs = []
    for seed in range(8):
        results = context.Queue()
        process = context.Process(target=_answer, args=(fa, _requests(records, seed)[0], results))
        process.start()
        jobs.append((seed, process, results))
    found: dict[int, list[list[int]]] = {}

    def read(seed: int) -> None:
        found[seed] = fa.fetch(_requests(records, seed)[0]).tolist()

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, process, results in jobs:
        assert results.get(timeout=60) == found[seed] == _requests(records, seed)[1]
        process.join()
        assert process.exitcode == 0


def test_spawned_process(genome: tuple[Path, dict[str, str]]) -> None:
    path, records = genome
    intervals, expected = _requests(records, 3)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(methodcaller("fetch", intervals), (Fasta(path),)).tolist() == expected


def test_pickle_holds_no_handle_and_works_from_another_folder(
    genome: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, records = genome
    monkeypatch.chdir(path.parent)
    fa = Fasta(path.name, alphabet=DNA.with_policy(lower="mask"))
    fa.fetch([("chr1", 0, 10)])
    frozen = pickle.dumps(fa)
    monkeypatch.chdir("/")
    twin = pickle.loads(frozen)
    assert twin.path == path.name
    assert twin._opened is None
    intervals = _requests(records, 5)[0]
    assert torch.equal(twin.fetch(intervals), fa.fetch(intervals))


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path, b">a\nACGT\n")
    fa = Fasta(path)
    frozen = pickle.dumps(fa)
    with open(path, "ab") as file:
        file.write(b">b\nAC\n")
    with pytest.raises(FastaError, match="changed after it was opened; open it again"):
        fa.fetch([("a", 0, 1)])
    with pytest.raises(FastaError, match="changed after it was indexed; make a new Fasta of it"):
        pickle.loads(frozen).fetch([("a", 0, 1)])
    path.unlink()
    with pytest.raises(FastaError, match="cannot be read: No such file"):
        pickle.loads(frozen).fetch([("a", 0, 1)])


READS = [
    lambda fa: fa.fetch([("a", 0, 4)]),
    lambda fa: fa.fetch_ragged([0], [0], [4]),
    lambda fa: str(fa["a"]),
    lambda fa: fa["a"].header,
    lambda fa: fa.headers(),
    lambda fa: fa.counts(),
    lambda fa: fa.line(0),
]


@pytest.mark.parametrize("read", READS)
def test_a_file_that_shrinks_is_refused(tmp_path: Path, read: Callable[[Fasta], object]) -> None:
    """Its mapped pages are gone: to touch them would end the process."""
    path = written(tmp_path, b">a\n" + b"ACGT\n" * 10_000)
    fa = Fasta(path)
    read(fa)
    os.truncate(path, 2)
    with pytest.raises(FastaError, match="the file changed after it was opened; open it again"):
        read(fa)


def test_rewritten_in_place_with_the_same_size(tmp_path: Path) -> None:
    path = written(tmp_path, b">a\nACGT\n")
    fa = Fasta(path)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    with pytest.raises(FastaError, match="the file changed after it was opened"):
        fa.fetch([("a", 0, 1)])


def _index(
    path: Path, gate: "multiprocessing.synchronize.Barrier", results: "multiprocessing.Queue[str]"
) -> None:
    gate.wait(60)
    results.put(str(Fasta(path)["chr7"]))


def test_many_processes_build_one_index(genome: tuple[Path, dict[str, str]]) -> None:
    path, records = genome
    context = multiprocessing.get_context("fork")
    gate, results = context.Barrier(8), context.Queue()
    processes = [context.Process(target=_index, args=(path, gate, results)) for _ in range(8)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [records["chr7"]] * 8
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(os.listdir(path.parent)) == ["x.fa", "x.fa.fai"]
