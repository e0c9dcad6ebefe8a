import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage

from sempre.data.dense_crops import DenseCrops, halved, true_maps, vary
from sempre.data.detection_crops import DetectionCrops
from sempre.data.labelled import LabelledSet


@pytest.fixture
def discs(tmp_path):
    """A set of one micrograph: a bright disc of radius 20 px on dark ground, and one half of that."""
    y, x = np.mgrid[:96, :128]
    labels = (np.hypot(y - 40, x - 40) < 20) + 2 * (np.hypot(y - 60, x - 100) < 10)
    for name, pixels in (("images", 40 + 60 * labels), ("labels", labels)):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / "discs.png")
    return LabelledSet(tmp_path)


@settings(deadline=None, max_examples=40)
@given(arrays(np.int32, (12, 14), elements=st.integers(0, 3)))
def test_maps_are_those_of_each_instance_alone(labels):
    foreground, depth, boundary = true_maps(labels)
    np.testing.assert_array_equal(foreground, labels > 0)
    padded = np.pad(labels, 1, mode="edge")
    for y, x in np.ndindex(labels.shape):
        around = padded[y : y + 3, x : x + 3][[0, 1, 1, 2], [1, 0, 2, 1]]
        assert boundary[y, x] == (around != labels[y, x]).any()
    inner = np.pad((labels > 0) & (boundary == 0), 1)
    for label in np.unique(labels[labels > 0]):
        own = labels == label
        alone = ndimage.distance_transform_edt(inner)[1:-1, 1:-1] + 0.5
        np.testing.assert_allclose(depth[own], alone[own] / alone[own].max(), rtol=1e-6)
    assert (depth[labels == 0] == 0).all()


def test_halved_maps_tell_where_an_outline_lies_between_pixels():
    mask = np.zeros((4, 8))
    mask[:, :3] = 1
    np.testing.assert_array_equal(halved(mask), [[1, 0.5, 0, 0]] * 2)


def test_crops_are_a_function_of_seed_epoch_and_sample(discs):
    def crops(seed):
        return DenseCrops([DetectionCrops(discs, [0], 64, seed, scale_range=(0.5, 1.5))], [1.0], 10, seed)

    first, again, other = crops(0), crops(0), crops(1)
    for name, values in first[3, 7].items():
        assert (values == again[3, 7][name]).all()
    assert (first[3, 7]["image"] != first[4, 7]["image"]).any()
    assert (first[3, 7]["image"] != other[3, 7]["image"]).any()


def test_maps_lie_on_what_the_crop_shows(discs):
    crops = DenseCrops([DetectionCrops(discs, [0], 64, 0, pad="reflect")], [1.0], 20, inverted=0.0)
    for sample in range(20):
        item = crops[0, sample]
        assert item["image"].shape == (1, 64, 64) and item["depth"].shape == (32, 32)
        assert item["image"].min() >= 0 and item["image"].max() <= 1
        bright = halved(item["image"][0].numpy())
        foreground = item["foreground"].numpy()
        assert 0 < foreground.mean() < 1
        assert bright[foreground == 1].mean() > bright[foreground == 0].mean()


def test_every_source_has_its_share(discs):
    sources = [DetectionCrops(discs, [0], 32, seed) for seed in range(2)]
    drawn = []
    for number, source in enumerate(sources):
        source.crop = lambda key, source=source, number=number: (drawn.append(number), type(source).crop(source, key))[
            1
        ]
    crops = DenseCrops(sources, [3, 1], 400)
    for sample in range(400):
        crops[0, sample]
    assert 0.18 < np.mean(drawn) < 0.32


def test_varied_pixels_stay_in_range_and_keep_their_order_unless_inverted():
    pixels = np.tile(np.linspace(30, 200, 64), (64, 1))
    rising = []
    for seed in range(40):
        image = vary(pixels, np.random.default_rng(seed), inverted=0.5)
        assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1
        rising.append(image[:, -16:].mean() > image[:, :16].mean())
    assert 10 < sum(rising) < 30
