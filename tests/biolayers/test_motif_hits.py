"""The search for motif sites: against every window scored one by one, and every word enumerated."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biolayers import DNA, Fasta, Intervals
from biolayers.kernels.numba import motif_hits as kernel
from biolayers.motifs import search
from biolayers.motifs.distribution import p_value_of, score_of
from biolayers.motifs.errors import MotifError
from biolayers.motifs.motif import Motif
from biolayers.motifs.search import find_motifs, stream_motifs
from shared.errors import UserError
from shared.threads import finest_grain

SKEWED = (0.4, 0.1, 0.2, 0.3)
PLAIN = {"skip": 4, "zero": 15, "expected": 15}  # tokens that may belong to a site


def random_motif(width, seed, *, background=(0.25,) * 4, name=""):
    draw = np.random.default_rng(seed)
    return Motif(draw.dirichlet([0.4] * 4, width).T * 50, name=name, background=background)


def token_scores(motif, unknown, strand):
    """(256, w): what each token, as it is read, adds; nan where it may not be."""
    odds = motif.log_odds()
    table = np.full((256, len(motif)), np.nan)
    table[:4] = odds
    for token, meaning in enumerate(list(DNA.meanings.values())[4:], 4):
        rows = [DNA.letters.index(letter) for letter in meaning]
        share = np.array(motif.background)[::strand][rows]
        if unknown == "expected":
            table[token] = share @ odds[rows] / share.sum()
        elif unknown == "zero":
            table[token] = 0
    return table


def brute(rows, motifs, unknown="skip", both_strands=True):
    """The score of every window by (row, start, motif, strand), straight from the definition."""
    scores = {}
    for (r, row), (m, motif) in itertools.product(enumerate(rows), enumerate(motifs)):
        for strand in (1, -1)[: 1 + both_strands]:
            table = token_scores(motif, unknown, strand)
            for start in range(len(row) - len(motif) + 1):
                window = np.asarray(row[start : start + len(motif)])
                if strand < 0:
                    window = DNA.complement_table[window][::-1]
                scores[r, start, m, strand] = table[window, np.arange(len(motif))].sum()
    return {site: score for site, score in scores.items() if not np.isnan(score)}


def sites(hits):
    return list(zip(*(v.tolist() for v in (hits.sequence, hits.start, hits.motif, hits.strand)), strict=True))


def chances(motif, strand):
    """The chance of each word's score or a better one, by going through all 4^w words."""
    words = np.array(list(itertools.product(range(4), repeat=len(motif))))
    scores = motif.log_odds()[words, np.arange(len(motif))].sum(1)
    chance = np.array(motif.background[::strand])[words].prod(1)
    order = np.argsort(-scores)
    first = np.searchsorted(-scores[order], -scores, "right")
    return scores, np.cumsum(chance[order])[first - 1]


@pytest.mark.parametrize("width", [1, 2, 5, 8])
@pytest.mark.parametrize("strand", [1, -1])
def test_p_values_equal_all_words_enumerated(width, strand):
    motif = random_motif(width, width, background=SKEWED)
    scores, exact = chances(motif, strand)
    sign = "+-"[strand < 0]
    np.testing.assert_allclose(p_value_of(motif, scores, strand=sign), exact, rtol=1e-11)
    limit = score_of(motif, 0.01, strand=sign)
    assert set(scores[exact <= 0.01]) == set(scores[scores >= limit])


@pytest.mark.parametrize("background", [(0.25,) * 4, SKEWED])
def test_hits_equal_enumeration(background):
    """At every p-value, exactly the words whose enumerated chance is as small; both strands, 8-mers."""
    motif = random_motif(8, 3, background=background)
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (3, 4000)).astype(np.uint8))
    word_of = np.array([4**k for k in range(7, -1, -1)])
    for p_value in (1e-3, 1e-2, 0.2):
        expected = []
        for strand in (1, -1):
            _, exact = chances(motif, strand)
            for r, row in enumerate(tokens.numpy()):
                windows = np.lib.stride_tricks.sliding_window_view(row, 8)
                codes = (windows if strand > 0 else 3 - windows[:, ::-1]) @ word_of
                expected += [(r, int(p), 0, strand) for p in np.flatnonzero(exact[codes] <= p_value)]
        hits = find_motifs(tokens, motif, p_value=p_value)
        assert sites(hits) == sorted(expected, key=lambda site: (*site[:3], -site[3]))
        assert (hits.p_value <= p_value).all()
        assert hits.tests.tolist() == [3 * 2 * (4000 - 7)]


@pytest.mark.parametrize("text", ["TTTACGT", "ACGTTTT", "ACGT"])
@pytest.mark.parametrize("turned", [False, True])
def test_the_last_window(text, turned):
    motif, rest = Motif("ACGG"), text.replace("ACGT", "ACGG")
    if turned:
        rest = DNA.text(DNA.reverse_complement(DNA.tokens(rest)))
    hits = find_motifs(rest, motif, p_value=0.005)
    assert len(hits) == 1
    assert rest[hits.start[0] : hits.end[0]] == ("CCGT" if turned else "ACGG")
    assert hits.strand[0] == (-1 if turned else 1)


@st.composite
def calls(draw):
    widths = draw(st.lists(st.integers(1, 23), min_size=1, max_size=4))
    rows = draw(st.lists(st.integers(0, 50), min_size=1, max_size=4))
    return widths, rows, draw(st.sampled_from(sorted(PLAIN))), draw(st.booleans()), draw(st.integers(0, 999))


@settings(max_examples=12, deadline=None)
@given(calls(), st.sampled_from((1.0, 0.3, 0.02)))
def test_equals_every_window_scored(call, p_value):
    widths, lengths, unknown, both, seed = call
    draw = np.random.default_rng(seed)
    motifs = [random_motif(width, seed + i, background=SKEWED) for i, width in enumerate(widths)]
    rows = np.full((len(lengths), max(lengths)), 255, np.uint8)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = np.where(
            draw.random(length) < 0.05, draw.integers(4, 17, length), draw.integers(0, 4, length)
        )
        row[:length][row[:length] == 16] = 255
    hits = find_motifs(torch.from_numpy(rows), motifs, p_value=p_value, both_strands=both, unknown=unknown)
    exact = brute(rows, motifs, unknown, both)
    chance = {}
    for m, strand in itertools.product(range(len(motifs)), (1, -1)):
        some = [site for site in exact if site[2:] == (m, strand)]
        scores = np.array([exact[site] - 1e-9 for site in some])
        chance |= dict(zip(some, p_value_of(motifs[m], scores, strand="+-"[strand < 0]), strict=True))
    expected = [site for site in exact if chance[site] <= p_value]
    assert sites(hits) == sorted(expected, key=lambda site: (*site[:3], -site[3]))
    np.testing.assert_allclose(hits.score, [exact[site] for site in sites(hits)], atol=1e-9)
    np.testing.assert_allclose(hits.p_value, [chance[site] for site in sites(hits)], rtol=1e-9)
    for m, count in enumerate(hits.tests):
        assert count == sum(site[2] == m for site in exact)


@pytest.mark.parametrize("length", [kernel.BLOCK - 1, kernel.BLOCK, kernel.BLOCK + 9, 2 * kernel.BLOCK + 1])
def test_borders_of_blocks(length):
    """Real-valued weights without a grid, thresholds in the bulk: no site may be missed."""
    draw = np.random.default_rng(length)
    weights = draw.normal(size=(3, 4, 9))
    widths = np.array([9, 4, 7])
    tokens = draw.integers(0, 4, length).astype(np.uint8)
    thresholds = np.array([3.0, 2.0, 9.5])
    tables = np.empty((3, -(-9 // kernel.WORD), kernel.LANES), np.uint8)
    kernel.tabulate(0, 3, weights, widths, thresholds, tables)
    run = np.empty_like(tokens)
    kernel.runs(tokens, np.array([0, length]), 4, run)
    blocks = np.arange(-(-length // kernel.BLOCK))
    counts, room = np.zeros(len(blocks), np.int64), 3 * kernel.BLOCK
    shape = len(blocks), room
    found = np.full(shape, -1, np.int32), np.full(shape, -1), np.full(shape, np.nan)
    kernel.find(0, len(blocks), blocks, tokens, run, tables, widths, weights, thresholds, counts, *found)
    inside = np.arange(room) < counts[:, None]
    for s in range(3):
        count = length - widths[s] + 1
        scores = sum(weights[s, tokens[j : j + count], j] for j in range(widths[s]))
        chosen = inside & (found[0] == s)
        assert sorted(found[1][chosen]) == np.flatnonzero(scores >= thresholds[s]).tolist()


def test_crowded_blocks_get_room(monkeypatch):
    monkeypatch.setattr(search, "_ROOM", 1)
    tokens = torch.zeros(1, 3 * kernel.BLOCK, dtype=torch.uint8)  # far more sites than chance gives
    tokens[:, : kernel.BLOCK] = 1
    hits = find_motifs(tokens, "AAAAAAAA", both_strands=False)
    assert hits.start.tolist() == list(range(kernel.BLOCK, 3 * kernel.BLOCK - 7))


def test_the_number_of_threads_changes_nothing():
    tokens = torch.from_numpy(np.random.default_rng(1).integers(0, 5, (2, 40_000)).astype(np.uint8))
    motifs, threads, results = [random_motif(w, w) for w in (6, 11)], torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            with finest_grain():
                hits = find_motifs(tokens, motifs, p_value=1e-2)
            results.append((sites(hits), hits.score.tolist()))
    finally:
        torch.set_num_threads(threads)
    assert results[0] == results[1]
    assert results[0][0]


def test_biopython_finds_the_same():
    motif = random_motif(9, 5)
    text = DNA.text(torch.from_numpy(np.random.default_rng(2).integers(0, 4, 3000).astype(np.uint8)))
    pssm = motif.to_biopython().pssm
    threshold = 2.0 + 9 / 512  # beyond what the grid can move
    theirs = {(p % 3000, 1 if p >= 0 else -1) for p, _ in pssm.search(text, threshold=threshold)}
    ours = find_motifs(text, motif, min_score=2.0)
    found = dict(zip(zip(ours.start.tolist(), ours.strand.tolist(), strict=True), ours.score, strict=True))
    assert theirs <= set(found)
    assert {site for site, score in found.items() if score >= 2.0 + 18 / 512} <= theirs
    forward = pssm.calculate(text)
    for (start, strand), score in found.items():
        if strand > 0:
            assert abs(forward[start] - score) <= 9 / 512 + 1e-4


def test_q_values_are_benjamini_and_hochbergs():
    tokens = torch.from_numpy(np.random.default_rng(3).integers(0, 4, 2000).astype(np.uint8))
    motifs = [random_motif(5, 1), random_motif(7, 2)]
    every = find_motifs(tokens, motifs, p_value=1.0)
    some = find_motifs(tokens, motifs, p_value=0.01)
    assert every.tests.tolist() == [2 * 1996, 2 * 1994] == np.bincount(every.motif).tolist()
    for m in range(2):
        p = every.p_value[every.motif == m]
        q = every.q_value[every.motif == m]
        for i in range(0, len(p), 97):
            fitting = [len(p) * x / (p <= x).sum() for x in np.unique(p[p >= p[i]])]
            assert q[i] == pytest.approx(min([1.0, *fitting]), rel=1e-9)
        kept = dict(zip(sites(every), every.q_value, strict=True))
        np.testing.assert_allclose(some.q_value, [kept[site] for site in sites(some)], rtol=0.5)
        assert (some.q_value >= [kept[site] - 1e-12 for site in sites(some)]).all()


def test_a_fasta_file_in_pieces(tmp_path):
    draw = np.random.default_rng(4)
    texts = {
        f"chr{i}": "".join(draw.choice(list("ACGTN"), n, p=[0.24] * 4 + [0.04]))
        for i, n in enumerate((700, 3, 90))
    }
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in texts.items()))
    fasta, motifs = Fasta(path), [random_motif(4, 1, name="a"), random_motif(12, 2, name="b")]
    whole = find_motifs(list(texts.values()), motifs, p_value=0.02, names=list(texts))
    for piece in (61, 1 << 20):
        parts = list(stream_motifs(fasta, motifs, p_value=0.02, piece=piece))
        assert [site for part in parts for site in sites(part)] == sites(whole)
        assert sum(part.tests for part in parts).tolist() == whole.tests.tolist()
    found = find_motifs(fasta, motifs, p_value=0.02)
    assert found.columns()["sequence"].tolist() == whole.columns()["sequence"].tolist()
    np.testing.assert_array_equal(found.q_value, whole.q_value)


def test_tables(tmp_path):
    hits = find_motifs(
        ["TATAAATG", "GGCATTTATA"], Motif("TATAAAT", name="TATA"), p_value=1e-3, names=["x", "y"]
    )
    assert repr(hits) == "MotifHits(2 sites of 1 motif in 2 sequences)"
    frame = hits.to_pandas()
    assert frame.columns.tolist()[:5] == ["motif", "sequence", "start", "end", "strand"]
    assert frame.iloc[1, :5].tolist() == ["TATA", "y", 3, 10, "-"]
    hits.write(tmp_path / "hits.bed")
    bed = Intervals.read(tmp_path / "hits.bed")
    assert [tuple(interval) for interval in bed] == [("x", 0, 7, "+"), ("y", 3, 10, "-")]
    np.testing.assert_allclose(bed.numbers("p_value"), hits.p_value, rtol=1e-3)
    hits.write(tmp_path / "hits.tsv")
    lines = (tmp_path / "hits.tsv").read_text().split("\n")
    assert lines[0].split("\t") == list(frame.columns)
    assert lines[2].split("\t")[:5] == ["TATA", "y", "3", "10", "-"]
    assert hits.counts().tolist() == [[1], [1]]
    assert sites(hits.take(hits.strand < 0)) == [(1, 3, 0, -1)]


def test_no_sites_and_motifs_that_cannot_have_any():
    assert len(find_motifs("NNNNNNNNNN", "ACGT", p_value=1.0)) == 0
    assert len(find_motifs(torch.zeros(0, 5, dtype=torch.uint8), "ACGT")) == 0
    assert len(find_motifs([], "ACGT")) == 0
    short = find_motifs("ACG", "ACGT", p_value=1.0)
    assert (len(short), short.tests.tolist(), len(short.q_value)) == (0, [0], 0)
    assert find_motifs("ACGTACGT", ["ACGT", "ACGTACGT"]).silent == ("ACGT",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sequences": torch.zeros(4)}, r"uint8, received \(4,\) torch.float32"),
        ({"sequences": "ACGJ"}, "'J' at position 4"),
        ({"p_value": 0.0}, "p_value: expected a number above 0"),
        ({"p_value": 1.5}, "received 1.5"),
        ({"min_score": float("nan")}, "min_score"),
        ({"unknown": "guess"}, "skip, zero, expected, received 'guess'"),
        ({"motifs": []}, "at least one motif"),
        ({"background": [1, 2, 3]}, "4 positive numbers"),
        ({"names": ["a", "b"]}, "expected 1, one for each sequence, received 2"),
    ],
)
def test_errors(arguments, words):
    given = {"sequences": "ACGTACGT", "motifs": "ACGT"} | arguments
    with pytest.raises(UserError, match=words):
        find_motifs(given.pop("sequences"), given.pop("motifs"), **given)


def test_names_that_would_break_a_table(tmp_path):
    hits = find_motifs("ACGTACGT", Motif("ACGTACGT", name="a\tb"))
    with pytest.raises(MotifError, match="without tabs"):
        hits.write(tmp_path / "hits.tsv")


NARROW = """
import sys
import llvmlite.binding as llvm
features = llvm.get_host_cpu_features()
features.update((name, False) for name in features if name.startswith(tuple(sys.argv[1].split(","))))
llvm.get_host_cpu_features = lambda: features
import numpy as np
from numba import njit
from biolayers.kernels.numba import motif_lanes as lanes
assert lanes.WORD == 2, lanes.LOOK_UP
draw = np.random.default_rng(0)
tables = np.tile(draw.integers(0, 200, (3, 16)).astype(np.uint8), lanes.LANES // 16)
words = draw.integers(0, 16, (lanes.AT_ONCE + 2) * lanes.LANES).astype(np.uint8)
out = np.empty(lanes.AT_ONCE * lanes.LANES, np.uint8)

@njit
def run(tables, words, out, bound):
    total = lanes.nothing()
    for g in range(3):
        total = lanes.add_found(tables, g * lanes.LANES, words, g * lanes.LANES, total)
    lanes.put(out, total)
    bits = lanes.within(out, lanes.LANES, bound)
    return lanes.any_within(total, bound), bits, lanes.lowest(bits)

size = len(out)
exact = sum(tables[g, words[g * lanes.LANES :][:size]].astype(int) for g in range(3)).clip(max=255)
some = np.sort(exact)[40]
found = run(tables.reshape(-1), words, out, np.uint8(some))
line = exact[lanes.LANES : 2 * lanes.LANES] <= some
assert (out == exact).all()
assert found == (True, sum(1 << int(i) for i in np.flatnonzero(line)), line.argmax()), found
assert not run(tables.reshape(-1), words, out, np.uint8(exact.min() - 1))[0]
"""


@pytest.mark.parametrize("off", ["avx512"])
def test_processors_with_other_instructions(off):
    done = subprocess.run([sys.executable, "-c", NARROW, off], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
