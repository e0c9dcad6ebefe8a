import hashlib
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from sempre.data.crops import CropDataset
from sempre.data.samplers import EpochSampler
from sempre.data.shards import open_store
from sempre.data.sources import PatchSource, StoreSource
from sempre.data.store import Store
from sempre.data.store_writer import StoredImage, StoreWriter
from sempre.errors import InputError
from tests.in_process import run_here

LABELS = [None, "rods", "spheres", "cubes"]
PREPARE = Path(__file__).parents[2] / "data" / "prepare.py"


def image(number: int) -> StoredImage:
    size = [(70, 90), (90, 70), (50, 60)][number % 3]
    pixels = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
    sha256 = hashlib.sha256(pixels).hexdigest()
    return StoredImage(f"{number}.png", sha256, 1, 1, pixels, label=LABELS[number % 4])


def make(path: Path, numbers, **settings) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with StoreWriter(path, **{"patches": 0, **settings}) as writer:
        for number in numbers:
            writer.append(image(number))
        writer.finish()
    return path


@pytest.fixture
def both(tmp_path) -> tuple[Store, Store]:
    """The same 20 micrographs in the same order as three shards and as one file."""
    for name, numbers in [("b", range(7, 9)), ("a", range(7)), ("c", range(9, 20))]:
        make(tmp_path / "shards" / f"{name}.h5", numbers)
    return open_store(tmp_path / "shards"), open_store(make(tmp_path / "one.h5", range(20)))


def test_shards_read_as_one_store(both):
    shards, one = both
    assert len(shards) == len(one) == 20
    assert sorted(shards.labels) == sorted(one.labels)
    for index in range(20):
        np.testing.assert_array_equal(shards.read(index), image(index).pixels)
        np.testing.assert_array_equal(shards.crop(index, 3, 5, 40, 30), one.crop(index, 3, 5, 40, 30))
        assert shards.file_of(index) == one.file_of(index)
        label = shards.entries.label[index]
        assert (None if label < 0 else shards.labels[label]) == image(index).label
    for name in ("height", "width", "sha256"):
        np.testing.assert_array_equal(getattr(shards.entries, name), getattr(one.entries, name))
    for index in (-1, 20):
        with pytest.raises(IndexError):
            shards.read(index)


def test_split_and_fingerprint_do_not_depend_on_the_sharding(tmp_path, both):
    _, one = both
    copies = [3, 3, 11]  # in more than one shard
    for number in range(4):
        make(tmp_path / "other" / f"{number}.h5", [*range(number, 20, 4), *copies])
    other = open_store(tmp_path / "other")
    sides = [{store.entries.sha256[index] for index in store.split(0.3, seed=4)[1].tolist()} for store in (one, other)]
    assert sides[0] == sides[1]
    training, validation = other.split(0.3, seed=4)
    assert not set(other.entries.sha256[training]) & set(other.entries.sha256[validation])
    make(tmp_path / "whole.h5", [*range(20), *copies * 4])
    assert other.fingerprint == open_store(tmp_path / "whole.h5").fingerprint
    assert other.split(0.3)[1].shape == open_store(tmp_path / "whole.h5").split(0.3)[1].shape


@pytest.mark.parametrize("workers", [0, 2])
def test_training_on_shards_gives_the_batches_of_one_file(both, workers):
    batches = []
    for store in both:
        crops = CropDataset(store, range(20), size=32, seed=3)
        sampler = EpochSampler(20, 6, seed=3)
        batches.append(list(DataLoader(crops, batch_sampler=sampler, num_workers=workers)))
    for batch, other in zip(*batches, strict=True):
        assert torch.equal(batch["image"], other["image"])
        assert torch.equal(batch["sample"], other["sample"])


def test_shards_travel_to_other_processes(both):
    shards, _ = both
    shards.read(12)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(shards)).read(12), image(12).pixels)
    shards.close()
    np.testing.assert_array_equal(shards.read(12), image(12).pixels)


def test_globs_and_variables_name_shards(tmp_path, monkeypatch):
    for name in ("day-1", "day-2", "night"):
        make(tmp_path / f"{name}.h5", range(3))
    monkeypatch.setenv("SHARDS", str(tmp_path))
    assert len(open_store("$SHARDS/day-*.h5")) == 6
    assert len(open_store("$SHARDS")) == 9
    assert len(open_store(f"{tmp_path}/night.h5")) == 3
    assert len(open_store(make(tmp_path / "a[1].h5", range(2)))) == 2


def test_no_shard_gets_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", f"{tmp_path}/day-*.h5"):
        with pytest.raises(InputError, match="holds no store"):
            open_store(path)
    with pytest.raises(InputError, match=r"none\.h5 does not exist: make it with"):
        open_store(tmp_path / "none.h5")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"percentiles": (2, 98)},
            r"b\.h5 was prepared with percentiles=\(2\.0, 98\.0\), .*a\.h5 with \(1\.0, 99\.0\)",
        ),
        ({"scale": 0.5}, r"b\.h5 was prepared with scale=0\.5, .*a\.h5 with 1\.0"),
        ({"crop_information_bar": False}, r"b\.h5 was prepared with crop_information_bar=False"),
        ({"shard": "1/2"}, r"b\.h5 is shard 1/2, .*a\.h5 is without a number"),
    ],
)
def test_shards_prepared_otherwise_are_refused(tmp_path, settings, message):
    make(tmp_path / "a.h5", range(3))
    make(tmp_path / "b.h5", range(3, 6), **settings)
    with pytest.raises(InputError, match=message):
        open_store(tmp_path)


def test_numbered_shards_must_be_there_once_each(tmp_path):
    for number in (1, 2, 3):
        make(tmp_path / f"{number}.h5", [number], shard=f"{number}/3")
    assert len(open_store(tmp_path)) == 3
    with pytest.raises(InputError, match=r"lacks shard 2/3: make it with data/prepare\.py shard=2/3"):
        open_store(f"{tmp_path}/[13].h5")
    make(tmp_path / "copy.h5", [2], shard="2/3")
    with pytest.raises(InputError, match=r"2\.h5 and .*copy\.h5 are both shard 2/3"):
        open_store(tmp_path)


def test_one_numbered_shard_alone_is_not_taken_for_the_whole(tmp_path):
    make(tmp_path / "1.h5", [1], shard="1/3")
    with pytest.raises(InputError, match="lacks shard 2/3"):
        open_store(tmp_path)
    assert len(open_store(tmp_path / "1.h5")) == 1  # asked for by its name


def test_a_shard_that_is_not_finished_is_named(tmp_path):
    make(tmp_path / "a.h5", range(3))
    with StoreWriter(tmp_path / "b.h5") as writer:
        writer.append(image(3))
    with pytest.raises(InputError, match=r"b\.h5 holds only a part of its folder"):
        open_store(tmp_path)


def prepare(*options) -> subprocess.CompletedProcess[str]:
    return run_here("data/prepare.py", "workers=1", *options, cwd=Path.cwd())


def test_prepared_shards_share_a_folder_out(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(12):
        Image.fromarray(image(number).pixels).save(tmp_path / "images" / f"{number}.png")
    for number in (1, 2):
        result = prepare(
            f"images={tmp_path / 'images'}", f"store={tmp_path / 's' / f'{number}.h5'}", f"shard={number}/2"
        )
        assert result.returncode == 0, result.stderr
    shards = open_store(tmp_path / "s")
    assert sorted(map(shards.file_of, range(12))) == sorted(f"{number}.png" for number in range(12))
    assert all(len(shard) for shard in shards.shards)
    shards.close()
    result = prepare(f"images={tmp_path / 'images'}", f"store={tmp_path / 's' / '1.h5'}")
    assert result.returncode == 2
    assert "was made with shard=1/2" in result.stderr


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "a/b", "01/2", "7/7000"])
def test_parts_that_are_none_get_one_line(tmp_path, shard):
    Image.fromarray(image(0).pixels).save(tmp_path / "a.png")
    result = prepare(f"images={tmp_path}", f"store={tmp_path / 's.h5'}", f"shard={shard}")
    assert result.returncode == 2
    assert f"shard={shard} " in result.stderr.strip().splitlines()[-1]


def test_patches_lead_back_to_their_micrographs(tmp_path):
    for name, numbers in [("a", range(3)), ("b", range(3, 8))]:
        make(tmp_path / f"shards/{name}.h5", numbers, patches=2, patch_size=40)
    source = StoreSource(open_store(tmp_path / "shards"))
    patches = PatchSource(source)
    assert len(patches) == 2 * 8
    assert len(set(patches.sha256s)) == len(
        {(patches.micrograph_name(p), *patches.place(p).in_file(np.zeros(4))) for p in range(16)}
    )
    for position in range(16):
        place, number = patches.place(position), position // 2
        assert place.file == f"{number}.png"
        expected = image(number).pixels[place.y : place.y + 40, place.x : place.x + 40]
        np.testing.assert_array_equal(patches.read(position)[0], expected)
        np.testing.assert_array_equal(patches.read_micrograph(position), image(number).pixels)
        label = patches.labels[position]
        assert (None if label < 0 else patches.label_names[label]) == image(number).label
    make(tmp_path / "shards/c.h5", [9], patches=2, patch_size=32)
    with pytest.raises(InputError, match=r"c\.h5 was prepared with patch_size=32, .*a\.h5 with 40"):
        PatchSource(StoreSource(open_store(tmp_path / "shards")))
    make(tmp_path / "none.h5", [1])
    with pytest.raises(InputError, match=r"none\.h5 holds no patches"):
        PatchSource(StoreSource(open_store(tmp_path / "none.h5")))
