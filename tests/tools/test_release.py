"""The command that makes the released model, in a budget that lets it learn nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sempre.deploy.segmenter import Segmenter
from sempre.images import instance_boxes, write_labels
from sempre.models.dense import load_dense
from sempre.synthetic import render_field
from tests.warm import run_warm
from tools import release

ROOT = Path(__file__).parents[2]
QUICK = ("architecture=unet_small", "epochs=1", "crops_an_epoch=16", "batch=4", "crop=64", "precision=float32")


@pytest.mark.long
def test_one_command_makes_a_bundle_weights_scores_and_a_card(begin_chain, tmp_path, monkeypatch):
    monkeypatch.setattr(release, "TRIED", (256, 320))
    for folder in ("set/images", "set/labels", "other/images", "other/labels", "boxed/images", "boxed/boxes"):
        (tmp_path / folder).mkdir(parents=True)
    for seed in range(12):
        field = render_field(seed, (128, 128))
        tifffile.imwrite(tmp_path / f"set/images/{seed}.tif", field.pixels)
        write_labels(tmp_path / f"set/labels/{seed}.tif", field.labels)
        tifffile.imwrite(tmp_path / f"other/images/place{seed // 2}_{seed % 2}.tif", 255 - field.pixels)
        write_labels(tmp_path / f"other/labels/place{seed // 2}_{seed % 2}.tif", field.labels)
        tifffile.imwrite(tmp_path / f"boxed/images/{seed}.tif", field.pixels)
        boxes = instance_boxes(field.labels)[1] / 128
        lines = [f"0 {(x0 + x1) / 2} {(y0 + y1) / 2} {x1 - x0} {y1 - y0}" for x0, y0, x1, y1 in boxes]
        (tmp_path / f"boxed/boxes/{seed}.txt").write_text("\n".join(lines))
    sets = ["data=set", "further=[other]", "further_sample=^(place[0-9]+|.*)", "boxes=boxed"]
    training = ",".join([*QUICK, "backbone=none"])
    options = [*sets, "out=released", "renders=4", "tried=2", f"training=[{training}]"]
    begin_chain(release.main, *options)

    out = tmp_path / "released"
    assert Segmenter(out).segment(np.zeros((64, 64), np.uint8)).labels.shape == (64, 64)
    model, details = load_dense(out / "weights")
    assert details["network"] == {"architecture": "unet_small"}
    assert "micrograph" not in details, "a path of this machine"
    assert next(model.parameters()).dtype.is_floating_point
    scores = json.loads((out / "scores.json").read_text())
    assert scores["renders"]["micrographs"] == 2
    card = (out / "card.md").read_text()
    assert f"{scores['held out']['aji_plus']:.3f}" in card
    assert "ellipses in held-out boxes" in card
    assert "| other, held out |" in card
    assert (out / "failures.jpg").stat().st_size > 1000

    # And fine-tuning goes on from it.
    start = ["data=set", f"start={out / 'weights'}", "name=more", "workers=0", *QUICK]
    finished = run_warm(ROOT / "finetune/dense.py", *start, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-2000:]
    other = [*start[: -len(QUICK)], "architecture=unet_medium", *QUICK[1:], "name=other"]
    finished = run_warm(ROOT / "finetune/dense.py", *other, cwd=tmp_path)
    assert finished.returncode == 2
    assert "set architecture=unet_small" in finished.stderr
