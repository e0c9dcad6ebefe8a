"""What the recipe adds to detectron2's network, with torchvision's in its place: tested without detectron2, too."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn

from finetune.detectron2_mask_rcnn import Options, train
from sempre.data.labelled import LabelledSet
from sempre.images import write_labels
from sempre.models.mask_rcnn import DetectorOptions, build_mask_rcnn
from sempre.synthetic import render_field
from sempre.training.run_folder import read_log

TINY = DetectorOptions("convnextv2_atto", 16, 32, 1, proposals=20, proposals_sampled=8, detections=10)


class StandIn(nn.Module):
    """torchvision's Mask R-CNN, asked as `Detectron2Detector` is."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rcnn = build_mask_rcnn(TINY)

    @property
    def body(self) -> nn.Module:
        return self.rcnn.backbone.body

    def forward(self, images, targets=None):
        if not self.training:
            return self.rcnn(images)
        losses = self.rcnn(images, targets)
        return {"loss": sum(losses.values()), **losses}


@pytest.fixture(scope="module")
def fields(tmp_path_factory) -> LabelledSet:
    folder = tmp_path_factory.mktemp("fields")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for seed in (0, 2, 5):
        field = render_field(seed, (96, 96))
        tifffile.imwrite(folder / f"images/field_{seed}.tif", field.pixels)
        write_labels(folder / f"labels/field_{seed}.tif", field.labels)
    return LabelledSet(folder)


@pytest.fixture
def trained(fields, tmp_path, monkeypatch):
    """`trained(validate_every)` on two micrographs for two epochs that validate at 0.7 and 0.6, with what was asked."""
    AcceleratorState._reset_state(reset_partial_state=True)
    asked, scores = [], iter((0.7, 0.6))

    def threshold_scores(detector, scale, labelled, shown, thresholds, share):
        asked.append((detector.training, list(shown), len(thresholds)))
        return np.array([0.1, next(scores)])

    monkeypatch.setattr("finetune.detectron2_mask_rcnn.build_detector", lambda options, seed: StandIn())
    monkeypatch.setattr("finetune.detectron2_mask_rcnn.threshold_scores", threshold_scores)

    def run(validate_every: int, **given) -> tuple[dict[str, torch.Tensor], list, Path]:
        options = Options(
            data="",
            epochs=2,
            crop=64,
            batch=2,
            layer_decay=1.0,
            workers=0,
            precision="float32",
            validate_every=validate_every,
            **given,
        )
        detector = train(options, 0, fields, np.arange(2), tmp_path, validating=np.array([2]))
        return detector.state_dict(), asked, tmp_path

    return run


def test_the_epoch_that_validates_best_is_kept(trained):
    kept, asked, folder = trained(validate_every=1)
    assert asked == [(False, [2], 19)] * 2
    best, last = load_file(folder / "best.safetensors"), load_file(folder / "checkpoints/last/model.safetensors")
    assert all(torch.equal(kept[name], weight) for name, weight in best.items())
    assert any(not torch.equal(last[name], weight) for name, weight in kept.items())
    validated = [line["aji_plus"] for line in read_log(folder / "log.jsonl") if line["kind"] == "validation"]
    assert validated == [0.7, 0.6]


def test_a_given_score_threshold_is_the_only_one_that_validation_tries(trained):
    _, asked, _ = trained(validate_every=2, score_threshold=0.3)
    assert asked == [(False, [2], 1)]


def test_without_validation_the_last_epoch_is_kept(trained):
    kept, asked, folder = trained(validate_every=0)
    last = load_file(folder / "checkpoints/last/model.safetensors")
    assert not asked
    assert all(torch.equal(kept[name], weight) for name, weight in last.items())
