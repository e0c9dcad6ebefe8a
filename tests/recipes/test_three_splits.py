"""Fine-tuning on two seeded splits of three: which micrographs are looked at, and when."""

import json
import sys
from collections import defaultdict

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file

import finetune.dense
import finetune.mask_rcnn
import finetune.unet
from sempre.data.labelled import LabelledSet
from sempre.training.run_folder import read_log

pytestmark = pytest.mark.slow

SHARES = {"validation_fraction": 0.25, "test_fraction": 0.25}
SHORT = ("epochs=2", "workers=0", "name=three", *(f"{name}={share}" for name, share in SHARES.items()))
DETECTOR = ("architecture=convnextv2_atto", "pyramid_channels=16", "box_head_width=32", "mask_head_layers=1")
RECIPES = {
    "dense": (
        finetune.dense,
        "score_dense",
        ("architecture=unet_small", "crop=64", "crops_an_epoch=8", "validate_every=1"),
    ),
    "mask_rcnn": (
        finetune.mask_rcnn,
        "score_detector",
        (*DETECTOR, "crop=64", "batch=4", "proposals=30", "validate_every=1"),
    ),
    "unet": (finetune.unet, "score_fold", ("input=raw", "width=2", "crop=32", "crops_an_epoch=8", "size=0")),
}


@pytest.fixture
def micrographs(tmp_path):
    """Sixteen micrographs of 64x64 px with a particle each."""
    random = np.random.default_rng(0)
    labels = np.zeros((64, 64), np.uint8)
    labels[20:40, 16:44] = 1
    for folder in ("images", "labels"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for number in range(16):
        pixels = random.integers(0, 60, labels.shape, dtype=np.uint8) + 120 * labels
        Image.fromarray(pixels).save(tmp_path / f"set/images/{number:02}.png")
        Image.fromarray(labels).save(tmp_path / f"set/labels/{number:02}.png")
    return tmp_path / "set"


@pytest.mark.parametrize("kind", RECIPES)
def test_validation_chooses_and_the_test_side_is_looked_at_once_at_the_end(kind, micrographs, tmp_path, monkeypatch):
    recipe, scoring, small = RECIPES[kind]
    AcceleratorState._reset_state(reset_partial_state=True)
    seen, phases = defaultdict(list), ["before"]

    def read(labelled, index, _read=LabelledSet.read):
        seen[phases[-1]].append(int(index))
        return _read(labelled, index)

    def noting(name, function):
        def noted(*arguments, **named):
            phases.append(name)
            result = function(*arguments, **named)
            phases.append(f"after {name}")
            return result

        return noted

    monkeypatch.setattr(LabelledSet, "read", read)
    monkeypatch.setattr(recipe, "train", noting("train", recipe.train))
    monkeypatch.setattr(recipe, scoring, noting("score", getattr(recipe, scoring)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recipe", f"data={micrographs}", *small, *SHORT])
    recipe.main()

    splits = LabelledSet(micrographs).splits(SHARES["validation_fraction"], test_fraction=SHARES["test_fraction"])
    training, choosing, held_out = (
        set(split.tolist()) for split in (splits.training, splits.choosing, splits.held_out)
    )
    assert training and choosing and held_out
    assert set(seen["train"]) == training | choosing, "validated after each epoch"
    assert set(seen["after train"]) == choosing, "the threshold"
    assert sorted(seen["score"]) == sorted(held_out), "once"
    assert phases.count("score") == 1

    folder = tmp_path / "runs/three"
    run = folder / ("fold-0" if kind == "unet" else "repeat-0")
    assert len([line for line in read_log(run / "log.jsonl") if line["kind"] == "validation"]) == 2
    scored = json.loads((run / "summary.json").read_text())["samples"]
    assert set(scored) == {LabelledSet(micrographs).names[index] for index in held_out}
    if kind != "unet":  # which has no other weights than those of its best epoch
        best, model = (load_file(run / f"{name}.safetensors") for name in ("best", "model"))
        assert all(torch.equal(weight, model[name]) for name, weight in best.items())
