import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sempre.images import paint_instances
from sempre.segmentation.tiling import MIN_VISIBLE_SHARE, paint_particles


@st.composite
def rectangles(draw):
    count = draw(st.integers(0, 12))
    masks = []
    for _ in range(count):
        y, x = draw(st.integers(0, 20)), draw(st.integers(0, 20))
        height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
        masks.append((y, x, np.ones((height, width), bool)))
    return masks, np.array(draw(st.lists(st.floats(0, 1), min_size=count, max_size=count)))


@settings(deadline=None)
@given(rectangles())
def test_the_kept_are_painted_by_score_and_none_is_nearly_hidden(scene):
    masks, scores = scene
    labels, kept = paint_particles(masks, scores, (32, 32))
    np.testing.assert_array_equal(labels, paint_instances([masks[index] for index in kept], scores[kept], (32, 32)))
    assert (np.diff(scores[kept]) <= 0).all()
    visible = np.bincount(labels.ravel(), minlength=len(kept) + 1)[1:]
    areas = np.array([masks[index][2].sum() for index in kept])
    assert len(visible) == len(kept) and (visible >= MIN_VISIBLE_SHARE * areas).all()


def test_a_near_duplicate_leaves_no_sliver():
    masks = [(5, 5, np.ones((20, 20), bool)), (4, 4, np.ones((21, 21), bool))]
    labels, kept = paint_particles(masks, np.array([0.9, 0.8]), (40, 40))
    assert kept.tolist() == [0] and (labels > 0).sum() == 400


def test_what_a_dropped_instance_hid_is_given_to_the_next():
    top = (0, 0, np.ones((10, 10), bool))
    dropped = (0, 0, np.ones((11, 11), bool))
    beneath = (10, 0, np.ones((1, 11), bool))
    labels, kept = paint_particles([top, dropped, beneath], np.array([0.9, 0.8, 0.7]), (12, 12))
    assert kept.tolist() == [0, 2] and (labels[10, :11] == 2).all()


def test_half_hidden_particles_stay():
    masks = [(0, 0, np.ones((10, 10), bool)), (0, 5, np.ones((10, 10), bool))]
    labels, kept = paint_particles(masks, np.array([0.5, 0.6]), (10, 20))
    assert kept.tolist() == [1, 0] and np.bincount(labels.ravel()).tolist() == [50, 100, 50]


def test_no_instances():
    labels, kept = paint_particles([], np.zeros(0), (3, 4))
    assert labels.shape == (3, 4) and labels.dtype == np.int32 and not labels.any() and len(kept) == 0
