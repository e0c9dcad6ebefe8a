"""Views: functions of (seed, epoch, sample) alone, which differ, keep particles in sight and change what they may."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sempre.data.samplers import EpochSampler, generator
from sempre.data.store import Store
from sempre.data.store_writer import StoredImage, StoreWriter
from sempre.data.views import View, ViewDataset, WindowDeviation, augmented_view, collate_views, random_window
from sempre.errors import InputError

GEOMETRY = View(32, brightness=0, contrast=0, blur=0, noise=0)
LOWEST, HIGHEST = -2.0, 2.0  # normalised black and white
GROUPS = {"large": (View(32), 2), "small": (View(16, scale=(0.05, 0.3)), 3)}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Seven micrographs of 90x120 and one of 40x50 px, smooth and all different."""
    path = tmp_path_factory.mktemp("store") / "store.h5"
    with StoreWriter(path, patches=0) as writer:
        for number in range(8):
            height, width = (40, 50) if number == 3 else (90, 120)
            y, x = np.mgrid[:height, :width]
            pixels = (127 + 100 * np.sin((y + 2 * x) / (4 + number))).astype(np.uint8)
            writer.append(StoredImage(f"{number}.png", hashlib.sha256(pixels).hexdigest(), 1, 1, pixels))
        writer.finish()
    return Store(path)


def batches(store, workers: int, epoch: int) -> list[dict]:
    dataset = ViewDataset(store, range(8), GROUPS, field=64, seed=5)
    sampler = EpochSampler(8, 4, seed=5)
    sampler.set_epoch(epoch)
    return list(DataLoader(dataset, batch_sampler=sampler, num_workers=workers, collate_fn=collate_views))


def one_particle(seed: int, side: int = 256, radius: int = 6) -> np.ndarray:
    """A bright particle somewhere on empty, noisy ground, in the inner three quarters of the field."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    centre = rng.uniform(side / 8, 7 * side / 8, 2)
    field = rng.normal(60, 8, (side, side))
    field[np.hypot(y - centre[0], x - centre[1]) < radius] = 220
    return field.clip(0, 255).astype(np.uint8)


def test_an_item_holds_its_groups_normalised(store):
    dataset = ViewDataset(store, [2, 3, 5], GROUPS, field=64)
    for sample in range(3):
        item = dataset[(1, sample)]
        assert item["large"].shape == (2, 1, 32, 32)
        assert item["small"].shape == (3, 1, 16, 16)
        assert (item["sample"], item["epoch"]) == ([2, 3, 5][sample], 1)
        for views in (item["large"], item["small"]):
            assert views.dtype == torch.float32
            assert views.min() >= LOWEST
            assert views.max() <= HIGHEST
            assert views.std() > 0.1
    assert dataset.name_of(1) == "3.png"


def test_a_batch_can_be_split_by_its_samples(store):
    batch = batches(store, 0, epoch=0)[0]
    assert {name: tuple(views.shape) for name, views in batch.items()} == {
        "large": (4, 2, 1, 32, 32),
        "small": (4, 3, 1, 16, 16),
    }


def test_views_are_a_function_of_seed_epoch_and_sample(store):
    view = ViewDataset(store, range(8), GROUPS, 64, seed=1)[(2, 5)]["large"]
    torch.manual_seed(7)
    assert torch.equal(view, ViewDataset(store, [0, 5], GROUPS, 64, seed=1)[(2, 1)]["large"])
    for seed, epoch, sample in ((0, 2, 5), (1, 3, 5), (1, 2, 6)):
        assert not torch.equal(view, ViewDataset(store, range(8), GROUPS, 64, seed)[(epoch, sample)]["large"])


def test_the_views_of_a_sample_differ(store):
    large = ViewDataset(store, range(8), {"a": (View(32), 2), "b": (View(32), 2)}, 64)[(0, 0)]
    views = [*large["a"], *large["b"]]
    assert all(not torch.equal(a, b) for number, a in enumerate(views) for b in views[:number])


def test_views_are_the_same_for_every_number_of_workers(store):
    alone = batches(store, 0, epoch=2)
    for batch, other in zip(alone, batches(store, 2, epoch=2), strict=True):
        assert all(torch.equal(batch[name], other[name]) for name in GROUPS)


def test_views_of_one_particle_nearly_always_show_it():
    shown = []
    for seed in range(100):
        field = one_particle(seed)
        view = augmented_view(field, WindowDeviation(field), replace(GEOMETRY, size=64), generator(seed))
        shown.append(bool(view.max() > 0.6))  # the ground is at -1.06, the particle at 1.45
    assert np.mean(shown) > 0.95


def test_a_full_field_is_shown_everywhere():
    field = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    windows = WindowDeviation(field)
    corners = [random_window(windows, (0.25, 0.25), 1, generator(seed))[:2] for seed in range(400)]
    mean, deviation = np.mean(corners, 0), np.std(corners, 0)
    # Uniform from 0 to 32.
    np.testing.assert_allclose(mean, 16, atol=2)
    np.testing.assert_allclose(deviation, 33 / np.sqrt(12), rtol=0.1)


@pytest.mark.parametrize("turn", [1.0, 1.2, 1.414])
def test_windows_lie_inside_the_field(turn):
    windows = WindowDeviation(one_particle(0))
    sides = []
    for seed in range(50):
        y, x, side = random_window(windows, (0.05, 1.0), turn, generator(seed))
        assert min(y, x) >= 0
        assert max(y, x) + side <= 256
        sides.append(side)
    assert min(sides) < 128 < max(sides)


def test_the_deviation_of_a_window_is_that_of_its_cells():
    field = one_particle(1)
    windows = WindowDeviation(field)
    cells = field.reshape(64, 4, 64, 4).mean((1, 3))
    for y, x, side in ((0, 0, 64), (5, 17, 20), (63, 0, 1), (30, 40, 24)):
        expected = cells[y : y + side, x : x + side].std()
        assert windows.deviation(4 * y, 4 * x, 4 * side) == pytest.approx(expected, abs=1e-6)


def test_turned_views_have_no_empty_corners():
    field = np.full((100, 100), 200, np.uint8)
    for seed in range(30):
        view = augmented_view(field, WindowDeviation(field), replace(GEOMETRY, rotation=45), generator(seed))
        torch.testing.assert_close(view, torch.full_like(view, (200 / 255 - 0.5) / 0.25), atol=1e-3, rtol=0)


def test_each_change_does_what_it_says():
    field = np.full((64, 64), 128, np.uint8)
    field[::8] = 96

    def deviation(**changes) -> np.ndarray:
        view = replace(GEOMETRY, scale=(1.0, 1.0), rotation=0, **changes)
        views = [augmented_view(field, WindowDeviation(field), view, generator(seed)) for seed in range(40)]
        return np.array([(float(v.mean()), float(v.std())) for v in views]).T

    mean, std = deviation()
    assert np.ptp(mean) < 1e-3
    assert np.ptp(std) < 1e-3
    brighter, _ = deviation(brightness=0.2)
    assert 0.6 < np.ptp(brighter) <= 1.6
    _, contrasted = deviation(contrast=0.4)
    assert contrasted.min() < 0.75 * std[0]
    assert contrasted.max() > 1.25 * std[0]
    assert contrasted.max() < 1.41 * std[0]
    _, blurred = deviation(blur=0.5)
    assert 5 < (blurred < 0.95 * std[0]).sum() < 30
    _, noisy = deviation(noise=0.1)
    assert noisy.max() < np.hypot(std[0], 0.4)
    assert noisy.mean() > 1.05 * std[0]


def test_no_micrographs_are_refused(store):
    with pytest.raises(InputError, match="no micrograph"):
        ViewDataset(store, [], GROUPS)
