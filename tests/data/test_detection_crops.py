import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import sempre.data.detection_crops
from sempre.data.detection_crops import DetectionCrops, collate, visible_instances
from sempre.data.labelled import LabelledSet
from sempre.data.samplers import EpochSampler
from sempre.errors import InputError

PLAIN = {"brightness": 0.0, "contrast": 0.0}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Three fields of discs that are white on black, so that an image shows its own labels; the last field is empty."""
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    y, x = np.mgrid[:90, :120]
    for number, discs in enumerate([[(20, 25, 12), (60, 40, 15), (45, 95, 20)], [(30, 60, 25), (75, 100, 12)], []]):
        labels = np.zeros((90, 120), dtype=np.uint16)
        for disc, (centre_y, centre_x, radius) in enumerate(discs):
            labels[(y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2] = 10 * (disc + 1)
        pixels = np.where(labels > 0, 255, 0).astype(np.uint8)
        if not discs:
            pixels[:, 60:] = 255
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")
    return LabelledSet(folder)


def assert_target_fits(target: dict, size: int) -> None:
    """Boxes are the masks' own, with exclusive ends; types are torchvision's."""
    count = len(target["boxes"])
    assert target["boxes"].dtype == torch.float32
    assert target["boxes"].shape == (count, 4)
    assert target["masks"].dtype == torch.uint8
    assert target["masks"].shape == (count, size, size)
    assert torch.equal(target["labels"], torch.ones(count, dtype=torch.int64))
    for box, mask in zip(target["boxes"], target["masks"], strict=True):
        y, x = torch.nonzero(mask, as_tuple=True)
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"flip": False},
        {"scale_range": (0.6, 1.6)},
        {"rotation": 30.0},
        {"scale_range": (0.5, 0.8), "rotation": 180.0},
    ],
)
def test_image_and_masks_move_together(labelled, options):
    crops = DetectionCrops(labelled, [0, 1], size=48, **PLAIN, **options)
    different = set()
    for epoch in range(30):
        image, target = crops[(epoch, epoch % 2)]
        assert image.shape == (1, 48, 48)
        assert image.dtype == torch.float32
        assert_target_fits(target, 48)
        foreground = target["masks"].sum(0).clamp(max=1).bool()
        wrong = (image[0] > 0.5) != foreground
        # An instance of which too little is seen is dropped; beyond that, resampling errs along outlines alone.
        assert wrong.float().mean() < 0.08
        different.add(image.numpy().tobytes())
    assert len(different) == 30


def test_an_unscaled_crop_is_cut_and_not_resampled(labelled):
    crops = DetectionCrops(labelled, [0], size=48, flip=False, **PLAIN)
    for epoch in range(10):
        image, target = crops[(epoch, 0)]
        assert set(image.unique().tolist()) <= {0.0, 1.0}
        pixels = labelled.read(0).pixels
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (48, 48))
        assert (windows == image[0].numpy() * 255).all((2, 3)).any()
        assert len(target["boxes"]) >= 1


def test_flips_and_turns_reach_all_eight_orientations(labelled):
    size = 90  # the field's whole height: only x is drawn
    crops = DetectionCrops(labelled, [1], size=size, **PLAIN)
    pixels = labelled.read(1).pixels
    windows = [pixels[:, x : x + size] for x in range(31)]
    seen = set()
    for epoch in range(120):
        image = crops[(epoch, 0)][0][0].numpy() * 255
        for turns in range(4):
            for mirrored in (False, True):
                upright = np.rot90(image[:, ::-1] if mirrored else image, -turns)
                if any(np.array_equal(upright, window) for window in windows):
                    seen.add((turns, mirrored))
    assert len(seen) == 8


def test_magnification_scales_areas_by_its_square(labelled):
    crops = DetectionCrops(labelled, [1], size=90, scale_range=(1.5, 1.5), flip=False, **PLAIN)
    areas = [int(crops[(epoch, 0)][1]["masks"].sum((1, 2)).max()) for epoch in range(40)]
    assert max(areas) == pytest.approx(1.5**2 * np.pi * 25**2, rel=0.02)


def test_crops_are_the_same_for_every_number_of_workers(labelled):
    crops = DetectionCrops(labelled, [0, 1, 2], size=48, repeats=2, scale_range=(0.8, 1.2), rotation=10)
    results = []
    for workers in (0, 2):
        sampler = EpochSampler(len(crops), 2, shuffle=False)
        sampler.set_epoch(7)
        results.append(list(DataLoader(crops, batch_sampler=sampler, num_workers=workers, collate_fn=collate)))
    assert len(results[0]) == 3
    for batch, other in zip(*results, strict=True):
        for image, same in zip(batch["images"], other["images"], strict=True):
            assert torch.equal(image, same)
        for target, same in zip(batch["targets"], other["targets"], strict=True):
            assert all(torch.equal(target[name], same[name]) for name in ("boxes", "labels", "masks"))


def test_repeats_of_a_micrograph_differ(labelled):
    crops = DetectionCrops(labelled, [0], size=48, repeats=2)
    assert len(crops) == 2
    assert not torch.equal(crops[(0, 0)][0], crops[(0, 1)][0])


def test_a_crop_without_instances_is_legal(labelled):
    image, target = DetectionCrops(labelled, [2], size=48)[(0, 0)]
    assert image.shape == (1, 48, 48)
    assert_target_fits(target, 48)
    assert len(target["boxes"]) == 0


def test_empty_crops_are_drawn_again(labelled, monkeypatch):
    crops = DetectionCrops(labelled, [1], size=20)
    empty = {}
    for draws in (1, 4):
        monkeypatch.setattr(sempre.data.detection_crops, "DRAWS", draws)
        empty[draws] = np.mean([len(crops[(epoch, 0)][1]["boxes"]) == 0 for epoch in range(150)])
    assert 0 < empty[4] < empty[1] / 2


def test_photometry_stays_within_its_limits(labelled):
    crops = DetectionCrops(labelled, [0], size=48, brightness=0.1, contrast=0.0)
    images = [crops[(epoch, 0)][0] for epoch in range(40)]
    assert 0.05 < max(image.min().item() for image in images) <= 0.1 + 1e-6
    assert 0.9 - 1e-6 <= min(image.max().item() for image in images) < 0.95


def test_a_small_micrograph_is_padded_or_refused(labelled):
    size = 160
    image, target = DetectionCrops(labelled, [0], size=size, flip=False, **PLAIN)[(0, 0)]
    assert len(target["boxes"]) == 3
    assert torch.equal(image[0].bool(), target["masks"].any(0))
    with pytest.raises(InputError, match=r"0\.png is 90x120 px, smaller than the crop of 160 px"):
        DetectionCrops(labelled, [0], size=size, pad="error")


def test_mirrored_padding_gives_mirrored_instances_of_their_own(labelled):
    image, target = DetectionCrops(labelled, [0], size=240, flip=False, pad="reflect", **PLAIN)[(0, 0)]
    assert_target_fits(target, 240)
    assert torch.equal(image[0].bool(), target["masks"].any(0))
    assert target["masks"].sum(0).max() == 1
    assert len(target["boxes"]) > 3
    whole = (target["masks"].sum((1, 2)) == int((labelled.read(0).layers == 1).sum())).sum()
    assert whole >= 2  # the first disc and at least one mirror image of it


def test_instances_hardly_seen_are_dropped_and_small_ones_kept():
    layers = np.zeros((2, 20, 20), dtype=np.uint16)
    layers[0, :3, :3] = 1  # all 9 px of a small instance
    layers[0, :3, 5:8] = 2  # 9 of 400 px
    layers[1, 5:10, :5] = 3  # 25 of 400 px: less than a tenth
    layers[1, 11:19, :8] = 4  # 64 of 400 px
    renamed, instances = visible_instances(layers, np.array([0, 9, 400, 400, 400]))
    assert instances == 2
    np.testing.assert_array_equal(renamed == 1, layers == 1)
    np.testing.assert_array_equal(renamed == 2, layers == 4)


def test_labels_that_do_not_fit_stop_the_run_before_training(tmp_path):
    for folder, size in [("images", (30, 30)), ("labels", (30, 31))]:
        (tmp_path / folder).mkdir()
        Image.fromarray(np.eye(*size, dtype=np.uint8)).save(tmp_path / folder / "field.png")
    with pytest.raises(InputError, match=r"30x30 px but its labels in .* are 30x31 px"):
        DetectionCrops(LabelledSet(tmp_path), [0], size=16)


@pytest.mark.parametrize(
    ("options", "complaint"), [({"pad": "wrap"}, "pad=wrap"), ({"scale_range": (2, 1)}, "scale_range")]
)
def test_wrong_options_are_refused(labelled, options, complaint):
    with pytest.raises(InputError, match=complaint):
        DetectionCrops(labelled, [0], **options)


def test_an_empty_side_is_refused(labelled):
    with pytest.raises(InputError, match="no micrograph"):
        DetectionCrops(labelled, [])
