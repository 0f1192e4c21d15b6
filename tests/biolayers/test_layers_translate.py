"""Translation against Biopython, in all codes and frames, with every letter; codons and their gradients."""

import warnings
from itertools import product

import pytest
import torch
from Bio.Data import CodonTable
from Bio.Seq import Seq
from hypothesis import given, settings
from hypothesis import strategies as st

import shared
from biolayers.alphabet import DNA, PAD, PROTEIN
from biolayers.layers import CodonEmbedding, Translate
from biolayers.ops import translate

LETTERS = "ACGTNRYSWKMBDHV"
FRAMES = (1, 2, 3, -1, -2, -3)


def by_biopython(text, code=1, frame=1):
    """Translated codon by codon of the strand, from the frame's first letter."""
    strand = Seq(text) if frame > 0 else Seq(text).reverse_complement()
    strand = strand[abs(frame) - 1 :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(strand[: len(strand) // 3 * 3].translate(table=code))


@pytest.mark.parametrize("code", [1, 2, 12, 27])  # 27 reads TGA as a stop and as a residue
def test_every_codon_of_every_letter(code):
    text = "".join(map("".join, product(LETTERS, repeat=3)))
    assert PROTEIN.text(Translate(code)(DNA.tokens([text]))) == [by_biopython(text, code)]


def test_every_code_has_a_table():
    text = "".join(map("".join, product("ACGT", repeat=3)))
    for code, table in CodonTable.unambiguous_dna_by_id.items():
        assert PROTEIN.text(Translate(code)(DNA.tokens([text]))) == [by_biopython(text, code)]
        assert torch.equal(Translate(table.names[0]).tables, Translate(code).tables)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(LETTERS, max_size=20), min_size=1, max_size=4))
def test_rows_of_different_lengths_in_all_frames(texts):
    """Each padded row reads as it would alone, on both strands, in both kernels."""
    length = max(map(len, texts))
    rows = [torch.nn.functional.pad(DNA.tokens(text), (0, length - len(text)), value=PAD) for text in texts]
    for provider in ("numba", "reference"):
        with shared.prefer(provider):
            found = Translate(frames=FRAMES)(torch.stack(rows))
        assert found.shape == (len(texts), 6, length // 3)
        for i, text in enumerate(texts):
            assert PROTEIN.text(found[i]) == [by_biopython(text, 1, frame) for frame in FRAMES]


def test_gaps_padding_and_foreign_tokens():
    tokens = torch.stack([DNA.tokens("---A--ATG"), torch.full((9,), PAD).to(torch.uint8)])
    assert PROTEIN.text(Translate()(tokens)) == ["-XM", ""]
    foreign = torch.tensor([[0, 3, 77, 0, 3, 2]], dtype=torch.uint8)
    assert PROTEIN.text(Translate()(foreign)) == ["XM"]
    inner = torch.tensor([[0, PAD, 2, 0, 3, 2]], dtype=torch.uint8)
    assert Translate()(inner).tolist() == [[PAD, 10]]
    assert PROTEIN.text(Translate()(DNA.tokens(["NNNNNNTAATAGTGA"]))) == ["XX***"]
    assert Translate()(torch.zeros(0, 9, dtype=torch.uint8)).shape == (0, 3)
    assert Translate(frames=3)(torch.zeros(2, 1, dtype=torch.uint8)).shape == (2, 0)


def test_memory_and_layout(poisoned_memory):
    tokens = torch.randint(0, 16, (3, 1000)).to(torch.uint8)
    apart = torch.stack((tokens, tokens), -1)[..., 0]
    table = Translate().tables[0]
    wanted = [by_biopython(text.replace("-", "N")) for text in DNA.text(tokens.clamp(max=14))]
    assert PROTEIN.text(translate(tokens.clamp(max=14), table)) == wanted
    assert torch.equal(translate(apart, table), translate(tokens, table))
    assert translate.explain(tokens, table).chosen == "numba"


def one_hot(residues):
    channel = torch.where(residues == PROTEIN.tokens("*"), 20, residues)
    return (channel.unsqueeze(1) == torch.arange(21).unsqueeze(1)).double()


@pytest.mark.parametrize("frame", FRAMES)
def test_columns_of_letters_give_columns_of_residues(frame):
    tokens = torch.randint(0, 5, (3, 23)).to(torch.uint8)
    tokens[0] %= 4
    layer = Translate(frames=frame)
    columns = layer(DNA.one_hot(tokens, dtype=torch.float64))
    plain = columns.sum(1) > 0  # codons without N
    assert plain[0].all()
    torch.testing.assert_close(columns.movedim(1, -1)[plain], one_hot(layer(tokens)).movedim(1, -1)[plain])


def test_probabilities_are_sums_over_codons():
    """By hand: the chance of each residue, over all 64 codons, for independent letters."""
    p = torch.rand(4, 3, dtype=torch.float64)
    p /= p.sum(0)
    wanted = torch.zeros(21, dtype=torch.float64)
    for codon in product(range(4), repeat=3):
        residue = by_biopython("".join(DNA.letters[i] for i in codon))
        place = 20 if residue == "*" else PROTEIN.letters.index(residue)
        wanted[place] += p[codon[0], 0] * p[codon[1], 1] * p[codon[2], 2]
    torch.testing.assert_close(Translate()(p.unsqueeze(0))[0, :, 0], wanted)
    x = p.repeat(1, 2).unsqueeze(0).requires_grad_()
    assert torch.autograd.gradcheck(Translate(frames=-2), x, fast_mode=True)
    both = Translate(frames=(1, -3))(p.repeat(1, 3).unsqueeze(0))
    assert both.shape == (1, 2, 21, 3)
    assert not both[0, 1, :, 2].any()


@pytest.mark.parametrize("frame", [1, -2])
@pytest.mark.parametrize("ambiguous", ["zero", "spread"])
def test_codon_embedding_takes_columns(ambiguous, frame):
    layer = CodonEmbedding(5, frame=frame, ambiguous=ambiguous, dtype=torch.float64)
    tokens = torch.randint(0, 16, (4, 33)).to(torch.uint8)
    tokens[0] %= 4
    columns = DNA.one_hot(tokens, spread=ambiguous == "spread", dtype=torch.float64)
    torch.testing.assert_close(layer(tokens), layer(columns))
    assert layer(tokens)[0].any(0).all()
    layer(tokens).square().sum().backward()
    ours, layer.weight.grad = layer.weight.grad, None
    layer(columns).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, ours)


def test_codon_embedding_by_hand():
    layer = CodonEmbedding(3, ambiguous="spread", channels_last=True)
    found = layer(DNA.tokens(["AACAAYA-A"]))
    w = layer.weight  # AAC is 1, AAT is 3
    torch.testing.assert_close(found[0], torch.stack((w[1], (w[1] + w[3]) / 2, torch.zeros(3))))
    padded = torch.tensor([[0, 0, 1, 0, PAD, PAD]], dtype=torch.uint8)
    assert not layer(padded)[0, 1].any()
    assert not CodonEmbedding(3)(padded)[0, :, 1].any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Translate(7), "number of NCBI.*received 7"),
        (lambda: Translate("Klingon"), "'Klingon'"),
        (lambda: Translate(frames=4), "received 4"),
        (lambda: Translate(frames=()), "at least one frame"),
        (lambda: Translate()(torch.zeros(2, 9, dtype=torch.int64)), "uint8.*int64"),
        (lambda: Translate()(torch.zeros(2, 5, 9)), r"columns \(b, 4, l\), received \(2, 5, 9\)"),
        (lambda: CodonEmbedding(0), "dim of at least 1"),
        (lambda: CodonEmbedding(4, ambiguous="own"), "'own'"),
        (lambda: CodonEmbedding(4, ambiguous="spread")(torch.zeros(2, 9, dtype=torch.int64)), "uint8.*int64"),
        (lambda: translate(torch.zeros(2, 9).byte(), torch.zeros(4, 4, 4)), r"table \(17, 17, 17\)"),
        (lambda: translate(torch.zeros(2, 9).byte(), Translate().tables[0], -1), "received -1"),
    ],
)  # fmt: skip
def test_errors_name_what_is_wrong(call, words):
    with pytest.raises(shared.UserError, match=words):
        call()
