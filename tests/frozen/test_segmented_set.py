from pathlib import Path

import numpy as np
import pytest
import tifffile

from sempre.data.labelled import LabelledSet
from sempre.data.sources import FolderSource
from sempre.frozen.extract import ExtractionOptions
from sempre.frozen.segmented_set import Arm, MicrographSet, Segmentation, segment_all
from sempre.frozen.tiles import TileSource
from sempre.images import read_labels, write_labels
from sempre.metrics import aji_plus, dice

NAMES = ["a", "b", "c", "d"]


def particles(name: str) -> np.ndarray:
    """Two particles of 40x50 px micrographs, the second at a place of its own in each."""
    labels = np.zeros((40, 50), np.int32)
    labels[4:14, 4:16] = 1
    labels[20:34, 10 + 5 * NAMES.index(name) : 24 + 5 * NAMES.index(name)] = 2
    return labels


@pytest.fixture
def labelled(tmp_path) -> LabelledSet:
    for folder in ("images", "labels"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for name in NAMES:
        tifffile.imwrite(tmp_path / f"set/images/{name}.tif", (50 + 80 * (particles(name) > 0)).astype(np.uint8))
        write_labels(tmp_path / f"set/labels/{name}.tif", particles(name))
    return LabelledSet(tmp_path / "set")


def held_out(images: LabelledSet, **labels) -> MicrographSet:
    """The last three micrographs, the last of them first, with what is said of their labels."""
    source = FolderSource(images.folder, files=images.images[1:])
    return MicrographSet(TileSource(source, ExtractionOptions(), 64), [2, 0, 1], NAMES[1:], {}, **labels)


def find_all_but_of_c(position: int) -> Segmentation:
    mask = particles(NAMES[1:][position]) > 0
    if NAMES[1:][position] == "c":
        mask[:16] = False
    return Segmentation(mask, mask.astype(np.int64), (1,))


ARM = Arm("grey value", 0, find_all_but_of_c)
HOW = {"clusters": 2, "fill_holes": True, "distance": 7, "smallest": 30}


def assert_same_instances(path: Path, expected: np.ndarray) -> None:
    assert aji_plus(expected, read_labels(path)) == 1


def test_a_labelled_set_is_scored_as_it_is_written_and_by_group(labelled, tmp_path):
    groups = {"a": "other", "b": "whole", "c": "half", "d": "whole"}
    micrographs = held_out(labelled, labelled=labelled, in_set=np.array([1, 2, 3]), groups=groups)
    result, kept = segment_all(ARM, micrographs, tmp_path / "out", **HOW, kept=[0])
    assert list(result["samples"]) == ["d", "b", "c"]
    assert result["labelled_micrographs"] == 0
    assert result["samples"]["b"]["aji_plus"] == result["samples"]["d"]["dice"] == 1
    assert result["samples"]["c"]["dice"] == dice(particles("c") > 0, particles("c") == 2)
    assert result["dice"] == pytest.approx(np.mean([sample["dice"] for sample in result["samples"].values()]))
    assert result["true_instances"] == 6 and result["missed"] == 1
    assert set(result["groups"]) == {"half", "whole"}
    assert result["groups"]["whole"]["aji_plus"] == 1
    assert result["groups"]["half"]["iou"] == result["samples"]["c"]["iou"]
    assert list(kept) == [0]
    np.testing.assert_array_equal(kept[0].mask, particles("b") > 0)
    assert_same_instances(tmp_path / "out/predictions/b.tif", particles("b"))
    np.testing.assert_array_equal(read_labels(tmp_path / "out/foreground/c.tif") == 255, particles("c") == 2)
    np.testing.assert_array_equal(micrographs.true(1), particles("c") > 0)


def test_without_labels_the_same_is_written_and_nothing_scored(labelled, tmp_path):
    micrographs = held_out(labelled)
    result, kept = segment_all(ARM, micrographs, tmp_path / "out", **HOW)
    assert micrographs.true(0) is None and not kept
    assert result.keys() == {"labelled_micrographs", "foreground_share", "samples"}
    assert result["samples"]["c"] == {"foreground_share": np.mean(particles("c") == 2), "chosen": [2]}
    assert_same_instances(tmp_path / "out/predictions/d.tif", particles("d"))
    assert sorted(file.name for file in (tmp_path / "out/masks").iterdir()) == ["b.tif", "c.tif", "d.tif"]
