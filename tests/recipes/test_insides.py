"""Looking into networks: `evaluate/insides.py`."""

import csv
import json
import sys
from dataclasses import asdict

import pytest
import torch

from evaluate.insides import main
from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.frozen import insides as opened_arm
from sempre.models.dense import DenseOptions, DenseSegmenter, save_dense
from sempre.models.mask_rcnn import DetectorOptions, build_mask_rcnn, save_detector
from sempre.segmentation.maps import DenseSettings

TINY = DetectorOptions("convnextv2_atto", 16, 32, 1, proposals=20, proposals_sampled=8, detections=5)


@pytest.fixture
def start(labelled_set, tmp_path, monkeypatch):
    """`start(argument, …)`: the recipe's folder after it ran in `tmp_path` on the labelled set."""

    def start_recipe(*arguments: str):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["insides.py", f"data={labelled_set}", *arguments])
        main()
        return tmp_path / "runs/insides"

    return start_recipe


def rows_of(path) -> list[dict]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_models_are_looked_into_and_what_is_drawn_is_in_tables(start, tmp_path):
    pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed: pip install -e '.[insides]'")
    torch.manual_seed(0)
    details = {
        "detector": asdict(TINY),
        "normalisation": {"percentiles": [1, 99]},
        "scale": 0.5,
        "score_threshold": 0.05,
    }
    save_detector(tmp_path / "runs/boxes/repeat-0", build_mask_rcnn(TINY), details)
    network = DenseOptions("convnextv2_atto")
    details = {"kind": "dense", "network": asdict(network), "settings": asdict(DenseSettings()), "percentiles": [1, 99]}
    save_dense(tmp_path / "runs/dense/repeat-0", DenseSegmenter(network), details)
    folder = start("runs=[runs/boxes,runs/dense]", "micrographs=[field_5]", "stage=-2", "cams=[grad,ablation]")
    for name in ("feature_maps_boxes", "feature_maps_dense", "activation_maps", "ablation_maps"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    rows = rows_of(folder / "feature_maps.csv")
    assert [(row["arm"], row["stage"], row["channels"]) for row in rows[:4]] == [
        ("boxes", "1", "160"),
        ("boxes", "2", "320"),
        ("boxes", "3", "640"),
        ("boxes", "4", "1280"),
    ]
    assert all(0 <= float(row["mean_cosine_distance"]) <= 1 and row["micrograph"] == "field_5" for row in rows)
    looks = {row["arm"]: row for row in rows_of(folder / "activation_maps.csv")}
    assert looks.keys() == {"boxes", "dense"} and 0 <= float(looks["dense"]["on_particles"]) <= 1
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["feature_maps"]["dense"][3]["channels"] == 1280
    page = (folder / "report.html").read_text()
    assert "Where they look, by Grad-CAM" in page and "Where they look, by Ablation-CAM" in page
    assert set(summary["ablation_maps"]) == {"boxes", "dense"}


def test_a_dead_channel_of_a_backbone_is_counted_without_grad_cam(start, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    opened = opened_arm.open_encoder

    def with_dead_channels(backbone: str):
        encoder = opened(backbone)
        for parameter in encoder.network.stages[1].blocks[-1].mlp.fc1.parameters():
            parameter[:7] = 0
        return encoder

    monkeypatch.setattr(opened_arm, "open_encoder", with_dead_channels)
    folder = start("backbones=[random:convnextv2_atto]", "validation_fraction=1", "shown=2")
    rows = rows_of(folder / "feature_maps.csv")
    assert {(row["stage"], row["dead"]) for row in rows} == {("1", "0"), ("2", "7"), ("3", "0"), ("4", "0")}
    assert len(rows) == 8 and not (folder / "activation_maps.png").exists()


def test_shown_are_those_of_the_test_side_where_there_is_one(start, labelled_set):
    sides = LabelledSet(labelled_set).splits(0.3, test_fraction=0.5)
    shown = ("validation_fraction=0.3", "test_fraction=0.5", f"shown={len(sides.held_out)}")
    folder = start("backbones=[random:convnextv2_atto]", *shown)
    held_out = {LabelledSet(labelled_set).names[index] for index in sides.held_out}
    assert {row["micrograph"] for row in rows_of(folder / "feature_maps.csv")} == held_out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to look into"),
        (("backbones=[intensity]",), "choose a ConvNeXtV2|give models of a ConvNeXtV2"),
        (("backbones=[random:convnextv2_atto]", "micrographs=[nowhere]"), "micrographs=nowhere is not in"),
        (("backbones=[random:convnextv2_atto,random:convnextv2_atto]",), "two arms are called"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_line(start, arguments, message):
    with pytest.raises(InputError, match=message) as error:
        start(*arguments)
    assert "\n" not in str(error.value)
