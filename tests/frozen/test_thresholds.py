import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from skimage.filters import threshold_otsu

from sempre.errors import InputError
from sempre.frozen.prototypes import RULES, best_cut, click_threshold, dice_of_cuts, mixture_threshold, threshold

SCORES = st.floats(-1, 1, width=32)


@settings(max_examples=50)
@given(arrays(np.float32, (11, 13), elements=SCORES), st.integers(1, 100))
def test_top_takes_that_share_or_less(scores, percent):
    taken = (scores > threshold(scores, "top", percent)).mean()
    assert taken <= percent / 100
    if len(np.unique(scores)) == scores.size:
        assert taken > percent / 100 - 2 / scores.size


def test_otsu_is_scikit_images():
    scores = np.random.default_rng(0).normal(size=(20, 20))
    assert threshold(scores, "otsu") == threshold_otsu(scores)


def test_the_mixture_is_parted_where_both_are_equally_likely():
    random = np.random.default_rng(0)
    scores = np.concatenate([random.normal(0.1, 0.01, 30_000), random.normal(0.2, 0.03, 10_000)])
    found = threshold(scores.reshape(200, 200), "mixture")
    grid = np.linspace(0.1, 0.2, 10_001)
    ratio = 3 * stats.norm.pdf(grid, 0.1, 0.01) / stats.norm.pdf(grid, 0.2, 0.03)
    assert found == pytest.approx(grid[np.argmin(np.abs(np.log(ratio)))], abs=2e-3)
    assert found == mixture_threshold(scores), "order and shape do not matter"


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, st.integers(2, 60), elements=SCORES))
def test_any_scores_give_a_threshold_among_them(scores):
    for rule in ("top", "otsu", "mixture"):
        assert scores.min() - 1e-6 <= threshold(scores, rule) <= scores.max() + 1e-6


@pytest.mark.parametrize("rule", ["top", "otsu", "mixture"])
def test_a_map_of_one_value_has_no_foreground(rule):
    scores = np.full((12, 12), 0.3, np.float32)
    assert not (scores > threshold(scores, rule)).any()


def test_clicks_that_can_be_told_apart_are_parted_in_the_middle():
    assert click_threshold(np.array([0.5, 0.9]), np.array([0.1, 0.3])) == pytest.approx(0.4)
    assert click_threshold(np.array([0.5, 0.9]), np.array([0.1, 0.3, 0.6])) == pytest.approx(0.4)
    assert click_threshold(np.array([0.2]), np.array([0.2])) == pytest.approx(0.2)


@settings(max_examples=80)
@given(*(arrays(np.float64, st.integers(1, 12), elements=SCORES) for _ in range(2)))
def test_no_other_threshold_tells_clicks_apart_better(positive, negative):
    def right(at: float) -> float:
        return (positive > at).mean() + (negative <= at).mean()

    found = threshold(np.zeros(3), "clicks", at_positive=positive, at_negative=negative)
    values = np.unique([*positive, *negative])
    others = (values[1:] + values[:-1]) / 2
    assert all(right(found) >= right(other) - 1e-9 for other in others)


def test_what_is_wrong_is_named():
    scores = np.random.default_rng(0).random((5, 5))
    with pytest.raises(InputError, match="threshold=best is unknown: choose top, otsu, mixture, clicks"):
        threshold(scores, "best")
    with pytest.raises(InputError, match="threshold=clicks needs positive and negative clicks"):
        threshold(scores, "clicks", at_positive=np.ones(3))
    for percent in (0, 101, -3):
        with pytest.raises(InputError, match="is no share of a map"):
            threshold(scores, "top", percent)
    assert RULES == ("top", "otsu", "mixture", "clicks")


def test_the_threshold_is_the_middle_of_the_best():
    cuts = np.linspace(0.2, 0.8, 13).tolist()
    true = np.zeros((10, 10), bool)
    true[2:6] = True
    sharp = np.where(true, 0.62, 0.38)
    assert best_cut([dice_of_cuts(sharp, true, cuts)], cuts) == pytest.approx(0.5)
    assert best_cut([dice_of_cuts(np.where(true, 0.9, 0.72), true, cuts)], cuts) == pytest.approx(0.8)
