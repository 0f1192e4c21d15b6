"""Tokenisers: round trips, letter by letter against plain Python, every option, and what is refused."""

import json
import random
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import shared
from biolayers.alphabet import DNA, PAD, PROTEIN
from biolayers.tokenizing import MASK_ID, PAD_ID, UNKNOWN_ID, BPETokenizer, KmerTokenizer

PARTNER = str.maketrans("ACGT", "TGCA")


def other_strand(text):
    return text.translate(PARTNER)[::-1]


def naive_words(text, k, overlapping, ambiguous, rest):
    """The words of one sequence, one by one."""
    starts = range(0, len(text), 1 if overlapping else k)
    words = []
    for start in starts:
        word = text[start : start + k]
        if len(word) < k:
            if rest == "unknown" and (not overlapping or start == 0):
                words.append("[UNK]")
        elif set(word) <= set("ACGT"):
            words.append(word)
        elif ambiguous == "unknown":
            words.append("[UNK]")
    return words


@settings(max_examples=80, deadline=None)
@given(
    texts=st.lists(st.text("ACGTACGTNR-", max_size=14), min_size=1, max_size=4),
    k=st.integers(1, 4),
    overlapping=st.booleans(),
    ambiguous=st.sampled_from(("unknown", "skip")),
    rest=st.sampled_from(("unknown", "drop")),
)
def test_words_one_by_one(texts, k, overlapping, ambiguous, rest):
    tokenizer = KmerTokenizer(k, overlapping=overlapping, ambiguous=ambiguous, rest=rest)
    ids, mask = tokenizer.encode(texts)
    wanted = [naive_words(text, k, overlapping, ambiguous, rest) for text in texts]
    assert tokenizer.words(ids) == wanted
    assert ids.shape == mask.shape == (len(texts), max(map(len, wanted)))
    assert ids.dtype == torch.int64
    assert torch.equal(mask, ids != PAD_ID)
    width = max(map(len, texts))
    rows = torch.stack(
        [torch.nn.functional.pad(DNA.tokens(t), (0, width - len(t)), value=PAD) for t in texts]
    )
    again = tokenizer.encode(rows)
    assert torch.equal(again.input_ids, ids)
    assert torch.equal(again.attention_mask, mask)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(1, 4), st.booleans())
def test_round_trip_of_plain_letters(sizes, k, overlapping):
    """Exact where whole words fill the sequence; N stands in for what a word does not know."""
    rng = random.Random(sum(sizes))
    sizes = [size and (max(size, k) if overlapping else size * k) for size in sizes]
    texts = ["".join(rng.choices("ACGT", k=size)) for size in sizes]
    tokenizer = KmerTokenizer(k, overlapping=overlapping)
    assert tokenizer.decode(tokenizer.encode(texts).input_ids) == texts


def test_round_trip_with_unknown_letters():
    overlapping, apart = KmerTokenizer(3), KmerTokenizer(3, overlapping=False)
    text = "ACGTNACGGR"
    assert overlapping.decode(overlapping.encode(text).input_ids) == ["ACGTNACGGN"]
    assert apart.decode(apart.encode(text).input_ids) == ["ACGNNNCGGNNN"]
    ids = overlapping.encode("ACGTACG").input_ids
    ids[0, 1:4] = MASK_ID
    assert overlapping.decode(ids) == ["ACGNACG"]


def test_ids_count_up_through_the_words():
    tokenizer = KmerTokenizer(2, overlapping=False)
    text = "".join(a + b for a in "ACGT" for b in "ACGT")
    assert tokenizer.encode(text).input_ids.tolist() == [list(range(3, 19))]
    assert len(tokenizer) == 19
    assert len(KmerTokenizer(2, alphabet=PROTEIN)) == 403
    assert KmerTokenizer(2, alphabet=PROTEIN).decode(torch.tensor([3, 3])) == ["AAA"]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_canonical_words_are_the_same_on_both_strands(k):
    tokenizer = KmerTokenizer(k, canonical=True)
    rng = random.Random(k)
    text = "".join(rng.choices("ACGT", k=400))
    ids, _ = tokenizer.encode([text, other_strand(text)])
    assert torch.equal(ids[0], ids[1].flip(0))
    words = {text[i : i + k] for i in range(400 - k + 1)}
    assert set(tokenizer.words(ids)[0]) == {min(word, other_strand(word)) for word in words}
    palindromes = 4 ** (k // 2) if k % 2 == 0 else 0
    assert len(tokenizer) == 3 + (4**k + palindromes) // 2


def test_lower_case_follows_the_policy_of_the_alphabet():
    masked = KmerTokenizer(2, alphabet=DNA.with_policy(lower="mask"))
    assert masked.words(masked.encode("ACgtAC").input_ids) == [["AC", "[UNK]", "[UNK]", "[UNK]", "AC"]]
    assert KmerTokenizer(2).words(KmerTokenizer(2).encode("acg").input_ids) == [["AC", "CG"]]


def test_awkward_batches():
    tokenizer = KmerTokenizer(3)
    for nothing in ([], [""], torch.zeros(0, 9, dtype=torch.uint8), torch.full((2, 5), PAD).byte()):
        ids, mask = tokenizer.encode(nothing)
        assert ids.shape[1] == mask.shape[1] == 0
        assert tokenizer.decode(ids) == [""] * len(ids)
    assert (tokenizer.encode("NNNNN").input_ids == UNKNOWN_ID).all()
    assert tokenizer.encode("AC").input_ids.tolist() == [[UNKNOWN_ID]]
    inner = torch.tensor([[0, 1, PAD, 2, 3, 3]], dtype=torch.uint8)  # `PAD` before a letter is no end
    assert tokenizer.words(tokenizer.encode(inner).input_ids) == [["[UNK]", "[UNK]", "[UNK]", "GTT"]]


# byte pairs


@pytest.fixture(scope="module")
def texts():
    rng = random.Random(0)
    motifs = ["TATAAA", "GCGCGC", "CAATTG"]
    return ["".join(rng.choices([*"ACGT", *motifs], k=60)) for _ in range(40)]


@pytest.fixture(scope="module")
def learned(texts):
    return BPETokenizer.train(texts, 80)


def test_bpe_round_trip(learned, texts):
    hard = [*texts[:5], "", "NNNN", "ACGTNRYSWKMBDHV-", "A" * 500]
    ids, mask = learned.encode(hard)
    assert learned.decode(ids) == hard
    assert ids.dtype == torch.int64
    assert torch.equal(mask, ids != PAD_ID)
    assert ["".join(words) for words in learned.words(ids)] == hard
    assert mask[:5].sum() < sum(map(len, hard[:5])) / 2  # words are longer than two letters
    rows = [DNA.tokens(text) for text in hard]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
    assert torch.equal(learned.encode(tokens).input_ids, ids)


def test_bpe_merges_the_most_frequent_pair():
    """By hand: TA occurs most; then TA TA; N is never merged."""
    tokenizer = BPETokenizer.train(["TATATATA", "CG", "TANTA"], 21)
    words = [tokenizer.backend.id_to_token(i) for i in range(len(tokenizer))]
    assert words[:3] == ["[PAD]", "[UNK]", "[MASK]"]
    assert sorted(words[3:19]) == sorted("ACGTNRYSWKMBDHV-")
    assert words[19:] == ["TA", "TATA"]
    assert tokenizer.words(tokenizer.encode("TATATANTACG").input_ids) == [["TATA", "TA", "N", "TA", "C", "G"]]
    assert all("N" not in word or word == "N" for word in words[3:])


def test_bpe_learns_the_same_from_a_file(learned, texts, tmp_path):
    path = tmp_path / "texts.fa"
    path.write_text("".join(f">{i}\n{text}\n" for i, text in enumerate(texts)))
    again = BPETokenizer.train(path, 80)
    assert again.backend.to_str() == learned.backend.to_str()
    assert BPETokenizer.train([DNA.tokens(t) for t in texts], 80).backend.to_str() == learned.backend.to_str()


def test_bpe_is_the_same_in_another_process_and_after_a_file(learned, texts, tmp_path):
    path = tmp_path / "words.json"
    learned.save(path)
    again = BPETokenizer.load(path)
    assert again.backend.to_str() == learned.backend.to_str()
    assert len(again) == len(learned) == 80
    assert json.loads(path.read_text())["model"]["type"] == "BPE"
    script = (
        "import sys, json; from biolayers.tokenizing import BPETokenizer;"
        "t = BPETokenizer.train(json.loads(sys.argv[1]), 80); print(t.backend.to_str())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(texts)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == learned.backend.to_str()


def test_bpe_of_proteins():
    tokenizer = BPETokenizer.train(["MKVLAAMKVLAA", "MKVXB*"], 35, alphabet=PROTEIN)
    assert tokenizer.decode(tokenizer.encode(["MKVLX*"]).input_ids) == ["MKVLX*"]
    assert repr(tokenizer) == "BPETokenizer(35 words, alphabet=PROTEIN)"


def test_the_package_loads_only_when_it_is_used():
    script = (
        "import sys, biolayers.tokenizing as t; t.KmerTokenizer(3).encode('ACGT');"
        "print('tokenizers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# errors


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: KmerTokenizer(0), "k of at least 1"),
        (lambda: KmerTokenizer(13), r"4\^13"),
        (lambda: KmerTokenizer(3, ambiguous="drop"), "ambiguous.*'drop'"),
        (lambda: KmerTokenizer(3, rest="skip"), "rest.*'skip'"),
        (lambda: KmerTokenizer(3, alphabet=PROTEIN, canonical=True), "complements.*PROTEIN"),
        (lambda: KmerTokenizer(3, ambiguous="error").encode(["ACG", "ACGNA"]), "sequence 2.*position 2"),
        (lambda: KmerTokenizer(3, rest="error", overlapping=False).encode("ACGA"), "sequence 1.*position 4"),
        (lambda: KmerTokenizer(3).encode("ACE"), "received 'E' at position 3"),
        (lambda: KmerTokenizer(3).encode(torch.zeros(2, 9)), "uint8.*float32"),
        (lambda: KmerTokenizer(3, canonical=True).decode(torch.tensor([3])), "canonical"),
        (lambda: KmerTokenizer(3).decode(torch.tensor([67])), "0 to 66, received 67"),
        (lambda: KmerTokenizer(3).decode(torch.tensor([1.0])), "integers"),
        (lambda: KmerTokenizer(3).decode(torch.tensor([3, 66])), "overlap as neighbours"),
        (lambda: BPETokenizer.train(["ACGT"], 10), "at least 19"),
        (lambda: BPETokenizer.train(["ACGT"], 30, piece=0), "piece"),
        (lambda: BPETokenizer.train(["ACE"], 30), "received 'E'"),
        (lambda: BPETokenizer.train("/nowhere.fa", 30), "nowhere"),
        (lambda: BPETokenizer.load("/nowhere.json"), "nowhere.json"),
    ],
)
def test_errors_name_what_is_wrong(call, words):
    with pytest.raises(shared.UserError, match=words):
        call()


def test_bpe_refuses_foreign_files_and_ids(learned, tmp_path):
    path = tmp_path / "words.json"
    path.write_text("{}")
    with pytest.raises(shared.UserError, match="another file"):
        BPETokenizer.load(path)
    with pytest.raises(shared.UserError, match="0 to 79, received -1"):
        learned.decode(torch.tensor([-1]))
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    with pytest.raises(shared.UserError, match=r"\[PAD\]"):
        BPETokenizer(Tokenizer(BPE()))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(shared.UserError, match="pip install"):
        BPETokenizer.train(["ACGT"], 30)
