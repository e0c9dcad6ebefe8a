import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sempre.errors import InputError
from sempre.images import decode_rle, encode_rle, encode_rle_of_crop, instance_boxes, paint_instances


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_run_lengths_are_cocos(mask):
    coco = pytest.importorskip("pycocotools.mask")
    rle = encode_rle(mask)
    np.testing.assert_array_equal(decode_rle(rle), mask)
    theirs = coco.decode(coco.frPyObjects(rle, *rle["size"])).astype(bool)
    np.testing.assert_array_equal(theirs, mask)


def test_damaged_run_lengths_are_refused():
    with pytest.raises(InputError, match="sum to 5, not to 2x3"):
        decode_rle({"size": [2, 3], "counts": [2, 3]})


@given(arrays(np.int32, (7, 8), elements=st.sampled_from([0, 1, 3, 70000])))
def test_boxes_hold_their_instance_and_no_more(labels):
    ids, boxes = instance_boxes(labels)
    np.testing.assert_array_equal(ids, np.unique(labels[labels > 0]))
    for label, (x0, y0, x1, y1) in zip(ids, boxes, strict=True):
        rows, columns = np.nonzero(labels == label)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)


def test_the_higher_score_lies_on_top():
    masks = [(0, 0, np.ones((3, 3), bool)), (2, 2, np.ones((3, 3), bool)), (1, 1, np.ones((1, 1), bool))]
    labels = paint_instances(masks, np.array([0.5, 0.9, 0.1]), (6, 6))
    assert labels[2, 2] == labels[4, 4] == 1
    assert labels[0, 0] == labels[1, 1] == 2
    assert 3 not in labels


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1), st.integers(0, 1 << 30))
def test_run_lengths_of_a_crop_are_those_of_the_whole_mask(height, width, share, seed):
    """Against pycocotools, too."""
    from pycocotools import mask as coco_mask

    draws = np.random.default_rng(seed)
    (y0, y1), (x0, x1) = (np.sort(draws.integers(0, side + 1, 2)) for side in (height, width))
    whole = np.zeros((height, width), bool)
    whole[y0:y1, x0:x1] = draws.random((y1 - y0, x1 - x0)) < share
    rle = encode_rle_of_crop(whole[y0:y1, x0:x1], int(y0), int(x0), whole.shape)
    assert rle == encode_rle(whole)
    np.testing.assert_array_equal(coco_mask.decode(coco_mask.frPyObjects(rle, height, width)), whole)
