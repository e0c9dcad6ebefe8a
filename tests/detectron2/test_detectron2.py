"""The timm pyramid in detectron2, wherever that is installed: the same network, asked and scored in the same way."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

pytest.importorskip("detectron2", reason="detectron2 is not installed: make detectron2")

from accelerate.state import AcceleratorState
from detectron2.config import get_cfg, instantiate
from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.modeling import build_backbone

from finetune.detectron2_mask_rcnn import Options, build_detector, main, train
from sempre.data.labelled import LabelledSet
from sempre.detectron2.detector import TimmPyramidBackbone, add_timm_pyramid, mask_rcnn_config, register_labelled_set
from sempre.errors import InputError
from sempre.images import write_labels
from sempre.models.backbones import BackboneDetails, save_backbone
from sempre.models.encoders import create_network
from sempre.models.mask_rcnn import DetectorOptions, build_mask_rcnn
from sempre.synthetic import render_field
from sempre.training.detector_scoring import segment
from sempre.training.scoring import predict_and_score, true_masks

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SMALL = Options(
    data="",
    architecture="convnextv2_atto",
    crop=128,
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
TINY = DetectorOptions("convnextv2_atto", 32, 64, 1, proposals=20, proposals_sampled=8, detections=10)


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def four_fields(tmp_path_factory) -> LabelledSet:
    folder = tmp_path_factory.mktemp("fields")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for seed in (0, 2, 5, 6):
        field = render_field(seed, (128, 128))
        tifffile.imwrite(folder / f"images/field_{seed}.tif", field.pixels)
        write_labels(folder / f"labels/field_{seed}.tif", field.labels)
    return LabelledSet(folder)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory) -> Path:
    """A backbone as pretraining writes it, with random weights."""
    torch.manual_seed(7)
    folder = tmp_path_factory.mktemp("pretrained") / "backbone"
    details = BackboneDetails("convnextv2_atto", 1, "none", "", None, {})
    save_backbone(folder, create_network("convnextv2_atto"), details)
    return folder


def test_the_same_weights_give_the_same_features(artefact):
    detector = build_mask_rcnn(TINY).eval()
    backbone = instantiate(mask_rcnn_config(TINY, str(artefact))).backbone.eval()
    backbone.pyramid.pyramid.load_state_dict(detector.backbone.pyramid.state_dict())
    detector.backbone.body.load_state_dict(backbone.pyramid.body.state_dict())
    images = torch.randn(2, 1, 96, 128)
    with torch.no_grad():
        ours, theirs = detector.backbone(images), backbone(images)
    assert list(theirs) == ["p2", "p3", "p4", "p5", "p6"]
    for (level, features), expected in zip(theirs.items(), ours.values(), strict=True):
        torch.testing.assert_close(features, expected, atol=1e-5, rtol=0)
        shape = backbone.output_shape()[level]
        assert features.shape == (2, shape.channels, -(-96 // shape.stride), 128 // shape.stride)


def test_yaml_pipelines_find_the_backbone_under_its_name(artefact):
    settings = get_cfg()
    add_timm_pyramid(settings)
    settings.MODEL.TIMM_PYRAMID.ARCHITECTURE = "convnextv2_atto"
    settings.MODEL.TIMM_PYRAMID.WEIGHTS = str(artefact)
    settings.MODEL.FPN.OUT_CHANNELS = 48
    backbone = build_backbone(settings)
    assert isinstance(backbone, TimmPyramidBackbone) and backbone.output_shape()["p3"].channels == 48
    own = instantiate(mask_rcnn_config(TINY, str(artefact))).backbone.pyramid.body.state_dict()
    assert all(torch.equal(own[name], weight) for name, weight in backbone.pyramid.body.state_dict().items())
    with pytest.raises(InputError, match="set architecture=convnextv2_atto"):
        TimmPyramidBackbone("convnextv2_femto", 48, str(artefact))


def test_a_labelled_set_in_the_catalogue_has_its_masks(four_fields):
    register_labelled_set("fields", four_fields, [1, 2])
    first, _ = DatasetCatalog.get("fields")
    micrograph = four_fields.read(1)
    size = first["height"], first["width"]
    instances = annotations_to_instances(first["annotations"], size, mask_format="bitmask")
    np.testing.assert_array_equal(instances.gt_masks.tensor.numpy(), true_masks(micrograph))
    np.testing.assert_array_equal(instances.gt_boxes.tensor, instances.gt_masks.get_bounding_boxes().tensor)
    assert first["file_name"] == str(four_fields.images[1])
    with pytest.raises(InputError, match="called fields already"):
        register_labelled_set("fields", four_fields, [0])
    DatasetCatalog.remove("fields")


def test_four_fields_are_learnt_by_heart_and_scored_by_the_same_tool(four_fields, tmp_path):
    options = Options(
        **{
            **asdict(SMALL),
            "epochs": 150,
            "rate": 1e-3,
            "flip": False,
            "brightness": 0.0,
            "contrast": 0.0,
            "weight_decay": 0.0,
        }
    )
    detector = train(options, 0, four_fields, np.arange(4), tmp_path)
    folder = tmp_path / "predictions"
    scores = predict_and_score(four_fields, range(4), lambda pixels, _: segment(detector, 1.0, 0.5, pixels), folder)
    assert scores["summary"]["aji_plus"] >= 0.8, scores["summary"]
    assert scores["summary"]["ap"] > 0.5
    command = [sys.executable, ROOT / "tools/score.py", "--pred", folder, "--true", four_fields.folder / "labels"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert f"{scores['summary']['aji_plus']:.3f}" in finished.stdout


def test_the_recipe_begins_from_an_artefact_and_writes_what_others_write(four_fields, artefact, tmp_path, monkeypatch):
    sizes = ("architecture", "pyramid_channels", "box_head_width", "mask_head_layers", "precision", "workers")
    arguments = [f"{name}={getattr(SMALL, name)}" for name in sizes]
    arguments += ["epochs=1", "crop=64", "batch=2", "proposals=20", "score_threshold=0.3", "validation_fraction=0.5"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "sys.argv", ["recipe", f"data={four_fields.folder}", f"backbone={artefact}", "name=arm", *arguments]
    )
    main()
    folder = tmp_path / "runs/arm"
    assert (folder / "summary.json").exists() and (folder / "repeat-0/model.safetensors").exists()
    assert len(list((folder / "repeat-0/predictions").glob("*.tif"))) >= 1
    drawn = build_detector(Options(**{**asdict(SMALL), "backbone": str(artefact)}), 0).body.state_dict()
    own = instantiate(mask_rcnn_config(TINY, str(artefact))).backbone.pyramid.body.state_dict()
    assert all(torch.equal(own[name], weight) for name, weight in drawn.items())
