"""Randomness by counter: the same for any grouping, evenly distributed, different for every purpose."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biolayers.batching.randomness import coin, integers, shuffled, uniform
from biolayers.kernels.numba import draws
from shared import splitmix
from shared.errors import UserError

SEEDS = st.integers(0, 2**64 - 1)
EPOCHS = st.integers(0, 2**40)


def chi_square(counts: np.ndarray) -> float:
    """How many standard deviations the statistic lies above what even chances give."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


@given(SEEDS, EPOCHS, st.lists(st.integers(0, 2**62), min_size=1, max_size=20))
def test_a_sample_needs_no_other(seed: int, epoch: int, indices: list[int]) -> None:
    whole = integers(seed, epoch, indices, "jitter", -5, 6)
    assert whole.tolist() == [int(integers(seed, epoch, [i], "jitter", -5, 6)[0]) for i in indices]
    assert ((whole >= -5) & (whole <= 5)).all()


@given(SEEDS, EPOCHS, st.integers(1, 300), st.data())
def test_shuffled_is_a_permutation_by_places(seed: int, epoch: int, n: int, data: st.DataObject) -> None:
    whole = shuffled(seed, epoch, np.arange(n), n)
    assert sorted(whole.tolist()) == list(range(n))
    some = data.draw(st.lists(st.integers(0, n - 1), max_size=10))
    assert shuffled(seed, epoch, some, n).tolist() == whole[some].tolist()


@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_order_is_equally_probable(n: int) -> None:
    found = Counter(tuple(shuffled(7, epoch, np.arange(n), n).tolist()) for epoch in range(1200))
    assert chi_square(np.array([found[order] for order in permutations(range(n))])) < 4


@pytest.mark.parametrize("n", [1000, 2**20 + 1, 10**12])
def test_places_of_large_orders_are_even(n: int) -> None:
    whole = shuffled(3, 1, np.arange(min(n, 20_000)), n)
    assert len(np.unique(whole)) == len(whole)
    assert chi_square(np.bincount(whole * 50 // n, minlength=50)) < (4 if n > 1000 else 0)
    if n > 20_000:  # neighbours are no nearer to each other than chance has it
        assert abs(np.corrcoef(whole[:-1], whole[1:])[0, 1]) < 0.03


@pytest.mark.parametrize(("low", "high"), [(0, 2), (-3, 4), (0, 100), (5, 6)])
def test_whole_numbers_are_even(low: int, high: int) -> None:
    drawn = integers(11, 2, np.arange(50_000), "test", low, high)
    assert set(np.unique(drawn)) == set(range(low, high))
    if high - low > 1:
        assert chi_square(np.bincount(drawn - low)) < 4


def test_a_bound_near_the_top_has_no_bias() -> None:
    """Without rejection, the lower half of these numbers would be twice as probable as the upper one."""
    bound = 3 * 2**61
    drawn = integers(11, 2, np.arange(20_000), "test", 0, bound)
    assert chi_square(np.bincount((drawn // (bound // 30)).astype(int), minlength=30)) < 4


def test_bounds_of_each_sample() -> None:
    low = np.arange(1000) * 10
    drawn = integers(1, 0, np.arange(1000), "test", low, low + 3)
    assert ((drawn >= low) & (drawn < low + 3)).all()
    assert set((drawn - low).tolist()) == {0, 1, 2}


def test_seeds_epochs_and_purposes_are_independent() -> None:
    rows = [
        uniform(seed, epoch, np.arange(5000), stream)
        for seed in (0, 1)
        for epoch in (0, 1)
        for stream in ("jitter", "strand")
    ]
    off_diagonal = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(off_diagonal).max() < 0.06  # four standard deviations
    for row in rows:
        assert chi_square(np.bincount((row * 20).astype(int), minlength=20)) < 4
        assert abs(np.corrcoef(row[:-1], row[1:])[0, 1]) < 0.06


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_coins(probability: float) -> None:
    tossed = coin(5, 0, np.arange(20_000), "strand", probability)
    assert tossed.dtype == bool
    assert abs(tossed.mean() - probability) < 4 * np.sqrt(probability * (1 - probability) / 20_000) + 1e-12


def test_the_mixing_function_is_that_of_the_kernels() -> None:
    values = np.array([0, 1, 2**63, 2**64 - 1, 0x9E3779B97F4A7C15], np.uint64)
    assert splitmix.mix(values).tolist() == [draws.mix(value) for value in values]


@pytest.mark.parametrize("indices", [[], np.empty(0, np.int64), range(0)])
def test_nothing_is_drawn_for_nothing(indices: object) -> None:
    assert integers(0, 0, indices, "x", 0, 5).shape == (0,)
    assert uniform(0, 0, indices, "x").shape == coin(0, 0, indices, "x").shape == (0,)
    assert shuffled(0, 0, indices, 0).shape == (0,)


def test_complaints() -> None:
    with pytest.raises(UserError, match="expected a seed from 0 up to"):
        coin(-1, 0, [0], "x")
    with pytest.raises(UserError, match="expected an epoch from 0 on, received -1"):
        coin(0, -1, [0], "x")
    with pytest.raises(UserError, match="expected bounds low < high for 'x', received 3 and 3"):
        integers(0, 0, [0], "x", 3, 3)
    with pytest.raises(UserError, match=r"expected a probability from 0 to 1, received 1\.5"):
        coin(0, 0, [0], "x", 1.5)
    with pytest.raises(UserError, match="expected places from 0 to 4, received 2 to 5"):
        shuffled(0, 0, [2, 5], 5)
