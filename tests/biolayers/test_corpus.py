"""Awkward files, each with what must come of it; indices and fetches are those of samtools, through pysam."""

import random
from pathlib import Path

import numpy as np
import pysam
import pytest
import torch

from biolayers import DNA, Fasta, FastaError, Fastq, convert, read_batches
from biolayers.reading import blocks, window

LONG = b">long " + b"x" * 100_000 + b"\n" + b"ACGT" * 20_000 + b"\n"

# What the records are; samtools indexes all of these.
WELL_FORMED = {
    "plain": (b">a\nACGT\n>b\nGG\n", {"a": "ACGT", "b": "GG"}),
    "wrapped": (b">a\nACGT\nACGT\nA\n", {"a": "ACGTACGTA"}),
    "crlf": (b">a\r\nACGT\r\nAC\r\n>b\r\nG\r\n", {"a": "ACGTAC", "b": "G"}),
    "no newline at the end": (b">a\nACGT\nAC", {"a": "ACGTAC"}),
    "blank lines at the end": (b">a\nACGT\n\n\n\n", {"a": "ACGT"}),
    "blank lines between records": (b">a\nAC\n\n\n>b\nGT\n", {"a": "AC", "b": "GT"}),
    "blank lines at the start": (b"\n\n>a\nAC\n", {"a": "AC"}),
    "empty records": (b">a\n>b\nAC\n>c\n>d\nG\n", {"a": "", "b": "AC", "c": "", "d": "G"}),
    "lower case": (b">a\nacgtNnRy\n", {"a": "acgtNnRy"}),
    "long header": (LONG, {"long": "ACGT" * 20_000}),
    "header with blanks": (b">  a  b\tc\nAC\n", {"a": "AC"}),
    "names with odd letters": (b">chr1:1-2|x;y=\xc3\xa9\nAC\n", {"chr1:1-2|x;y=é": "AC"}),
    "letters of one line per record": (b">a\nA\nC\nG\n", {"a": "ACG"}),
    "protein": (b">p\nMKV*X-BZ\n", {"p": "MKV*X-BZ"}),
    "a mark within letters": (b">a\nAC>T\n", {"a": "AC>T"}),
}

# Samtools refuses these, or takes them for something else.
ONLY_OURS = {
    "empty record at the end": (b">a\nAC\n>b\n", {"a": "AC", "b": ""}),
    "ragged": (b">a\nACGT\nAC\nACGTA\n>b\nG\n", {"a": "ACGTACACGTA", "b": "G"}),
    "blank lines within": (b">a\nACGT\n\nACGT\n\n\nAC\n", {"a": "ACGTACGTAC"}),
    "blank line first": (b">a\n\nACGT\n", {"a": "ACGT"}),
    "mixed line endings": (b">a\nACGT\nACG\r\nAC\n", {"a": "ACGTACGAC"}),
    "longer second line": (b">a\nAC\nACGT\nACGTACGT\n", {"a": "ACACGTACGTACGT"}),
    "byte-order mark": (b"\xef\xbb\xbf>a\nACGT\n", {"a": "ACGT"}),
}

FASTQ = {
    "plain": b"@a\nACGT\n+\nII#I\n@b x\nAC\n+b x\n@+\n",
    "wrapped": b"@a\nACGT\nACGT\nA\n+\n@III\n+III\n>\n@b\nAC\n+\n!~\n",
    "crlf": b"@a\r\nACGT\r\n+\r\nIIII\r\n",
    "no newline at the end": b"@a\nACGT\n+\nIIII",
    "blank lines at the end": b"@a\nACGT\n+\nIIII\n\n\n",
}

FASTQ_FAULTS = {
    b"@a\nACGT\n+\nIII\n": "line 4: expected qualities in lines as long as those of the letters, "
    "received a line of 3; each letter needs one quality",
    b"@a\nACGT\n+\nIIIII\n": "line 4: expected qualities in lines as long as those of the letters",
    b"@a\nACGT\n": "line 3: expected letters, a line of '+', and as many qualities, received the end",
    b"@a\nACGT\n+\n": "line 4: expected letters, a line of '+', and as many qualities, received the end",
    b"@a\nACGT\n+\nIIII\nx\n": "line 5: expected '@' at the start of a record, received 'x'",
    b"@a\nACGT\nAC\nACGT\n+\nIIII\nII\nIIII\n": "line 4: expected '+' after a line shorter than the first",
    b"@\nAC\n+\nII\n": "line 1: expected a name after '@', received none; give the record a name",
    b"@a\nAC\n+\nI I\n": "line 4: expected a letter, received byte 0x20 in column 2; remove it",
    b"@a\nAC\n+\nII\n@a\nAC\n+\nII\n": "line 5: expected each name once, received 'a' again (first",
}


def written(folder: Path, content: bytes, name: str) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", [*WELL_FORMED, *ONLY_OURS])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "bgzip"])
def test_corpus(tmp_path: Path, name: str, packed: bool) -> None:
    content, records = (WELL_FORMED | ONLY_OURS)[name]
    path = written(tmp_path, content, "x.fa")
    if packed:
        convert(path, path := tmp_path / "x.fa.gz")
    alphabet = DNA.with_policy(other="unknown")
    for _ in range(2):  # the second time with the stored index
        fa = Fasta(path, alphabet=alphabet)
        assert {name: str(fa[name]) for name in fa} == records
        assert fa.lengths.tolist() == [len(text) for text in records.values()]
    (batch,) = read_batches(path, alphabet=alphabet)
    assert batch.names == list(records)
    assert batch.headers == fa.headers()
    assert batch.tokens.tolist() == alphabet.tokens("".join(records.values())).tolist()


@pytest.mark.parametrize("name", WELL_FORMED)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "bgzip"])
def test_index_is_that_of_samtools(tmp_path: Path, name: str, packed: bool) -> None:
    path = written(tmp_path, WELL_FORMED[name][0], "x.fa")
    if packed:
        convert(path, path := tmp_path / "x.fa.gz")
    Fasta(path)
    ours = {ending: Path(f"{path}{ending}").read_bytes() for ending in (".fai", ".gzi")[: 1 + packed]}
    for ending in ours:
        Path(f"{path}{ending}").unlink()
    pysam.faidx(str(path))
    assert {ending: Path(f"{path}{ending}").read_bytes() for ending in ours} == ours


@pytest.mark.parametrize("name", FASTQ)
def test_fastq(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, FASTQ[name], "x.fq")
    with pysam.FastxFile(str(path)) as file:
        expected = [(entry.name, entry.sequence, list(entry.get_quality_array())) for entry in file]
    for _ in range(2):
        fq = Fastq(path)
        assert [(each, str(fq[each]), fq[each].qualities().tolist()) for each in fq] == expected
        first = fq[expected[0][0]]
        assert first.qualities(1, 3, strand="-").tolist() == expected[0][2][1:3][::-1]
    index = Path(f"{path}.fai").read_bytes()
    Path(f"{path}.fai").unlink()
    pysam.fqidx(str(path))
    assert Path(f"{path}.fai").read_bytes() == index
    (batch,) = read_batches(path)
    assert batch.names == [each for each, _, _ in expected]
    assert batch.qualities is not None
    assert batch.qualities.tolist() == [score for _, _, scores in expected for score in scores]


@pytest.mark.parametrize("content", FASTQ_FAULTS)
def test_faults_of_fastq(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path, content, "x.fq")
    with pytest.raises(FastaError) as caught:
        Fastq(path)
    assert FASTQ_FAULTS[content] in str(caught.value)
    with pytest.raises(FastaError, match=r"expected FASTQ text.*use biolayers\.Fasta"):
        Fastq(written(tmp_path, b">a\nAC\n", "x.fa"))


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A plain file and the same in bgzip, of several blocks."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("genome")
    parts = []
    for i, size in enumerate((70_000, 1, 200_001, 64, 5_000)):
        text = rng.choice(np.frombuffer(b"ACGTNacgtn", np.uint8), size).tobytes().decode()
        width = (60, 60, 61, 64, 5_000)[i]
        parts.append(
            f">s{i} of {size}\n" + "".join(f"{text[k : k + width]}\n" for k in range(0, size, width))
        )
    path = written(folder, "".join(parts).encode(), "g.fa")
    convert(path, folder / "g.fa.gz")
    return path, folder / "g.fa.gz"


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "bgzip"])
def test_ten_thousand_regions_are_those_of_samtools(genome: tuple[Path, Path], packed: bool) -> None:
    path, rng = genome[packed], random.Random(0)
    fa = Fasta(path)
    intervals = []
    for _ in range(10_000):
        name = rng.choice(list(fa))
        start = rng.randrange(len(fa[name]))
        intervals.append((name, start, min(len(fa[name]), start + rng.choice([1, 63, 64, 65, 200, 3000]))))
    columns = [list(column) for column in zip(*intervals, strict=True)]
    tokens, offsets = fa.fetch_ragged(fa.ids(columns[0]), columns[1], columns[2])
    with pysam.FastaFile(str(path)) as file:
        for i, interval in enumerate(intervals):
            text = file.fetch(*interval)
            row = tokens[offsets[i] : offsets[i + 1]]
            assert row.numpy().tobytes() == DNA.byte_table[list(text.encode())].tobytes()
            if i % 50 == 0:
                assert fa[interval[0]][interval[1] : interval[2]] == text


def test_blocks_are_dropped_when_the_cache_is_full(
    genome: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "CACHE", 2 * blocks.BLOCK)
    plain, packed = (Fasta(path) for path in genome)
    assert torch.equal(plain["s2"].tokens(), packed["s2"].tokens())  # four blocks through two places
    ids, starts = np.arange(200) % 3 // 2 * 2, np.arange(200) * 300 % 60_000
    for _ in range(3):
        assert torch.equal(
            plain.fetch_arrays(ids, starts, starts + 1_000), packed.fetch_arrays(ids, starts, starts + 1_000)
        )


def test_small_windows_find_the_same(genome: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [Fasta(path, store_index=False) for path in genome]
    counts = [fa.counts() for fa in whole]
    content = genome[0].read_bytes()
    lines = content[: content.index(b">s3")].count(b"\n")
    monkeypatch.setattr(window, "STEP", 4096)
    for path, fa, count in zip(genome, whole, counts, strict=True):
        Path(f"{path}.fai").unlink(missing_ok=True)
        again = Fasta(path)
        assert again.names == fa.names
        assert np.array_equal(again.lengths, fa.lengths)
        assert again.counts() == count == counts[0]
        assert again.line(3) == lines + 1
        names = [name for batch in read_batches(path) for name in batch.names]
        assert names == fa.names


def test_a_byte_order_mark_before_a_record_larger_than_a_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "STEP", 64)
    path = tmp_path / "x.fa"
    path.write_bytes(b"\xef\xbb\xbf>one\n" + b"ACGT\n" * 50 + b">two\nAC\n")
    assert [name for batch in read_batches(path) for name in batch.names] == ["one", "two"]
    assert len(Fasta(path)["one"]) == 200
