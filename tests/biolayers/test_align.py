"""Alignment: against sums over all paths, the reference, and Biopython's PairwiseAligner."""

import itertools

import numpy as np
import pytest
import torch
from Bio.Align import Alignment, PairwiseAligner, substitution_matrices
from hypothesis import given, settings
from hypothesis import strategies as st

import shared
from biolayers import DNA, PROTEIN
from biolayers.alignment import (
    align,
    best_alignments,
    expected_alignment,
    pair_scores,
    substitution_matrix,
)
from biolayers.layers import Align
from biolayers.ops import align as align_op
from biolayers.ops import align_backward, align_path

TOLERANCE = {torch.float64: 1e-11, torch.float32: 3e-6}
MODES = ("global", "local")


def example(b, n, m, *, dtype=torch.float64, spread=1.0, seed=0, ragged=True):
    """Similarity, lengths, gaps and the gradient of the scores."""
    rng = torch.Generator().manual_seed(seed)
    similarity = (spread * torch.randn(b, n, m, generator=rng, dtype=torch.float64)).to(dtype)
    lengths = torch.tensor([[n, m]]).repeat(b, 1)
    if ragged and b > 1:
        lengths = (torch.rand(b, 2, generator=rng) * torch.tensor([n + 1, m + 1])).long()
    gaps = -2 - torch.rand(2, b, generator=rng, dtype=torch.float64)
    gaps[1] = gaps[1] / 4
    return similarity, lengths, *gaps.to(dtype), torch.randn(b, generator=rng, dtype=torch.float64).to(dtype)


def steps(n, m, mode):
    """All paths, each a list of (state, i, j), by brute force."""

    def on(i, j, end):
        if (i, j) == end:
            yield []
        for state, di, dj in (("pair", 1, 1), ("down", 1, 0), ("right", 0, 1)):
            if i + di <= end[0] and j + dj <= end[1]:
                for rest in on(i + di, j + dj, end):
                    yield [(state, i, j), *rest]

    if mode == "global":
        yield from on(0, 0, (n, m))
        return
    yield []
    for i, j in itertools.product(range(n), range(m)):
        for end in itertools.product(range(i + 1, n + 1), range(j + 1, m + 1)):
            for path in on(i, j, end):
                if path[0][0] == path[-1][0] == "pair":
                    yield path


def worth(path, similarity, gap_open, gap_extend):
    total, before = similarity.new_zeros(()), ""
    for state, i, j in path:
        if state == "pair":
            total = total + similarity[i, j]
        else:
            total = total + (gap_extend if state == before else gap_open)
        before = state
    return total


@pytest.mark.parametrize("provider", ["numba", "reference"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(3, 3), (1, 4), (4, 2), (1, 1), (0, 3), (2, 0), (0, 0)])
def test_the_sum_over_all_paths(size, mode, provider):
    """Values, gradients and the hard limit, in similarity that is larger than the pair."""
    similarity, _, *gaps, _ = (t.requires_grad_(t.is_floating_point()) for t in example(1, 5, 6))
    lengths, temperature = torch.tensor([size]), 0.7
    worths = torch.stack([worth(p, similarity[0], *(g[0] for g in gaps)) for p in steps(*size, mode)])
    exact = temperature * torch.logsumexp(worths / temperature, 0)
    leaves = (similarity, *gaps)
    with shared.prefer(provider):
        found = align_op(similarity, lengths, *gaps, temperature, mode)
        gradients = torch.autograd.grad(found, leaves)
        best = align(similarity, lengths, gap_open=gaps[0], gap_extend=gaps[1], temperature=0, mode=mode)
    torch.testing.assert_close(found[0], exact)
    torch.testing.assert_close(best[0], worths.max())
    expected = [torch.zeros_like(leaf) for leaf in leaves]
    if exact.requires_grad:
        expected = torch.autograd.grad(exact, leaves, allow_unused=True, materialize_grads=True)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def compare_with_reference(similarity, lengths, gap_open, gap_extend, grad, temperature, mode):
    plain = (temperature, mode)
    ours = (
        align_op(similarity, lengths, gap_open, gap_extend, *plain),
        *align_backward(similarity, lengths, gap_open, gap_extend, grad, *plain),
    )
    wide = [t.double() for t in (gap_open, gap_extend, grad)]
    theirs = (
        align_op.reference(similarity.double(), lengths, *wide[:2], *plain),
        *align_backward.reference(similarity.double(), lengths, *wide, *plain),
    )
    for found, exact in zip(ours, theirs, strict=True):
        assert found.dtype == similarity.dtype
        scale = max(1.0, exact.abs().max().item()) if exact.numel() else 1.0
        assert torch.all((found.double() - exact).abs() <= TOLERANCE[similarity.dtype] * scale)


@settings(max_examples=25)
@given(
    st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 40)),
    st.sampled_from(MODES),
    st.sampled_from((torch.float32, torch.float64)),
    st.sampled_from((0.01, 0.3, 1.0, 5.0)),
    st.sampled_from((0.1, 1.0, 10.0)),
    st.integers(0, 2**16),
)
def test_equals_the_reference(sizes, mode, dtype, temperature, spread, seed):
    compare_with_reference(*example(*sizes, dtype=dtype, spread=spread, seed=seed), temperature, mode)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(2, 33, 50), (1, 17, 333), (1, 300, 16), (2, 64, 65)])
def test_awkward_sizes(size, mode, dtype):
    compare_with_reference(*example(*size, dtype=dtype, ragged=False), 1.0, mode)


@pytest.mark.parametrize("mode", MODES)
def test_segments_that_are_computed_again(mode, monkeypatch):
    """More rows than one segment keeps: 1,200 rows of 130 float64 columns are several segments."""
    arguments = example(1, 1200, 130, ragged=False)
    expected, *counts = align_backward(*arguments, 1.0, mode)
    similarity, lengths, *gaps, grad = arguments
    for index, count in enumerate(counts):  # against differences of the scores
        moved = []
        for by in (1e-4, -1e-4):
            shifted = list(gaps)
            shifted[index] = shifted[index] + by
            moved.append(align_op(similarity, lengths, *shifted, 1.0, mode))
        torch.testing.assert_close(grad * (moved[0] - moved[1]) / 2e-4, count, rtol=1e-6, atol=1e-6)
    turned = align_backward(similarity.transpose(1, 2), lengths.flip(1), *gaps, grad, 1.0, mode)[0]
    torch.testing.assert_close(turned.transpose(1, 2), expected)
    mirror = align_backward(similarity.flip(1, 2), lengths, *gaps, grad, 1.0, mode)[0]
    torch.testing.assert_close(mirror.flip(1, 2), expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_cold_pairs_leave_the_weights_and_stay_exact(dtype, mode):
    """At a low temperature no float holds the weights of a line: logarithms take over, pair by pair."""
    similarity, lengths, *rest = example(4, 30, 33, dtype=dtype)
    similarity[1] *= 300  # beyond float32's weights, and beyond float64's
    similarity[2] *= 30
    compare_with_reference(similarity, lengths, *rest, 0.5, mode)
    hard = align(similarity, lengths, gap_open=rest[0], gap_extend=rest[1], temperature=0, mode=mode)
    soft = align_op(similarity, lengths, *rest[:2], 1e-3, mode)
    torch.testing.assert_close(soft, hard, rtol=1e-5, atol=2e-2)


@pytest.mark.parametrize("mode", MODES)
def test_derivatives_to_second_order(mode):
    similarity, _, *gaps, _ = (t.requires_grad_(t.is_floating_point()) for t in example(2, 3, 4))
    lengths, temperature = torch.tensor([[3, 4], [2, 3]]), torch.tensor(0.8, dtype=torch.float64)

    def run(similarity, gap_open, gap_extend, temperature):
        options = {"gap_open": gap_open, "gap_extend": gap_extend, "temperature": temperature, "mode": mode}
        return align(similarity, lengths, **options)

    leaves = (similarity, *gaps, temperature.requires_grad_())
    assert torch.autograd.gradcheck(run, leaves, atol=1e-6)
    assert torch.autograd.gradgradcheck(run, leaves, atol=1e-6)
    average = expected_alignment(similarity, lengths, gap_open=gaps[0], gap_extend=gaps[1], mode=mode)
    assert average.requires_grad


@pytest.mark.parametrize("mode", MODES)
def test_forbidden_pairs_and_nan(mode):
    similarity, lengths, *gaps, grad = example(1, 20, 24)
    similarity[0, 3:9, 5] = -torch.inf
    score = align_op(similarity, lengths, *gaps, 1.0, mode)
    expected, *_ = align_backward(similarity, lengths, *gaps, grad, 1.0, mode)
    assert score.isfinite().all()
    assert not expected[0, 3:9, 5].any()
    compare_with_reference(similarity, lengths, *gaps, grad, 1.0, mode)
    similarity[0, 2, 2] = torch.nan
    assert align_op(similarity, lengths, *gaps, 1.0, mode).isnan().all()


def test_what_lies_beyond_the_lengths_is_not_looked_at():
    similarity, lengths, *rest = example(3, 20, 21, dtype=torch.float32)
    dirty = similarity.clone()
    for pair, (rows, columns) in enumerate(lengths):
        dirty[pair, rows:], dirty[pair, :, columns:] = torch.nan, torch.nan
    for a, b in zip(
        align_backward(dirty, lengths, *rest), align_backward(similarity, lengths, *rest), strict=True
    ):
        assert torch.equal(a, b)


# against Biopython


def biopython(mode, gap_open, gap_extend, matrix=None, match=2.0, mismatch=-1.0):
    aligner = PairwiseAligner(mode=mode, open_gap_score=gap_open, extend_gap_score=gap_extend)
    if matrix is None:
        aligner.match_score, aligner.mismatch_score = match, mismatch
    else:
        aligner.substitution_matrix = substitution_matrices.load(matrix)
    return aligner


@settings(max_examples=40)
@given(
    st.text("ACGT", max_size=14),
    st.text("ACGT", max_size=14),
    st.sampled_from(MODES),
    st.sampled_from([(-2.0, -1.0), (-3.5, -0.5), (-1.0, -1.0), (-1.0, -2.0)]),
)
def test_the_best_score_and_path_are_biopythons(first, second, mode, gaps):
    matches = pair_scores(*(DNA.tokens([text]) for text in (first, second)), 3 * torch.eye(4) - 1)
    options = {"gap_open": gaps[0], "gap_extend": gaps[1], "mode": mode}
    found = align(matches, temperature=0, **options)
    aligner = biopython(mode, *gaps)
    if first and second:
        assert found.item() == aligner.score(first, second)
    else:
        letters = len(first) + len(second)
        assert found.item() == (gaps[0] + (letters - 1) * gaps[1] if letters and mode == "global" else 0)
    (coordinates,) = best_alignments(matches, **options)
    assert worth_of(coordinates, first, second, *gaps) == found.item()
    if coordinates.size and first and second:
        assert Alignment([first, second], coordinates).shape[0] == 2


def worth_of(coordinates, first, second, gap_open, gap_extend):
    total = 0.0
    for (i, j), (k, l) in itertools.pairwise(coordinates.T):
        assert i <= k
        assert j <= l
        if i < k and j < l:
            assert k - i == l - j
            total += sum(2.0 if a == b else -1.0 for a, b in zip(first[i:k], second[j:l], strict=True))
        else:
            total += gap_open + (k - i + l - j - 1) * gap_extend
    return total


@pytest.mark.parametrize("mode", MODES)
def test_proteins_by_blosum62(mode):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list(PROTEIN.letters), size)) for size in (40, 55, 40, 70)]
    layer = Align("BLOSUM62", gap_open=-11, gap_extend=-1, temperature=0.0, mode=mode)
    aligner = biopython(mode, -11, -1, "BLOSUM62")
    for first, second in itertools.combinations(texts, 2):
        found = layer(PROTEIN.tokens([first]), PROTEIN.tokens([second]))
        assert found.item() == aligner.score(first, second)
    layer.temperature = 0.02
    assert layer(PROTEIN.tokens([first]), PROTEIN.tokens([second])).item() == pytest.approx(
        aligner.score(first, second), abs=0.2
    )


# the layer


def padded(texts):
    tokens = torch.full((len(texts), max(map(len, texts))), 255, dtype=torch.uint8)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = PROTEIN.tokens(text)
    return tokens


def test_layer_takes_tokens_and_columns_alike():
    first, second = padded(["HEAGAWGHEE", "MKV", ""]), padded(["PAWHEAE", "MXV", "MKVLA"])
    layer = Align(temperature=1.0, learn_matrix=True)
    lengths = torch.tensor([[10, 7], [3, 3], [0, 5]])
    scores = layer(first, second)
    torch.testing.assert_close(
        layer(PROTEIN.one_hot(first), PROTEIN.one_hot(second), lengths), scores, rtol=1e-5, atol=1e-5
    )
    alone = torch.cat(
        [layer(first[i : i + 1, :n], second[i : i + 1, :m]) for i, (n, m) in enumerate(lengths)]
    )
    torch.testing.assert_close(scores, alone)
    scores.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())
    assert layer.expected(first, second).sum((1, 2))[2] == 0
    assert [c.shape[0] for c in layer.best(first, second)] == [2, 2, 2]


def test_layer_learns_gaps_and_temperature_from_embeddings():
    layer = Align(None, gap_open=-2, gap_extend=-0.5, mode="global", learn_temperature=True, temperature=0.5)
    assert {name for name, _ in layer.named_parameters()} == {"gap_open", "gap_extend", "log_temperature"}
    first, second = torch.randn(3, 8, 12, requires_grad=True), torch.randn(3, 8, 9)
    layer(first, second).sum().backward()
    assert all(p.grad.abs() > 0 for p in layer.parameters())
    assert first.grad.abs().sum() > 0
    assert layer.expected(first, second).shape == (3, 12, 9)
    again = Align(None, mode="global", learn_temperature=True)
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(first, second), layer(first, second))


# errors


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"similarity": torch.zeros(3, 4)}, r"similarity \(b, n, m\).*\(3, 4\)"),
        ({"similarity": torch.zeros(1, 3, 4, dtype=torch.int64)}, "floats.*int64"),
        ({"lengths": torch.tensor([[3, 4], [3, 4]])}, r"lengths \(1, 2\).*\(2, 2\)"),
        ({"lengths": torch.tensor([[3.0, 4.0]])}, "integers.*float32"),
        ({"lengths": torch.tensor([[3, 5]])}, r"at most 3 and 4.*\(3, 5\) for pair 0"),
        ({"lengths": torch.tensor([[-1, 2]])}, r"received \(-1, 2\)"),
        ({"gap_open": torch.zeros(2)}, r"gap_open.*\(1,\).*\(2,\)"),
        ({"temperature": -1.0}, "temperature above 0, received -1.0"),
        ({"temperature": torch.ones(2)}, r"one temperature.*\(2,\)"),
        ({"mode": "glocal"}, "'global' or 'local', received 'glocal'"),
    ],
)
def test_errors_name_what_is_wrong(change, words):
    arguments = {"similarity": torch.zeros(1, 3, 4), "lengths": None, "gap_open": -1.0, "gap_extend": -1.0}
    with pytest.raises(shared.UserError, match=words):
        align(**(arguments | change))


def test_errors_of_letters_and_layers():
    tokens, columns = torch.zeros(1, 3, dtype=torch.uint8), torch.zeros(1, 4, 3)
    for first, second, matrix, words in (
        (tokens, columns, torch.eye(4), "same kind"),
        (tokens, tokens, None, "substitution_matrix"),
        (tokens.long(), tokens, torch.eye(4), "uint8.*int64"),
        (columns, columns, torch.eye(5), "columns of 5 channels"),
        (tokens, tokens, torch.ones(4, 3), r"matrix \(channels, channels\)"),
    ):
        with pytest.raises(shared.UserError, match=words):
            pair_scores(first, second, matrix)
    with pytest.raises(shared.UserError, match=r"BLOSUM62.*'BLOSUM63'"):
        substitution_matrix("BLOSUM63")
    with pytest.raises(shared.UserError, match="without"):
        substitution_matrix("NUC.4.4", PROTEIN)
    with pytest.raises(shared.UserError, match="above 0, received 0"):
        Align(temperature=0.0, learn_temperature=True)
    with pytest.raises(shared.UserError, match="matrix to learn"):
        Align(None, learn_matrix=True)


def test_empty_batch_and_the_numba_kernel():
    similarity, lengths, *gaps, grad = example(0, 4, 5)
    assert align_op(similarity, lengths, *gaps).shape == (0,)
    assert align_backward(similarity, lengths, *gaps, grad)[0].shape == (0, 4, 5)
    assert align_path(similarity, lengths, *gaps)[0].shape == (0, 4)
    similarity, lengths, *gaps, _ = example(2, 4, 5)
    assert align_op.explain(similarity, lengths, *gaps).chosen == "numba"
    assert align_path.explain(similarity, lengths, *gaps).chosen == "numba"
