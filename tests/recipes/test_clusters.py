"""Clustering as a person runs it: grey values, two kinds of backbone and a trained network in one table."""

import csv
import json
import sys

import numpy as np
import pytest
import tifffile

from evaluate.clusters import Options, check, main
from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.frozen.segmented_set import unet_arm
from sempre.images import read_labels, read_micrograph, write_labels
from sempre.metrics import dice, label_overlap, score_sample
from sempre.segmentation.watershed import split_touching
from tests.recipes.conftest import write_split

pytestmark = pytest.mark.slow

HELD_OUT = ["field_5", "field_6"]


@pytest.fixture(scope="module")
def compared(finished_unet, labelled_set, run):
    folder = finished_unet.parents[1]
    (folder / "groups.csv").write_text("".join(f"{name},of {name[-1]}\n" for name in LabelledSet(labelled_set).names))
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
        "groups=groups.csv",
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
        for group, name in (("of 5", "field_5"), ("of 6", "field_6")):
            assert arm["groups"][group]["aji_plus"] == arm["samples"][name]["aji_plus"]
            assert arm["groups"][group]["dice"] == arm["samples"][name]["dice"]
    assert "Group of 5" in (folder / "report.html").read_text()
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
    mask = unet_arm(finished_unet, HELD_OUT).segment(0).mask
    written = read_labels(folder / "U-Net_refined/predictions/field_5.tif")
    np.testing.assert_array_equal(written, split_touching(mask))
    np.testing.assert_array_equal(read_labels(folder / "U-Net_refined/foreground/field_5.tif") > 0, mask)


def test_the_report_shows_masks_and_the_heads_of_the_transformer(compared):
    page = (compared[0] / "report.html").read_text()
    assert "Attention of the class token" in page
    assert page.count("<figcaption>head 2<") == 2
    assert "<figcaption>head 3<" not in page
    assert page.count("<figcaption>grey value: IoU") == 2
    assert "http" not in page.replace("http://www.w3.org", "")


def test_a_network_that_has_seen_a_held_out_micrograph_is_refused(finished_unet, tmp_path):
    with pytest.raises(InputError, match="did not hold out field_0: train it on the same data"):
        unet_arm(finished_unet, ["field_0"])
    with pytest.raises(InputError, match="is no finished run"):
        unet_arm(tmp_path, HELD_OUT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clusters": 1}, "clusters=1 is out of range: give 2 to 8"),
        ({"pixel_size_nm": 2.0}, "disagree: choose one"),
        ({"components": 0}, "components=0 is out of range"),
        ({"rule": "dark"}, "rule=dark is unknown"),
        ({"backbones": ["intensity", "intensity"]}, "intensity is given twice"),
        ({"images": "stack.tif"}, "give data=, a labelled set, or images="),
        ({"data": "", "images": "stack.tif", "unets": ["runs/unet"]}, "unets, .* and groups= are of labelled sets"),
        ({"data": "", "images": "stack.tif", "groups": "folder"}, "groups= are of labelled sets"),
        ({"slices": 3}, "slices=, channel= and skip= are of volumes"),
        ({"foreground": [3]}, r"foreground=\[3\] are not all clusters: count from 1 to 2"),
        ({"foreground": [1], "clicks": "clicks.json"}, "both choose the clusters"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(changes, message):
    with pytest.raises(InputError, match=message):
        check(Options(**{"data": "set"} | changes))


def clustered(monkeypatch, folder, *options):
    """Run the recipe in this process, in `folder`: what it put into `runs/masks`."""
    monkeypatch.chdir(folder)
    common = ("name=masks", "size=96", "tile=64", "workers=0", "shown=1")
    monkeypatch.setattr(sys, "argv", ["clusters.py", *common, *map(str, options)])
    main()
    return folder / "runs/masks", json.loads((folder / "runs/masks/summary.json").read_text())


def test_a_folder_without_labels_becomes_masks(labelled_set, tmp_path, monkeypatch):
    options = (f"images={labelled_set}/images", "backbones=[random:vit_tiny_patch16_224]", "patch=8", "clusters=3")
    folder, summary = clustered(monkeypatch, tmp_path, *options, "foreground=[2,3]", "fill_holes=false")
    arms = ["grey value", "grey value, patches of 8 px", "random:vit_tiny_patch16_224"]
    assert list(summary["arms"]) == arms
    assert not {"iou", "aji_plus"} & summary["arms"]["grey value"].keys(), "without labels nothing is scored"
    assert sorted(summary["micrographs"]) == ["field_0", "field_2", "field_5", "field_6"]
    for method in ("grey_value", "grey_value_patches_of_8_px", "random_vit_tiny_patch16_224"):
        channels = tifffile.imread(folder / method / "masks/field_2.tif")
        clusters = read_labels(folder / method / "clusters/field_2.tif")
        assert channels.shape == (3, 192, 192)
        np.testing.assert_array_equal(channels.argmax(0) + 1, clusters)
        assert (channels.astype(int).sum(0) == 255).all()
        found = read_labels(folder / method / "foreground/field_2.tif")
        np.testing.assert_array_equal(found == 255, clusters >= 2)
        grey = read_micrograph(labelled_set / "images/field_2.tif").pixels
        means = [grey[clusters == number].mean() for number in (1, 2, 3)]
        assert means == sorted(means), "1 is the darkest"
    squares = read_labels(folder / "grey_value_patches_of_8_px/clusters/field_2.tif").reshape(12, 16, 12, 16)
    assert (squares == squares[:, :1, :, :1]).all(), "8 px at half the size"
    page = (folder / "report.html").read_text()
    assert page.count(": clusters<") == 3
    assert "IoU" not in page


def test_a_store_becomes_masks_in_grey_alone(store, tmp_path, monkeypatch):
    folder, summary = clustered(monkeypatch, tmp_path, f"images={store}", "rule=bright")
    assert len(summary["micrographs"]) == len(list((folder / "grey_value/masks").iterdir())) == 4
    with pytest.raises(InputError, match="is read in grey: for colours give a folder of micrographs"):
        clustered(monkeypatch, tmp_path, f"images={store}", "colour=true")


def test_clicks_choose_the_clusters_of_all_slices_of_a_volume(labelled_set, tmp_path, monkeypatch):
    fields = [read_micrograph(file).pixels for file in sorted((labelled_set / "images").iterdir())]
    stack = np.stack([255 - field for field in fields])  # particles are dark now, and touch the border
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    true = read_labels(labelled_set / "labels/field_5.tif") > 0
    y, x = np.argwhere(~true & (fields[2] < np.percentile(fields[2], 20)))[0].tolist()
    (tmp_path / "clicks.json").write_text(json.dumps({"stack_0002": {"positive": [[y, x]]}}))
    folder, summary = clustered(monkeypatch, tmp_path, "images=stack.tif", "clicks=clicks.json")
    samples = summary["arms"]["grey value"]["samples"]
    assert list(samples) == ["stack_0002", "stack_0000", "stack_0001", "stack_0003"]
    assert all(sample["chosen"] == [2] for sample in samples.values()), "the bright ground was clicked"
    assert (read_labels(folder / "grey_value/foreground/stack_0002.tif") > 0)[y, x]
    _, inner = clustered(monkeypatch, tmp_path, "images=stack.tif", "clicks=clicks.json", "skip=1")
    assert list(inner["arms"]["grey value"]["samples"]) == ["stack_0002", "stack_0001"]


def test_colours_tell_apart_what_has_one_luminance(tmp_path, monkeypatch):
    truth = np.zeros((96, 96), bool)
    truth[30:60, 20:70] = True
    colours = np.where(truth[..., None], (150, 60, 60), (40, 116, 60)).astype(np.uint8)  # both of luminance 87
    colours += np.random.default_rng(0).integers(0, 5, colours.shape, dtype=np.uint8)
    (tmp_path / "set/images").mkdir(parents=True)
    (tmp_path / "set/labels").mkdir()
    for name in "ab":
        tifffile.imwrite(tmp_path / f"set/images/{name}.tif", colours, photometric="rgb")
        write_labels(tmp_path / f"set/labels/{name}.tif", truth.astype(int))
    write_split(tmp_path / "split.json", ["a"], ["b"])
    labelled = ("data=set", "split_file=split.json")
    _, in_grey = clustered(monkeypatch, tmp_path, *labelled)
    _, in_colour = clustered(monkeypatch, tmp_path, *labelled, "colour=true")
    assert in_grey["arms"]["grey value"]["iou"] < 0.5
    assert in_colour["arms"]["colour"]["iou"] > 0.95
