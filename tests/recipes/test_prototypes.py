"""From labelled micrographs to an evaluation of prototypes, and from clicks to labels to correct."""

import csv
import json

import numpy as np
import pytest
import tifffile

from sempre.data.labelled import LabelledSet
from sempre.frozen.prototypes import sample_points
from sempre.images import read_labels, write_labels
from sempre.images.volume import open_volume
from sempre.images.volume_objects import measure_solids
from sempre.metrics import dice
from tests.recipes.conftest import ROOT

pytestmark = pytest.mark.slow

BACKBONE = ("backbone=random:convnextv2_atto", "layer=1", "workers=1")


@pytest.fixture(scope="module")
def clicks(labelled_set, tmp_path_factory):
    """Three clicks of each sort on one micrograph."""
    points = sample_points(LabelledSet(labelled_set).read(0).layers[0] > 0, 3, 3, seed=0)
    content = {"field_0.tif": {"positive": points.positive.tolist(), "negative": points.negative.tolist()}}
    path = tmp_path_factory.mktemp("clicks") / "clicks.json"
    path.write_text(json.dumps(content))
    return path


def test_the_evaluation_of_volumes_writes_what_other_methods_write(labelled_set, run, tmp_path):
    """The fields as slices of two volumes, so that there are pairs of one sample."""
    fields = LabelledSet(labelled_set)
    for folder in ("images", "labels"):
        (tmp_path / "volumes" / folder).mkdir(parents=True)
    for name, members in (("steel", [0, 1, 2, 3, 1, 2]), ("iron", [3, 2, 1, 0, 2, 3])):
        read = [fields.read(member) for member in members]
        # No slice is like another: what has the same pixels is in one split.
        pixels = np.stack([np.roll(field.pixels, number) for number, field in enumerate(read)])
        tifffile.imwrite(tmp_path / f"volumes/images/{name}.ome.tif", pixels, metadata={"axes": "ZYX"})
        labels = [np.roll(field.layers[0], number) for number, field in enumerate(read)]
        tifffile.imwrite(tmp_path / f"volumes/labels/{name}.tif", np.stack(labels))
    arguments = ("data=volumes", "slices=6", "points=10", "draws=2", "margin=2", "validation_fraction=0.4")
    names = [f"{name}_{number:04d}" for name in ("steel", "iron") for number in range(6)]
    (tmp_path / "groups.csv").write_text("".join(f"{name},of {name.split('_')[0]}\n" for name in names))
    finished = run("evaluate/prototypes.py", *arguments, *BACKBONE, "name=few", "groups=groups.csv", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    folder = tmp_path / "runs/few"
    summary = json.loads((folder / "summary.json").read_text())
    samples = summary["repeats"][0]["samples"]
    assert len(samples) == summary["validation"] == 12 - summary["train"]
    assert {file.stem for file in (folder / "repeat-0/predictions").iterdir()} == set(samples)
    assert summary["scores"]["aji_plus"]["mean"] == pytest.approx(summary["repeats"][0]["summary"]["aji_plus"])
    for group, scores in summary["groups"].items():
        members = [sample["aji_plus"] for name, sample in samples.items() if name.startswith(group.split()[1])]
        assert scores["aji_plus"]["mean"] == pytest.approx(np.mean(members))
        assert (
            f"<td>{group}</td><td>{summary['mask_groups'][group]['dice']:.3f}</td>"
            in (folder / "report.html").read_text()
        )
    assert list(summary["points"]) == ["1", "2", "5", "10", "20", "25", "50"]
    assert all(set(scores) == {"dice", "iou", "hd95_px"} for scores in summary["masks"].values())
    assert {"8", "9", "10", "11", "12", "13", "14"} < set(summary["percent"]), "fine where it is best"
    assert summary["masks"]["top"]["dice"] == pytest.approx(summary["percent"]["10"]["dice"])

    matrix, of = np.array(summary["transfer"]["dice"]), np.array(summary["transfer"]["samples"])
    assert sorted(set(of)) == ["iron", "steel"]
    same = of[:, None] == of
    np.fill_diagonal(same, False)
    assert summary["transfer"]["mean"]["same micrograph"] == pytest.approx(np.diag(matrix).mean())
    assert summary["transfer"]["mean"]["same sample"] == pytest.approx(matrix[same].mean())
    assert len((folder / "scores.csv").read_text().splitlines()) == 1 + 4 * len(samples)
    assert (folder / "report.html").read_text().count("data:image") > 3 + 3 * min(8, len(samples)) - 1


def test_clicks_become_a_labelled_set_that_can_be_corrected(labelled_set, clicks, run, tmp_path):
    arguments = (f"images={labelled_set}", "out=out", "prototypes=clicked.safetensors", *BACKBONE)
    finished = run("evaluate/click.py", *arguments, f"clicks={clicks}", "threshold=clicks", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    out, original = tmp_path / "out", LabelledSet(labelled_set)
    labelled, for_cvat = LabelledSet(out), LabelledSet(out, coco=out / "cvat/annotations.json")
    assert labelled.names == original.names
    assert labelled.sha256s == original.sha256s, "the micrographs are copies"
    for index, name in enumerate(labelled.names):
        np.testing.assert_array_equal(labelled.read(index).layers, for_cvat.read(index).layers)
        assert (out / f"overlays/{name}.png").is_file()
        assert (out / f"heatmaps/{name}.png").is_file()

    corrected = read_labels(out / "labels/field_0.tif")
    corrected[:] = 0
    corrected[10:30, 10:30] = 9
    write_labels(out / "labels/field_0.tif", corrected)
    np.testing.assert_array_equal(LabelledSet(out).read(0).layers[0], corrected == 9)

    # Corrected labels are not overwritten, and the clicks are not for another backbone.
    refused = run("evaluate/click.py", *arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert "out/labels holds labels, perhaps corrected ones" in refused.stderr
    other = (f"images={labelled_set}", "out=other", "prototypes=clicked.safetensors", *BACKBONE, "layer=2")
    refused = run("evaluate/click.py", *other, cwd=tmp_path)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "holds prototypes of another backbone or layer" in refused.stderr


def test_a_volume_is_segmented_slice_by_slice_from_kept_clicks(labelled_set, run, tmp_path):
    fields = LabelledSet(labelled_set)
    stack = np.stack([np.stack([fields.read(index).pixels, fields.read(index).pixels // 2]) for index in range(4)])
    metadata = {"axes": "ZCYX", "PhysicalSizeX": 0.004, "PhysicalSizeXUnit": "µm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata=metadata)
    points = sample_points(fields.read(2).layers[0] > 0, 3, 3, seed=0)
    outside = {"positive": [*points.positive.tolist(), [192, 5]], "negative": points.negative.tolist()}
    inside = {"positive": points.positive.tolist(), "negative": points.negative.tolist()}
    arguments = ("images=a.ome.tif", "channel=1", "slices=4", "pixel_size_nm=8", "clicks=clicks.json", *BACKBONE)
    for name, content in (("whole", inside), ("failed", outside)):
        (tmp_path / "clicks.json").write_text(json.dumps({"a_0002": content}))
        finished = run("evaluate/click.py", *arguments, f"out={name}", cwd=tmp_path)
        assert finished.returncode == (0 if name == "whole" else 2), finished.stderr
    assert "error: a_0002: the point y=192 x=5 is outside the micrograph of 192x192 px" in finished.stderr
    labelled = LabelledSet(tmp_path / "whole")
    assert labelled.names == ["a_0000", "a_0001", "a_0002", "a_0003"]
    assert not (tmp_path / "failed/labels").exists()

    # One label volume of them, in which no two objects share a place; its file does not say how far apart slices are.
    volume = open_volume(tmp_path / "whole/volumes/a.ome.tif")
    assert (volume.slices, volume.shape) == (4, (192, 192))
    assert volume.pixel_size_nm == pytest.approx(4.0)
    objects = np.stack([volume.read(number) for number in range(4)])
    for number, name in enumerate(labelled.names):
        np.testing.assert_array_equal(objects[number] > 0, read_labels(tmp_path / f"whole/labels/{name}.tif") > 0)
    with (tmp_path / "whole/volumes/a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["voxels"]) for row in rows] == np.bincount(objects.ravel())[1:].tolist()
    assert {row["volume_um3"] for row in rows} == {""}


def test_a_whole_sample_is_segmented_and_measured_from_points_on_one_slice(bone, run, tmp_path):
    mask = np.stack([open_volume(bone / "C.ims").read(number, -1) for number in range(6)]) > 0
    points = sample_points(mask[2], 10, 1, seed=0)
    clicks = {"positive": points.positive.tolist(), "negative": points.negative.tolist()}
    (tmp_path / "clicks.json").write_text(json.dumps({"C_0002": clicks}))
    preset = ROOT / "configs/papers/prototypes_click.yaml"
    arguments = (f"images={bone / 'C.ims'}", "clicks=clicks.json", "out=out", *BACKBONE, "layer=0", "size=0")
    finished = run("evaluate/click.py", preset, *arguments, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    volume = open_volume(tmp_path / "out/volumes/C.ome.tif")
    assert (volume.pixel_size_nm, volume.slice_distance_nm) == pytest.approx((50.0, 100.0))
    found = np.stack([volume.read(number) for number in range(6)])
    assert set(np.unique(found)) == {0, 1}, "one structure"
    assert found.mean() == pytest.approx(0.1, abs=0.005), "10 %"
    assert dice(mask, found > 0) > 0.7
    with (tmp_path / "out/volumes/C.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["volume_um3"]) == pytest.approx(found.sum() * 0.05 * 0.05 * 0.1, rel=1e-5)
    solids = measure_solids(found, 1, (0.1, 0.05, 0.05))
    assert float(row["surface_um2"]) == pytest.approx(solids.surface[0], rel=1e-5)
    assert f"{found.mean():.1%} of the volume" in finished.stdout
