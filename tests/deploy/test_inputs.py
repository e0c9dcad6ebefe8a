from pathlib import Path

import numpy as np
import pytest
import tifffile

from sempre.deploy.inputs import find_inputs, is_result
from sempre.deploy.overlay import write_overlay
from sempre.deploy.size_plot import write_size_plot
from sempre.errors import InputError
from sempre.images import write_label_png, write_labels


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("day/a.tif", "day/b.tif", "day/low/c.tif", "day/notes.txt", "e[1].tif", "run[1]/f.tif"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(name, np.zeros((4, 4), np.uint8))
    return tmp_path


def named(*images):
    return [source.path.as_posix() for source in find_inputs(map(Path, images), Path("out")).sources]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("day/*.tif", ["day/a.tif", "day/b.tif"]),
        ("day/?.tif", ["day/a.tif", "day/b.tif"]),
        ("day/*", ["day/a.tif", "day/b.tif", "day/low/c.tif"]),
        ("**/c.tif", ["day/low/c.tif"]),
        ("e[1].tif", ["e[1].tif"]),
        ("run[1]/*.tif", ["run[1]/f.tif"]),
        ("day/x*.tif", ["day/x*.tif"]),  # for an error that names it
    ],
)
def test_patterns_are_expanded_where_the_shell_does_not(folder, pattern, found):
    assert named(pattern) == found


def test_absolute_patterns(folder):
    assert named(f"{folder}/day/*.tif") == [(folder / name).as_posix() for name in ("day/a.tif", "day/b.tif")]


def test_a_folder_knows_where_its_micrographs_lie(folder):
    inputs = find_inputs([Path("day"), Path("e[1].tif")], Path("out"))
    assert {source.path.relative_to(source.folder).as_posix() for source in inputs.sources} == {
        "a.tif",
        "b.tif",
        "low/c.tif",
        "e[1].tif",
    }


def test_results_of_earlier_runs_are_no_micrographs(folder):
    labels = np.eye(64, dtype=np.int32)
    write_labels("day/a_instances.tif", labels)
    write_label_png("day/a_instances.png", labels)
    write_overlay("day/a_overlay.png", labels, labels)
    write_size_plot("day/size_distribution.png", np.array([1.0]), "px", 1)
    inputs = find_inputs([Path("day")], Path("out"))
    assert len(inputs.sources) == 3
    assert sorted(path.name for path in inputs.results) == [
        "a_instances.png",
        "a_instances.tif",
        "a_overlay.png",
        "size_distribution.png",
    ]
    with pytest.raises(InputError, match="no micrographs but 4 results"):
        find_inputs([Path("day/*_*")], Path("out"))


def test_what_others_made_is_a_micrograph_whatever_its_name(folder):
    tifffile.imwrite("day/gold_instances.tif", np.zeros((4, 4), np.uint8))
    Path("day/damaged_overlay.png").write_bytes(b"no picture")
    assert not is_result(Path("day/gold_instances.tif")) and not is_result(Path("day/damaged_overlay.png"))


def test_an_empty_folder_beside_others(folder):
    Path("nothing").mkdir()
    inputs = find_inputs([Path("nothing"), Path("day")], Path("out"))
    assert inputs.empty == [Path("nothing")] and len(inputs.sources) == 3
    with pytest.raises(InputError, match="nothing holds no micrographs: give"):
        find_inputs([Path("nothing")], Path("out"))
