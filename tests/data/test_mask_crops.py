import numpy as np
import pytest
import torch

from sempre.data.crops import MaskCrops
from sempre.errors import InputError


def numbered(shape: tuple[int, int], channels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """An image whose first channel numbers its px, and a mask of its odd ones."""
    number = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    return np.stack([number + 1000 * channel for channel in range(channels)]), number % 2 == 1


def make(shapes=((20, 30), (25, 18)), size=8, count=64, seed=0) -> MaskCrops:
    images, masks = zip(*map(numbered, shapes), strict=True)
    return MaskCrops(images, masks, [f"m{position}" for position in range(len(shapes))], size, count, seed)


def test_channels_and_mask_are_cut_alike_from_one_square():
    turns = set()
    for sample in range(64):
        item = make()[3, sample]
        assert item["image"].shape == (2, 8, 8)
        assert item["mask"].shape == (1, 8, 8)
        number = item["image"][0].numpy()
        np.testing.assert_array_equal(item["image"][1].numpy(), number + 1000)
        np.testing.assert_array_equal(item["mask"][0].numpy(), number % 2)
        width = (30, 18)[sample % 2]
        rows, columns = np.unique(number // width), np.unique(number % width)
        assert len(rows) == len(columns) == 8
        assert np.ptp(rows) == np.ptp(columns) == 7
        turns.add((number[0, 1] - number[0, 0], number[1, 0] - number[0, 0]))
    assert len(turns) == 2 * 8, "both images in four turns and their mirror images"


def test_a_crop_is_a_function_of_its_key():
    for key in ((0, 0), (5, 63)):
        torch.testing.assert_close(make()[key]["image"], make(count=100)[key]["image"])
    assert not torch.equal(make()[0, 0]["image"], make()[1, 0]["image"])
    assert not torch.equal(make()[0, 0]["image"], make(seed=1)[0, 0]["image"])


def test_an_epoch_has_as_many_crops_whatever_the_number_of_images():
    few, many = make(shapes=((20, 30),)), make(shapes=((20, 30),) * 5)
    assert len(few) == len(many) == 64
    assert {many.name_of(sample) for sample in range(64)} == {f"m{position}" for position in range(5)}


def test_what_lies_outside_a_small_image_is_its_mirror_image():
    item = make(shapes=((5, 30),))[0, 0]
    rows = np.sort(np.unique(item["image"][0].numpy() // 30, return_counts=True)[1])
    assert rows.tolist() == [8, 8, 16, 16, 16]


def test_no_images():
    with pytest.raises(InputError, match="no micrographs to train on"):
        MaskCrops([], [], [], 8, 4)


def test_crops_are_not_turned_when_asked():
    images, masks = zip(numbered((20, 30)), strict=True)
    crops = MaskCrops(images, masks, ["m"], 8, 32, turn=False)
    for sample in range(32):
        number = crops[0, sample]["image"][0].numpy()
        assert number[0, 1] - number[0, 0] == 1 and number[1, 0] - number[0, 0] == 30
