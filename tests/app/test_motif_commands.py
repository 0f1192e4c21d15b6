"""`qbio motifs scan`: what it writes, and one clear line for every mistake."""

import io
import sys
from pathlib import Path

import pytest

from biolayers import Fasta, Intervals
from biolayers.motifs.bank import MotifBank
from biolayers.motifs.search import find_motifs

LETTERS = {"one": "ACGTTATAAATGGCANNGCATTTATAGG", "two": "GGGCGGGGCTATAAAT"}
JASPAR = """>MA1 TATA
A [ 0 9 0 9 9 8 0 ]
C [ 0 0 0 0 0 0 0 ]
G [ 0 0 0 0 0 0 0 ]
T [ 9 0 9 0 0 1 9 ]
>MA2 GC
A [ 0 0 0 0 ]
C [ 0 0 0 9 ]
G [ 9 9 9 0 ]
T [ 0 0 0 0 ]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file of sequences and one of motifs."""
    (tmp_path / "x.fa").write_text("".join(f">{name}\n{text}\n" for name, text in LETTERS.items()))
    (tmp_path / "m.jaspar").write_text(JASPAR)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def scan(qbio, folder):
    """Run `qbio motifs scan` with the two files."""
    return lambda *words: qbio("motifs", "scan", "--fasta", "x.fa", "--motifs", "m.jaspar", *words)


def test_it_explains_itself(qbio):
    code, out, err = qbio("motifs", "scan", "--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: qbio motifs scan ")
    assert "  motifs " in qbio("--help")[1]


@pytest.mark.parametrize("words", [(), ("--no-q-values",)])
def test_a_table_has_the_sites_of_the_library(scan, folder, words):
    code, out, err = scan("--p-value", 0.01, *words)
    assert (code, err) == (0, "")
    titles, *rows = [line.split("\t") for line in out.splitlines()]
    hits = find_motifs(Fasta(folder / "x.fa"), MotifBank.read(folder / "m.jaspar"), p_value=0.01)
    wanted = hits.to_pandas()
    assert titles == list(wanted.columns)[: 7 if words else 8]
    assert len(rows) == len(wanted) >= 4
    for row, site in zip(rows, wanted.itertuples(index=False), strict=True):
        assert row[:5] == list(map(str, site[:5]))
        assert list(map(float, row[5:])) == pytest.approx(list(site[5 : len(titles)]), rel=1e-3)


def test_files_are_whole_and_kept(scan, folder):
    code, out, err = scan("--p-value", 0.001, "--out", "sites.bed")
    assert code == 0
    assert out == "3 sites of 2 motifs in 2 sequences: sites.bed written\n"
    assert err == "no site of MA2 GC can be as improbable as --p-value asks\n"
    bed = Intervals.read(folder / "sites.bed")
    assert [tuple(each) for each in bed] == [("one", 4, 11, "+"), ("one", 19, 26, "-"), ("two", 9, 16, "+")]
    assert set(bed.columns) == {"name", "score", "p_value", "q_value"}
    assert scan("--out", "sites.bed")[0] == 2
    assert scan("--out", "sites.bed", "--forward-only", "--min-score", 8, "--force")[0] == 0
    assert {each.strand for each in Intervals.read(folder / "sites.bed")} == {"+"}
    assert scan("--out", "broken.tsv", "--background", 1, 2, 3)[0] == 2
    assert sorted(path.name for path in folder.iterdir() if path.suffix in (".bed", ".tsv")) == ["sites.bed"]


def test_standard_input(scan, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b">a\nNNTATAAAT\n")))
    code, out, err = scan("--fasta", "-", "--p-value", 0.001, "--no-q-values")
    assert (code, out.splitlines()[1].split("\t")[1:5]) == (0, ["a", "2", "9", "+"]), err


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--fasta", "none.fa"], ["none.fa", "check the path"]),
        (["--motifs", "none.meme"], ["none.meme", "cannot be read"]),
        (["--motifs", "x.fa"], ["x.fa, line 2: not well formed in the format jaspar"]),
        (["--motifs", "plain.txt"], ["plain.txt", "name the format with --format"]),
        (["--format", "homer"], ["--format", "homer"]),
        (["--p-value", "0"], ["--p-value: expected a number above 0", "received 0"]),
        (["--p-value", "small"], ["--p-value", "small"]),
        (["--background", "1", "2"], ["--background: expected 4 positive numbers"]),
        (["--unknown", "guess"], ["--unknown", "guess"]),
        (["--out", "sites.gff"], ["--out: expected a name in .tsv or .bed, received sites.gff"]),
        (["--out", "no/x.bed"], ["there is no folder no"]),
        (["--fasta", "broken.fa"], ["broken.fa, line 2", "'!'"]),
    ],
)
def test_a_mistake_gets_one_line_and_code_2(scan, folder, words, parts):
    (folder / "plain.txt").write_text("A motif\n")
    (folder / "broken.fa").write_text(">a\nAC!T\n")
    code, _, err = scan(*words)
    assert code == 2
    assert err.startswith("qbio: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
