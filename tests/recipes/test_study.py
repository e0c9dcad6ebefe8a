"""The settings of Rettenberger et al. (doi 10.1038/s41524-025-01802-3) on a rendered copy of their data's layout."""

import importlib
import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from sempre.config import read_options
from sempre.data.labelled import LabelledSet
from sempre.data.shards import open_store
from sempre.images import write_labels
from sempre.images.write import write_micrograph
from sempre.models.backbones import load_backbone
from sempre.models.original_fcmae import original_state_dict
from sempre.synthetic import render_field
from sempre.training.run_folder import read_log
from sempre.training.sweeps import read_sweep, sweep_table
from tests.models.test_original_fcmae import dense_layout
from tests.recipes.conftest import ROOT, SHORT_PRETRAINING

pytestmark = pytest.mark.slow

PRESETS = ROOT / "configs/papers"
SIDES = {"train": (0, 2), "val": (5,), "test": (6, 7)}  # seeds of the fields
SHORT_DENSECL = ("architecture=convnextv2_atto", "field=128", "crop=64", "negatives=16", "projection_width=32")
SHORT_DENSECL += ("batch=2", "epochs=3", "warmup_epochs=1", "workers=0")
SHORT_DETECTOR = ("architecture=convnextv2_atto", "pyramid_channels=32", "box_head_width=64", "mask_head_layers=1")
SHORT_DETECTOR += ("crop=96", "batch=2", "epochs=2", "validate_every=1", "workers=0", "proposals=30")
SIZES = {6: 400.0, 7: 100.0}  # nm: fields of view of 77 and 19 um


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """`unlabeled/samples`, and `samples` and `labels` in `train`, `val` and `test`."""
    folder = tmp_path_factory.mktemp("study")
    for side, seeds in SIDES.items():
        for part in ("samples", "labels"):
            (folder / side / part).mkdir(parents=True)
        for seed in seeds:
            field = render_field(seed, (192, 192))
            write_micrograph(folder / side / f"samples/field_{seed}.tif", field.pixels, SIZES.get(seed))
            write_labels(folder / side / f"labels/field_{seed}.tif", field.labels)
    (folder / "unlabeled/samples").mkdir(parents=True)
    for seed in range(10, 14):
        write_micrograph(folder / f"unlabeled/samples/{seed}.tif", render_field(seed, (192, 192)).pixels)
    return folder


@pytest.fixture(scope="module")
def unlabelled_store(study, run) -> Path:
    arguments = (f"images={study}/unlabeled", f"store={study}/store.h5", "workers=1")
    finished = run("data/prepare.py", *arguments, cwd=study)
    assert finished.returncode == 0, finished.stderr
    return study / "store.h5"


@pytest.mark.long
def test_both_parts_of_their_layout_are_read(study, unlabelled_store):
    assert len(open_store(unlabelled_store)) == 4
    labelled = LabelledSet(study)
    sides = labelled.splits()
    names = [[labelled.names[index] for index in side] for side in (sides.training, sides.choosing, sides.held_out)]
    assert names == [["field_0", "field_2"], ["field_5"], ["field_6", "field_7"]]


@pytest.mark.long
def test_their_fine_tuning_goes_on_from_a_pth_of_their_fcmae(study, unlabelled_store, run, tmp_path):
    """FCMAE, its encoder in the layout of the original code, and Mask R-CNN, by their presets."""
    preset, store = PRESETS / "study_fcmae.yaml", f"store={unlabelled_store}"
    finished = run("pretrain/fcmae.py", preset, store, *SHORT_PRETRAINING, "name=fcmae", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    encoder, details = load_backbone(tmp_path / "runs/fcmae/backbone")
    assert (details.config["mask_ratio"], details.config["layer_decay"], details.config["base_rate"]) == (
        0.5,
        0.9,
        8e-4,
    )
    torch.save({"model": original_state_dict(encoder), "epoch": 2}, tmp_path / "checkpoint-2.pth")

    arguments = (f"data={study}", "backbone=checkpoint-2.pth", "name=study", "repeats=1", *SHORT_DETECTOR)
    finished = run("finetune/mask_rcnn.py", PRESETS / "study_mask_rcnn.yaml", *arguments, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    folder = tmp_path / "runs/study"
    summary = json.loads((folder / "summary.json").read_text())
    (repeat,) = summary["repeats"]
    assert set(repeat["samples"]) == {"field_6", "field_7"}, "the test split alone is scored"
    assert repeat["initial_weights"] == "checkpoint-2.pth"
    assert {group: scores["samples"]["mean"] for group, scores in summary["groups"].items()} == {"high": 1, "low": 1}
    log = read_log(folder / "repeat-0/log.jsonl")
    assert len([line for line in log if line["kind"] == "validation"]) == 2
    best, model = (load_file(folder / f"repeat-0/{name}.safetensors") for name in ("best", "model"))
    assert all(torch.equal(weight, model[name]) for name, weight in best.items())


@pytest.mark.long
def test_their_densecl_keeps_the_lowest_validation_loss(unlabelled_store, run, tmp_path):
    arguments = (*SHORT_DENSECL, f"store={unlabelled_store}", "name=densecl")
    finished = run("pretrain/densecl.py", PRESETS / "study_densecl.yaml", *arguments, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    losses = [line["loss"] for line in read_log(tmp_path / "runs/densecl/log.jsonl") if line["kind"] == "validation"]
    assert len(losses) == 3
    assert load_backbone(tmp_path / "runs/densecl/backbone")[1].validation_loss == pytest.approx(min(losses))


@pytest.mark.parametrize(
    ("file", "runs"),
    [
        ("configs/papers/study_pretraining.yaml", 16),
        ("configs/papers/study_finetuning.yaml", 320),
        ("configs/sweeps/pretraining.yaml", 16),
        ("configs/sweeps/sizes.yaml", 320),
        ("configs/sweeps/starts.yaml", 37),
        ("configs/sweeps/starts_convnextv2.yaml", 13),
    ],
)
def test_the_shipped_sweeps_are_made_of_commands_that_the_recipes_take(file, runs, monkeypatch):
    monkeypatch.chdir(ROOT)
    commands = [run.command for run in read_sweep(file)]
    assert len(commands) == runs
    if file.endswith("study_finetuning.yaml"):
        assert "backbone=imagenet/convnextv2_huge_1k_224_ema.pt" in commands[-21], "a local file for each size"
    for recipe, *arguments in commands[:: 10 if runs > 100 else 1]:
        module = importlib.import_module(recipe.removesuffix(".py").replace("/", "."))
        options = read_options(module.Options, arguments)
        if file.startswith("configs/papers") and recipe.startswith("pretrain"):
            assert (options.epochs, options.batch % 80) == (15_000, 0), "over their 80 GPUs"


@pytest.mark.long
def test_an_item_of_each_sweep_runs_and_image_nets_arm_takes_its_own_local_file(
    study, unlabelled_store, run, tmp_path, monkeypatch
):
    """DenseCL's Atto, and the Atto that begins from the public file of ImageNet-1k, which timm's network stands for."""
    torch.manual_seed(0)
    colour = timm.create_model("convnextv2_atto", in_chans=3, num_classes=0)
    weights = dense_layout(original_state_dict(colour)) | {"head.weight": torch.zeros(1000, 320)}
    weights |= {f"norm.{name}": weight for name, weight in colour.head.norm.state_dict().items()}
    (tmp_path / "imagenet").mkdir()
    torch.save({"model": weights}, tmp_path / "imagenet/convnextv2_atto_1k_224_ema.pt")
    monkeypatch.chdir(ROOT)
    sweeps = [read_sweep(PRESETS / f"study_{name}.yaml") for name in ("pretraining", "finetuning")]
    densecl = next(item for item in sweeps[0] if item.labels == {"method": "densecl", "size": "atto"})
    started = next(item for item in sweeps[1] if list(item.labels.values()) == ["atto", "imagenet", "0"])
    monkeypatch.chdir(tmp_path)
    own = {
        densecl.name: (f"store={unlabelled_store}", *SHORT_DENSECL),
        started.name: (f"data={study}", *SHORT_DETECTOR),
    }
    for item in (densecl, started):
        recipe, preset, *options = item.command
        if item is started:
            options = [option for option in options if not option.startswith("split_file=")]  # the set's folders tell
        finished = run(recipe, ROOT / preset, *options, *own[item.name], cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
    rows = sweep_table([densecl, started])
    assert rows[0]["lowest_validation_loss"] > 0
    assert 0 <= rows[1]["aji_plus low"] <= 1 and 0 <= rows[1]["aji_plus high"] <= 1
    assert rows[1]["initial_weights"] == "imagenet/convnextv2_atto_1k_224_ema.pt"
