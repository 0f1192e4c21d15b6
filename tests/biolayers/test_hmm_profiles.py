"""Profiles: HMMER's files, estimates from alignments, and HMMER's own scores."""

import io
import pickle
import random

import pyhmmer
import pytest
import torch
from Bio import AlignIO

import shared
from biolayers import DNA, PAD, PROTEIN
from biolayers.layers import ProfileHMM as Layer
from biolayers.profiles.background import background, expectations, spread_scores
from biolayers.profiles.hmmer import read_profiles, write_profiles
from biolayers.profiles.path import Hit, hits
from biolayers.profiles.profile import ProfileHMM

ALPHABETS = {"protein": (PROTEIN, pyhmmer.easel.Alphabet.amino), "dna": (DNA, pyhmmer.easel.Alphabet.dna)}
FAMILY = {
    "protein": "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSG",
    "dna": "ACGTTGCATGCCGATTACGGATCCTTAGACCATG",
}


def mutated(text, letters, draw, *, change=0.2, drop=0.05):
    """A relative of a sequence, with gaps where letters were dropped."""
    rates = [draw.random() for _ in text]
    return "".join(
        "-" if r < drop else draw.choice(letters) if r < drop + change else c
        for r, c in zip(rates, text, strict=True)
    )


@pytest.fixture(scope="module", params=ALPHABETS)
def family(request, tmp_path_factory):
    """Our alphabet, HMMER's, a model that its builder made of our alignment, its file, and sequences."""
    ours, make = ALPHABETS[request.param]
    theirs, draw, consensus = make(), random.Random(0), FAMILY[request.param]
    rows = [mutated(consensus, ours.letters, draw) for _ in range(10)]
    easel = pyhmmer.easel
    named = [easel.TextSequence(name=f"row{i}".encode(), sequence=row) for i, row in enumerate(rows)]
    alignment = easel.TextMSA(name=b"family", sequences=named).digitize(theirs)
    model, _, _ = pyhmmer.plan7.Builder(theirs).build_msa(alignment, pyhmmer.plan7.Background(theirs))
    path = tmp_path_factory.mktemp("family") / "family.hmm"
    with path.open("wb") as file:
        model.write(file)
    sequences = []
    for i in range(8):
        noise = "".join(draw.choices(ours.letters, k=draw.randint(30, 200)))
        members = [mutated(consensus, ours.letters, draw).replace("-", "") for _ in range(1 + i % 2)]
        sequences.append(noise[:20] + members[0][: 12 + 8 * i] + noise[20:] + "".join(members[1:]))
    sequences[2] = sequences[2][:25] + ("XBZJUO" if ours is PROTEIN else "NRYSWKMBDHV") + sequences[2][25:]
    return ours, theirs, model, path, sequences


def rows_of(alphabet, sequences):
    tokens = torch.full((len(sequences), max(map(len, sequences))), PAD, dtype=torch.uint8)
    for row, sequence in zip(tokens, sequences, strict=True):
        row[: len(sequence)] = alphabet.tokens(sequence)
    return tokens


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_scores_are_those_of_hmmer(family, dtype):
    """To a thousandth of a bit, without the corrections for composition (bias filter and null2)."""
    ours, theirs, model, path, sequences = family
    block = pyhmmer.easel.DigitalSequenceBlock(
        theirs,
        [
            pyhmmer.easel.TextSequence(name=str(i).encode(), sequence=s).digitize(theirs)
            for i, s in enumerate(sequences)
        ],
    )
    everything = {"F1": 1.0, "F2": 1.0, "F3": 1.0, "E": 1e9, "domE": 1e9, "Z": 1}
    pipeline = pyhmmer.plan7.Pipeline(theirs, bias_filter=False, null2=False, **everything)
    expected = {}
    for hit in pipeline.search_hmm(model, block):
        expected[int(hit.name)] = hit.pre_score
    assert len(expected) == len(sequences)
    scores = Layer(ProfileHMM.read(path), dtype=dtype)(rows_of(ours, sequences))
    assert scores.tolist() == pytest.approx([expected[i] for i in range(len(sequences))], abs=1e-3)
    best = Layer(ProfileHMM.read(path), score="viterbi", dtype=dtype)(rows_of(ours, sequences))
    assert ((best <= scores) & (best > scores - 12)).all()


def test_emission_scores_are_those_of_hmmer(family):
    """All letters of the alphabet, the ambiguous ones too."""
    ours, theirs, model, path, _ = family
    layer = Layer(ProfileHMM.read(path), dtype=torch.float64)
    found = layer.parameters_for(torch.tensor([100]))[0]
    frequencies = torch.tensor(list(pyhmmer.plan7.Background(theirs).residue_frequencies))
    torch.testing.assert_close(layer.background.exp().float(), frequencies, atol=1e-7, rtol=1e-6)
    emitted = torch.tensor([list(row) for row in model.match_emissions])[1:]
    torch.testing.assert_close(
        found[:, : ours.channels].exp().float() * frequencies, emitted, atol=2e-5, rtol=2e-4
    )
    unknown = (found[:, : ours.channels] * layer.background.exp()).sum(-1)
    torch.testing.assert_close(found[:, ours.unknown_token], unknown)


def test_files_are_kept_whole(family, tmp_path):
    _, _, model, path, _ = family
    profile = ProfileHMM.read(path)
    again = tmp_path / "again.hmm"
    write_profiles(again, [profile, profile])
    assert read_profiles(again) == [profile, profile]
    profile.save(again)
    by_line = [sorted(" ".join(line.split()) for line in p.read_text().splitlines()) for p in (again, path)]
    assert by_line[0] == by_line[1]  # HMMER has a fixed order of the header
    with pyhmmer.plan7.HMMFile(again) as file:
        theirs = file.read()
    assert (theirs.M, theirs.consensus) == (len(profile), model.consensus)
    assert profile.consensus == model.consensus
    assert pickle.loads(pickle.dumps(profile)) == profile
    assert profile != ProfileHMM.from_alignment(["ACGT"], DNA)
    assert hash(profile) == hash(ProfileHMM.read(path))
    assert f"{len(profile)} nodes" in repr(profile)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("HMMER3/f", "HMMER3/a", "line 1: expected HMMER3/f .hmmconvert.*HMMER3/a"),
        ("ALPH  amino", "ALPH  coins", "expected ALPH amino, DNA, RNA, received coins"),
        ("ALPH  amino\n", "", "expected a line ALPH"),
        ("LENG  50", "LENG  51", "line .*: expected node 51, received|expected node 51 of 51"),
        ("LENG  50", "LENG  49", "// after 49 nodes"),
        ("LENG  50", "LENG  many", "LENG of at least 1, received many"),
        ("\n//", "", "//, received the end of the file"),
        ("      7 ", "      8 ", "expected node 7 of 50, received '8'"),
        ("A        C ", "C        A ", "letters A C D"),
        ("  COMPO ", "  COMPO x", "20 numbers or"),
        ("  COMPO   ", "  COMPO  -", "at least 0"),
    ],
)
def test_malformed_files_are_refused(tmp_path, old, new, words):
    profile = ProfileHMM.from_alignment([FAMILY["protein"]], PROTEIN, name="one")
    path = tmp_path / "broken.hmm"
    profile.save(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(shared.UserError, match=words) as caught:
        ProfileHMM.read(path)
    assert "broken.hmm" in str(caught.value)


def test_a_file_with_none_or_several(tmp_path):
    path = tmp_path / "none.hmm"
    path.write_text("")
    assert read_profiles(path) == []
    with pytest.raises(shared.UserError, match="expected one profile, received 0"):
        ProfileHMM.read(path)


def test_an_alignment_of_biopython():
    text = ">a\nAC-GT\n>b\nACTGT\n>c\nA--GR\n"
    profile = ProfileHMM.from_alignment(AlignIO.read(io.StringIO(text), "fasta"), DNA, name="x")
    assert profile == ProfileHMM.from_alignment(["AC-GT", "ACTGT", "A--GR"], DNA, name="x")
    assert profile.annotation["map"] == ("1", "2", "4", "5")
    for logs in (profile.match, *profile.transitions.split((3, 2, 2), -1)):
        torch.testing.assert_close(logs.exp().sum(-1), torch.ones(len(logs)).double())
    opened = profile.transitions.exp()
    assert opened[2, 1] > opened[1, 1]  # an insertion after the second node
    assert opened[1, 2] > opened[3, 2]  # a deletion of the second


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([], {}, "lengths none"),
        (["AC", "A"], {}, "lengths 1, 2"),
        (["--", "--"], {}, "gaps alone"),
        (["A-", "-C"], {"occupancy": 0.9}, "90%.*none"),
        (["AC"], {"occupancy": 0.0}, "occupancy"),
        (["AC"], {"pseudocount": 0.0}, "pseudocount"),
        (["AJ"], {}, "'J'"),
    ],
)
def test_alignments_that_make_no_profile(rows, options, words):
    with pytest.raises(shared.UserError, match=words):
        ProfileHMM.from_alignment(rows, DNA, **options)


def test_contents_must_fit():
    profile = ProfileHMM.from_alignment(["ACGT"], DNA)
    with pytest.raises(shared.UserError, match=r"insert \(5, 4\)"):
        ProfileHMM("x", DNA, profile.match, profile.insert[1:], profile.transitions)
    with pytest.raises(shared.UserError, match="'map' with 1"):
        ProfileHMM("x", DNA, profile.match, profile.insert, profile.transitions, annotation={"map": ("1",)})


def test_ambiguous_letters():
    shares = expectations(PROTEIN)
    assert shares.shape == (len(PROTEIN) - 1, 20)
    scores = torch.randn(3, 20, dtype=torch.float64)
    found = spread_scores(scores, shares)
    token = {letter: int(PROTEIN.tokens(letter)) for letter in "XBUO*CKDN"}
    frequency = background(PROTEIN)
    torch.testing.assert_close(found[:, token["X"]], scores @ frequency)
    torch.testing.assert_close(found[:, token["U"]], scores[:, token["C"]])
    torch.testing.assert_close(found[:, token["O"]], scores[:, token["K"]])
    pair = [token["D"], token["N"]]
    torch.testing.assert_close(
        found[:, token["B"]], scores[:, pair] @ (frequency[pair] / frequency[pair].sum())
    )
    assert (found[:, token["*"]] == -torch.inf).all()


def test_hits_of_a_path():
    states, passes = [0, 3, 4, 8, 6, 1, 5, 6, -1], [-1, 0, 0, 0, 0, -1, 1, 1, -1]
    assert hits(states, passes, 4) == [
        Hit(start=1, end=5, first=1, last=4, states="MMIDM"),
        Hit(start=6, end=8, first=3, last=4, states="MM"),
    ]
    assert hits([0, 0], [-1, -1], 4) == []
    with pytest.raises(shared.UserError, match="below 10, received 12"):
        hits([12], [0], 4)
