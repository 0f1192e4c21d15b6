"""Pairs of windows against plain strings, however variants lie; every complaint; the effects of models."""

import csv
import multiprocessing
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader

from biolayers import (
    DNA,
    PAD,
    PROTEIN,
    Fasta,
    VariantDataset,
    VariantEffects,
    VariantError,
    loader,
    variant_effect,
)
from biolayers.batching.batches import Batch
from shared.threads import finest_grain

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 with threads

GENOME = {"one": "AACCGGTTACGTAACGTTNNacgtRG", "two": "GATTACA"}
N = int(DNA.tokens("N")[0])


def write_fasta(folder: Path | str, genome: dict[str, str], width: int = 7) -> str:
    path = Path(folder) / "genome.fa"
    lines = [
        f">{name}\n" + "".join(f"{text[i : i + width]}\n" for i in range(0, len(text), width))
        for name, text in genome.items()
    ]
    path.write_text("".join(lines))
    return str(path)


@pytest.fixture
def fasta(tmp_path: Path) -> str:
    return write_fasta(tmp_path, GENOME)


# The definition, with strings

SHIFTS: dict[str, Callable[[int], int]] = {
    "right": lambda growth: 0,
    "left": lambda growth: growth,
    "both": lambda growth: growth // 2,
}


def first_difference(position: int, ref: str, alt: str) -> int:
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while ref and alt and ref[0] == alt[0]:
        position, ref, alt = position + 1, ref[1:], alt[1:]
    return position


def window(text: str, start: int, length: int) -> list[int]:
    tokens = DNA.tokens(text).tolist()
    return [tokens[i] if 0 <= i < len(tokens) else PAD for i in range(start, start + length)]


def pair(text: str, variant: tuple[int, str, str], length: int, extend: str) -> list[list[int]]:
    position, ref, alt = variant
    edited = text[:position] + alt + text[position + len(ref) :]
    start = first_difference(position, ref, alt) - length // 2
    moved = SHIFTS[extend](len(alt) - len(ref))
    return [window(text, start, length), window(edited, start + moved, length)]


@st.composite
def genomes_and_variants(draw: st.DrawFn) -> tuple[dict[str, str], list[tuple[str, int, str, str]]]:
    contig = st.text("ACGTACGTacgtNnR", min_size=1, max_size=60)
    genome = {f"c{i}": text for i, text in enumerate(draw(st.lists(contig, min_size=1, max_size=3)))}
    variants = []
    for _ in range(draw(st.integers(0, 8))):
        name = draw(st.sampled_from(sorted(genome)))
        position = draw(st.integers(0, len(genome[name]) - 1))
        ref = genome[name][position : position + draw(st.integers(1, 12))].upper()
        alt = draw(st.text("ACGTN", min_size=1, max_size=12).filter(lambda alt, ref=ref: alt != ref))
        variants.append((name, position, ref, alt))
    return genome, variants


@given(genomes_and_variants(), st.integers(1, 40), st.sampled_from(sorted(SHIFTS)), st.booleans())
def test_windows_are_those_of_the_edited_string(
    case: tuple[dict[str, str], list[tuple[str, int, str, str]]], length: int, extend: str, fine: bool
) -> None:
    genome, variants = case
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"length": length, "extend": extend}
        path = write_fasta(folder, genome)
        expected = [pair(genome[name].upper(), rest, length, extend) for name, *rest in variants]
        data = VariantDataset(path, variants, **options)
        if fine:
            with finest_grain():
                (tokens,) = data.batch(range(len(variants)))
        else:
            (tokens,) = data.batch(range(len(variants)))
        assert tokens.tolist() == expected
        (both,) = VariantDataset(path, variants, both_strands=True, **options).batch(range(len(variants)))
        assert both.shape == (len(variants), 2, 2, length)
        assert torch.equal(both[:, :, 0], tokens)
        assert torch.equal(both[:, :, 1], DNA.reverse_complement(tokens))


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 1000, 20_000])
def test_every_place_is_written(tmp_path: Path, poisoned_memory: None, length: int) -> None:
    text = "".join(np.random.default_rng(0).choice(list("ACGT"), 30_000))
    path = write_fasta(tmp_path, {"c": text}, 80)
    variants = [
        ("c", 0, text[0], "N"),
        ("c", 29_999, text[-1], text[-1] + "ACGT" * 40),
        ("c", 15_000, text[15_000:15_300], "N"),
        ("c", 9_000, text[9_000:29_000], text[9_000] + "N"),  # a deletion longer than the windows
    ]
    for extend in SHIFTS:
        (tokens,) = VariantDataset(path, variants, length=length, extend=extend).batch([3, 0, 1, 2, 3])
        assert tokens.tolist() == [pair(text, variants[i][1:], length, extend) for i in (3, 0, 1, 2, 3)]


def test_alleles_of_unequal_length_keep_the_window(fasta: str) -> None:
    data = VariantDataset(fasta, [("one", 9, "CGT", "C"), ("one", 9, "C", "CTTT")], length=8)
    text = data.fasta.alphabet.text
    assert text(data[0][0]) == ["TTACGTAA", "TTACAACG"]  # the deletion is made up from the reference
    assert text(data[1][0]) == ["TTACGTAA", "TTACTTTG"]
    left = VariantDataset(fasta, data.variants, length=8, extend="left")
    assert text(left[0][0]) == ["TTACGTAA", "GGTTACAA"]
    assert text(left[1][0]) == ["TTACGTAA", "CTTTGTAA"]


def test_windows_beyond_the_contig(fasta: str) -> None:
    variants = [("two", 1, "A", "C")]
    assert VariantDataset(fasta, variants, length=6)[0][0].tolist()[0] == [PAD, PAD, 2, 0, 3, 3]
    assert VariantDataset(fasta, variants, length=6, beyond="unknown")[0][0].tolist()[0] == [N, N, 2, 0, 3, 3]
    with pytest.raises(VariantError, match=r"variant 0 \('two', 1, 'A', 'C'\): expected a window within the"):
        VariantDataset(fasta, variants, length=6, beyond="error")
    insertion = [("two", 2, "T", "TAAA")]
    assert DNA.text(VariantDataset(fasta, insertion, length=7, beyond="error")[0][0]) == [
        "GATTACA",
        "GATAAAT",
    ]
    deletion = [("two", 2, "TTA", "T")]
    with pytest.raises(VariantError, match="received 0 to 9; choose beyond='pad'"):
        VariantDataset(fasta, deletion, length=7, beyond="error")


def test_windows_that_are_given(fasta: str) -> None:
    variants = [("one", 3, "C", "G"), ("one", 9, "CGT", "C"), ("one", 0, "A", "AT")]
    data = VariantDataset(fasta, variants, length=8, starts=[2, 7, -3])
    found = [DNA.text(data[i][0]) for i in range(2)]
    assert found == [["CCGGTTAC", "CGGGTTAC"], ["TACGTAAC", "TACAACGT"]]
    assert data[2][0].tolist() == [[PAD] * 3 + [0, 0, 1, 1, 2], [PAD] * 3 + [0, 3, 0, 1, 1]]
    left = VariantDataset(fasta, variants[:2], length=8, starts=[2, 7], extend="left")
    assert DNA.text(left[1][0])[1] == "GTTACAAC"
    skipped = VariantDataset(
        fasta, [("two", 0, "T", "A"), *variants], length=8, starts=[0, 2, 7, 0], mismatch="skip"
    )
    assert torch.equal(skipped.batch([0, 1])[0], data.batch([0, 1])[0])
    with pytest.raises(VariantError, match=r"in its window, 4 to 12, received one that begins at 3; choose"):
        VariantDataset(fasta, variants, length=8, starts=[4, 7, 0])
    with pytest.raises(VariantError, match="3 to 11, 1 letters from its edges for the jitter, received"):
        VariantDataset(fasta, variants, length=8, starts=[3, 7, 0], jitter=1)
    with pytest.raises(
        VariantError, match=r"expected 3 whole numbers as starts, .* received int64 of shape \(2,\)"
    ):
        VariantDataset(fasta, variants, length=8, starts=[3, 7])


# Datasets

VARIANTS = [("one", 3, "C", "G"), ("two", 2, "TTA", "T"), ("one", 9, "C", "CTTT"), ("one", 20, "A", "C")]


def test_samples_batches_and_targets(fasta: str) -> None:
    data = VariantDataset(fasta, VARIANTS, length=9, targets=[0.0, 1.0, 2.0, 3.0])
    tokens, targets = data.batch(torch.tensor([3, 1]))
    assert (tokens.shape, tokens.dtype, targets.tolist()) == ((2, 2, 9), torch.uint8, [3.0, 1.0])
    one, target = data[-1]
    assert torch.equal(one, tokens[0])
    assert target == 3.0
    assert [float(target) for _, target in data.__getitems__([2, 0])] == [2.0, 0.0]
    with pytest.raises(IndexError):
        data[4]
    assert data.contigs == ["one", "two", "one", "one"]
    assert data.batch([])[0].shape == (0, 2, 9)
    assert "4 on 2 contigs" in repr(data)
    skipped = VariantDataset(
        fasta, [("one", 0, "T", "G"), *VARIANTS], length=9, mismatch="skip", targets=torch.arange(5)
    )
    assert skipped.targets.tolist() == [1, 2, 3, 4]
    assert skipped.variants.skipped == {"mismatch": 1}


def test_jitter_and_strands_depend_on_seed_epoch_and_index_alone(fasta: str) -> None:
    plain = VariantDataset(fasta, VARIANTS, length=31)
    data = VariantDataset(fasta, VARIANTS, length=21, jitter=5, reverse_complement=0.5, seed=3)
    seen = set()
    for epoch in range(20):
        (tokens,) = data.batch([3, 1, 3], epoch=epoch)
        assert torch.equal(tokens[0], tokens[2])
        assert torch.equal(tokens[1:2], data[Batch(np.array([1]), epoch)][0])
        for row, index in zip(tokens, (3, 1, 3), strict=True):
            wide = plain[index][0][0].tolist()
            forward = [(k, False) for k in range(11) if row[0].tolist() == wide[k : k + 21]]
            turned = DNA.reverse_complement(row)
            seen.update(forward or [(k, True) for k in range(11) if turned[0].tolist() == wide[k : k + 21]])
    assert len(seen) > 12  # of 11 places and 2 strands
    other = VariantDataset(fasta, VARIANTS, length=21, jitter=5, reverse_complement=0.5, seed=4)
    batches = [[part.batch([0, 1], epoch=e)[0] for e in range(5)] for part in (data, other)]
    assert any(not torch.equal(*pair) for pair in zip(*batches, strict=True))
    assert torch.equal(data[2][0], VariantDataset(fasta, VARIANTS, length=21)[2][0])


@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_see_the_same_pairs(fasta: str, method: str, workers: int) -> None:
    data = VariantDataset(fasta, VARIANTS, length=50, jitter=3)
    (alone,) = data.batch(range(4))
    context = multiprocessing.get_context(method)
    loader = DataLoader(data, batch_size=2, num_workers=workers, multiprocessing_context=context)
    assert torch.equal(torch.cat([tokens for (tokens,) in loader]), alone)
    assert torch.equal(pickle.loads(pickle.dumps(data)).batch(range(4))[0], alone)


def test_the_loader_sees_the_same_epochs_with_and_without_workers(fasta: str) -> None:
    data = VariantDataset(fasta, VARIANTS, length=50, jitter=20, reverse_complement=0.5, targets=range(4))
    seen = []
    for workers in (0, 2):
        batches = loader(
            data, batch_size=3, shuffle=True, seed=1, workers=workers, context="fork" if workers else None
        )
        seen.append([[part.tolist() for part in batch] for _ in range(2) for batch in batches])
    assert seen[0] == seen[1]
    assert sorted(target for _, targets in seen[0] for target in targets) == [0, 0, 1, 1, 2, 2, 3, 3]


FAULTS: dict[str, dict[str, Any]] = {
    "expected extend to be one of 'right', 'left', 'both', received 'up'": {"extend": "up"},
    "expected beyond to be one of 'pad', 'unknown', 'error', received 'N'": {"beyond": "N"},
    "expected length from 1 on, and jitter from 0 to half of it, received 0 and 0": {"length": 0},
    "expected length from 1 on, and jitter from 0 to half of it, received 9 and 5": {
        "length": 9,
        "jitter": 5,
    },
    "a probability, from 0 to 1, received 2": {"reverse_complement": 2.0},
    "expected both_strands or reverse_complement, received both": {
        "both_strands": True,
        "reverse_complement": 0.5,
    },
    "expected 4 rows of targets, one per variant, received shape (3,)": {"targets": [1, 2, 3]},
    "expected 4 rows of targets, one per variant, received shape ()": {"targets": 1},
    "expected mismatch 'error' or 'skip', received 'drop'": {"mismatch": "drop"},
}


@pytest.mark.parametrize("message", FAULTS)
def test_complaints(fasta: str, message: str) -> None:
    with pytest.raises(VariantError) as caught:
        VariantDataset(fasta, VARIANTS, **{"length": 9, **FAULTS[message]})
    assert message in str(caught.value)


def test_letters_that_the_alphabet_refuses(fasta: str) -> None:
    strict = Fasta(fasta, alphabet=DNA.with_policy(ambiguous="error"))
    with pytest.raises(VariantError, match=r"'TAN'\), alternative: expected letters ACGT or -, received 'N'"):
        VariantDataset(strict, [("one", 7, "T", "TAN")], length=3)
    masked = Fasta(fasta, alphabet=DNA.with_policy(lower="mask"))
    assert VariantDataset(masked, [("one", 20, "a", "c")], length=1)[0][0].tolist() == [[N], [1]]


def test_an_alphabet_without_strands(tmp_path: Path) -> None:
    fasta = Fasta(write_fasta(tmp_path, {"one": "ACACA"}), alphabet=PROTEIN)
    data = VariantDataset(fasta, [("one", 2, "A", "G")], length=3)
    assert PROTEIN.text(data[0][0]) == ["CAC", "CGC"]
    with pytest.raises(VariantError, match="expected one strand, as PROTEIN has no complement"):
        VariantDataset(fasta, [("one", 2, "A", "G")], length=3, both_strands=True)


# Effects


class Composition(nn.Module):
    """Mean of G and C, and of A; dropout shows whether the model is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.9)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        gc = ((tokens == 1) | (tokens == 2)).float().mean(1)
        return self.dropout(torch.stack([gc, (tokens == 0).float().mean(1)], 1)) * self.scale


@pytest.mark.parametrize("both_strands", [False, True])
@pytest.mark.parametrize("batch_size", [4, 5, 64])
def test_effects(fasta: str, tmp_path: Path, both_strands: bool, batch_size: int) -> None:
    data = VariantDataset(fasta, VARIANTS, length=9, both_strands=both_strands)
    model = Composition().train()
    effects = variant_effect(model, data, batch_size=batch_size, outputs=["gc", "a"], progress=False)
    assert model.training
    assert model.dropout.training
    windows = [DNA.text(pair) for (pair,) in VariantDataset(fasta, VARIANTS, length=9, beyond="unknown")]
    gc = torch.tensor([[sum(map(text.count, "GC")) / 9 for text in pair] for pair in windows])
    torch.testing.assert_close(torch.stack([effects.reference[:, 0], effects.alternative[:, 0]], 1), gc)
    torch.testing.assert_close(effects.effect, effects.alternative - effects.reference)
    a = torch.tensor([sum(text.count(letter) for letter in "AT"[: 1 + both_strands]) for text, _ in windows])
    torch.testing.assert_close(effects.reference[:, 1], a / 9 / (1 + both_strands))
    effects.to_csv(tmp_path / "effects.csv")
    with open(tmp_path / "effects.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["alt"] for row in rows] == ["G", "T", "CTTT", "C"]
    assert [float(row["gc_difference"]) for row in rows] == effects.effect[:, 0].tolist()
    assert effects.frame()["position"].tolist() == [3, 2, 9, 20]
    top = effects.top(2)
    assert top.effect[:, 0].abs().tolist() == sorted(effects.effect[:, 0].abs().tolist(), reverse=True)[:2]
    assert repr(effects).startswith("VariantEffects(4 variants, 2 outputs, difference, largest 0.")


def test_log_ratio_transform_and_targets(fasta: str) -> None:
    data = VariantDataset(fasta, VARIANTS, length=9, targets=range(4))
    options: dict[str, Any] = {"statistic": "log_ratio", "progress": False}
    effects = variant_effect(Composition(), data, pseudocount=1.0, transform=lambda y: y[:, :1], **options)
    expected = (effects.alternative + 1).log2() - (effects.reference + 1).log2()
    torch.testing.assert_close(effects.effect, expected)
    assert isinstance(effects, VariantEffects)
    with pytest.raises(
        VariantError, match=r"expected positive predictions for a log ratio, received -1; give a"
    ):
        variant_effect(lambda tokens: -torch.ones(len(tokens)), data, **options)


def test_effects_of_no_variants_and_the_bar(fasta: str, capsys: pytest.CaptureFixture[str]) -> None:
    none = variant_effect(Composition(), VariantDataset(fasta, [], length=3), progress=False)
    assert (len(none), none.effect.shape) == (0, (0, 1))
    variant_effect(Composition(), VariantDataset(fasta, VARIANTS, length=3))
    assert capsys.readouterr().out == ""


def test_complaints_of_effects(fasta: str) -> None:
    data = VariantDataset(fasta, VARIANTS, length=9)
    with pytest.raises(
        VariantError, match=r"expected predictions \(8,\) or \(8, outputs\), received shape \(8, 9, 1\)"
    ):
        variant_effect(lambda tokens: tokens.unsqueeze(2), data, progress=False)
    with pytest.raises(
        VariantError, match="expected statistic to be one of 'difference', 'log_ratio', received 'x'"
    ):
        variant_effect(Composition(), data, statistic="x")
    with pytest.raises(VariantError, match="expected 2 names of outputs, received"):
        variant_effect(Composition(), data, outputs=["a"], progress=False)
    with pytest.raises(VariantError, match="expected batch_size from 4 on, received 1"):
        variant_effect(Composition(), data, batch_size=1)
