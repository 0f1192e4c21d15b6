"""Draws from probabilities: their distribution, what they follow from, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from qlayers.kernels.numba.draws import draw_counts, draw_outcomes
from qlayers.sampling.draws import Seed, counts, draw, outcomes
from shared.errors import UserError
from shared.threads import finest_grain

SEED = Seed(11, -7)
REFUSED = 1e-5  # a right sampler fails a test with this probability, for fixed seeds once and for all
GAMMA, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mixed(value: int) -> int:
    """SplitMix64's mixing function in whole numbers."""
    value = ((value ^ (value >> 30)) * FIRST) % 2**64
    value = ((value ^ (value >> 27)) * SECOND) % 2**64
    return value ^ (value >> 31)


def uniforms(seed: Seed, row: int, count: int) -> np.ndarray:
    start = mixed((mixed(mixed((seed.key + GAMMA) % 2**64) ^ seed.nonce % 2**64) + row * GAMMA) % 2**64)
    return np.array([(mixed((start + (i + 1) * GAMMA) % 2**64) >> 11) * 2.0**-53 for i in range(count)])


def test_the_mixing_function_is_that_of_the_paper():
    # the first numbers of SplitMix64 from the seed 1234567, as published with its reference implementation
    found = [mixed((1234567 + (i + 1) * GAMMA) % 2**64) for i in range(3)]
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("shots", [0, 1, 5, 300])
def test_outcomes_are_the_inverted_distribution_function(size, shots):
    p = np.random.default_rng(size).dirichlet(np.ones(size), 4)
    p[1, 0] = 0.0 if size > 1 else 1.0
    found = outcomes(p, shots, SEED, first_row=3)
    for row, own in enumerate(p):
        reached = np.cumsum(own)
        expected = np.searchsorted(reached, uniforms(SEED, 3 + row, shots) * reached[-1], side="right")
        np.testing.assert_array_equal(found[row], expected)


AWKWARD = [
    (1, 0.3),
    (1, 0.5),
    (7, 0.999),
    (30, 0.5),
    (1000, 0.0005),
    (1000, 0.0099),
    (1000, 0.0101),  # both sides of where the method changes
    (1000, 0.98),
    (10**6, 0.3),
    (10**6, 1e-6),
    (10**9, 0.7),
]


@pytest.mark.parametrize(("shots", "p"), AWKWARD)
def test_counts_of_two_outcomes_are_binomial(shots, p):
    rows = 50_000
    found = counts(np.tile([p, 1.0 - p], (rows, 1)), shots, SEED)
    assert (found.sum(-1) == shots).all()
    exact = stats.binom(shots, p)
    edges = np.unique(exact.ppf(np.linspace(0, 1, 30)[1:-1]))
    expected = rows * np.diff(exact.cdf(edges), prepend=0.0, append=1.0)
    seen = np.histogram(found[:, 0], [-1.0, *(edges + 0.5), np.inf])[0]
    keep = expected > 5
    rest = [seen[~keep].sum()], [expected[~keep].sum()]
    seen, expected = np.append(seen[keep], rest[0]), np.append(expected[keep], rest[1])
    used = expected > 0.5
    assert seen[~used].sum() <= 3
    if used.sum() > 1:
        total = seen[used].sum() / expected[used].sum()
        assert stats.chisquare(seen[used], expected[used] * total).pvalue > REFUSED


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("take", ["counts", "outcomes"])
@pytest.mark.parametrize("size", [3, 16, 130])
def test_rows_are_multinomial(take, size, dtype):
    p = np.random.default_rng(size).dirichlet(np.full(size, 0.4)).astype(dtype)
    p[size // 2] = 0.0
    rows, shots = 2000, 150
    table = np.tile(p, (rows, 1))
    if take == "counts":
        seen = counts(table, shots, SEED)
    else:
        drawn = outcomes(table, shots, SEED)
        seen = np.stack([np.bincount(row, minlength=size) for row in drawn])
    assert (seen.sum(-1) == shots).all()
    assert (seen[:, p == 0] == 0).all()
    p = p.astype(float) / p.astype(float).sum()
    expected = p * rows * shots
    keep = expected > 5
    other = expected[~keep].sum()
    pooled = [*seen.sum(0)[keep], *([seen.sum(0)[~keep].sum()] if other > 1 else [])]
    wanted = np.array([*expected[keep], *([other] if other > 1 else [])])
    assert stats.chisquare(pooled, wanted * sum(pooled) / wanted.sum()).pvalue > REFUSED
    first, second = np.argsort(p)[-2:]
    covariance = np.cov(seen[:, first], seen[:, second])[0, 1] / shots
    assert covariance == pytest.approx(-p[first] * p[second], abs=5 * 0.25 / np.sqrt(rows))


@given(
    st.lists(st.sampled_from([0.0, 1.0, -1e-17, -1e-9, 1e-300, 0.25, 3.0, 1e-30]), min_size=1, max_size=9),
    st.sampled_from([0, 1, 2, 17, 10**6]),
)
def test_awkward_rows(weights, shots):
    p = np.array([weights])
    if max(weights) <= 0.0:
        for take in (counts, outcomes):
            if shots or take is counts:
                with pytest.raises(UserError, match="one of them above 0"):
                    take(p, min(shots, 100), SEED)
        return
    (seen,) = counts(p, shots, SEED)
    assert seen.sum() == shots
    assert (seen >= 0).all()
    assert (seen[p[0] <= 0] == 0).all()
    (drawn,) = outcomes(p, min(shots, 1000), SEED)
    assert (p[0][drawn] > 0).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_probabilities_that_are_not_finite_are_refused(wrong):
    p = np.array([[0.5, 0.5], [wrong, 0.5]])
    for take in (counts, outcomes):
        with pytest.raises(UserError, match=r"row 1: expected finite.*received \[(nan|inf), 0\.5\]"):
            take(p, 10, SEED)


def test_empty_tables():
    assert counts(np.ones((0, 4)), 10, SEED).shape == (0, 4)
    assert outcomes(np.ones((0, 4)), 10, SEED).shape == (0, 10)
    assert counts(np.ones((2, 1)), 10, SEED).tolist() == [[10], [10]]
    with pytest.raises(UserError, match="at least one outcome"):
        counts(np.ones((2, 0)), 10, SEED)


@pytest.mark.parametrize("kernel", [draw_counts, draw_outcomes])
def test_every_number_of_the_output_is_written(kernel):
    p = np.random.default_rng(0).dirichlet(np.ones(8), 5)
    found = []
    for garbage in (-(2**60), 2**60):
        out = np.full((5, 8), garbage, np.int64)
        kernel(1, 4, p, 8, 0, *SEED, out)
        assert (out[[0, 4]] == garbage).all()
        found.append(out[1:4])
    np.testing.assert_array_equal(*found)
    assert (found[0] < 9).all()


@pytest.mark.parametrize("take", [counts, outcomes])
def test_neither_threads_nor_cuts_show(take):
    p = np.random.default_rng(0).dirichlet(np.ones(8), 100)
    whole = take(p, 50, SEED)
    with finest_grain():
        np.testing.assert_array_equal(take(p, 50, SEED), whole)
    cut = np.concatenate([take(p[:37], 50, SEED), take(p[37:], 50, SEED, first_row=37)])
    np.testing.assert_array_equal(cut, whole)
    assert (take(p, 50, Seed(11, -6)) != whole).any()
    assert (take(p, 50, Seed(12, -7)) != whole).any()
    assert (take(p, 50, SEED.stream(1)) != whole).any()


def test_rows_are_independent():
    found = counts(np.full((20_000, 2), 0.5), 100, SEED)[:, 0]
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 5 / np.sqrt(20_000)
    other = counts(np.full((20_000, 2), 0.5), 100, SEED.stream(1))[:, 0]
    assert abs(np.corrcoef(found, other)[0, 1]) < 5 / np.sqrt(20_000)


def test_seeds_follow_the_generator():
    torch.manual_seed(3)
    first = Seed.of()
    assert Seed.of() != first
    torch.manual_seed(3)
    assert Seed.of() == first
    assert Seed.of(torch.Generator().manual_seed(3)) == first


@pytest.mark.parametrize("shots", [4, 100])
def test_single_shots_agree_with_their_counts(shots):
    p = np.random.default_rng(0).dirichlet(np.ones(8), 3)
    found = draw(("a", 1, 2), p, shots, SEED, single=True)
    bits = found.bits((2, "a"))
    assert bits.shape == (3, shots, 2)
    for row in range(3):
        pairs = bits[row] @ [2, 1]
        np.testing.assert_array_equal(np.bincount(pairs, minlength=4), found.seen((2, "a"))[row])
    values = np.array([1.0, -1.0])
    np.testing.assert_allclose(found.values((1,), values).mean(-1), found.mean((1,), values))
    few = draw(("a", 1, 2), p, shots, SEED, single=False)
    assert few.numbers is None
    assert (few.seen_at.sum((1, 2, 3)) == shots).all()
