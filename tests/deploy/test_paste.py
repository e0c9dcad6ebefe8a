import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempre.deploy.paste import paste_masks


def full_image(y0, x0, crop, shape):
    image = np.zeros(shape, dtype=bool)
    image[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
    return image


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), cells=st.sampled_from([7, 14, 28]), largest=st.sampled_from([3, 40, 200]))
def test_pastes_as_torchvision_does(seed, cells, largest):
    torch = pytest.importorskip("torch")
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    random = np.random.default_rng(seed)
    shape = (90, 130)
    corners = random.uniform(-10, 125, (6, 2)) * (1, 0.7)
    boxes = np.concatenate([corners, corners + random.uniform(0, largest, (6, 2))], axis=1)
    boxes = boxes.clip(0, (130, 90, 130, 90)).astype(np.float32)
    masks = random.random((6, cells, cells), dtype=np.float32)

    theirs = paste_masks_in_image(torch.from_numpy(masks)[:, None], torch.from_numpy(boxes), shape)[:, 0].numpy()
    for (y0, x0, crop), probability in zip(paste_masks(boxes, masks, shape), theirs, strict=True):
        decided = np.abs(probability - 0.5) > 1e-4  # where rounding cannot tip the pixel over the threshold
        assert crop.dtype == bool
        np.testing.assert_array_equal(full_image(y0, x0, crop, shape)[decided], (probability >= 0.5)[decided])


def test_boxes_outside_the_image_are_cut_off():
    boxes = np.array([[-20, -10, 20, 30], [90, 70, 200, 400], [300, 300, 320, 320]])
    masks = np.ones((3, 28, 28), dtype=np.float32)
    sizes = [crop.shape for _, _, crop in paste_masks(boxes, masks, (80, 100))]
    (top, left, inside), *_ = paste_masks(boxes, masks, (80, 100))
    assert (top, left) == (0, 0) and inside[:30, :20].all()
    assert all(height <= 80 and width <= 100 for height, width in sizes)
    assert 0 in sizes[2]


def test_no_boxes_give_no_masks():
    assert paste_masks(np.zeros((0, 4)), np.zeros((0, 28, 28)), (10, 10)) == []


def test_counts_must_agree():
    with pytest.raises(ValueError, match="1 boxes but 2 masks"):
        paste_masks(np.zeros((1, 4)), np.zeros((2, 28, 28)), (10, 10))
