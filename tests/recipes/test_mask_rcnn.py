import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file

from finetune.mask_rcnn import Options, build_detector, main, train
from sempre.data.labelled import LabelledSet
from sempre.images import read_labels
from sempre.metrics import aji_plus, label_overlap, score_sample
from sempre.training.detector_scoring import best_score_threshold, segment
from sempre.training.run_folder import read_log
from sempre.training.scoring import true_overlap

pytestmark = pytest.mark.slow

SMALL = Options(
    data="",
    architecture="convnextv2_atto",
    crop=192,
    batch=4,
    layer_decay=1.0,
    pyramid_channels=64,
    box_head_width=256,
    mask_head_layers=2,
    proposals=200,
    proposals_sampled=64,
    workers=0,
    precision="float32",
)


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def many_micrographs(tmp_path):
    """Thirty micrographs of 64x64 px with a particle each."""
    folder = tmp_path / "many"
    labels = np.zeros((64, 64), np.uint8)
    labels[20:40, 16:44] = 1
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(30):
        pixels = random.integers(0, 60, labels.shape, dtype=np.uint8) + 120 * labels
        Image.fromarray(pixels).save(folder / f"images/{number:02}.png")
        Image.fromarray(labels).save(folder / f"labels/{number:02}.png")
    return folder


@pytest.mark.long
def test_two_fields_are_learnt_by_heart(labelled_set, tmp_path):
    labelled = LabelledSet(labelled_set)
    options = replace(SMALL, batch=2, epochs=100, rate=1e-3, flip=False, brightness=0.0, contrast=0.0, weight_decay=0.0)
    detector = train(options, 0, labelled, np.arange(2), tmp_path)
    scores = []
    for index in range(2):
        micrograph = labelled.read(index)
        labels = segment(detector, 1.0, 0.5, micrograph.pixels.astype(np.float32) / 255).labels
        scores.append(aji_plus(true_overlap(micrograph, labels)))
    assert np.mean(scores) >= 0.75, scores
    assert 0.05 <= best_score_threshold(detector, 1.0, labelled, np.arange(2)) <= 0.95


def test_a_pretrained_backbone_is_fine_tuned_in_bf16_with_finite_losses(labelled_set, pretrained, tmp_path):
    options = replace(
        SMALL, backbone=str(pretrained / "backbone"), precision="bf16", epochs=4, crop=96, proposals=100, rate=1e-3
    )
    detector = train(options, 0, LabelledSet(labelled_set), np.arange(4), tmp_path)
    losses = [value for line in read_log(tmp_path / "log.jsonl") for key, value in line.items() if "loss" in key]
    assert len(losses) >= 4
    assert np.isfinite(losses).all()
    assert all(torch.isfinite(weight).all() for weight in detector.state_dict().values())


def test_arms_differ_in_the_backbone_alone(pretrained):
    random, again = build_detector(SMALL, 3), build_detector(SMALL, 3)
    ours = build_detector(replace(SMALL, backbone=str(pretrained / "backbone")), 3)
    same = {name for name, weight in again.state_dict().items() if torch.equal(weight, random.state_dict()[name])}
    assert same == set(random.state_dict())
    differ = {name for name, weight in ours.state_dict().items() if not torch.equal(weight, random.state_dict()[name])}
    assert differ
    assert all(name.startswith("backbone.body.") for name in differ)


def test_weights_see_no_micrograph_that_chooses_the_threshold_or_scores(many_micrographs, tmp_path, monkeypatch):
    labelled, seen = LabelledSet(many_micrographs), {}

    def train_nothing(options, seed, labelled, fitted, folder, stop, validating, accelerator):
        seen["fitted"] = fitted
        return build_detector(options, seed)

    def choose(detector, scale, labelled, choosing, share):
        seen["choosing"] = choosing
        return 0.9

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("finetune.mask_rcnn.train", train_nothing)
    monkeypatch.setattr("finetune.mask_rcnn.best_score_threshold", choose)
    sizes = ("architecture", "pyramid_channels", "box_head_width", "mask_head_layers", "proposals")
    arguments = [f"{name}={getattr(SMALL, name)}" for name in sizes]
    monkeypatch.setattr("sys.argv", ["mask_rcnn.py", f"data={many_micrographs}", "name=arm", *arguments])
    main()
    training, validation = labelled.split()
    assert len(seen["choosing"]) == len(training) // 10
    assert sorted([*seen["fitted"], *seen["choosing"]]) == list(training)
    scored = json.loads((tmp_path / "runs/arm/repeat-0/summary.json").read_text())["samples"]
    assert set(scored) == {labelled.names[index] for index in validation}
    assert json.loads((tmp_path / "runs/arm/repeat-0/model.json").read_text())["score_threshold"] == 0.9


def test_the_epoch_that_validates_best_is_kept(labelled_set, tmp_path, monkeypatch):
    scores = iter((0.7, 0.6))
    monkeypatch.setattr("finetune.mask_rcnn.threshold_scores", lambda *_: np.array([0.1, next(scores)]))
    options = replace(SMALL, epochs=2, crop=64, batch=2, proposals=20, proposals_sampled=8, validate_every=1)
    detector = train(options, 0, LabelledSet(labelled_set), np.arange(2), tmp_path, validating=np.array([3]))
    last = load_file(tmp_path / "checkpoints/last/model.safetensors")
    kept, best = detector.state_dict(), load_file(tmp_path / "best.safetensors")
    assert all(torch.equal(kept[name], weight) for name, weight in best.items())
    assert any(not torch.equal(last[f"detector.{name}"], weight) for name, weight in kept.items())
    validated = [line["aji_plus"] for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "validation"]
    assert validated == [0.7, 0.6]


def test_repeats_are_scored_and_summed_up(labelled_set, run, tmp_path):
    options = [f"{name}={getattr(SMALL, name)}" for name in ("architecture", "pyramid_channels", "box_head_width")]
    options += ["crop=96", "batch=2", "epochs=1", "repeats=2", "workers=0", "proposals=50", "detections=50"]
    command = ["finetune/mask_rcnn.py", f"data={labelled_set}", "name=arm", "score_threshold=0.3", *options]
    finished = run(*command, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    summary = json.loads((tmp_path / "runs/arm/summary.json").read_text())
    assert len(summary["repeats"]) == 2
    means = [repeat["summary"]["aji_plus"] for repeat in summary["repeats"]]
    assert summary["scores"]["aji_plus"]["mean"] == pytest.approx(np.mean(means))
    labelled = LabelledSet(labelled_set)
    name, sample = next(iter(summary["repeats"][1]["samples"].items()))
    predicted = read_labels(tmp_path / f"runs/arm/repeat-1/predictions/{name}.tif")
    true = labelled.read(labelled.names.index(name)).layers[0]
    assert score_sample(label_overlap(true, predicted)) == sample
    again = run(*command, cwd=tmp_path)
    assert again.returncode == 0
    assert "step/s" not in again.stderr, "a finished run is only reported"
