import hashlib
import io
import os
import pickle
import struct

import h5py
import numpy as np
import pytest

import sempre.data.store
import sempre.data.store_writer
from sempre.data.journal import JournaledFile, journal_path
from sempre.data.store import Store
from sempre.data.store_writer import StoredImage, StoreWriter
from sempre.errors import InputError

SIZES = [(200, 330), (330, 200), (70, 90), (40, 500)]


def image(number: int, size: tuple[int, int] | None = None) -> StoredImage:
    pixels = np.random.default_rng(number).integers(0, 256, size or SIZES[number % 4], dtype=np.uint8)
    return StoredImage(
        path=f"folder/µ-{number}.tif",
        sha256=hashlib.sha256(pixels.tobytes()).hexdigest(),
        file_bytes=1000 + number,
        modified_ns=1_700_000_000_000_000_000 + number,
        pixels=pixels,
        pixel_size_nm=None if number % 3 else 2.5,
        label=[None, "rods", "spheres"][number % 3],
    )


def make(path, count: int = 10, **settings) -> Store:
    with StoreWriter(path, **settings) as writer:
        for number in range(count):
            writer.append(image(number))
        writer.finish()
    return Store(path)


def test_everything_comes_back(tmp_path):
    store = make(tmp_path / "store.h5", percentiles=(2, 98))
    assert len(store) == 10
    assert store.percentiles == (2, 98)
    for number in range(10):
        expected = image(number)
        np.testing.assert_array_equal(store.read(number), expected.pixels)
        np.testing.assert_array_equal(store.crop(number, 3, 7, 30, 60), expected.pixels[3:33, 7:67])
        assert store.file_of(number) == expected.path
        assert store.entries.sha256[number].decode() == expected.sha256
        label = store.entries.label[number]
        assert (None if label < 0 else store.labels[label]) == expected.label
        size = store.entries.pixel_size_nm[number]
        assert (None if np.isnan(size) else size) == expected.pixel_size_nm


def test_any_hdf5_reader_finds_the_documented_layout(tmp_path):
    make(tmp_path / "store.h5")
    with h5py.File(tmp_path / "store.h5") as file:
        stack = file["images/200x330"]
        assert stack.shape == (3, 200, 330)
        assert stack.dtype == np.uint8
        assert stack.chunks == (1, 160, 160)
        assert stack.compression is None
        assert file["index/path"].asstr()[4] == "folder/µ-4.tif"
        assert file["index/row"][8] == 2


def test_a_crop_outside_is_refused_in_place_of_being_cut_short(tmp_path):
    store = make(tmp_path / "store.h5")
    for y, x in [(-1, 0), (0, -1), (150, 0), (0, 300)]:
        with pytest.raises(ValueError, match="outside folder/µ-0"):
            store.crop(0, y, x, 64, 64)


class RecordedFile(io.FileIO):
    """A file that notes which bytes are read."""

    spans = []  # noqa: RUF012 (one list for whatever instance h5py is given)

    def readinto(self, buffer):
        self.spans.append((self.tell(), self.tell() + len(buffer)))
        return super().readinto(buffer)


def test_a_crop_reads_only_the_chunks_it_touches(tmp_path, monkeypatch):
    """Here in a store without a table of its chunks; tests/data/test_chunks.py has those with one."""
    with StoreWriter(tmp_path / "store.h5") as writer:
        for number in range(3):
            writer.append(image(number, (960, 1280)))
        writer.finish()
    with h5py.File(tmp_path / "store.h5", "r+") as file:
        del file["chunks"]
    store = Store(tmp_path / "store.h5")
    expected = store.crop(1, 170, 330, 300, 640)
    store.close()

    monkeypatch.setattr(
        sempre.data.store.h5py,
        "File",
        lambda path, mode, locking, real=h5py.File: real(RecordedFile(path, "r"), mode),
    )
    store.crop(0, 0, 0, 1, 1)  # opens the file and its tables
    RecordedFile.spans.clear()
    np.testing.assert_array_equal(store.crop(1, 170, 330, 300, 640), expected)

    stack = store._stack(1)
    chunks = [stack.id.get_chunk_info(number) for number in range(stack.id.get_num_chunks())]
    touched = {
        (chunk.byte_offset, chunk.byte_offset + chunk.size)
        for chunk in chunks
        if chunk.chunk_offset[0] == 1 and 160 <= chunk.chunk_offset[1] < 470 and 320 <= chunk.chunk_offset[2] < 970
    }
    assert len(touched) == 2 * 5  # rows 160-480, columns 320-1120
    pixel_reads = {
        span for span in RecordedFile.spans if any(span[0] < end and start < span[1] for start, end in touched)
    }
    assert pixel_reads == touched
    others = [span for span in RecordedFile.spans if span not in touched]
    assert sum(end - start for start, end in others) < 20_000  # the tables that find the chunks


def test_patches_are_cut_from_their_images_and_do_not_depend_on_order(tmp_path):
    store = make(tmp_path / "store.h5", patches=5)
    images, corners = store.patch_entries.image, store.patch_entries.corner
    assert len(images) == 5 * sum(min(image(number).pixels.shape) >= 64 for number in range(10))
    for position, (index, (y, x)) in enumerate(zip(images, corners, strict=True)):
        np.testing.assert_array_equal(store.read_patch(position), store.read(index)[y : y + 64, x : x + 64])
    with StoreWriter(tmp_path / "other.h5", patches=5) as writer:
        writer.append(image(4))
        writer.finish()
    np.testing.assert_array_equal(Store(tmp_path / "other.h5").patch_entries.corner, corners[images == 4])


def test_no_patches_when_none_are_asked_for(tmp_path):
    assert len(make(tmp_path / "store.h5", patches=0).patch_entries) == 0


def test_the_fingerprint_is_of_the_data_not_of_their_order(tmp_path):
    fingerprints = []
    for name, numbers in [("a", [0, 1, 2]), ("b", [2, 0, 1]), ("c", [0, 1, 3])]:
        with StoreWriter(tmp_path / name) as writer:
            for number in numbers:
                writer.append(image(number))
            writer.finish()
        fingerprints.append(Store(tmp_path / name).fingerprint)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_a_store_goes_on_with_new_images(tmp_path):
    make(tmp_path / "store.h5", 3)
    with StoreWriter(tmp_path / "store.h5") as writer:
        assert sorted(writer.stored) == [image(number).path for number in range(3)]
        assert writer.stored[image(1).path] == (1001, image(1).modified_ns, image(1).sha256)
        writer.append(image(3))
        writer.append(image(4))
        writer.finish()
    store = Store(tmp_path / "store.h5")
    for number in range(5):
        np.testing.assert_array_equal(store.read(number), image(number).pixels)
    assert store.labels == ["rods", "spheres"]


def test_a_pickled_store_opens_the_file_again(tmp_path):
    store = make(tmp_path / "store.h5")
    store.read(0)
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read(3), image(3).pixels)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_write_loses_at_most_a_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(sempre.data.store_writer, "BATCH_IMAGES", 3)
    path = tmp_path / "store.h5"
    committed = [0]
    for writes in range(1, 10_000, 7):
        path.unlink(missing_ok=True)
        journal_path(path).unlink(missing_ok=True)
        if (child := os.fork()) == 0:
            _write_until_killed(path, writes)
        finished = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        if not path.exists() or path.stat().st_size == 0:
            continue
        if journal_path(path).exists():
            with pytest.raises(InputError, match="interrupted"):
                Store(path)
        with StoreWriter(path, patches=1):
            pass
        store = Store(path, partial=True)
        assert len(store) % 3 == 0
        for number in range(len(store)):
            np.testing.assert_array_equal(store.read(number), image(number).pixels)
            assert store.file_of(number) == image(number).path
        committed.append(len(store))
        if finished:
            break
        with pytest.raises(InputError, match="only a part"):
            Store(path)
        store.close()
    assert finished
    assert set(committed) == {0, 3, 6, 9}
    assert committed == sorted(committed)


def _write_until_killed(path, writes: int) -> None:
    """In a child process: write nine images, and die in the middle of the given write to the file."""
    real_write, count = JournaledFile.write, 0

    def write(self, data):
        nonlocal count
        count += 1
        if count == writes:
            real_write(self, memoryview(data).cast("B")[: len(data) // 2])
            os._exit(9)
        return real_write(self, data)

    JournaledFile.write = write
    with StoreWriter(path, patches=1) as writer:
        for number in range(9):
            writer.append(image(number))
        writer.finish()
    os._exit(0)


@pytest.mark.parametrize("room", [0, 5, 40, 70, 120])
def test_a_full_disk_is_an_os_error_and_costs_the_batch_alone(tmp_path, monkeypatch, room):
    monkeypatch.setattr(sempre.data.store_writer, "BATCH_IMAGES", 3)
    path = tmp_path / "store.h5"
    make(path, 3).close()
    real_save, writes = JournaledFile._save, 0

    def save(self, start, end):
        nonlocal writes
        writes += 1
        if writes > room:
            raise OSError(28, "No space left on device")
        real_save(self, start, end)

    monkeypatch.setattr(JournaledFile, "_save", save)
    with pytest.raises(OSError, match="No space left"), StoreWriter(path) as writer:
        for number in range(3, 60):
            writer.append(image(number))
    monkeypatch.undo()
    store = Store(path, partial=True)
    assert len(store) % 3 == 0
    assert len(store) < 60
    for number in range(len(store)):
        np.testing.assert_array_equal(store.read(number), image(number).pixels)


def test_an_error_between_images_keeps_what_was_committed(tmp_path, monkeypatch):
    monkeypatch.setattr(sempre.data.store_writer, "BATCH_IMAGES", 2)
    with pytest.raises(RuntimeError), StoreWriter(tmp_path / "store.h5") as writer:
        for number in range(5):
            writer.append(image(number))
        raise RuntimeError
    assert len(Store(tmp_path / "store.h5", partial=True)) == 4


def test_wrong_files_get_one_sentence(tmp_path):
    with pytest.raises(InputError, match="does not exist: make it with"):
        Store(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5 at all")
    with pytest.raises(InputError, match="cannot be opened"):
        Store(tmp_path / "text.h5")
    with pytest.raises(InputError, match="is no store"):
        StoreWriter(tmp_path / "text.h5")
    assert (tmp_path / "text.h5").read_text() == "no HDF5 at all"
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["something"] = 1
    for opener in (Store, StoreWriter):
        with pytest.raises(InputError, match="not a store of format 1"):
            opener(tmp_path / "other.h5")


def test_a_store_keeps_its_settings(tmp_path):
    make(tmp_path / "store.h5", 2).close()
    with pytest.raises(InputError, match="percentiles"):
        StoreWriter(tmp_path / "store.h5", percentiles=(2, 98))
    with pytest.raises(InputError, match="patch_size=64, not 32"):
        StoreWriter(tmp_path / "store.h5", patch_size=32)


def test_a_store_that_is_being_written_is_neither_read_nor_written_by_others(tmp_path):
    with StoreWriter(tmp_path / "store.h5") as writer:
        writer.append(image(0))
        with pytest.raises(InputError):
            Store(tmp_path / "store.h5")
        with pytest.raises(InputError, match="in use"):
            StoreWriter(tmp_path / "store.h5")


@pytest.mark.parametrize("name", ["index/label", "index/sha256", "images/200x330", "labels"])
@pytest.mark.parametrize("change", ["shorter", "another type", "another file's"])
def test_a_damaged_store_is_refused_in_one_sentence(tmp_path, name, change):
    path = tmp_path / "store.h5"
    make(path).close()
    with h5py.File(path, "r+") as file:
        values = file[name][:]
        del file[name]
        match change:
            case "shorter":
                file[name] = values[:0]
            case "another type":
                file[name] = np.zeros(values.shape, "f4") - 7
            case _:
                file[name] = h5py.ExternalLink("elsewhere.h5", "/image")
    with pytest.raises(InputError, match=r"store\.h5"):
        store = Store(path)
        for index in range(len(store)):
            store.read(index)
            store.crop(index, 0, 0, 10, 10)
            _ = store.split(), [store.labels[label] for label in store.entries.label]


def test_a_store_that_hdf5_does_not_survive_is_refused(tmp_path):
    path = tmp_path / "store.h5"
    make(path).close()
    content = bytearray(path.read_bytes())
    content[content.index(b"\x19\1\1") + 1] = 255  # an attribute's type: neither a text nor a list
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"store\.h5 is damaged: HDF5 finds no end in it or crashes"):
        Store(path)


def test_a_store_with_a_chunk_that_is_too_long_is_refused(tmp_path):
    """HDF5 writes as many bytes as a chunk claims into the memory of one."""
    path = tmp_path / "store.h5"
    make(path).close()
    with h5py.File(path) as file:
        (name, stack), *_ = file["images"].items()
        chunk = stack.id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<2I4Q", chunk.size, 0, 0, 0, 0, 0) + struct.pack("<Q", chunk.byte_offset))
    struct.pack_into("<I", content, at, 2 * chunk.size)
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"store\.h5 is damaged: a part of /images/{name} has no place in the file"):
        Store(path)


DAMAGES = {
    "no index of the patches": lambda file: file.__delitem__("patches/image"),
    "no patches": lambda file: file.__delitem__("patches"),
    "corners of one number": lambda file: replace_dataset(file, "patches/corner", np.zeros(4, np.int32)),
    "patches of micrographs that are not there": lambda file: file["patches/image"].__setitem__(0, 1 << 40),
    "patches of another size": lambda file: replace_dataset(file, "patches/pixels", np.zeros((4, 3, 3), np.uint8)),
    "patches of floats": lambda file: replace_dataset(file, "patches/pixels", np.zeros((4, 64, 64))),
}


def replace_dataset(file: h5py.File, name: str, values: np.ndarray) -> None:
    del file[name]
    file[name] = values


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_patches_are_one_line(damage, tmp_path):
    make(tmp_path / "store.h5").close()
    with h5py.File(tmp_path / "store.h5", "r+") as file:
        DAMAGES[damage](file)
    store = Store(tmp_path / "store.h5")
    with pytest.raises(InputError, match=r"store\.h5 is damaged") as error:
        store.patch_entries  # noqa: B018
        store.read_patch(0)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"store\.h5 is damaged"):
        store.read_patch(1 << 40)
