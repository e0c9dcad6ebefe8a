"""The DenseCL recipe from a store to a backbone, by either kind of network."""

import pytest
import torch
from safetensors.torch import load_file

from sempre.models.backbones import load_backbone, read_backbone_details
from sempre.training.run_folder import read_log

pytestmark = pytest.mark.slow

SHORT = (
    "architecture=convnextv2_atto",
    "field=128",
    "crop=64",
    "negatives=16",
    "projection_width=32",
    "batch=2",
    "epochs=3",
    "warmup_epochs=1",
    "workers=1",
)


@pytest.fixture(scope="module")
def finished_run(store, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("densecl")
    finished = run("pretrain/densecl.py", f"store={store}", *SHORT, "name=whole", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return folder / "runs/whole"


def test_a_run_leaves_backbone_and_curves(finished_run):
    _, details = load_backbone(finished_run / "backbone")
    assert (details.architecture, details.method, details.input_channels) == ("convnextv2_atto", "densecl", 1)
    log = read_log(finished_run / "log.jsonl")
    validations = [line for line in log if line["kind"] == "validation"]
    assert len(validations) == 3
    assert {"loss", "global_loss", "dense_loss", "rank_me", "channel_distance", "active_channels"} <= set(
        validations[0]
    )
    assert details.validation_loss == pytest.approx(validations[-1]["loss"])
    for line in log:
        assert line["loss"] == pytest.approx((line["global_loss"] + line["dense_loss"]) / 2, rel=1e-4)


def test_the_backbone_is_the_query_encoder_of_the_checkpoint(finished_run):
    backbone = load_file(finished_run / "backbone/backbone.safetensors")
    state = load_file(finished_run / "checkpoints/last/model.safetensors")
    assert all(torch.equal(tensor, state[f"query.network.{name}"]) for name, tensor in backbone.items())
    assert any(not torch.equal(tensor, state[f"key.network.{name}"]) for name, tensor in backbone.items())
    assert state["global_bank.keys"].shape == (16, 128)


def test_a_vision_transformer_is_pretrained_too(store, run, tmp_path):
    options = [option for option in SHORT if not option.startswith(("architecture", "epochs"))]
    transformer = "architecture=vit_tiny_patch16_224"
    finished = run("pretrain/densecl.py", f"store={store}", *options, transformer, "epochs=1", "name=vit", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert read_backbone_details(tmp_path / "runs/vit/backbone").architecture == "vit_tiny_patch16_224"
    positions = load_file(tmp_path / "runs/vit/backbone/backbone.safetensors")["pos_embed"]
    assert positions.shape == (1, 1 + 4 * 4, 192)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("architecture=resnet18", "resnet18 is neither a ConvNeXtV2 nor a vision transformer"),
        ("crop=100", "crop=100 is no multiple of 32 px"),
        ("smallest_share=0", "smallest_share=0 is out of range: give more than 0 and at most 1"),
        ("batch=64", "batch=64 is more than the 3 training images"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(store, run, tmp_path, option, message):
    finished = run("pretrain/densecl.py", f"store={store}", *SHORT, option, cwd=tmp_path)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr
