import hashlib
import pickle

import h5py
import numpy as np
import pytest

from sempre.data.store import ChunkReader, Store, map_file
from sempre.data.store_writer import StoredImage, StoreWriter

SIZES = [(500, 730), (160, 320), (70, 90)]


def image(number: int) -> StoredImage:
    pixels = np.random.default_rng(number).integers(0, 256, SIZES[number % 3], dtype=np.uint8)
    return StoredImage(f"{number}.png", hashlib.sha256(pixels).hexdigest(), 1, 1, pixels)


def make(path, numbers=range(9)) -> Store:
    with StoreWriter(path, patches=0) as writer:
        for number in numbers:
            writer.append(image(number))
        writer.finish()
    return Store(path)


def windows(store: Store, count: int = 200):
    """Random parts of random micrographs, whole ones and single pixels among them."""
    draws = np.random.default_rng(0)
    for index in draws.integers(0, len(store), count).tolist():
        height, width = SIZES[index % 3]
        y, x = int(draws.integers(0, height)), int(draws.integers(0, width))
        yield index, y, x, int(draws.integers(1, height - y + 1)), int(draws.integers(1, width - x + 1))
    for index in range(3):
        yield index, 0, 0, *SIZES[index]
        yield index, SIZES[index][0] - 1, SIZES[index][1] - 1, 1, 1


def reads_without_hdf5(store: Store) -> list[bool]:
    for index in range(3):
        store.read(index)
    return [store._readers[size] is not None for size in SIZES]


def test_every_part_is_the_image_s(tmp_path):
    store = make(tmp_path / "store.h5")
    assert reads_without_hdf5(store) == [True] * 3
    for index, y, x, height, width in windows(store):
        part = store.crop(index, y, x, height, width)
        np.testing.assert_array_equal(part, image(index).pixels[y : y + height, x : x + width])
        assert part.flags.c_contiguous
        assert part.flags.writeable


def test_a_crop_needs_only_the_chunks_it_touches(tmp_path):
    store = make(tmp_path / "store.h5")
    store.read(3)
    reader = store._readers[SIZES[0]]
    offsets = reader.offsets[:]
    assert offsets.shape == (3, 4, 5)
    touched = offsets[1, 1:3, 2:4].ravel().tolist()  # rows 160-480, columns 320-640 of the second image of this size
    content = np.zeros_like(reader.bytes)
    for start in touched:
        content[start : start + 160 * 160] = reader.bytes[start : start + 160 * 160]
    (tmp_path / "bytes").write_bytes(content)
    alone = ChunkReader(map_file(tmp_path / "bytes"), offsets, (160, 160))
    np.testing.assert_array_equal(alone.crop(1, 170, 330, 300, 300), image(3).pixels[170:470, 330:630])


def test_a_store_without_the_table_is_read_all_the_same(tmp_path):
    make(tmp_path / "store.h5").close()
    with h5py.File(tmp_path / "store.h5", "r+") as file:
        del file["chunks"]
    store = Store(tmp_path / "store.h5")
    assert reads_without_hdf5(store) == [False] * 3
    for index, y, x, height, width in windows(store, 20):
        expected = image(index).pixels[y : y + height, x : x + width]
        np.testing.assert_array_equal(store.crop(index, y, x, height, width), expected)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_repacked_store_is_not_read_where_its_chunks_once_were(tmp_path, compression):
    make(tmp_path / "store.h5").close()
    with h5py.File(tmp_path / "store.h5") as old, h5py.File(tmp_path / "repacked.h5", "w") as new:
        new.attrs.update(old.attrs)
        for name in ("chunks", "index", "labels", "patches"):  # the table first, so the chunks move
            old.copy(name, new)
        for name, stack in old["images"].items():
            new.create_dataset(f"images/{name}", data=stack[:], chunks=stack.chunks, compression=compression)
    store = Store(tmp_path / "repacked.h5")
    assert reads_without_hdf5(store) == [False] * 3
    np.testing.assert_array_equal(store.crop(3, 10, 20, 300, 300), image(3).pixels[10:310, 20:320])


def test_the_table_grows_with_the_store(tmp_path):
    make(tmp_path / "store.h5").close()
    size = (tmp_path / "store.h5").stat().st_size
    make(tmp_path / "store.h5", []).close()
    assert (tmp_path / "store.h5").stat().st_size == size  # nothing new, nothing written
    with StoreWriter(tmp_path / "store.h5", patches=0) as writer:
        for number in range(9, 12):
            writer.append(image(number))
    store = Store(tmp_path / "store.h5", partial=True)
    assert reads_without_hdf5(store) == [False] * 3  # interrupted: the table is too short
    np.testing.assert_array_equal(store.crop(10, 1, 2, 100, 200), image(10).pixels[1:101, 2:202])
    store.close()
    store = make(tmp_path / "store.h5", [])
    assert reads_without_hdf5(store) == [True] * 3
    np.testing.assert_array_equal(store.crop(10, 1, 2, 100, 200), image(10).pixels[1:101, 2:202])


def test_a_mapped_store_travels_to_other_processes(tmp_path):
    store = make(tmp_path / "store.h5")
    store.crop(0, 0, 0, 10, 10)
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.crop(0, 5, 6, 10, 10), image(0).pixels[5:15, 6:16])
