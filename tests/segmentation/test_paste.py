import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempre.segmentation.detections import paste_masks

torch = pytest.importorskip("torch")
functional = torch.nn.functional

SHAPE = (70, 90)
corner = st.floats(-20, 80, width=32)
side = st.floats(0.5, 60, width=32)


def sampled(box: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask's value at every pixel's centre by PyTorch's sampler: an independent way to paste, `[H, W]`."""
    x0, y0, x1, y1 = (float(value) for value in box)
    x = (torch.arange(SHAPE[1], dtype=torch.float64) + 0.5 - x0) / (x1 - x0) * 2 - 1
    y = (torch.arange(SHAPE[0], dtype=torch.float64) + 0.5 - y0) / (y1 - y0) * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    values = functional.grid_sample(torch.from_numpy(mask).double()[None, None], grid, align_corners=False)
    return values[0, 0].numpy()


def whole(pasted: tuple[int, int, np.ndarray]) -> np.ndarray:
    y, x, crop = pasted
    image = np.zeros(SHAPE, bool)
    image[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return image


@given(corner, corner, side, side, st.integers(0, 100), st.sampled_from([7, 28]))
def test_pasting_is_sampling_at_the_pixels_centres(x, y, width, height, seed, cells):
    box = np.array([x, y, x + width, y + height], np.float32)
    mask = np.random.default_rng(seed).random((cells, cells)).astype(np.float32)
    expected = sampled(box, mask)
    decided = np.abs(expected - 0.5) > 1e-3
    (pasted,) = paste_masks(box[None], mask[None], SHAPE)
    np.testing.assert_array_equal(whole(pasted)[decided], (expected >= 0.5)[decided])


@pytest.mark.parametrize("diameter", [5, 10, 20, 50])
def test_a_disc_keeps_its_diameter(diameter):
    cells = (np.arange(28) + 0.5) / 14 - 1
    mask = (cells[:, None] ** 2 + cells**2 <= 1).astype(np.float32)
    box = np.array([[10.0, 10.0, 10.0 + diameter, 10.0 + diameter]])
    (pasted,) = paste_masks(box, mask[None], SHAPE)
    assert np.sqrt(4 / np.pi * whole(pasted).sum()) == pytest.approx(diameter, rel=0.04)


def test_a_full_mask_fills_its_box_and_no_more():
    (pasted,) = paste_masks(np.array([[3.0, 4.0, 9.0, 12.0]]), np.ones((1, 28, 28), np.float32), SHAPE)
    assert pasted[:2] == (4, 3)
    assert pasted[2].shape == (8, 6)
    assert pasted[2].all()


def test_boxes_outside_leave_nothing():
    boxes = np.array([[-30.0, -30.0, -5.0, -5.0], [95.0, 5.0, 99.0, 9.0], [5.1, 5.1, 5.2, 5.2]])
    for y, x, crop in paste_masks(boxes, np.ones((3, 28, 28), np.float32), SHAPE):
        assert crop.size == 0
        assert 0 <= y <= SHAPE[0]
        assert 0 <= x <= SHAPE[1]


def test_boxes_and_masks_must_be_as_many():
    with pytest.raises(ValueError, match="2 boxes but 1 masks"):
        paste_masks(np.zeros((2, 4)), np.zeros((1, 28, 28)), SHAPE)
