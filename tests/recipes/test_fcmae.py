import json
import os
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from sempre.models.backbones import load_backbone
from sempre.training.run_folder import read_log
from tests.recipes.conftest import ROOT, SHORT_PRETRAINING, stop_and_resume
from tests.warm import start_two_ranks

pytestmark = pytest.mark.slow


def test_a_run_leaves_backbone_curves_and_panels(pretrained):
    network, details = load_backbone(pretrained / "backbone")
    assert details.architecture == "convnextv2_atto"
    assert details.config["crop"] == 128
    log = read_log(pretrained / "log.jsonl")
    losses = [line["loss"] for line in log if line["kind"] == "validation"]
    assert len(losses) == 3
    assert details.validation_loss == pytest.approx(min(losses))
    assert {"loss", "rate", "steps_a_second"} <= {key for line in log if line["kind"] == "train" for key in line}
    assert any((pretrained / "tensorboard").iterdir())
    panels = np.asarray(Image.open(pretrained / "figures/reconstructions.png"))
    assert panels.shape[1] == 3 * (128 + 4)
    fresh = timm.create_model("convnextv2_atto", in_chans=1, num_classes=0)
    assert network.state_dict().keys() == fresh.state_dict().keys()


def test_a_killed_run_ends_with_the_same_backbone(pretrained, store, tmp_path):
    command = [sys.executable, str(ROOT / "pretrain/fcmae.py"), f"store={store}", *SHORT_PRETRAINING, "name=stopped"]
    stopped = stop_and_resume(command, tmp_path, "stopped")
    name = "backbone/backbone.safetensors"
    whole, resumed = load_file(pretrained / name), load_file(stopped / name)
    assert all((whole[key] == resumed[key]).all() for key in whole)


@pytest.mark.parametrize("sharding", ["none", "full"])
def test_two_processes_see_the_crops_of_one(pretrained, store, tmp_path, sharding):
    options = (f"store={store}", *SHORT_PRETRAINING, f"sharding={sharding}", "name=two")
    for rank in start_two_ranks([sys.executable, str(ROOT / "pretrain/fcmae.py"), *options], tmp_path):
        assert rank.wait() == 0
    losses = []
    for folder in (pretrained, tmp_path / "runs/two"):
        losses.append([line["loss"] for line in read_log(folder / "log.jsonl") if line["kind"] == "validation"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    one, two = (load_file(folder / "backbone/backbone.safetensors") for folder in (pretrained, tmp_path / "runs/two"))
    assert {name: (value.shape, value.dtype) for name, value in one.items()} == {
        name: (value.shape, value.dtype) for name, value in two.items()
    }
    assert all(torch.allclose(one[name], two[name], atol=1e-2) for name in one)
    _, details = load_backbone(tmp_path / "runs/two/backbone")
    assert details.validation_loss == min(losses[1])


@pytest.mark.long
def test_torchrun_starts_the_recipe_as_a_module(pretrained, store, tmp_path):
    """`torchrun -m`, as from a wheel, which has no pretrain/fcmae.py to name: two processes make one run."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    options = [f"store={store}", *SHORT_PRETRAINING, "name=launched"]
    finished = subprocess.run(
        [sys.executable, *launcher, "sempre.recipes.pretrain.fcmae", *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    alone, launched = (
        [(line["step"], line["loss"]) for line in read_log(folder / "log.jsonl") if line["kind"] == "validation"]
        for folder in (pretrained, tmp_path / "runs/launched")
    )
    np.testing.assert_allclose(alone, launched, rtol=1e-3)
    assert load_backbone(tmp_path / "runs/launched/backbone")[1].architecture == "convnextv2_atto"


def test_normalisation_over_the_batch_refuses_a_batch_in_parts(store, run, tmp_path):
    arguments = (f"store={store}", *SHORT_PRETRAINING, "grn_scope=batch", "accumulation=2", "name=parts")
    finished = run("pretrain/fcmae.py", *arguments, cwd=tmp_path)
    assert finished.returncode == 2
    assert "accumulation=2 would cut it: start one process with accumulation=1, or choose grn_scope=image" in (
        finished.stderr
    )
    assert not (tmp_path / "runs").exists()


def test_the_configuration_is_saved_and_another_refused(pretrained, store, run):
    finished = run(
        "pretrain/fcmae.py", f"store={store}", *SHORT_PRETRAINING, "name=whole", "seed=5", cwd=pretrained.parents[1]
    )
    assert finished.returncode == 2
    assert "seed: 0 -> 5" in finished.stderr
    details = json.loads((pretrained / "backbone/backbone.json").read_text())
    assert details["config"]["seed"] == 0
