"""The refinement of heat maps: what is trained on, what is held out, and the recipe as a person runs it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from finetune.unet import Options, best_threshold, check, make_folds
from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.metrics import dice, hd95, iou
from sempre.training.logging import read_log
from tests.recipes.conftest import SHORT_UNET, write_split

pytestmark = pytest.mark.slow


def test_a_run_leaves_model_masks_and_scores(finished_unet, labelled_set):
    summary = json.loads((finished_unet / "summary.json").read_text())
    (fold,) = summary["folds"].values()
    assert sorted(fold["fitted"] + fold["stopping"]) == ["field_0", "field_2"]
    assert sorted(fold["samples"]) == ["field_5", "field_6"]
    assert 0.2 <= fold["threshold"] <= 0.8
    labelled = LabelledSet(labelled_set)
    for name, scores in fold["samples"].items():
        mask = np.asarray(Image.open(finished_unet / f"fold-0/predictions/{name}.png")) > 0
        true = labelled.read(labelled.names.index(name)).layers.any(0)
        assert scores == {"dice": dice(true, mask), "iou": iou(true, mask), "hd95_px": hd95(true, mask)}
    assert summary["scores"]["iou"] == pytest.approx(np.mean([sample["iou"] for sample in fold["samples"].values()]))
    details = json.loads((finished_unet / "fold-0/model.json").read_text())
    assert details["input"] == "raw+heatmap+mask"
    assert np.array(details["heat_maps"]["positive"]).shape[1] == 160, "channels of the third stage"
    assert (finished_unet / "fold-0/model.safetensors").is_file()
    assert {line["kind"] for line in read_log(finished_unet / "fold-0/log.jsonl")} == {"train", "validation"}


def test_a_finished_run_is_only_reported(finished_unet, labelled_set, run):
    folder = finished_unet.parents[1]
    again = run("finetune/unet.py", f"data={labelled_set}", *SHORT_UNET, cwd=folder, OMP_NUM_THREADS="1")
    assert again.returncode == 0, again.stderr
    assert "step/s" not in again.stderr
    assert "on 2 micrographs" in again.stdout


def test_each_sample_is_left_out_once_and_never_trained_on(labelled_set):
    labelled = LabelledSet(labelled_set)
    options = Options(
        data=str(labelled_set), input="raw", protocol="leave_one_sample_out", sample_pattern=r"field_(\d)"
    )
    folds = make_folds(labelled, options)
    assert [fold.name for fold in folds] == ["0", "2", "5", "6"]
    for fold in folds:
        assert sorted(fold.fitted + fold.stopping + fold.held_out) == [0, 1, 2, 3]
        assert len(fold.held_out) == 1
    assert len(make_folds(labelled, replace(options, folds=2))) == 2
    with pytest.raises(InputError, match=r"all 4 micrographs .* show the sample field"):
        make_folds(labelled, replace(options, sample_pattern="field"))


def test_a_smaller_labelled_share_is_part_of_a_larger_one(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    random = np.random.default_rng(0)
    for number in range(30):
        for folder in ("images", "labels"):
            pixels = random.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number:02}.png")
    labelled = LabelledSet(tmp_path)
    options = Options(data=str(tmp_path), input="raw", validation_fraction=0.3)
    parts = {}
    for share in (0.2, 0.5, 1.0):
        (fold,) = make_folds(labelled, replace(options, label_share=share))
        parts[share] = set(fold.fitted), set(fold.stopping), set(fold.held_out)
        assert not parts[share][0] & parts[share][1]
        assert not (parts[share][0] | parts[share][1]) & parts[share][2]
    for smaller, larger in ((0.2, 0.5), (0.5, 1.0)):
        assert parts[smaller][0] < parts[larger][0]
        assert parts[smaller][1] < parts[larger][1]
        assert parts[smaller][2] == parts[larger][2]
    used = len(parts[1.0][0] | parts[1.0][1])
    assert used + len(parts[1.0][2]) == 30
    assert len(parts[0.5][0] | parts[0.5][1]) == round(used / 2)


def test_the_threshold_is_the_middle_of_the_best():
    true = np.zeros((10, 10), bool)
    true[2:6] = True
    sharp = np.where(true, 0.62, 0.38)
    assert best_threshold([(sharp, true)]) == pytest.approx(0.5)
    assert best_threshold([(np.where(true, 0.9, 0.72), true)]) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "colour"}, "input=colour is unknown"),
        ({"input": "heatmap", "backbone": ""}, "input=heatmap needs a heat map: give backbone="),
        ({"protocol": "bootstrap"}, "protocol=bootstrap is unknown"),
        ({"label_share": 0.0}, r"label_share=0\.0 is no share"),
        ({"points": 0}, "points=0 is too few"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(changes, message):
    with pytest.raises(InputError, match=message):
        check(Options(**{"data": "", "backbone": "random:convnextv2_atto"} | changes))


def test_one_training_micrograph_is_too_few(labelled_set, tmp_path):
    split_file = write_split(tmp_path / "split.json", ["field_0"], ["field_2"])
    with pytest.raises(InputError, match="the training side has 1 micrographs: two are the least"):
        make_folds(LabelledSet(labelled_set), Options(data="", split_file=str(split_file)))
