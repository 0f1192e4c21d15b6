"""Shuffles against their promises: every sequence with the same k-lets equally often, and nothing else."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from biolayers import DNA, PAD, PROTEIN, Alphabet, shuffle
from biolayers.euler import Draws, shuffled
from shared.errors import UserError
from shared.threads import finest_grain


def lets(text: str, k: int) -> Counter[str]:
    return Counter(text[i : i + k] for i in range(len(text) - k + 1))


def every_path(text: str, k: int) -> list[str]:
    """All sequences with the k-lets of `text` that begin with its first k - 1 letters, by trying them out."""
    left, found = lets(text, k), []

    def go_on(path: str) -> None:
        if len(path) == len(text):
            found.append(path)
            return
        for letter in sorted(set(text)):
            word = (path + letter)[-k:]
            if left[word]:
                left[word] -= 1
                go_on(path + letter)
                left[word] += 1

    go_on(text[: k - 1])
    return found


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("text", "k", "alphabet", "count"),
    [
        ("AACGT", 1, DNA, 60),
        ("AACAGATACA", 2, DNA, 60),
        ("ACAGATACGA", 2, DNA, 24),
        ("AAAACAAGAAATAA", 2, DNA, None),
        ("ACACGACTACATAC", 3, DNA, None),
        ("AACCAAGAACAATAACTAA", 3, DNA, None),
        ("ACGAACGTACGCACG", 4, DNA, None),
        ("MKMLMAMKM", 2, PROTEIN, 12),
        ("WYWYWKWYAWY", 3, PROTEIN, None),
        ("AARCANARA", 2, Alphabet("ACGTRN"), None),
    ],
)
def test_every_sequence_is_equally_probable(text: str, k: int, alphabet: Alphabet, count: int | None) -> None:
    paths = every_path(text, k)
    assert count is None or len(paths) == count
    assert len(paths) > 2
    tokens = alphabet.tokens([text])
    draws = shuffle(tokens, k, seed=7, count=400 * len(paths), alphabet=alphabet)[0]
    found = Counter(alphabet.text(draws))
    assert set(found) == set(paths)
    assert chisquare([found[path] for path in paths]).pvalue > 1e-3


_rows = st.lists(
    st.text("ACGT", max_size=130) | st.text("AC", max_size=40) | st.text("ACGTNR-", max_size=60),
    min_size=1,
    max_size=40,
)


@given(_rows, st.integers(1, 7), st.integers(0, 2**64 - 1), st.sampled_from(["stay", "letter"]))
def test_the_kernels_do_what_the_definition_says(texts: list[str], k: int, seed: int, unknown: str) -> None:
    tokens, lengths = padded(texts)
    with finest_grain():
        out = shuffle(tokens, k, seed=seed, lengths=lengths, unknown=unknown, count=2)
    for i, text in enumerate(texts):
        for copy in range(2):
            wanted = []
            for start, stretch in stretches(DNA.tokens(text).tolist(), 4 if unknown == "stay" else 255):
                wanted += shuffled(stretch, k, Draws(seed, i, copy, start))
            assert out[i, copy].tolist() == wanted + [PAD] * (tokens.shape[1] - len(text))


def padded(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.full((len(texts), max(map(len, texts))), PAD, dtype=torch.uint8)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = DNA.tokens(text)
    return tokens, torch.tensor([len(text) for text in texts])


def stretches(tokens: list[int], letters: int) -> list[tuple[int, list[int]]]:
    """Runs of plain tokens with their starts, and every other token as a run that no shuffle changes."""
    runs: list[tuple[int, list[int]]] = []
    plain = False
    for i, token in enumerate(tokens):
        if token < letters and plain:
            runs[-1][1].append(token)
        else:
            runs.append((i, [token]))
        plain = token < letters
    return runs


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 63, 64, 65, 1000, 40_000])
def test_sizes(size: int, k: int, poisoned_memory: None) -> None:
    tokens = torch.randint(0, 4, (3, size), dtype=torch.uint8)
    out = shuffle(tokens, k, seed=1)
    for before, after in zip(DNA.text(tokens), DNA.text(out), strict=True):
        assert lets(after, k) == lets(before, k)
        assert after[: k - 1] == before[: k - 1]
        assert after[len(after) - k + 1 :] == before[len(before) - k + 1 :] or size < k
    assert shuffle(tokens[:0], k, seed=1).shape == (0, size)


def test_a_draw_that_must_be_repeated_is_repeated_in_every_kernel() -> None:
    """With 30,000 letters one draw in 2**32 / 30,000 is repeated: a few in this many rows."""
    tokens = torch.randint(0, 4, (60, 30_000), dtype=torch.uint8)
    few = shuffle(tokens, 1, seed=5)
    general = shuffle(tokens, 1, seed=5, alphabet=Alphabet("ACGTU"))
    assert torch.equal(few, general)


def test_a_row_depends_on_seed_and_number_alone() -> None:
    tokens = torch.randint(0, 4, (100, 80), dtype=torch.uint8)
    whole = shuffle(tokens, seed=3)
    assert torch.equal(shuffle(tokens[60:], seed=3, rows=torch.arange(60, 100)), whole[60:])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(shuffle(tokens, seed=3), whole)
    finally:
        torch.set_num_threads(threads)
    copies = shuffle(tokens, seed=3, count=5)
    assert copies.shape == (100, 5, 80)
    assert torch.equal(copies[:, 0], whole)
    assert torch.equal(copies[:, :2], shuffle(tokens, seed=3, count=2))
    assert not torch.equal(shuffle(tokens, seed=4), whole)
    assert len({tuple(copy) for copy in copies[0].tolist()}) == 5


def test_seeds_come_from_torch() -> None:
    tokens = torch.randint(0, 4, (4, 50), dtype=torch.uint8)
    torch.manual_seed(11)
    first, second = shuffle(tokens), shuffle(tokens)
    torch.manual_seed(11)
    assert torch.equal(shuffle(tokens), first)
    assert not torch.equal(first, second)
    own = [shuffle(tokens, generator=torch.Generator().manual_seed(2)) for _ in range(2)]
    assert torch.equal(*own)


def test_unknown_letters() -> None:
    text = "ACGTACGGTNNNACCAGTTACRGGATTA" + "N" * 5
    tokens = DNA.tokens([text])
    stay = DNA.text(shuffle(tokens, seed=1, count=50)[0])
    for out in stay:
        assert [(i, c) for i, c in enumerate(out) if c in "NR"] == [
            (i, c) for i, c in enumerate(text) if c in "NR"
        ]
        assert [lets(part, 2) for part in out.replace("R", "N").split("N")] == [
            lets(part, 2) for part in text.replace("R", "N").split("N")
        ]
    letter = DNA.text(shuffle(tokens, seed=1, count=50, unknown="letter")[0])
    assert all(lets(out, 2) == lets(text, 2) for out in letter)
    assert any(out.index("N") != text.index("N") for out in letter)


def test_any_shape_and_the_input_stays_as_it_is() -> None:
    tokens = torch.randint(0, 4, (2, 3, 40), dtype=torch.uint8)
    before = tokens.clone()
    out = shuffle(tokens.transpose(0, 1), seed=1, lengths=torch.full((3, 2), 20))
    assert out.shape == (3, 2, 40)
    assert torch.equal(out[..., 20:], tokens.transpose(0, 1)[..., 20:])
    assert torch.equal(tokens, before)
    assert shuffle(tokens[0, 0], seed=1).shape == (40,)
    assert shuffle(tokens, seed=1, count=0).shape == (2, 3, 0, 40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "expected k from 1 on, received 0"),
        ({"seed": -1}, "expected a seed from 0 up to 2"),
        ({"seed": 1, "generator": torch.Generator()}, "received both"),
        ({"count": -1}, "expected a count from 0 on, received -1"),
        ({"lengths": torch.tensor([9, 3])}, "expected lengths from 0 to 8"),
        ({"lengths": torch.tensor([3])}, "expected lengths as integers"),
        ({"rows": torch.tensor([-1, 0])}, "expected rows from 0 on, received -1"),
        ({"rows": torch.tensor([0.0, 1.0])}, "expected rows as integers"),
    ],
)
def test_odd_arguments(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        shuffle(torch.zeros((2, 8), dtype=torch.uint8), **options)


def test_odd_tokens() -> None:
    with pytest.raises(UserError, match=r"expected uint8 tokens .* received torch.int64"):
        shuffle(torch.zeros((2, 8), dtype=torch.int64))


def test_numbers_are_drawn_without_bias() -> None:
    draws = Draws(seed=3, row=1, copy=2)
    found = np.bincount([draws.below(7) for _ in range(70_000)], minlength=7)
    assert chisquare(found).pvalue > 1e-3
