import csv
import tracemalloc

import numpy as np
import tifffile

from sempre.images import write_labels
from sempre.images.volume import open_volume
from sempre.images.volume_objects import label_volume

SHAPE = (300, 300)


def columns(folder, slices):
    """A volume of so many slices, and label images of two columns, numbered anew in each slice."""
    tifffile.imwrite(folder / "a.tif", np.zeros((slices, *SHAPE), np.uint8), imagej=True, metadata={"axes": "ZYX"})
    files = []
    for number in range(slices):
        labels = np.zeros(SHAPE, np.int32)
        first, second = (1, 2) if number % 2 else (2, 1)
        labels[10:20, 10:30], labels[40:50, 10:20] = first, second
        files.append(folder / f"a_{number:04d}.tif")
        write_labels(files[-1], labels)
    return open_volume(folder / "a.tif"), files


def test_label_images_become_one_volume_with_a_table_of_its_objects(tmp_path):
    volume, files = columns(tmp_path, 4)
    said = label_volume(volume, range(4), files, tmp_path / "out", slice_distance_nm=500.0, least_iou=0.25)
    written = open_volume(tmp_path / "out/a.ome.tif")
    assert (written.slices, written.shape) == (4, SHAPE)
    for number in range(4):
        stored = written.read(number)
        assert (stored[15, 15], stored[45, 15]) == (2, 1), "each column has one number"
    with (tmp_path / "out/a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = [(row["voxels"], row["first_slice"], row["last_slice"]) for row in rows]
    assert found == [("400", "0", "3"), ("800", "0", "3")]
    assert {row["touches_border"] for row in rows} == {"1"}, "the first and last slice cut them"
    assert {row["surface_um2"] for row in rows} == {""}, "px of no known size"
    assert said.startswith("a: 2 objects, 0.3% of the volume, no volume or surface")


def test_a_structure_that_parts_and_meets_again_is_one_where_ids_are_objects(tmp_path):
    volume, files = columns(tmp_path, 4)
    write_labels(files[1], np.zeros(SHAPE, np.int32))
    assert label_volume(volume, range(4), files, tmp_path / "out").startswith("a: 2 objects")
    assert label_volume(volume, range(4), files, tmp_path / "out", least_iou=0.25).startswith("a: 4 objects")


def test_memory_does_not_grow_with_the_number_of_slices(tmp_path):
    peaks = []
    for slices in (6, 60):
        folder = tmp_path / str(slices)
        folder.mkdir()
        arguments = columns(folder, slices)
        tracemalloc.start()
        label_volume(arguments[0], range(slices), arguments[1], folder / "out", least_iou=0.25)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2 * 4 * SHAPE[0] * SHAPE[1], "54 slices more take less than two"
