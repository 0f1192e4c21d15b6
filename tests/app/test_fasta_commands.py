"""The commands `qbio fasta ...`: what they write, pipes, and one clear line for every mistake."""

import csv
import gzip
import io
import json
import sys
from itertools import chain, pairwise
from pathlib import Path

import pytest
from Bio import SeqIO

from biolayers import Fasta

TEXT = ">one first record\nACGTACGTAC\nGTNNacgt\n>two\nGGGTTT\n"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.fa"
    path.write_text(TEXT)
    return path


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch):
    """Put text on standard input."""

    def put(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    return put


def records(text: str) -> list[tuple[str, str]]:
    return [(record.description, str(record.seq)) for record in SeqIO.parse(io.StringIO(text), "fasta")]


def random_records(count: int, length: int, *, seed: int = 0) -> list[tuple[str, str]]:
    import random

    draw = random.Random(seed)
    return [(f"r{i}", "".join(draw.choice("ACGT") for _ in range(length))) for i in range(count)]


def write(path: Path, records: list[tuple[str, str]]) -> Path:
    path.write_text("".join(f">{header}\n{letters}\n" for header, letters in records))
    return path


@pytest.mark.parametrize("command", ["index", "stats", "fetch", "split", "leakage", "shuffle", "convert"])
def test_every_command_explains_itself(qbio, command):
    code, out, err = qbio("fasta", command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: qbio fasta {command} ")
    assert f"  {command} " in qbio("fasta")[1]
    assert "usage: qbio fasta COMMAND" in qbio("fasta")[1]


def test_index(qbio, small):
    assert qbio("fasta", "index", small) == (0, f"2 records, 24 letters: {small}.fai written\n", "")
    assert Path(f"{small}.fai").read_text() == "one\t18\t18\t10\t11\ntwo\t6\t43\t6\t7\n"
    assert qbio("fasta", "index", small) == (0, f"2 records, 24 letters: {small}.fai fit\n", "")
    Path(f"{small}.fai").write_text("rubbish\n")
    assert "written" in qbio("fasta", "index", small, "--force")[1]


def test_stats(qbio, small, pipe):
    code, out, err = qbio("fasta", "stats", small)
    assert (code, err) == (0, "")
    for line in ("records      2", "letters      24", "N50          18", "not plain    lower 4, ambiguous 2"):
        assert line in out.splitlines()
    found = json.loads(qbio("fasta", "stats", small, "--json")[1])
    assert found["composition"] == {"A": 4, "C": 4, "G": 7, "T": 7, "N": 2}
    assert found["GC"] == 0.5
    assert (found["shortest"], found["longest"], found["mean"]) == (6, 18, 12)
    compressed = Path(f"{small}.gz")
    compressed.write_bytes(gzip.compress(TEXT.encode()))
    pipe(TEXT)
    for source in (compressed, "-"):
        again = json.loads(qbio("fasta", "stats", source, "--json")[1])
        assert {**again, "file": ""} == {**found, "file": ""}
    pipe(">a\nACU?x\n")
    assert json.loads(qbio("fasta", "stats", "-", "--json")[1])["policy"]["other"] == 2


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["one:3-6", "two"], [("one:3-6", "GTAC"), ("two", "GGGTTT")]),
        (["one:15", "one:1-1,0"], [("one:15-18", "acgt"), ("one:1-10", "ACGTACGTAC")]),
        (["two:1-2", "--reverse-complement"], [("two:1-2(-)", "CC")]),
        (["one", "--reverse-complement"], [("one(-) first record", "acgtNNACGTACGTACGT")]),
        (["--bed", "BED"], [("x one:1-4(-)", "ACGT"), ("two:5-6(+)", "TT")]),
        (["--names", "NAMES"], [("two", "GGGTTT"), ("one:2-3", "CG")]),
    ],
)
def test_fetch(qbio, small, tmp_path, words, wanted):
    (tmp_path / "x.bed").write_text("one\t0\t4\tx\t0\t-\ntwo\t4\t6\t.\t0\t+\n")
    (tmp_path / "names.txt").write_text("two\n\none:2-3\n")
    places = {"BED": tmp_path / "x.bed", "NAMES": tmp_path / "names.txt"}
    code, out, err = qbio("fasta", "fetch", small, *(places.get(word, word) for word in words))
    assert (code, err) == (0, "")
    assert records(out) == wanted


def test_fetch_from_a_pipe_to_a_file(qbio, small, tmp_path, pipe):
    pipe(TEXT)
    to = tmp_path / "part.fa.gz"
    assert qbio("fasta", "fetch", "-", "one", "--width", 5, "--out", to) == (0, "", "")
    assert gzip.decompress(to.read_bytes()).decode() == ">one first record\nACGTA\nCGTAC\nGTNNa\ncgt\n"
    assert str(Fasta(to)["one"]) == "ACGTACGTACGTNNacgt"


def test_split(qbio, tmp_path):
    kinds = "pq"
    texts = [(f"{name} class={kinds[i % 2]}", text) for i, (name, text) in enumerate(random_records(60, 50))]
    texts += [(f"copy{i} class={kinds[i % 2]}", texts[i][1]) for i in range(10)]
    source, out = write(tmp_path / "all.fa", texts), tmp_path / "parts"
    words = ("--label-pattern", "class=(.)", "--by", "similarity")
    code, said, err = qbio("fasta", "split", source, "--out", out, *words)
    assert (code, err) == (0, "")
    assert "70 samples split by similarity into" in said
    assert "class p:" in said
    parts = {name: records((out / f"{name}.fa").read_text()) for name in ("train", "val", "test")}
    assert sorted(chain.from_iterable(parts.values())) == sorted(texts)
    held = [{text for _, text in part} for part in parts.values()]
    assert sum(map(len, held)) == len(set.union(*held))
    with open(out / "split.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [header.split()[0] for header, _ in texts]
    assert {row["part"] for row in rows} == set(parts)
    code, _, err = qbio("fasta", "split", source, "--out", out)
    assert code == 2
    assert "is there already" in err
    assert qbio("fasta", "leakage", out / "train.fa", out / "test.fa", "--fail")[0] == 0


def test_split_by_contig(qbio, tmp_path):
    source = write(
        tmp_path / "x.fa", [(f"chr{i % 4}:{i}", text) for i, (_, text) in enumerate(random_records(20, 30))]
    )
    out = tmp_path / "parts"
    code, _, err = qbio(
        "fasta", "split", source, "--out", out, "--by", "contig", "--members.test", "chr1,chr3"
    )
    assert (code, err) == (0, "")
    names = {part: {header[:4] for header, _ in records((out / f"{part}.fa").read_text())}
             for part in ("train", "test")}  # fmt: skip
    assert names == {"train": {"chr0", "chr2"}, "test": {"chr1", "chr3"}}
    assert qbio("fasta", "split", source, "--out", tmp_path / "two", "--fractions", 0.5, 0.5)[0] == 0
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["split.csv", "test.fa", "train.fa"]


def test_leakage(qbio, tmp_path, pipe):
    train = random_records(50, 60)
    test = [("same", train[3][1]), *random_records(5, 60, seed=1)]
    paths = write(tmp_path / "train.fa", train), write(tmp_path / "test.fa", test)
    code, out, _ = qbio("fasta", "leakage", *paths, "--fail", "--out", tmp_path / "leaks.csv")
    assert code == 1
    assert out.startswith("leakage: 1 of 6 test sequences (16.7%)")
    assert "  same is like r3 on strand +: exact, identity 100.0%" in out
    with open(tmp_path / "leaks.csv", newline="") as file:
        assert [(row["test"], row["train"]) for row in csv.DictReader(file)] == [("same", "r3")]
    pipe(paths[1].read_text())
    code, out, err = qbio("fasta", "leakage", paths[0], "-", "--out", "-", "--equal-only")
    assert code == 0
    assert out.startswith("kind,test,train,")
    assert err.startswith("leakage: 1 of 6")


def test_shuffle(qbio, small, tmp_path):
    source = write(tmp_path / "x.fa", random_records(5, 80))
    code, out, err = qbio("fasta", "shuffle", source, "--count", 2, "--seed", 5)
    assert (code, err) == (0, "")
    before, after = records(source.read_text()), records(out)
    assert [name for name, _ in after] == [f"r{i}_shuffle{n}" for i in range(5) for n in (1, 2)]
    for i, (_, letters) in enumerate(after):
        pairs = [sorted(pairwise(text)) for text in (letters, before[i // 2][1])]
        assert pairs[0] == pairs[1]
    assert qbio("fasta", "shuffle", source, "--count", 2, "--seed", 5)[1] == out
    assert qbio("fasta", "shuffle", source, "--seed", 6)[1] != out


def test_convert(qbio, small, tmp_path, pipe):
    packed, plain = tmp_path / "x.fa.gz", tmp_path / "x.fa"
    assert qbio("fasta", "convert", small, "--out", packed)[0] == 0
    assert qbio("fasta", "convert", packed, "--out", plain)[0] == 0
    assert plain.read_text() == TEXT
    assert (
        qbio("fasta", "index", packed)[1] == f"2 records, 24 letters: {packed}.fai and {packed}.gzi written\n"
    )
    wanted = ">one first record\nACGT\nACGT\nACGT\nNNAC\nGT\n>two\nGGGT\nTT\n"
    assert qbio("fasta", "convert", packed, "--out", "-", "--width", 4, "--upper")[1] == wanted
    pipe("@a lane\nACGT\n+\nIIII\n@b\nGG\n+\nII\n")
    assert qbio("fasta", "convert", "-", "--out", "-")[1] == ">a lane\nACGT\n>b\nGG\n"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["nosuch"], ["'index'", "received 'nosuch'", "qbio fasta --help"]),
        (["stats"], ["expected also FASTA", "qbio fasta stats --help"]),
        (["convert", "SMALL"], ["expected also --out", "qbio fasta convert --help"]),
        (["stats", "nosuch.fa"], ["nosuch.fa", "check the path"]),
        (["stats", "EMPTY"], ["empty.fa", "received an empty file"]),
        (["stats", "BROKEN"], ["broken.fa, line 1", "expected '>'"]),
        (["fetch", "SMALL"], ["regions such as chr1:1-100, --bed or --names"]),
        (["fetch", "SMALL", "three"], ["small.fa", "received 'three'; it has 'one', 'two'"]),
        (["fetch", "SMALL", "--width", "5", "one"], ["received one", "words without one stand together"]),
        (["fetch", "SMALL", "one:9-30"], ["<= 18, its length", "received 'one:9-30'"]),
        (["fetch", "SMALL", "--bed", "BED"], ["x.bed, line 1", "one:5-40"]),
        (["fetch", "SMALL", "one", "--width", "-1"], ["--width", "received -1"]),
        (["fetch", "SMALL", "one", "--out", "SMALL"], ["is there already", "--force"]),
        (["fetch", "SMALL", "one", "--out", "no/x.fa"], ["there is no folder no"]),
        (["index", "-"], ["received standard input"]),
        (["split", "SMALL", "--out", "parts", "--by", "luck"], ["--by", "luck"]),
        (["split", "SMALL", "--out", "parts", "--fractions", "half"], ["--fractions", "half"]),
        (["leakage", "-", "-"], ["received two"]),
        (["leakage", "SMALL", "SMALL", "--identity", "80"], ["identity", "received 80"]),
        (["shuffle", "SMALL", "--k", "0"], ["--k", "received 0"]),
        (["shuffle", "SMALL", "--unknown", "drop"], ["--unknown", "drop"]),
        (["convert", "SMALL", "--out", "x.fq"], ["expected a name in .fa", "x.fq"]),
    ],
)
def test_a_mistake_gets_one_line_and_code_2(qbio, small, tmp_path, monkeypatch, words, parts):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.fa").write_text("")
    (tmp_path / "broken.fa").write_text("ACGT\n")
    (tmp_path / "x.bed").write_text("one\t5\t40\n")
    places = {"SMALL": small, "EMPTY": "empty.fa", "BROKEN": "broken.fa", "BED": "x.bed"}
    code, _, err = qbio("fasta", *(places.get(word, word) for word in words))
    assert code == 2
    assert err.startswith("qbio: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


def test_a_broken_pipe_is_named_as_standard_input(qbio, pipe):
    pipe(">a\nAC GT\n")
    code, _, err = qbio("fasta", "stats", "-")
    assert code == 2
    assert "standard input, line 2" in err


@pytest.mark.parametrize("words", [["fasta", "--help"], ["fasta", "fetch", "--help"]])
def test_help_does_not_load_pytorch(words):
    import subprocess

    code = (
        "import sys; from shared.app.cli import main; main(sys.argv[1:]);"
        "heavy = {'torch', 'numba', 'Bio'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, timeout=60)
