"""Scores and their intervals against SciPy and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from shared.app.scores import f1_interval, summary, wilson


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(pair):
    hits, trials = pair
    expected = binomtest(hits, trials).proportion_ci(0.95, method="wilson")
    assert wilson(hits, trials) == pytest.approx(tuple(expected), abs=1e-9)


def test_nothing_tried_is_nothing_known():
    assert wilson(0, 0) == (0.0, 1.0)


def test_scores_by_hand():
    found = summary([[8, 2], [1, 9]], ["a", "b"])
    a = found["per_class"]["a"]
    assert a["support"] == 10
    assert a["precision"] == pytest.approx(8 / 9)
    assert a["recall"] == pytest.approx(0.8)
    assert a["f1"] == pytest.approx(16 / 19)
    assert found["confusion"] == [[8, 2], [1, 9]]


def test_a_class_that_never_occurs_has_scores_too():
    found = summary([[5, 0], [0, 0]], ["a", "b"])
    assert found["per_class"]["b"]["recall"] == 0
    assert found["per_class"]["b"]["recall_interval"] == (0.0, 1.0)


def test_the_interval_of_f1_covers_as_often_as_it_says():
    """Of 400 draws from a known truth, about 95 % of the intervals hold the true F1."""
    rng = np.random.default_rng(0)
    truth = np.array([[0.4, 0.1], [0.05, 0.45]])
    f1 = 2 * 0.4 / (2 * 0.4 + 0.1 + 0.05)
    held = 0
    for seed in range(400):
        counts = rng.multinomial(200, truth.ravel()).reshape(2, 2)
        low, high = f1_interval(counts, 0, draws=400, seed=seed)
        held += low <= f1 <= high
    assert 0.91 <= held / 400 <= 0.98
