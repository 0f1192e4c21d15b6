"""Motifs as a noun, banks of them, and their files."""

import copy
import pickle

import numpy as np
import pytest
import torch

from biolayers.motifs.bank import MotifBank
from biolayers.motifs.errors import MotifError
from biolayers.motifs.motif import Motif

JASPAR = """>MA0001.1 AGL3
A  [ 0  3 79 ]
C  [94 75  4 ]
G  [ 1  0  3 ]
T  [ 2 19 11 ]
>MA0002.1 RUNX1
10 2
0 4
1 1
5 3
"""
MEME = """MEME version 4

ALPHABET= ACGT

strands: + -

Background letter frequencies
A 0.3 C 0.2 G 0.2 T 0.3

MOTIF MA0001.1 AGL3
letter-probability matrix: alength= 4 w= 2 nsites= 7 E= 0
 0.123 0.377 0.250 0.250
 0.900 0.020 0.030 0.050

MOTIF second
letter-probability matrix: alength= 4 w= 3
 0.25 0.25 0.25 0.25
 1 0 0 0
 0 0 0.5 0.5
"""
TRANSFAC = """ID  motif1
P0      A      C      G      T
01      1      2      2      0      S
02      2      1      2      0      R
XX
//
ID  motif2
NA  Second
P0      A      C      G      T
01      3      0      0      0      A
02      0      0      5      0      G
XX
//
"""
FILES = {"jaspar": JASPAR, "meme": MEME, "transfac": TRANSFAC}


@pytest.fixture
def write(tmp_path):
    def to_file(text):
        path = tmp_path / "motifs.txt"
        path.write_text(text)
        return path

    return to_file


def test_a_consensus_prints_what_was_read():
    for text in ("TATAWAW", "ACGTRYSWKMBDHVN"):
        motif = Motif(text, name="x")
        assert repr(motif) == f"Motif('{text}', name='x')"
        assert eval(repr(motif)) == motif
        assert str(motif) == motif.consensus == text
    assert Motif("acgu") == Motif("ACGT")
    assert np.array(Motif("RN").counts)[:, 0].tolist() == [10, 0, 10, 0]


def test_motifs_compare_hash_and_pickle():
    one, same = Motif(np.arange(8.0).reshape(4, 2)), Motif([[0, 1], [2, 3], [4, 5], [6, 7]])
    assert one == same
    assert hash(one) == hash(same)
    assert len({one, same, Motif("AC")}) == 2
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one
    assert one != Motif(one.counts, pseudocount=1)


def test_probabilities_log_odds_and_information():
    background = (0.4, 0.1, 0.2, 0.3)
    motif = Motif([[8, 0], [0, 0], [2, 0], [0, 10]], pseudocount=2, background=background)
    expected = (np.array(motif.counts) + 2 * np.array(background)[:, None]) / 12
    np.testing.assert_allclose(motif.probabilities(), expected)
    bits = np.log2(expected / np.array(background)[:, None])
    np.testing.assert_allclose(motif.log_odds(resolution=0), bits)
    assert np.abs(motif.log_odds() - bits).max() <= 1 / 512
    assert (motif.log_odds() * 256 % 1 == 0).all()
    np.testing.assert_allclose(motif.information(), (expected * bits).sum(0))
    assert Motif("ACGT", pseudocount=0).information().tolist() == [2.0] * 4


def test_reverse_complement_and_trimming():
    motif = Motif("NNAACGRN", background=(0.4, 0.1, 0.2, 0.3))
    turned = motif.reverse_complement()
    assert turned.consensus == "NYCGTTNN"
    assert turned.background == (0.3, 0.2, 0.1, 0.4)
    assert turned.reverse_complement() == motif
    np.testing.assert_array_equal(turned.log_odds(), motif.log_odds()[::-1, ::-1])
    assert Motif("NNAACGRN").trimmed().consensus == "AACGR"
    with pytest.raises(MotifError, match="no position has 3 bits"):
        Motif("RYN").trimmed(bits=3)


def test_to_and_from_biopython():
    motif = Motif(np.arange(8).reshape(4, 2), name="x", background=(0.4, 0.1, 0.2, 0.3))
    theirs = motif.to_biopython()
    again = Motif.from_biopython(theirs)
    assert (again.counts, again.name, again.background) == (motif.counts, motif.name, motif.background)
    assert again.pseudocount == pytest.approx(0.1)
    for row, letter in zip(motif.log_odds(resolution=0), "ACGT", strict=True):
        np.testing.assert_allclose(row, theirs.pssm[letter], rtol=1e-12)


def test_logo():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes = Motif("TATAWAW", name="TATA").logo()
    assert (axes.get_title(), axes.get_ylabel()) == ("TATA", "bits")
    assert len(axes.patches) >= 7
    pyplot.close("all")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Motif(""), "1 to 255 letters, received 0"),
        (lambda: Motif("ACJ"), "received 'J' at position 3"),
        (lambda: Motif(np.ones((7, 4))), r"received \(7, 4\); transpose"),
        (
            lambda: Motif([[1, -2], [0, 1], [0, 1], [1, 1]], name="x"),
            "Motif x.*received -2 for A at position 2",
        ),
        (lambda: Motif(np.full((4, 2), np.nan)), "received nan"),
        (lambda: Motif(np.zeros((4, 2)), pseudocount=0), "one has none"),
        (lambda: Motif("ACG", pseudocount=-1), "from 0 on, received -1"),
        (
            lambda: Motif("ACG", pseudocount=0).log_odds(),
            "received 0 for A at position 2; give it a pseudocount",
        ),
        (lambda: Motif("ACG", background=(1, 0, 1, 1)), "4 positive numbers"),
        (lambda: Motif.from_probabilities([[0.5]] * 4), "the sum 2 at position 1"),
        (lambda: MotifBank([]), "at least one motif"),
        (lambda: MotifBank([Motif("AC"), Motif("AC", name="y", background=(2, 1, 1, 2))]), "for y 0.333"),
        (lambda: MotifBank(["AC"])["GT"], "expected one of AC, received 'GT'"),
        (lambda: MotifBank(["AC"]).letters("guess"), "received 'guess'"),
    ],
)
def test_errors(make, words):
    with pytest.raises(MotifError, match=words):
        make()


def test_banks():
    bank = MotifBank([Motif("TATAWAW", name="a"), "GGGCGG"], background=(0.3, 0.2, 0.2, 0.3))
    assert bank.names == ["a", "GGGCGG"]
    assert bank[:1].names == ["a"]
    assert {motif.background for motif in bank} == {(0.3, 0.2, 0.2, 0.3)}
    weight = bank.weight(torch.float64)
    np.testing.assert_array_equal(weight[1, :, :6], bank[1].log_odds())
    assert not weight[1, :, 6].any()
    assert pickle.loads(pickle.dumps(bank)) == bank
    expected = bank.letters("expected", torch.float64)
    assert expected.shape == (15, 4)
    np.testing.assert_allclose(expected[4], [0.3, 0.2, 0.2, 0.3])  # N
    np.testing.assert_allclose(expected[5], [0.6, 0, 0.4, 0])  # R
    assert not bank.letters("zero")[4:].any()


@pytest.mark.parametrize("format", FILES)
def test_files(format, write):
    bank = MotifBank.read(write(FILES[format]))
    assert bank == MotifBank.read(write(FILES[format]), format=format)
    names = {"jaspar": ["MA0001.1 AGL3", "MA0002.1 RUNX1"], "meme": ["MA0001.1 AGL3", "second"]}
    assert bank.names == names.get(format, ["motif1", "motif2 Second"])
    counts = np.array(bank[0].counts)
    if format == "meme":  # fractions of sites are kept, which Biopython alone would round
        np.testing.assert_allclose(counts[:, 0] / 7, [0.123, 0.377, 0.25, 0.25], atol=1e-6)
        np.testing.assert_allclose(np.array(bank[1].counts).sum(0), 20, atol=1e-4)
        assert bank.background == (0.3, 0.2, 0.2, 0.3)
    else:
        assert counts[:, 0].tolist() == {"jaspar": [0, 94, 1, 2], "transfac": [1, 2, 2, 0]}[format]


def test_a_meme_file_without_a_background(write):
    start, end = MEME.index("Background"), MEME.index("MOTIF")
    bank = MotifBank.read(write(MEME[:start] + MEME[end:]), pseudocount=1)
    assert bank.background == (0.25,) * 4
    assert {motif.pseudocount for motif in bank} == {1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at the beginning, received ''"),
        ("hello", "received 'hello'; name the format"),
        (JASPAR.replace("5 3\n", ""), "line 6: expected a whole matrix.*2 begin in the file, 1 can be read"),
        (JASPAR.replace("79", "x"), "line 2: not well formed in the format jaspar: could not convert"),
        (JASPAR.replace("[ 2 19 11 ]", "[ 2 19 ]"), "line 5: not well formed"),
        (JASPAR.replace("94", "-94"), "line 1: Motif MA0001.1 AGL3: .*received -94 for C at position 1"),
        (MEME.replace(" 0.900 0.020 0.030 0.050", " 0.900 0.020 0.030"), "line 11: expected 2 rows"),
        (MEME.replace("nsites= 7", "nsites= x"), "line 11: not well formed"),
        (MEME.split("MOTIF")[0], "at least one motif in the format meme"),
        (TRANSFAC.rsplit("//", 1)[0], "line 9: expected a whole matrix"),
        (TRANSFAC.replace("02      2      1      2      0", "02      2      1"), "not well formed"),
    ],
)
def test_files_that_are_not_well_formed(text, words, write):
    with pytest.raises(MotifError, match=words):
        MotifBank.read(write(text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(MotifError, match="cannot be read: No such file"):
        MotifBank.read(tmp_path / "none.meme")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MotifError, match="cannot be read"):
        MotifBank.read(tmp_path / "binary")
    with pytest.raises(MotifError, match="jaspar, meme, transfac, received 'homer'"):
        MotifBank.read(__file__, format="homer")
