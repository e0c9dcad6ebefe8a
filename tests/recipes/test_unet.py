"""The refinement of heat maps: what is trained on, what is held out, and the recipe as a person runs it."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from finetune.unet import Options, check
from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.metrics import dice, hd95, iou
from sempre.training.run_folder import read_log
from sempre.training.sweeps import SweepRun, sweep_table
from tests.recipes.conftest import FIELDS, SHORT_UNET

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


def test_groups_are_scored_apart_when_the_run_has_finished(finished_unet, labelled_set, run, monkeypatch):
    folder = finished_unet.parents[1]
    (folder / "groups.csv").write_text("".join(f"field_{seed},{'low' if seed < 6 else 'high'}\n" for seed in FIELDS))
    arguments = (f"data={labelled_set}", *SHORT_UNET, "groups=groups.csv")
    finished = run("finetune/unet.py", *arguments, cwd=folder, OMP_NUM_THREADS="1")
    assert finished.returncode == 0, finished.stderr
    summary = json.loads((finished_unet / "summary.json").read_text())
    (fold,) = summary["folds"].values()
    for group, name in (("low", "field_5"), ("high", "field_6")):
        assert summary["groups"][group]["dice"]["mean"] == fold["samples"][name]["dice"]
        assert summary["heat_map_groups"][group]["dice"]["mean"] == fold["heat_map"][name]["dice"]
    assert (finished_unet / "report.html").read_text().count("<td>low</td>") == 2, "before and after"
    monkeypatch.chdir(folder)
    (row,) = sweep_table([SweepRun("refined", {}, [])])
    assert row["dice low"] == fold["samples"]["field_5"]["dice"], "in the table of a sweep"
    assert row["dice"] == pytest.approx(summary["scores"]["dice"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "mask"}, "input=mask is unknown"),
        ({"input": "colour+heatmap", "backbone": ""}, "needs a heat map"),
        ({"input": "colour", "slices": 5}, "input=colour needs colours, and volumes are grey"),
        ({"loss": "focal"}, "loss=focal is unknown: choose bce_dice, cross_entropy, l1"),
        ({"levels": 6, "crop": 32}, "levels=6 leave nothing of crop=32: take crop=64"),
        ({"input": "heatmap", "backbone": ""}, "input=heatmap needs a heat map: give backbone="),
        ({"points": 0}, "points=0 is out of range: give 1 or more"),
        ({"threshold": "clicks"}, "threshold=clicks is unknown: choose otsu, top, mixture"),
        ({"schedule": "linear"}, "schedule=linear is unknown"),
        ({"cuts": [0.5, 1.5]}, r"cuts=\[0.5,1.5\] is out of range: give more than 0 and less than 1"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(changes, message):
    with pytest.raises(InputError, match=message):
        check(Options(**{"data": "set", "backbone": "random:convnextv2_atto"} | changes))


def test_switches_of_the_bone_thesis(labelled_set, run, tmp_path):
    """Heat maps of own points, square slices, kept statistics, no turning; and nothing that stops the training."""
    (tmp_path / "split.json").write_text(json.dumps({"train": ["field_0", "field_2"], "validation": ["field_5"]}))
    switches = ("heat=own_slice", "square=true", "turn=false", "batch_norm=running", "plain_percentiles=true")
    arguments = ("data=oblong", *SHORT_UNET, *switches, "stopping=none", "label_count=2", "crops_an_image=3")
    for folder in ("images", "labels"):
        (tmp_path / "oblong" / folder).mkdir(parents=True)
        for file in (labelled_set / folder).iterdir():
            tifffile.imwrite(tmp_path / "oblong" / folder / file.name, tifffile.imread(file)[:120])
    finished = run("finetune/unet.py", *arguments, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert finished.returncode == 0, finished.stderr
    folder = tmp_path / "runs/refined"
    summary = json.loads((folder / "summary.json").read_text())
    (fold,) = summary["folds"].values()
    assert fold["fitted"] == ["field_0", "field_2"] or fold["fitted"] == ["field_2", "field_0"]
    assert fold["stopping"] == [] and fold["threshold"] == 0.5
    assert list(fold["samples"]) == ["field_5"]
    mask = np.asarray(Image.open(folder / "fold-0/predictions/field_5.png"))
    assert mask.shape == (120, 192), "brought back from 96 x 96 px"
    refused = run("tools/refine.py", "model=runs/refined/fold-0", "images=oblong/images", "out=o", cwd=tmp_path)
    assert refused.returncode == 2 and "needs points on every micrograph" in refused.stderr
