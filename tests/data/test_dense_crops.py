import numpy as np
import pytest
from PIL import Image

from sempre.data.dense_crops import DenseCrops, halved, vary
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


def test_halved_maps_tell_where_an_outline_lies_between_pixels():
    mask = np.zeros((4, 8))
    mask[:, :3] = 1
    np.testing.assert_array_equal(halved(mask), [[1, 0.5, 0, 0]] * 2)


def test_crops_are_a_function_of_seed_epoch_and_sample(discs):
    def crops(seed):
        return DenseCrops([DetectionCrops(discs, [0], 64, seed, scale_range=(0.5, 1.5), depths=True)], [1.0], 10, seed)

    first, again, other = crops(0), crops(0), crops(1)
    for name, values in first[3, 7].items():
        assert (values == again[3, 7][name]).all()
    assert (first[3, 7]["image"] != first[4, 7]["image"]).any()
    assert (first[3, 7]["image"] != other[3, 7]["image"]).any()


def test_maps_lie_on_what_the_crop_shows(discs):
    crops = DenseCrops([DetectionCrops(discs, [0], 64, 0, pad="reflect", depths=True)], [1.0], 20, inverted=0.0)
    for sample in range(20):
        item = crops[0, sample]
        assert item["image"].shape == (1, 64, 64) and item["depth"].shape == (32, 32)
        assert item["image"].min() >= 0 and item["image"].max() <= 1
        bright = halved(item["image"][0].numpy())
        foreground = item["foreground"].numpy()
        assert 0 < foreground.mean() < 1
        assert bright[foreground == 1].mean() > bright[foreground == 0].mean()


def test_every_source_has_its_share(discs):
    sources = [DetectionCrops(discs, [0], 32, seed, depths=True) for seed in range(2)]
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


def test_depth_is_that_in_the_whole_micrograph(discs):
    """A crop that shows a rim alone must not take its own deepest pixel for the particle's."""
    crops = DenseCrops([DetectionCrops(discs, [0], 32, 0, depths=True)], [1.0], 60, annotated=0.0)
    deepest = [crops[0, sample]["depth"].max().item() for sample in range(60)]
    assert max(deepest) > 0.9
    assert min(deepest) < 0.6
