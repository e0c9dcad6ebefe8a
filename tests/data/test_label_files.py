"""Labels that lie beside micrographs, under the names that programs give them, and results of sempre segment."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.images import find_micrographs, write_labels
from sempre.images.label_names import labels_beside
from tests.data.conftest import DISCS, label_image
from tests.in_process import run_here

ROOT = Path(__file__).parents[2]


def write_micrographs(folder: Path, name: str = "{}.png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem in DISCS:
        Image.fromarray(np.where(label_image(stem) > 0, 200, 40).astype(np.uint8)).save(folder / name.format(stem))


def write_label(path: Path, stem: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, label_image(stem))
    elif path.suffix == ".png":
        Image.fromarray(label_image(stem).astype(np.uint16)).save(path)
    else:
        write_labels(path, label_image(stem))


NAMES = [
    "{}_cp_masks.tif",
    "{}_masks.png",
    "{}_mask.tif",
    "{}-labels.tif",
    "{}_label.png",
    "{}_seg.tif",
    "{}_instances.tif",
    "{}_instance_mask.png",
    "{}.mask.tif",
    "{} GT.png",
    "mask_{}.png",
    "{}_Masks.TIF",
    "{}_masks.ome.tif",
    "sub/{}_masks.png",
    "masks/{}.png",
    "results/{}_instances.tif",
]


@pytest.mark.parametrize("name", NAMES)
def test_labels_beside_micrographs_are_none_and_are_found_as_labels(tmp_path, name):
    write_micrographs(tmp_path)
    for stem in DISCS:
        write_label(tmp_path / name.format(stem), stem)
    assert [path.name for path in find_micrographs(tmp_path)] == ["a.png", "b.png"]
    labelled = LabelledSet(tmp_path)
    assert labelled.names == ["a", "b"]
    np.testing.assert_array_equal(labelled.read(0).layers[0], label_image("a"))


@pytest.mark.parametrize("name", ["{}.ome.tif", "{}_img.png", "{}_raw.tif"])
def test_micrographs_may_say_that_they_are_some(tmp_path, name):
    write_micrographs(tmp_path, name)
    for stem in DISCS:
        write_label(tmp_path / f"{stem}_masks.tif", stem)
    assert len(find_micrographs(tmp_path)) == 2
    np.testing.assert_array_equal(LabelledSet(tmp_path).read(1).layers[0], label_image("b"))


def test_names_like_labels_without_a_micrograph_beside_are_micrographs(tmp_path):
    write_micrographs(tmp_path, "{}_mask.png")
    assert len(find_micrographs(tmp_path)) == 2


@pytest.mark.parametrize("name", ["{}_instances.tif", "{}_masks.png", "{}.npy", "{}.json"])
def test_names_in_a_folder_of_labels_may_say_so(tmp_path, name):
    write_micrographs(tmp_path / "images")
    for stem in DISCS:
        path = tmp_path / "labels" / name.format(stem)
        if path.suffix == ".json":
            shapes = [{"label": "p", "points": [[1, 1], [30, 1], [30, 30]], "shape_type": "polygon"}]
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({"shapes": shapes, "imageHeight": 160, "imageWidth": 200, "imagePath": "x"}))
        else:
            write_label(path, stem)
    assert LabelledSet(tmp_path).read(0).layers.any()


def test_two_files_that_may_be_meant_are_both_named(tmp_path):
    write_micrographs(tmp_path)
    for stem in DISCS:
        write_label(tmp_path / f"{stem}_masks.tif", stem)
    write_label(tmp_path / "a_cp_masks.tif", "a")
    with pytest.raises(InputError, match=r"both .*a_.*masks\.tif and .*a_.*masks\.tif may be the labels of a\.png"):
        LabelledSet(tmp_path)


def test_pickles_of_cellpose_are_refused_by_name(tmp_path):
    write_micrographs(tmp_path)
    for stem in DISCS:
        np.save(tmp_path / f"{stem}_seg.npy", {"masks": label_image(stem)}, allow_pickle=True)
    with pytest.raises(InputError, match=r"a_seg\.npy is no array of numbers but a Python pickle"):
        LabelledSet(tmp_path).read(0)


def score(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_here("tools/score.py", *arguments, cwd=Path.cwd())


def test_results_are_scored_and_trained_on_as_they_are(tmp_path):
    """A name that was cut is known by summary.csv, and pictures of results are no labels."""
    long = "粒子" * 41  # 246 bytes: with _instances.tif too long
    from sempre.deploy.formats import result_paths

    out = tmp_path / "out"
    out.mkdir()
    write_micrographs(tmp_path / "images")
    (tmp_path / "images/b.png").rename(tmp_path / f"images/{long}.png")
    rows = ["micrograph,results"]
    for stem, name in (("a", "a"), ("b", long)):
        rows.append(f"{name}.png,{name}")
        (labels,) = result_paths(out / name, ("tif",))
        write_label(labels, stem)
        write_label(tmp_path / f"truth/{name}.tif", stem)
    tifffile.imwrite(out / "a_overlay.png.tif", np.zeros((9, 9), np.uint8))
    (out / "a_overlay.png.tif").rename(out / "a_overlay.png")
    (out / "size_distribution.png").write_bytes(b"")
    (out / "summary.csv").write_text("\n".join(rows), encoding="utf-8")
    finished = score("--pred", out, "--true", tmp_path / "truth", "--json", tmp_path / "report.json")
    assert finished.returncode == 0, finished.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["summary"]["aji_plus"] == 1.0 and sorted(report["samples"]) == sorted(["a", long])
    out.rename(tmp_path / "labels")
    labelled = LabelledSet(tmp_path)
    assert [labelled.read(index).layers.max() for index in range(2)] == [3, 2]


def test_an_export_is_scored_against(annotated, tmp_path):
    annotated.write("set.json")
    for stem in DISCS:
        write_label(tmp_path / f"pred/{stem}_instances.tif", stem)
    for true in (annotated.folder / "set.json", annotated.folder):
        finished = score("--pred", tmp_path / "pred", "--true", true)
        assert finished.returncode == 0 and "all  1.000" in finished.stdout, finished.stderr


def test_a_truth_without_a_particle_is_no_perfect_score(tmp_path):
    for side in ("true", "pred"):
        (tmp_path / side).mkdir()
        write_labels(tmp_path / side / "a.tif", np.zeros((9, 9), np.int32))
    finished = score("--pred", tmp_path / "pred", "--true", tmp_path / "true")
    assert finished.returncode == 2 and "has no particle in the 1 scored" in finished.stderr


def test_masks_are_scored_by_their_pieces_where_that_is_meant(tmp_path):
    write_label(tmp_path / "pred/a.tif", "a")
    (tmp_path / "true").mkdir()
    Image.fromarray((label_image("a") > 0).astype(np.uint8) * 255).save(tmp_path / "true/a.png")
    refused = score("--pred", tmp_path / "pred", "--true", tmp_path / "true")
    assert refused.returncode == 2 and "is a mask: its only id, 255, lies in 3 pieces" in refused.stderr
    assert "all  1.000" in score("--pred", tmp_path / "pred", "--true", tmp_path / "true", "--components").stdout


@pytest.mark.parametrize(
    "name",
    [
        "{}_Simple Segmentation.tif",
        "{}_Object Identities.tiff",
        "{}_Probabilities.tif",
        "{}-labelled.png",
        "{}_label_image.tif",
        "{}-watershed.tif",
        "{}_annotation.png",
        "{}_cp_output.png",
        "Mask of {}.tif",
        "Count Masks of {}.tif.tif",
    ],
)
def test_what_further_programs_save_beside_a_micrograph_is_no_micrograph(name):
    files = [Path("run 1.tif"), Path("run 12.tif"), Path(name.format("run 1"))]
    assert labels_beside(files) == {files[2]: files[0]}


@pytest.mark.parametrize("name", ["a_masked", "a_label-free", "a_1", "segment_a1", "a_of_b", "unmasked a", "instances"])
def test_a_name_that_only_resembles_one_of_labels_is_a_micrographs(name):
    assert not labels_beside([Path("a.tif"), Path("b.tif"), Path(f"{name}.tif")])
