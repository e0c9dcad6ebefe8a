import numpy as np
import pytest

from sempre.data.groups import read_groups
from sempre.errors import InputError
from sempre.images.write import write_micrograph
from sempre.metrics import label_overlap, score_sample, summarise
from sempre.training.scoring import summarise_run


@pytest.fixture
def images(tmp_path):
    """Fields of view of 10, 50, 60 um and an unknown one, two of them in a sub-folder."""
    paths = {}
    (tmp_path / "kiln").mkdir()
    for name, pixel_size_nm in {"a": 100, "b": 500, "kiln/c": 600, "kiln/d": None}.items():
        path = tmp_path / f"{name}.tif"
        write_micrograph(path, np.eye(80, 100, dtype=np.uint8), pixel_size_nm)
        paths[path.stem] = path
    return paths


def test_a_field_of_view_of_more_than_50_um_is_of_low_magnification(images):
    assert read_groups("magnification", images) == {"a": "high", "b": "high", "c": "low", "d": "unknown"}


def test_groups_by_folder_and_by_a_column(images, tmp_path):
    assert set(read_groups("folder", images).values()) == {tmp_path.name, "kiln"}
    table = tmp_path / "groups.csv"
    table.write_text("file,compound,day\na,LiCoO2,1\nb.tif,ZnO,1\nc,ZnO,2\nd,ZnO,2\nelsewhere,MgO,3\n")
    assert read_groups(str(table), images) == {"a": "LiCoO2", "b": "ZnO", "c": "ZnO", "d": "ZnO"}
    assert read_groups(f"{table}:day", images) == {"a": "1", "b": "1", "c": "2", "d": "2"}
    assert read_groups("", images) == {}


def test_a_row_may_stand_for_a_sample_as_a_volume_for_its_slices(tmp_path):
    images = {name: tmp_path / f"{name}.tif" for name in ("bone_0001", "bone_0002", "wood_0001")}
    table = tmp_path / "groups.csv"
    table.write_text("bone,old\nbone_0002,young\nwood,young\n")
    assert read_groups(str(table), images) == {"bone_0001": "old", "bone_0002": "young", "wood_0001": "young"}


def test_what_tells_no_groups_is_named(images, tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("name,group\na,low\n")
    with pytest.raises(InputError, match="has no group for b: add a row b,GROUP"):
        read_groups(str(table), images)
    with pytest.raises(InputError, match="every row must have a name and a column 'size'"):
        read_groups(f"{table}:size", images)
    with pytest.raises(InputError, match="groups=sizes is no table: choose magnification, folder"):
        read_groups("sizes", images)


def test_a_run_is_summed_up_over_all_and_over_each_group():
    some, nothing = np.eye(8, dtype=int), np.zeros((8, 8), int)
    repeats = []
    for found in (some, nothing):
        samples = {
            "a": score_sample(label_overlap(some, some)),
            "b": score_sample(label_overlap(some, found)),
            "c": score_sample(label_overlap(some, nothing)),
        }
        repeats.append({"summary": summarise(samples), "samples": samples})
    summary = summarise_run(repeats, {"a": "low", "b": "low", "c": "high"})
    assert summary["scores"]["aji_plus"]["mean"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert list(summary["groups"]) == ["high", "low"]
    assert summary["groups"]["high"]["aji_plus"] == {"mean": 0.0, "std": 0.0}
    assert summary["groups"]["low"]["aji_plus"]["mean"] == pytest.approx(0.75)
    assert "groups" not in summarise_run(repeats)
