import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sempre.errors import InputError
from sempre.frozen.clusters import (
    best_iou,
    chosen_by_clicks,
    chosen_by_rule,
    cluster_image,
    foreground,
    most_chosen,
    ranked,
)
from sempre.frozen.prototypes import Clicks

NOWHERE = np.empty((0, 2))


def disc(inside: float, outside: float) -> np.ndarray:
    """A micrograph of one disc in the middle, 40x50 px, with some noise."""
    y, x = np.mgrid[:40, :50]
    noise = np.random.default_rng(0).normal(scale=0.05, size=(40, 50))
    return (np.where((y - 20) ** 2 + (x - 25) ** 2 < 100, inside, outside) + noise).astype(np.float32)


def mask_of(grey: np.ndarray, rule: str = "border") -> np.ndarray:
    clusters = cluster_image(grey[..., None], 2)
    return foreground(clusters, chosen_by_rule(clusters, grey, rule))


def test_the_foreground_is_what_touches_the_border_less_or_what_is_bright():
    true = disc(1.0, 0.0) > 0.5
    for inside, outside in ((1.0, 0.0), (0.0, 1.0)):
        np.testing.assert_array_equal(mask_of(disc(inside, outside)), true)
    np.testing.assert_array_equal(mask_of(disc(1.0, 0.0), "bright"), true)
    assert mask_of(disc(0.0, 1.0), "bright")[0, 0]


@given(arrays(np.int64, (5, 6), elements=st.integers(0, 2)))
def test_border_clusters_are_counted_px_by_px(clusters):
    names = set(clusters.ravel().tolist())
    border = [clusters[y, x] for y in range(5) for x in range(6) if y in (0, 4) or x in (0, 5)]
    expected = {name for name in names if border.count(name) * len(names) < len(border)}
    chosen = chosen_by_rule(clusters, np.zeros((5, 6)))
    assert set(chosen) == expected
    assert foreground(clusters, chosen)[np.isin(clusters, chosen)].all()
    np.testing.assert_array_equal(foreground(clusters, chosen, fill_holes=False), np.isin(clusters, chosen))


def test_a_micrograph_without_contrast_has_no_foreground():
    assert not mask_of(np.zeros((8, 9), np.float32)).any()


def test_an_unknown_rule():
    with pytest.raises(InputError, match="rule=dark is unknown"):
        chosen_by_rule(np.eye(3, dtype=int), np.eye(3), "dark")


def test_holes_are_filled_and_the_best_clusters_bound_the_rule():
    ring = np.zeros((20, 20), int)
    ring[5:15, 5:15] = 1
    ring[8:12, 8:12] = 0
    found = foreground(ring, [1])
    assert found.sum() == 100
    assert best_iou(ring, found) == 1.0
    assert best_iou(ring, np.zeros((20, 20), bool)) == 1.0, "no cluster is a choice too"
    assert best_iou(ring, ring == 1) < 1.0
    assert best_iou(ring, ring == 1, fill_holes=False) == 1.0, "the meshes of a net stay open"


@given(arrays(np.int64, (4, 5), elements=st.integers(0, 4)), st.permutations(range(5)))
def test_ranks_do_not_depend_on_the_names_that_clustering_gave(clusters, names):
    grey = clusters + np.linspace(0, 0.1, 20).reshape(4, 5)
    ranks = ranked(np.array(names)[clusters], grey)
    np.testing.assert_array_equal(ranks, np.unique(clusters, return_inverse=True)[1].reshape(4, 5))


def test_a_click_chooses_the_cluster_below_it():
    clusters = np.arange(3).repeat(4)[None].repeat(5, axis=0)
    clicks = Clicks(np.array([[0, 0], [4, 11.9], [2, 9]]), np.array([[1, 1], [1, 5.0]]))
    assert chosen_by_clicks(clusters, clicks) == [2], "0 was clicked as often to be none"
    assert chosen_by_clicks(clusters, Clicks(NOWHERE, clicks.negative)) == []
    with pytest.raises(InputError, match=r"the point y=5 x=0 is outside the micrograph of 5x12 px"):
        chosen_by_clicks(clusters, Clicks(np.array([[5, 0.0]]), NOWHERE))


def test_what_most_of_the_clicked_have():
    assert most_chosen([[0], [0, 2], [2], [0]]) == [0]
    assert most_chosen([[1, 2]]) == [1, 2]
