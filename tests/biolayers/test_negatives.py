"""Negatives against naive counts: composition kernels, what may be drawn, how well it matches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biolayers import DNA, PROTEIN, Fasta, IntervalDataset, IntervalError, Intervals, negatives
from biolayers.intervals import composition
from biolayers.kernels.numba import composition as kernel
from shared.threads import finest_grain


def genome_of(sizes: dict[str, int], seed: int = 0) -> dict[str, str]:
    """Sequences whose G and C content wanders, with some runs of N."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, size in sizes.items():
        strong = np.repeat(rng.uniform(0.2, 0.8, -(-size // 50)), 50)[:size]
        letters = np.where(
            rng.random(size) < strong, rng.choice(list("GC"), size), rng.choice(list("AT"), size)
        )
        for start in rng.integers(0, size, size // 400):
            letters[start : start + 15] = "N"
        found[name] = "".join(letters)
    return found


TEXTS = genome_of({"chr1": 9_000, "chr2": 4_000, "tiny": 30})


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Fasta:
    path = tmp_path_factory.mktemp("genome") / "x.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in TEXTS.items()))
    return Fasta(path)


def naive(contig: str, start: int, end: int) -> tuple[int, int]:
    letters = TEXTS[contig][max(start, 0) : end]
    return sum(letters.count(x) for x in "GC"), sum(letters.count(x) for x in "ACGT")


# Composition


@pytest.mark.parametrize(("blocks", "size"), [(0, 3), (1, 1), (1, 1000), (77, 13), (501, 64)])
def test_counts_of_blocks(blocks: int, size: int) -> None:
    tokens = torch.randint(0, 256, (blocks * size,), dtype=torch.uint8).numpy()
    marked = np.zeros(256, np.uint8)
    marked[[1, 2]] = 1
    out = np.full((blocks, 2), -(2**60))
    kernel.count(0, blocks, tokens, size, 4, marked, out)
    rows = tokens.reshape(blocks, size)
    assert out.tolist() == np.stack([np.isin(rows, [1, 2]).sum(1), (rows < 4).sum(1)], 1).tolist()


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 20), st.randoms())
def test_sliding_sums(width: int, step: int, n: int, random: Any) -> None:
    blocks = np.array([[random.randrange(9), random.randrange(9)] for _ in range((n - 1) * step + width)])
    out = np.full((n, 2), -(2**60))
    kernel.windows(blocks, width, step, out)
    assert out.tolist() == [blocks[i * step : i * step + width].sum(0).tolist() for i in range(n)]


@given(st.integers(0, 50), st.integers(1, 200), st.integers(1, 300), st.sampled_from([64, 500, 1 << 22]))
def test_along_a_contig(genome: Fasta, first: int, length: int, step: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch, finest_grain():
        patch.setattr(composition, "_CHUNK", chunk)
        patch.setattr(composition, "_ROW", 97)
        parts = list(composition.along(genome, 1, first, length, step))
    starts = np.concatenate([starts for starts, _ in parts])
    assert starts.tolist() == list(range(first, 4_000 - length + 1, step))
    found = [
        pair for _, part in parts for pair in zip(part.strong.tolist(), part.plain.tolist(), strict=True)
    ]
    assert found == [naive("chr2", start, start + length) for start in starts.tolist()]


def test_of_intervals(genome: Fasta) -> None:
    table = Intervals.of([("chr2", 5, 105), ("tiny", 0, 30)]).resize(100)
    found = composition.of_intervals(genome, table)
    expected = [naive("chr2", 5, 105), naive("tiny", -35, 30)]
    assert list(zip(found.strong.tolist(), found.plain.tolist(), strict=True)) == expected
    assert np.isnan(composition.of_intervals(genome, Intervals.of([("chr1", 5, 5)])).gc).all()
    with pytest.raises(IntervalError, match=r"expected DNA or RNA.*received PROTEIN"):
        composition.of_intervals(Fasta(genome.path, alphabet=PROTEIN), table)


# Negatives


@pytest.fixture(scope="module")
def positives() -> Intervals:
    """Windows that hold much G and C."""
    windows = Intervals.of([("chr1", k, k + 40) for k in range(0, 8_960, 40)])
    windows = windows[[naive(*row[:3])[1] == 40 for row in windows]]
    strong = np.array([naive(*row[:3])[0] for row in windows])
    return windows[np.argsort(-strong, kind="stable")[10:70:2]]


@pytest.mark.parametrize("kind", ["gc", "random"])
@pytest.mark.parametrize("step", [None, 7])
def test_what_may_be_drawn(genome: Fasta, positives: Intervals, kind: str, step: int | None) -> None:
    blacklist = Intervals.of([("chr1", 0, 3_000), ("chr2", 100, 100)])
    contigs = ["chr2", "chr1", "tiny"]
    found = negatives(genome, positives, kind=kind, exclude=blacklist, contigs=contigs, step=step, seed=3)
    assert len(found) == 30
    assert (found.lengths == 40).all()
    assert not found.overlap_counts(positives + blacklist).any()
    assert found.contig_names == tuple(TEXTS)
    for (contig, start, end, strand), gc in zip(found, found.column("gc").tolist(), strict=True):
        strong, plain = naive(contig, start, end)
        assert plain == 40
        assert gc == strong / plain
        assert strand == "."
    assert [tuple(row) for row in found.sort(genome)] == [tuple(row) for row in found]
    assert len({tuple(row) for row in found}) == 30
    if step is None:
        assert len(found.merge(gap=-1)) == 30
    again = negatives(genome, positives, kind=kind, exclude=blacklist, contigs=contigs, step=step, seed=3)
    other = negatives(genome, positives, kind=kind, exclude=blacklist, contigs=contigs, step=step, seed=4)
    assert [tuple(row) for row in again] == [tuple(row) for row in found] != [tuple(row) for row in other]


def test_content_is_matched(genome: Fasta, positives: Intervals) -> None:
    wanted = np.sort([naive(*row[:3])[0] / 40 for row in positives])
    matched = negatives(genome, positives, contigs=["chr1", "chr2"], step=5, bin_width=0.025)
    assert not matched.changes
    assert np.sort(matched.column("gc")).tolist() == wanted.tolist()
    random = negatives(genome, positives, kind="random", contigs=["chr1", "chr2"], step=5)
    assert abs(random.column("gc").mean() - wanted.mean()) > 0.1
    twice = negatives(genome, positives, n=60, contigs=["chr1", "chr2"], step=5, bin_width=0.025)
    assert np.sort(twice.column("gc")).tolist() == np.repeat(wanted, 2).tolist()


def test_neighbouring_bins_stand_in(genome: Fasta, positives: Intervals) -> None:
    found = negatives(genome, positives, n=100, contigs=["chr2"], step=20)
    assert len(found) == 100
    change = found.changes[-1]
    assert "taken from a neighbouring bin of G and C content" in str(change)
    assert 0 < change.touched <= 100
    every = negatives(genome, positives, kind="random", n=0)
    assert len(every) == 0


def test_ambiguous_letters(genome: Fasta) -> None:
    strict = negatives(genome, [("chr2", 0, 100)], n=25, seed=1)
    lenient = negatives(genome, [("chr2", 0, 100)], n=36, unknown=0.2, seed=1)
    plain = [naive(*row[:3])[1] for row in lenient]
    assert min(plain) >= 80
    assert min(plain) < 100
    assert all(naive(*row[:3])[1] == 100 for row in strict)


def test_all_windows_are_equally_probable(genome: Fasta) -> None:
    counts: dict[int, int] = {}
    for seed in range(400):
        for row in negatives(genome, [("chr2", 0, 400)], kind="random", n=2, unknown=1.0, seed=seed):
            counts[row.start // 400] = counts.get(row.start // 400, 0) + 1
    assert set(counts) <= set(range(1, 10))  # the first window is taken
    expected = 800 / 9
    assert all(abs(counts[k] - expected) < 5 * np.sqrt(expected) for k in range(1, 9))


def test_shuffled(genome: Fasta, positives: Intervals) -> None:
    found = negatives(genome, positives.with_columns(name="peak"), kind="shuffle", n=45, k=3)
    assert [tuple(row) for row in found] == [tuple(row) for row in positives] + [
        tuple(row) for row in positives[:15]
    ]
    assert set(found.column("shuffle").tolist()) == {3}
    tokens = IntervalDataset(genome, found, seed=1).batch(range(45))[0]
    assert not torch.equal(tokens[0], tokens[30])  # another shuffle of the same window
    for row, start in zip(DNA.text(tokens), found.starts.tolist(), strict=True):
        letters = TEXTS["chr1"][start : start + 40]
        assert sorted(letters[i : i + 3] for i in range(38)) == sorted(row[i : i + 3] for i in range(38))
    (path := Path(genome.path).parent / "shuffled.bed").unlink(missing_ok=True)
    found.write(path)
    again = IntervalDataset(genome, Intervals.read(path), seed=1)
    assert torch.equal(again.batch(range(45))[0], tokens)


PEAKS = [("chr1", 0, 50), ("chr1", 60, 111)]
FAULTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "interval 1: expected 50 letters as the first interval, received 51; give length=": (PEAKS, {}),
    "expected at least one interval, received none": ([], {}),
    "expected kind to be one of 'gc', 'random', 'shuffle', received 'other'": (PEAKS, {"kind": "other"}),
    "expected n from 0 on, unknown from 0 to 1, bin_width from 0.0001 to 1": (PEAKS, {"bin_width": 0.0}),
    "expected a step from 1 on, received 0": (PEAKS, {"length": 50, "step": 0}),
    "expected at least 5,000 windows of 50 letters outside the given": (PEAKS, {"length": 50, "n": 5_000}),
    "received 'chr9'": (PEAKS, {"length": 50, "contigs": ["chr9"]}),
    "received '1', which seems to be called 'chr1' there": ([("1", 0, 5)], {}),
    "received '2' where that has 'chr2'": (PEAKS, {"length": 50, "exclude": [("2", 0, 5)]}),
}


@pytest.mark.parametrize("message", FAULTS)
def test_complaints(genome: Fasta, message: str) -> None:
    given, options = FAULTS[message]
    with pytest.raises(IntervalError) as caught:
        negatives(genome, given, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
