import sys

import pytest
import timm
import torch
from safetensors.torch import load_file

from sempre.models.backbones import load_backbone, load_backbone_weights
from sempre.training.run_folder import read_log
from tests.recipes.conftest import ROOT, stop_and_resume
from tests.warm import run_warm, start_two_ranks

pytestmark = pytest.mark.slow

SHORT = (
    "architecture=convnextv2_atto",
    "field=96",
    "global_size=64",
    "local_size=32",
    "local_views=2",
    "outputs=32",
    "batch=2",
    "epochs=3",
    "warmup_epochs=1",
    "temperature_epochs=2",
    "teacher_momentum=0.9",
    "workers=0",
)
VIT = ("architecture=vit_tiny_patch16_224",)


@pytest.fixture(scope="module")
def distilled(store, run, tmp_path_factory):
    """The folder of a short run."""
    folder = tmp_path_factory.mktemp("dino")
    finished = run("pretrain/dino.py", f"store={store}", *SHORT, "name=whole", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return folder / "runs/whole"


def test_a_run_leaves_the_teacher_and_curves(distilled):
    network, details = load_backbone(distilled / "backbone")
    assert (details.method, details.architecture, details.arguments) == ("dino", "convnextv2_atto", {})
    state = load_file(distilled / "checkpoints/last/model.safetensors")
    prefix = "teacher.network."
    teacher = {name.removeprefix(prefix): weight for name, weight in state.items() if name.startswith(prefix)}
    assert teacher.keys() == network.state_dict().keys()
    assert all(torch.equal(weight, teacher[name]) for name, weight in network.state_dict().items())
    assert any(not torch.equal(weight, state[f"student.network.{name}"]) for name, weight in teacher.items())

    log = read_log(distilled / "log.jsonl")
    validation = [line for line in log if line["kind"] == "validation"]
    assert len(validation) == 3
    assert details.validation_loss == pytest.approx(validation[-1]["loss"])
    assert {"rank_me", "channel_distance", "active_channels"} <= validation[0].keys()
    assert all(0 <= line["teacher_entropy"] <= 1 for line in log)


def test_a_killed_run_ends_with_the_same_weights(distilled, store, tmp_path):
    command = [sys.executable, str(ROOT / "pretrain/dino.py"), f"store={store}", *SHORT, "name=stopped"]
    stopped = stop_and_resume(command, tmp_path, "stopped")
    name = "checkpoints/last/model.safetensors"
    whole, resumed = load_file(distilled / name), load_file(stopped / name)
    assert "criterion.center" in whole
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())


def test_the_last_layer_rests_at_first_and_its_moments_do_not_begin(store, run, tmp_path):
    finished = run(
        "pretrain/dino.py", f"store={store}", *SHORT, "epochs=1", "freeze_epochs=1", "name=rest", cwd=tmp_path
    )
    assert finished.returncode == 0, finished.stderr
    checkpoint = tmp_path / "runs/rest/checkpoints/last"
    optimizer = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    _, decayed, last_layer = (group["params"] for group in optimizer["param_groups"])
    assert all(optimizer["state"][number]["exp_avg"].any() for number in decayed)
    assert not any(optimizer["state"][number] for number in last_layer)
    state = load_file(checkpoint / "model.safetensors")
    (name,) = [name for name in state if name.startswith("student.head.last_layer") and state[name].shape == (32, 256)]
    assert torch.equal(state[name], state[name.replace("student", "teacher")])


def test_two_processes_see_the_views_of_one(distilled, store, tmp_path):
    recipe = ROOT / "pretrain/dino.py"
    # Drop path is noise of a rank, so it is left out of both.
    arguments = [f"store={store}", *SHORT, "drop_path=0", "epochs=2", "precision=float32"]
    assert run_warm(recipe, *arguments, "name=one", cwd=tmp_path).returncode == 0
    for rank in start_two_ranks([sys.executable, str(recipe), *arguments, "name=two"], tmp_path):
        assert rank.wait() == 0
    one, two = (load_file(tmp_path / f"runs/{name}/checkpoints/last/model.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(two["criterion.center"], one["criterion.center"], rtol=1e-3, atol=1e-4)


def test_a_vision_transformer_goes_on_from_an_official_file_and_from_a_backbone(store, run, tmp_path):
    torch.manual_seed(3)
    official = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=96)  # DINO's layout is timm's
    torch.save(official.state_dict(), tmp_path / "official.pth")
    still = ("epochs=1", "teacher_momentum=0.9999", "base_rate=1e-12")
    arguments = (f"store={store}", *SHORT, *VIT, *still)
    finished = run("pretrain/dino.py", *arguments, "weights=official.pth", "name=official", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    backbone = tmp_path / "runs/official/backbone"
    network, details = load_backbone(backbone)
    assert details.arguments == {"img_size": 64, "dynamic_img_size": True}
    assert network.pos_embed.shape[1] == 1 + 16
    block = "blocks.5.attn.qkv.weight"
    torch.testing.assert_close(network.state_dict()[block], official.state_dict()[block], rtol=0, atol=1e-6)
    assert network(torch.zeros(1, 1, 160, 128)).shape == (1, 192)
    larger = timm.create_model("vit_tiny_patch16_224", in_chans=1, num_classes=0, img_size=96)
    load_backbone_weights(larger, backbone, "vit_tiny_patch16_224")
    assert torch.equal(larger.state_dict()[block], network.state_dict()[block])

    finished = run("pretrain/dino.py", *arguments, f"weights={backbone}", "name=again", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    again, _ = load_backbone(tmp_path / "runs/again/backbone")
    torch.testing.assert_close(again.pos_embed, network.pos_embed, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("architecture=resnet50",), "is neither a ConvNeXtV2 nor a vision transformer"),
        (("architecture=vit_small_patch14_dinov2",), "local_size=96 is no multiple of 14 px"),
        (("architecture=convnextv2_atto", "global_size=100"), "global_size=100 is no multiple of 32 px"),
        (("scale_split=0.04",), "smallest_scale=0.05 is not below scale_split=0.04"),
        (("teacher_momentum=1.0",), "teacher_momentum=1 is out of range: give 0 or more and less than 1"),
        (("weights=nowhere.pth",), "weights=nowhere.pth does not exist"),
    ],
)
def test_wrong_options_get_one_line(run, tmp_path, arguments, message):
    finished = run("pretrain/dino.py", "store=none.h5", *arguments, cwd=tmp_path)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "runs").exists()
