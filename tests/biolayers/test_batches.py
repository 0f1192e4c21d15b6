"""Files read once from start to end, conversion, and what is compressed."""

import gzip
import os
import random
from pathlib import Path

import pysam
import pytest
import torch

from biolayers import DNA, PAD, Fasta, FastaError, RecordBatch, convert, one_hot, read_batches
from biolayers.alphabet import PROTEIN
from biolayers.reading import bgzf
from shared.errors import UserError

TEXT = b">a first\nACGT\nAC\n>b\nGGTTN\n>a\n>c\nAC\nG\nTT\n"


def written(folder: Path, content: bytes, name: str = "x.fa") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def only(path: Path) -> RecordBatch:
    (batch,) = read_batches(path)
    return batch


def test_batch(tmp_path: Path) -> None:
    batch = only(written(tmp_path, TEXT))
    assert len(batch) == 4
    assert batch.names == ["a", "b", "a", "c"]  # a name may occur again
    assert batch.headers == ["a first", "b", "a", "c"]
    assert batch.lengths.tolist() == [6, 5, 0, 5]
    assert batch.tokens.tolist() == DNA.tokens("ACGTACGGTTNACGTT").tolist()
    assert batch.qualities is None
    assert batch.padded().tolist()[1:3] == [[2, 2, 3, 3, 4, PAD], [PAD] * 6]
    assert batch.padded(8).shape == (4, 8)
    with pytest.raises(FastaError, match="expected records of at most 5 letters, received 'a' of 6"):
        batch.padded(5)
    assert os.listdir(tmp_path) == ["x.fa"]


@pytest.mark.parametrize("members", [1, 3])
def test_gzip(tmp_path: Path, members: int) -> None:
    plain = only(written(tmp_path, TEXT))
    step = -(-len(TEXT) // members)
    packed = b"".join(gzip.compress(TEXT[k : k + step]) for k in range(0, len(TEXT), step))
    path = written(tmp_path, packed, "x.fa.gz")
    batch = only(path)
    assert batch.names == plain.names
    assert torch.equal(batch.tokens, plain.tokens)
    for cut in (5, 20, len(packed) - 4):
        with pytest.raises(FastaError, match="cut off or damaged"):
            list(read_batches(written(tmp_path, packed[:cut], "cut.fa.gz")))


def test_gzip_has_no_random_access_but_can_be_converted(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(b">a\nACGT\n"), "x.fa.gz")
    with pytest.raises(FastaError, match=r"qbio fasta convert .*biolayers\.convert.*convert='NEW\.fa\.gz'"):
        Fasta(path)
    copy = tmp_path / "copy.fa.gz"
    fa = Fasta(path, convert=copy)
    assert str(fa["a"]) == "ACGT"
    made = copy.stat().st_mtime_ns
    assert str(Fasta(path, convert=copy)["a"]) == "ACGT"
    assert copy.stat().st_mtime_ns == made
    assert sorted(os.listdir(tmp_path)) == ["copy.fa.gz", "copy.fa.gz.fai", "copy.fa.gz.gzi", "x.fa.gz"]
    with pytest.raises(FastaError, match="to name another file"):
        Fasta(path, convert=path)


@pytest.mark.parametrize("size", [0, 1, 65_279, 65_280, 65_281, 300_000])
def test_convert_there_and_back(tmp_path: Path, size: int) -> None:
    content = b">a\n" + random.Random(0).randbytes(size).translate(
        bytes(range(33, 127)) * 2 + bytes(68 * [65])
    )
    path, packed, back = written(tmp_path, content), tmp_path / "x.fa.gz", tmp_path / "back.fa"
    convert(path, packed)
    assert gzip.decompress(packed.read_bytes()) == content
    assert packed.read_bytes().endswith(bgzf.END)
    with pysam.BGZFile(str(packed)) as file:
        assert file.read() == content
    convert(packed, back)
    assert back.read_bytes() == content
    with pytest.raises(FastaError, match="expected a new file, but there is one"):
        convert(path, packed)
    with pytest.raises(FastaError, match="expected a file that can be written: No such file"):
        convert(path, tmp_path / "none" / "x.fa")
    assert sorted(os.listdir(tmp_path)) == ["back.fa", "x.fa", "x.fa.gz"]


def test_files_of_other_bgzip_programs(tmp_path: Path) -> None:
    path, packed = written(tmp_path, b">a\n" + b"ACGT\n" * 50_000), tmp_path / "x.fa.gz"
    pysam.tabix_compress(str(path), str(packed))
    assert str(Fasta(packed)["a"]) == "ACGT" * 50_000
    empty = bgzf.END + packed.read_bytes()  # an empty block at the start, as of files put together
    packed.write_bytes(empty)
    os.unlink(f"{packed}.gzi")
    assert str(Fasta(packed)["a"]) == "ACGT" * 50_000


def test_block_index_that_belongs_to_another_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, packed = written(tmp_path, b">a\n" + b"ACGT\n" * 50_000), tmp_path / "x.fa.gz"
    convert(path, packed)
    Fasta(packed)
    good = Path(f"{packed}.gzi").read_bytes()
    for content in (b"", b"junk", good[:-16], good[:-1], good[:8] + b"\1" + good[9:]):
        Path(f"{packed}.gzi").write_bytes(content)
        caplog.clear()
        assert len(Fasta(packed)["a"]) == 200_000
        assert "x.fa.gz.gzi does not fit" in caplog.text
        assert Path(f"{packed}.gzi").read_bytes() == good


def test_bgzip_that_is_cut_off_damaged_or_changed(tmp_path: Path) -> None:
    path, packed = written(tmp_path, b">a\n" + b"ACGTTGCA\n" * 50_000), tmp_path / "x.fa.gz"
    convert(path, packed)
    content = packed.read_bytes()
    for cut, word in (
        (len(content) - 1, "cut off or damaged"),
        (len(content) - 28, "the empty block that ends"),
    ):
        with pytest.raises(FastaError, match=word):
            Fasta(written(tmp_path, content[:cut], "cut.fa.gz"))
    fa = Fasta(packed)
    bad = bytearray(content)
    bad[len(bad) // 2] ^= 1
    times = packed.stat().st_mtime_ns
    packed.write_bytes(bad)
    os.utime(packed, ns=(times, times))  # so that only the check sum can tell
    with pytest.raises(FastaError, match="expected sound blocks of bgzip, received a damaged one"):
        str(Fasta(packed)["a"])
    os.utime(packed)
    with pytest.raises(FastaError, match="the file changed after it was opened; open it again"):
        fa.fetch([("a", 0, 100)])


def test_letters_that_the_policy_refuses(tmp_path: Path) -> None:
    with pytest.raises(FastaError, match=r"x\.fa, line 5, record 'b': .*, received 'J' at position 5"):
        only(written(tmp_path, b">a\nAC\n>b\nACG\nTJ\n"))
    (batch,) = read_batches(written(tmp_path, b">p\nMKV*\n"), alphabet=PROTEIN)
    assert batch.tokens.tolist() == PROTEIN.tokens("MKV*").tolist()


DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int64, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (1,), (3, 0), (0, 4), (2, 3, 5), (40_001,), (7, 300)])
def test_one_hot(dtype: torch.dtype, shape: tuple[int, ...], poisoned_memory: None) -> None:
    tokens = torch.randint(0, 18, shape, dtype=torch.uint8)
    tokens[tokens == 17] = PAD

    def wanted(tokens: torch.Tensor, channels: int) -> torch.Tensor:
        return (tokens.unsqueeze(-2) == torch.arange(channels).unsqueeze(-1)).to(dtype)

    for alphabet in (DNA, PROTEIN):
        assert torch.equal(one_hot(tokens, alphabet, dtype), wanted(tokens, alphabet.channels))
    if tokens.dim() > 1:
        assert torch.equal(one_hot(tokens.mT, dtype=dtype), wanted(tokens.mT, 4))


def test_one_hot_refuses() -> None:
    for wrong in (torch.zeros(3), torch.tensor(1, dtype=torch.uint8)):
        with pytest.raises(UserError, match="expected uint8 tokens"):
            one_hot(wrong)
    with pytest.raises(UserError, match="a real dtype, received"):
        one_hot(torch.zeros(3, dtype=torch.uint8), dtype=torch.complex64)
