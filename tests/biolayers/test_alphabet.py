"""Alphabets against letter-by-letter definitions written out here."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biolayers import DNA, PAD, PROTEIN, RNA, Alphabet, LetterCounts, Policy, one_hot
from biolayers.alphabet import ILLEGAL
from biolayers.kernels.numba import one_hot as kernel
from shared.errors import UserError

CLAUSES = {
    "ambiguous": ("keep", "unknown", "error"),
    "lower": ("upper", "mask", "error"),
    "gap": ("keep", "unknown", "error"),
    "ut": ("error", "convert"),
    "other": ("error", "unknown"),
}
POLICIES = [dict(zip(CLAUSES, choice, strict=True)) for choice in itertools.product(*CLAUSES.values())]
ORDER = {DNA: "ACGTNRYSWKMBDHV-", RNA: "ACGUNRYSWKMBDHV-", PROTEIN: "ACDEFGHIKLMNPQRSTVWYXBZJUO*-"}
PARTNERS = {
    "DNA": dict(zip("ACGTNRYSWKMBDHV-", "TGCANYRSWMKVHDB-", strict=True)),
    "RNA": dict(zip("ACGUNRYSWKMBDHV-", "UGCANYRSWMKVHDB-", strict=True)),
}


def naive_token(alphabet: Alphabet, policy: dict[str, str], byte: int) -> int | None:
    """The token of a byte, None where it must be refused."""
    order, plain = ORDER[alphabet], alphabet.channels
    letter = chr(byte)
    foreign = {"DNA": "U", "RNA": "T", "PROTEIN": None}[alphabet.name]
    if "a" <= letter <= "z" and (letter.upper() in order or letter.upper() == foreign):
        if policy["lower"] == "error":
            return None
        if policy["lower"] == "mask":
            return plain
        letter = letter.upper()
    if letter == foreign and policy["ut"] == "convert":
        return 3
    if letter not in order:
        return plain if policy["other"] == "unknown" else None
    token = order.index(letter)
    if token < plain:
        return token
    choice = policy["gap"] if letter == "-" else policy["ambiguous"]
    return {"keep": token, "unknown": plain, "error": None}[choice]


@pytest.mark.parametrize("alphabet", ORDER, ids=str)
def test_tokens_follow_the_order_of_the_letters(alphabet: Alphabet) -> None:
    assert alphabet.tokens(ORDER[alphabet]).tolist() == list(range(len(alphabet)))
    assert alphabet.text(torch.arange(len(alphabet), dtype=torch.uint8)) == ORDER[alphabet]


@pytest.mark.parametrize("alphabet", ORDER, ids=str)
def test_every_byte_under_every_policy(alphabet: Alphabet) -> None:
    for turn, policy in enumerate(POLICIES):
        chosen = alphabet.with_policy(**policy)
        expected = [naive_token(alphabet, policy, byte) for byte in range(256)]
        assert chosen.byte_table.tolist() == [ILLEGAL if token is None else token for token in expected], (
            policy
        )
        legal = [byte for byte in range(256) if expected[byte] is not None]
        assert chosen.tokens(bytes(legal)).tolist() == [expected[byte] for byte in legal]
        refused = sorted(set(range(256)) - set(legal))
        for byte in refused[turn % 16 :: 16]:
            with pytest.raises(UserError, match="at position 2"):
                chosen.tokens(bytes([legal[0], byte]))


def test_counts_of_every_byte() -> None:
    every = bytes(range(256))
    assert DNA.counts(every) == LetterCounts(total=256, lower=16, ambiguous=22, gap=1, ut=2, other=256 - 33)
    assert PROTEIN.counts(every) == LetterCounts(
        total=256, lower=26, ambiguous=13, gap=1, ut=0, other=256 - 54
    )
    assert RNA.counts("ACGTtn-") == LetterCounts(total=7, lower=2, ambiguous=1, gap=1, ut=2, other=0)
    assert str(DNA.counts("ACGT") + DNA.counts("acN")) == "7 letters (2 lower, 1 ambiguous)"
    assert str(DNA.counts("")) == "0 letters, all plain"


@pytest.mark.parametrize("alphabet", [DNA, RNA], ids=str)
def test_complement_of_all_letters_and_padding(alphabet: Alphabet) -> None:
    letters = ORDER[alphabet]
    tokens = alphabet.tokens(letters + letters[:-1].lower())
    partners = "".join(PARTNERS[alphabet.name][letter] for letter in letters + letters[:-1])
    assert alphabet.text(alphabet.complement(tokens)) == partners
    assert alphabet.text(alphabet.reverse_complement(tokens)) == partners[::-1]
    assert alphabet.complement(torch.tensor([PAD], dtype=torch.uint8)).tolist() == [PAD]


@given(st.lists(st.text("ACGTNRYSWKMBDHV-", max_size=9), min_size=1, max_size=6), st.integers(0, 3))
def test_reverse_complement_keeps_padding_at_the_end(texts: list[str], extra: int) -> None:
    width = max(map(len, texts)) + extra
    rows = torch.full((len(texts), width), PAD, dtype=torch.uint8)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = DNA.tokens(text)
    lengths = torch.tensor([len(text) for text in texts])
    turned = DNA.reverse_complement(rows, lengths)
    assert DNA.text(turned) == ["".join(PARTNERS["DNA"][c] for c in reversed(text)) for text in texts]
    assert torch.equal(DNA.reverse_complement(turned, lengths), rows)
    stacked = DNA.reverse_complement(rows.expand(2, 3, *rows.shape), lengths.expand(2, 3, -1))
    assert torch.equal(stacked[1, 2], turned)


def test_reverse_complement_of_views_and_nothing() -> None:
    tokens = DNA.tokens(["ACGTN", "GGGCC"])
    assert torch.equal(
        DNA.reverse_complement(tokens[:, ::2]), DNA.reverse_complement(tokens[:, ::2].contiguous())
    )
    assert DNA.reverse_complement(tokens[:, :0]).shape == (2, 0)
    assert DNA.reverse_complement(tokens[:0], torch.zeros(0, dtype=torch.int64)).shape == (0, 5)
    with pytest.raises(UserError, match="no complement; use DNA or RNA"):
        PROTEIN.reverse_complement(PROTEIN.tokens("MKV"))


@given(st.text("ACGTNRYSWKMBDHV-", max_size=40))
def test_text_undoes_tokens(text: str) -> None:
    assert DNA.text(DNA.tokens(text)) == text
    assert torch.equal(DNA.tokens(text.encode()), DNA.tokens(text))
    assert torch.equal(DNA.tokens(np.frombuffer(text.encode(), np.uint8)), DNA.tokens(text))


@given(st.binary(max_size=300))
def test_foreign_bytes_become_unknown_where_the_policy_says_so(data: bytes) -> None:
    policy = {"ambiguous": "keep", "lower": "upper", "gap": "keep", "ut": "convert", "other": "unknown"}
    tokens = DNA.with_policy(**policy).tokens(data)
    assert tokens.tolist() == [naive_token(DNA, policy, byte) for byte in data]


@pytest.mark.parametrize("large", [0, 1 << 60], ids=["past the caches", "through the caches"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.float16, torch.float64, torch.bool])
@pytest.mark.parametrize("length", [1, 63, 64, 129, kernel.PART + 77])
def test_one_hot_of_any_size(length: int, dtype: torch.dtype, large: int, monkeypatch) -> None:
    monkeypatch.setattr(kernel, "LARGE", large)
    tokens = torch.randint(0, 6, (3, length), dtype=torch.uint8)
    letters = torch.arange(4, dtype=torch.uint8)
    assert torch.equal(one_hot(tokens, dtype=dtype), (tokens[:, None] == letters[:, None]).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_hot(dtype: torch.dtype) -> None:
    tokens = torch.cat([DNA.tokens(ORDER[DNA]), torch.tensor([PAD], dtype=torch.uint8)]).expand(2, 3, -1)
    hot = DNA.one_hot(tokens, dtype=dtype)
    assert hot.shape == (2, 3, 4, 17)
    assert hot.dtype == dtype
    assert torch.equal(hot[0, 0, :, :4], torch.eye(4, dtype=dtype))
    assert hot[..., 4:].abs().sum() == 0
    spread = DNA.one_hot(tokens, spread=True, dtype=dtype)[1, 1]
    assert spread[:, 4].tolist() == [0.25] * 4
    assert spread[:, 5].tolist() == [0.5, 0, 0.5, 0]  # R is A or G
    assert spread[:, -1].sum() == spread[:, -2].sum() == 0
    torch.testing.assert_close(spread[:, :15].sum(0), torch.ones(15, dtype=dtype))
    assert PROTEIN.one_hot(PROTEIN.tokens("BUX*"), spread=True).sum(0).tolist() == pytest.approx([1, 0, 1, 0])


def test_alphabets_print_parse_compare_hash_and_pickle() -> None:
    for alphabet in (DNA, RNA, PROTEIN, *(DNA.with_policy(**policy) for policy in POLICIES)):
        assert Alphabet.parse(str(alphabet)) == alphabet
        assert eval(repr(alphabet)) == alphabet
        assert alphabet.byte_table is not None  # the cached table does not travel
        assert b"byte_table" not in pickle.dumps(alphabet)
        for twin in (pickle.loads(pickle.dumps(alphabet)), copy.deepcopy(alphabet)):
            assert twin == alphabet
            assert hash(twin) == hash(alphabet)
    assert len({DNA.with_policy(**policy) for policy in POLICIES}) == len(POLICIES)
    assert str(DNA.with_policy(lower="mask", other="unknown")) == "DNA(lower=mask, other=unknown)"
    assert Alphabet.parse(" rna ( ut = convert ) ").tokens("T").item() == 3
    own = Alphabet("HP", unknown="?", policy=Policy(other="unknown"))
    assert eval(repr(own)) == own
    assert own.tokens("hPx").tolist() == [0, 1, 2]


def test_lists_of_sequences() -> None:
    assert DNA.tokens(["ACG", "TTN"]).tolist() == [[0, 1, 2], [3, 3, 4]]
    assert DNA.tokens([]).shape == (0, 0)
    assert DNA.text(DNA.tokens(["ACG", "TTN"])) == ["ACG", "TTN"]


MESSAGES = {
    "expected letters ACGT or NRYSWKMBDHV-, received 'J' at position 3; mend the sequence, or choose "
    "the policy other='unknown'": lambda: DNA.tokens("ACJ"),
    "chr1: expected letters ACGU or NRYSWKMBDHV-, received 'T' at position 1; mend the sequence, or choose "
    "the policy ut='convert'": lambda: RNA.tokens("T", record="chr1"),
    "expected letters ACGT or -, received 'R' at position 2; mend the sequence, or choose the policy "
    "ambiguous='keep'": lambda: DNA.with_policy(ambiguous="error").tokens("AR"),
    "expected letters ACGT or NRYSWKMBDHV, received '-' at position 1; mend the sequence, or choose the "
    "policy gap='keep'": lambda: DNA.with_policy(gap="error").tokens("-"),
    "expected letters ACGT or NRYSWKMBDHV-, received 'c' at position 2; mend the sequence, or choose "
    "the policy lower='upper'": lambda: DNA.with_policy(lower="error").tokens("Ac"),
    "sequence: expected letters HP, received 'X' at position 1; mend the sequence": lambda: Alphabet(
        "HP"
    ).tokens("X"),
    "sequence: expected letters ACGT or NRYSWKMBDHV-, received 'é' at position 2": lambda: DNA.tokens("Aé"),
    "sequence 2: expected letters ACGT": lambda: DNA.tokens(["A", "?"]),
    "expected sequences of one length, received lengths 1, 2; encode them singly": lambda: DNA.tokens(
        ["A", "AC"]
    ),
    "expected letters as str, bytes or uint8, received int64": lambda: DNA.tokens(np.zeros(3, np.int64)),
    "Policy: expected lower to be one of 'upper', 'mask', 'error', received 'x'": lambda: DNA.with_policy(
        lower="x"
    ),
    "Policy: expected one of ambiguous, lower, gap, ut, other, received 'n'": lambda: DNA.with_policy(n="x"),
    "Alphabet: expected DNA, RNA or PROTEIN, perhaps with options, received 'XNA'": lambda: Alphabet.parse(
        "XNA"
    ),
    "Policy: expected one of ambiguous, lower, gap, ut, other, received 'low'": lambda: Alphabet.parse(
        "DNA(low=x)"
    ),
    "Alphabet: expected at least one letter, received none": lambda: Alphabet(""),
    "Alphabet: expected at most 200 letters, each once, received 'AA'": lambda: Alphabet("AA"),
    "Alphabet: expected printable ASCII letters without ' ' and '>', received 'A>'": lambda: Alphabet("A>"),
    "Alphabet: expected complements to reorder AC, received AA": lambda: Alphabet("AC", complements="AA"),
    "Alphabet: policy 'lower=mask' needs an unknown letter; give one with unknown=": lambda: Alphabet(
        "AC", policy=Policy(lower="mask")
    ),
    "Alphabet: expected code 'R' for some of AC, received 'AG'": lambda: Alphabet(
        "AC", complements="CA", codes=(("R", "AG"),)
    ),
    "Alphabet: expected a code for the complement of 'R' (AG), received none": lambda: Alphabet(
        "ACGT", complements="TGCA", codes=(("R", "AG"),)
    ),
    "DNA: expected tokens 0..15, received 77 at index 1": lambda: DNA.text(
        torch.tensor([0, 77], dtype=torch.uint8)
    ),
    "DNA: expected tokens 0..15, received 255 at index 0": lambda: DNA.text(
        torch.tensor([PAD, 0], dtype=torch.uint8)
    ),
    "DNA: expected uint8 tokens (l,) or (n, l), received torch.int64 (3,)": lambda: DNA.text(
        torch.zeros(3).long()
    ),
}


@pytest.mark.parametrize("message", MESSAGES)
def test_messages(message: str) -> None:
    with pytest.raises(UserError) as caught:
        MESSAGES[message]()
    assert message in str(caught.value)


def test_biopythons_sequences_in_and_out() -> None:
    from Bio.Seq import MutableSeq, Seq
    from Bio.SeqRecord import SeqRecord

    from biolayers import to_seqrecord

    tokens = DNA.tokens("ACGTN")
    record = SeqRecord(Seq("acgtN"), id="r1")
    for sequence in (Seq("ACGTN"), MutableSeq("ACGTN"), record):
        assert torch.equal(DNA.tokens(sequence), tokens)
    assert torch.equal(DNA.tokens([record, Seq("ACGTN")]), torch.stack([tokens, tokens]))
    with pytest.raises(UserError, match="received '!' at position 2"):
        DNA.tokens(Seq("A!"))
    padded = torch.cat([tokens, torch.tensor([PAD, PAD], dtype=torch.uint8)])
    back = to_seqrecord(padded, "r1", description="five letters", annotations={"source": "test"})
    assert (str(back.seq), back.id, back.description) == ("ACGTN", "r1", "five letters")
    assert back.annotations == {"molecule_type": "DNA", "source": "test"}
    assert back.format("fasta") == ">r1 five letters\nACGTN\n"
    assert str(to_seqrecord(PROTEIN.tokens("MKX"), "p", alphabet=PROTEIN).seq) == "MKX"
