import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from sempre.data.detection_crops import boundaries, depth


@settings(deadline=None, max_examples=40)
@given(arrays(np.int32, (12, 14), elements=st.integers(0, 3)))
def test_depth_is_that_of_each_instance_alone(labels):
    found, outlines = depth(labels), boundaries(labels)
    padded = np.pad(labels, 1, mode="edge")
    for y, x in np.ndindex(labels.shape):
        around = padded[y : y + 3, x : x + 3][[0, 1, 1, 2], [1, 0, 2, 1]]
        assert outlines[y, x] == (around != labels[y, x]).any()
    assert (found[labels == 0] == 0).all()
    inner = (labels > 0) & ~outlines
    for label in np.unique(labels[labels > 0]):
        own = labels == label
        alone = np.ones(labels.shape) if inner.all() else ndimage.distance_transform_edt(inner) + 0.5
        np.testing.assert_allclose(found[own], alone[own] / alone[own].max(), rtol=1e-6)


def test_the_border_of_the_image_is_no_outline():
    half = np.zeros((21, 40), np.int32)
    half[:, :10] = 1
    assert (depth(half)[:, 0] == 1).all()
    assert (depth(np.ones((8, 8), np.int32)) == 1).all()
    assert depth(np.zeros((8, 8), np.int32)).max() == 0
