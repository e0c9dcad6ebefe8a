import hashlib

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sempre.data.crops import CropDataset, normalise_batch
from sempre.data.samplers import EpochSampler
from sempre.data.store import Store
from sempre.data.store_writer import StoredImage, StoreWriter
from sempre.errors import InputError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Eleven micrographs of 70x90 and one of 40x50 px, whose pixels say where they are from."""
    path = tmp_path_factory.mktemp("store") / "store.h5"
    with StoreWriter(path, patches=0) as writer:
        for number in range(12):
            size = (40, 50) if number == 7 else (70, 90)
            pixels = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
            writer.append(StoredImage(f"{number}.png", hashlib.sha256(pixels).hexdigest(), 1, 1, pixels))
        writer.finish()
    return Store(path)


def batches(store, workers: int, epoch: int, **start) -> list[dict]:
    dataset = CropDataset(store, range(12), size=32, seed=5)
    sampler = EpochSampler(len(dataset), 4, seed=5)
    sampler.set_epoch(epoch, **start)
    return list(DataLoader(dataset, batch_sampler=sampler, num_workers=workers))


def test_crops_are_normalised_parts_of_their_micrograph_flipped_half_the_time(store):
    dataset = CropDataset(store, [3], size=32)
    flipped = 0
    for epoch in range(60):
        item = dataset[(epoch, 0)]
        assert item["image"].shape == (1, 32, 32)
        assert item["image"].dtype == torch.float32
        assert (item["sample"], item["epoch"]) == (3, epoch)
        pixels = np.round((item["image"][0].numpy() * 0.25 + 0.5) * 255).astype(np.uint8)
        windows = np.lib.stride_tricks.sliding_window_view(store.read(3), (32, 32))
        upright = (windows == pixels).all((2, 3)).any()
        mirrored = (windows == pixels[:, ::-1]).all((2, 3)).any()
        assert upright != mirrored
        flipped += mirrored
    assert 15 < flipped < 45


def test_what_workers_leave_as_grey_values_is_normalised_later_to_the_same(store):
    early = CropDataset(store, range(12), size=32, seed=5)
    late = CropDataset(store, range(12), size=32, seed=5, normalise=False)
    for sample in range(12):
        pixels = late[(2, sample)]["image"]
        assert pixels.dtype == torch.uint8
        assert pixels.shape == (1, 32, 32)
        assert torch.equal(normalise_batch(pixels[None])[0], early[(2, sample)]["image"])


def test_crops_are_the_same_for_every_number_of_workers(store):
    alone = batches(store, 0, epoch=2)
    assert len(alone) == 3
    for workers in (1, 2):
        for batch, other in zip(alone, batches(store, workers, epoch=2), strict=True):
            assert torch.equal(batch["image"], other["image"])
            assert torch.equal(batch["sample"], other["sample"])
    assert not torch.equal(alone[0]["image"], batches(store, 0, epoch=3)[0]["image"])


def test_a_resumed_epoch_sees_the_crops_it_would_have_seen(store):
    resumed = batches(store, 2, epoch=1, first_batch=1)
    whole = batches(store, 0, epoch=1)
    assert [batch["sample"].tolist() for batch in resumed] == [batch["sample"].tolist() for batch in whole[1:]]
    assert torch.equal(resumed[0]["image"], whole[1]["image"])


def test_persistent_workers_follow_the_epoch(store):
    dataset = CropDataset(store, range(12), size=32)
    sampler = EpochSampler(12, 4)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=2, persistent_workers=True)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        for batch in loader:
            assert batch["epoch"].tolist() == [epoch] * 4
            expected = CropDataset(store, range(12), size=32)
            for image, index in zip(batch["image"], batch["sample"].tolist(), strict=True):
                assert torch.equal(image, expected[(epoch, index)]["image"])


def test_spawned_workers_open_the_store_themselves(store):
    store.read(0)  # so that there is an open handle, which cannot travel
    dataset = CropDataset(store, range(12), size=32)
    loader = DataLoader(dataset, batch_sampler=EpochSampler(12, 6), num_workers=1, multiprocessing_context="spawn")
    assert torch.equal(
        next(iter(loader))["image"], next(iter(DataLoader(dataset, batch_sampler=EpochSampler(12, 6))))["image"]
    )


def test_a_crop_does_not_depend_on_the_other_side_of_the_split(store):
    assert torch.equal(CropDataset(store, [2, 5, 9], 32)[(4, 1)]["image"], CropDataset(store, [5], 32)[(4, 0)]["image"])


def test_a_micrograph_smaller_than_the_crop_is_named(store):
    with pytest.raises(InputError, match=r"1 of 12 micrographs are smaller.*7\.png \(40x50 px\).*at most 40 px"):
        CropDataset(store, range(12), size=64)


def test_a_small_micrograph_is_mirrored_when_asked(store):
    item = CropDataset(store, [7], size=64, flip=0.0, reflect=True)[(0, 0)]
    pixels = np.round((item["image"][0].numpy() * 0.25 + 0.5) * 255).astype(np.uint8)
    np.testing.assert_array_equal(pixels[:40, :50], store.read(7))
    np.testing.assert_array_equal(pixels[40, :50], store.read(7)[38])


def test_turned_crops_take_all_eight_orientations_equally_often(store):
    dataset = CropDataset(store, [7], size=40, normalise=False, turn=True)
    windows = [torch.from_numpy(store.crop(7, 0, x, 40, 40)) for x in range(11)]
    counts = [0] * 8
    for epoch in range(800):
        image = dataset[(epoch, 0)]["image"][0]
        assert image.shape == (40, 40)
        for window in windows:
            orientations = [mirrored.rot90(turns) for mirrored in (window, window.flip(1)) for turns in range(4)]
            for number, orientation in enumerate(orientations):
                counts[number] += torch.equal(image, orientation)
    assert sum(counts) == 800
    assert min(counts) > 60
    assert torch.equal(dataset[(3, 0)]["image"], dataset[(3, 0)]["image"])


def test_an_empty_side_is_refused(store):
    with pytest.raises(InputError, match="no micrograph"):
        CropDataset(store, [])
