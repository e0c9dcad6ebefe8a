"""Paired differences against scipy's bootstrap and known values of Wilcoxon's test."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from sempre.study.results import paired_difference, paired_differences

SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12)


def test_the_interval_is_that_of_scipys_bootstrap():
    random = np.random.default_rng(1)
    first, second = random.normal(0.7, 0.1, 30), random.normal(0.75, 0.1, 30)
    found = paired_difference(first, second)
    expected = bootstrap((second - first,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert found.low == pytest.approx(expected.low, abs=2e-3)
    assert found.high == pytest.approx(expected.high, abs=2e-3)


def test_p_of_a_difference_of_one_sign_is_known():
    """All of six micrographs better: two of 2^6 signs are as extreme."""
    found = paired_difference(np.zeros(6), np.arange(1, 7) / 10)
    assert found.p == pytest.approx(2 / 2**6)
    assert found.mean == pytest.approx(0.35)


def test_equal_arms_do_not_differ():
    found = paired_difference(np.full(5, 0.5), np.full(5, 0.5))
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


@settings(deadline=None, max_examples=25)
@given(SCORES)
def test_the_interval_holds_the_mean_and_turns_with_the_pair(pairs):
    first, second = np.array(pairs).T
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert there.low - 1e-9 <= there.mean <= there.high + 1e-9
    assert 0 <= there.p <= 1
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low), abs=0.05)


def test_only_micrographs_that_both_have_are_compared():
    scores = {"a": {"x": 0.1, "y": 0.2}, "b": {"y": 0.6, "z": 0.9}, "c": {"z": 1.0}}
    pairs = paired_differences(scores)
    assert set(pairs) == {("a", "b"), ("b", "c")}
    assert pairs["a", "b"].mean == pytest.approx(0.4)
