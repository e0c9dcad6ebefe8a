"""Clustering as a person runs it: grey values, two kinds of backbone and a trained network in one table."""

import csv
import json

import numpy as np
import pytest

from evaluate.clusters import Options, check, enlarge, read_unet
from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.images import read_labels
from sempre.images.watershed import split_touching
from sempre.metrics import dice, label_overlap, score_sample

pytestmark = pytest.mark.slow

HELD_OUT = ["field_5", "field_6"]


@pytest.fixture(scope="module")
def compared(finished_unet, labelled_set, run):
    folder = finished_unet.parents[1]
    finished = run(
        "evaluate/clusters.py",
        f"data={labelled_set}",
        "backbones=[random:vit_tiny_patch16_224,random:convnextv2_atto]",
        "unets=[runs/refined]",
        "split_file=split.json",
        "size=96",
        "tile=64",
        "workers=0",
        "name=compared",
        cwd=folder,
        OMP_NUM_THREADS="1",
    )
    assert finished.returncode == 0, finished.stderr
    return folder / "runs/compared", finished.stdout


def test_all_methods_are_in_one_table(compared):
    folder, printed = compared
    summary = json.loads((folder / "summary.json").read_text())
    names = ["grey value", "random:vit_tiny_patch16_224", "random:convnextv2_atto", "U-Net refined"]
    assert list(summary["arms"]) == names
    assert summary["micrographs"] == HELD_OUT
    assert [arm["labelled_micrographs"] for arm in summary["arms"].values()] == [0, 0, 0, 2]
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == names
    for row, arm in zip(rows, summary["arms"].values(), strict=True):
        assert float(row["IoU"]) == pytest.approx(np.mean([arm["samples"][name]["iou"] for name in HELD_OUT]), abs=5e-4)
        assert row["method"] in printed
    for arm in list(summary["arms"].values())[:3]:
        assert all(sample["best_iou"] >= sample["iou"] for sample in arm["samples"].values())


def test_the_instances_are_scored_as_they_are_written(compared, labelled_set):
    folder, _ = compared
    arms = json.loads((folder / "summary.json").read_text())["arms"]
    labelled = LabelledSet(labelled_set)
    for name in HELD_OUT:
        true = labelled.read(labelled.names.index(name)).layers[0]
        predicted = read_labels(folder / f"grey_value/predictions/{name}.tif")
        sample = arms["grey value"]["samples"][name]
        assert score_sample(label_overlap(true, predicted)).items() <= sample.items()
        assert sample["dice"] > 0.5, "particles are brighter than the substrate"
        assert dice(true > 0, predicted > 0) == pytest.approx(sample["dice"], abs=0.1)


def test_a_trained_network_is_scored_by_its_own_masks(compared, finished_unet):
    folder, _ = compared
    arm = json.loads((folder / "summary.json").read_text())["arms"]["U-Net refined"]
    trained = json.loads((finished_unet / "summary.json").read_text())["folds"]["validation"]["samples"]
    for name in HELD_OUT:
        assert trained[name].items() <= arm["samples"][name].items()
    (masks,) = [read_unet(finished_unet, HELD_OUT).masks]
    written = read_labels(folder / "U-Net_refined/predictions/field_5.tif")
    np.testing.assert_array_equal(written, split_touching(masks[0]))


def test_the_report_shows_masks_and_the_heads_of_the_transformer(compared):
    page = (compared[0] / "report.html").read_text()
    assert "Attention of the class token" in page
    assert page.count("<figcaption>head 2<") == 2
    assert "<figcaption>head 3<" not in page
    assert page.count("<figcaption>grey value: IoU") == 2
    assert "http" not in page.replace("http://www.w3.org", "")


def test_a_network_that_has_seen_a_held_out_micrograph_is_refused(finished_unet, tmp_path):
    with pytest.raises(InputError, match="did not hold out field_0: train it on the same data"):
        read_unet(finished_unet, ["field_0"])
    with pytest.raises(InputError, match="is no finished run"):
        read_unet(tmp_path, HELD_OUT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clusters": 1}, "clusters=1 cannot be told apart: take 2 to 8"),
        ({"pixel_size_nm": 2.0}, "disagree: choose one"),
        ({"components": 0}, "components=0 leaves nothing of the cells"),
        ({"rule": "dark"}, "rule=dark is unknown"),
        ({"backbones": ["intensity", "intensity"]}, "intensity is given twice"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(changes, message):
    with pytest.raises(InputError, match=message):
        check(Options(data="", **changes))


def test_every_px_takes_the_value_at_its_centre():
    values = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(enlarge(values, (4, 6)), np.kron(values, np.ones((2, 2), int)))
    np.testing.assert_array_equal(enlarge(values, (2, 3)), values)
    np.testing.assert_array_equal(enlarge(np.arange(5)[None], (1, 3))[0], [0, 2, 4])
