"""The saturating curve finds what made the points, and says nothing where there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempre.study.results import fit_saturation

COUNTS = np.repeat(2.0 ** np.arange(9), 3)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.6, 0.95), st.floats(0.1, 0.5), st.floats(0.2, 1.5))
def test_the_curve_behind_the_points_is_found(a, b, c):
    fit = fit_saturation(COUNTS, a - b * COUNTS**-c)
    assert (fit.a, fit.b, fit.c) == pytest.approx((a, b, c), abs=1e-3)
    level = a - b / 3
    assert fit.reaches(level) == pytest.approx(3 ** (1 / c), rel=0.02)


def test_the_band_holds_the_truth_as_often_as_it_says():
    random, inside = np.random.default_rng(0), []
    for _ in range(100):
        scores = 0.8 - 0.3 * COUNTS**-0.5 + random.normal(0, 0.02, len(COUNTS))
        fit = fit_saturation(COUNTS, scores)
        inside.append(abs(fit.at(64.0) - (0.8 - 0.3 * 64**-0.5)) <= fit.half_width(64.0))
    assert np.mean(inside) > 0.88


def test_the_band_widens_where_there_are_no_points():
    random = np.random.default_rng(0)
    fit = fit_saturation(COUNTS, 0.8 - 0.3 * COUNTS**-0.5 + random.normal(0, 0.02, len(COUNTS)))
    assert fit.half_width(2560.0) > fit.half_width(64.0)


def test_a_level_that_is_never_reached_or_was_passed_before_has_no_number():
    fit = fit_saturation(COUNTS, 0.8 - 0.3 * COUNTS**-0.5)
    assert fit.reaches(0.9) is None
    assert fit.reaches(0.4) is None


@pytest.mark.parametrize(
    ("n", "scores"),
    [
        ([1, 2, 4], [0.1, 0.2, 0.3]),
        ([0, 1, 2, 4], [0.1, 0.1, 0.2, 0.3]),
        ([1, 2, 4, 8, 16], [0.1, 0.2, 0.3, 0.4, 0.5]),
        ([1, 2, 4, 8, 16], [0.5, 0.5, 0.5, 0.5, 0.5]),
    ],
    ids=["three numbers", "three beside none", "a straight line", "nothing grows"],
)
def test_there_is_no_curve_where_none_can_be_told(n, scores):
    assert fit_saturation(np.array(n), np.array(scores)) is None
