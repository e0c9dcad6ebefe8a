import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tifffile
import torch
from PIL import Image

from sempre import __version__
from sempre.deploy.released import DEFAULT, find_weights
from sempre.deploy.segmenter import Segmenter
from sempre.errors import InputError
from sempre.files import code_commit
from sempre.metrics import aji_plus
from sempre.models.mask_rcnn import DetectorOptions, build_mask_rcnn, load_detector, save_detector
from sempre.synthetic import FieldOptions, render_field

SCRIPT = Path(__file__).parents[2] / "tools" / "export_onnx.py"
SLIM = {
    "architecture": "convnextv2_atto",
    "pyramid_channels": 32,
    "box_head_width": 64,
    "mask_head_layers": 1,
    "detections": 40,
}


def load_script():
    spec = importlib.util.spec_from_file_location("export_onnx", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["export_onnx"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def finished(tmp_path):
    """A run's folder with a detector of random weights, which names a micrograph to check on."""
    torch.manual_seed(0)
    model = build_mask_rcnn(DetectorOptions(**SLIM))
    with torch.no_grad():
        for layer in (model.rpn.head.cls_logits, model.roi_heads.box_predictor.cls_score):
            layer.weight.mul_(20)
    y, x = np.mgrid[:150, :190]
    pixels = 60 + 80 * ((x % 50 - 25) ** 2 + (y % 50 - 25) ** 2 < 300) + np.random.default_rng(0).normal(0, 8, x.shape)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "micrograph.png")
    details = {
        "detector": SLIM,
        "normalisation": {"percentiles": [1, 99], "mean": 0.5, "std": 0.25},
        "class_names": ["particle"],
        "scale": 1.0,
        "score_threshold": 0.5,
        "pixel_size_nm": 1.5,
        "micrograph": str(tmp_path / "micrograph.png"),
    }
    save_detector(tmp_path / "repeat-0", model, details)
    return tmp_path / "repeat-0"


def export(monkeypatch, *options, before=lambda script: None):
    monkeypatch.setattr(sys, "argv", ["export_onnx.py", *options])
    script = load_script()
    before(script)
    script.main()


def test_writes_a_bundle(finished, tmp_path, monkeypatch, capsys):
    bundle = tmp_path / "bundle"
    export(monkeypatch, f"run={finished}", f"out={bundle}")
    assert sorted(path.name for path in bundle.iterdir()) == ["model.json", "model.onnx"]
    description = json.loads((bundle / "model.json").read_text())
    assert description.pop("sempre_version") == __version__
    assert description.pop("sempre_commit") == code_commit()
    assert description == {
        "format": 1,
        "kind": "mask_rcnn",
        "sha256": hashlib.sha256((bundle / "model.onnx").read_bytes()).hexdigest(),
        "input": {"percentiles": [1, 99], "low": 0, "high": 1, "scale": 1.0},
        "tile": 1024,
        "overlap": 256,
        "score_threshold": 0.5,
        "mask_threshold": 0.5,
        "class_names": ["particle"],
        "pixel_size_nm": 1.5,
        "detections_per_tile": 40,
        "proposals_per_tile": 1000,
    }
    session = onnxruntime.InferenceSession(bundle / "model.onnx")
    assert [(node.name, node.shape[0]) for node in session.get_inputs()] == [("image", 1), ("score_threshold", 1)]
    assert "40 instances" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "micrograph.png", "repeat-0"]


def test_replaces_an_older_bundle_in_the_default_place(finished, monkeypatch):
    bundle = finished / "bundle"
    bundle.mkdir()
    (bundle / "model.onnx").write_bytes(b"old")
    export(monkeypatch, f"run={finished}")
    assert (bundle / "model.onnx").stat().st_size > 1000 and (bundle / "model.json").exists()


def test_a_graph_that_finds_something_else_is_not_written(finished, tmp_path, monkeypatch):
    def tamper(script):
        def export_other_weights(model, path, faithfully=script.export_detector):
            other, _ = load_detector(finished)
            with torch.no_grad():
                other.roi_heads.mask_predictor.mask_fcn_logits.bias.add_(0.05)  # shifts the masks' outlines only
            faithfully(other, path)

        script.export_detector = export_other_weights

    with pytest.raises(InputError, match="not faithful"):
        export(monkeypatch, f"run={finished}", f"out={tmp_path / 'bundle'}", before=tamper)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["micrograph.png", "repeat-0"]


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_missing_file_is_named(finished, tmp_path, monkeypatch, name):
    (finished / name).unlink()
    with pytest.raises(InputError, match=f"holds no {name}"):
        export(monkeypatch, f"run={finished}", f"out={tmp_path / 'bundle'}")


def test_weights_of_another_size_are_refused(finished, tmp_path, monkeypatch):
    details = json.loads((finished / "model.json").read_text())
    details["detector"]["pyramid_channels"] = 64
    (finished / "model.json").write_text(json.dumps(details))
    with pytest.raises(InputError, match="damaged or another network's"):
        export(monkeypatch, f"run={finished}", f"out={tmp_path / 'bundle'}")


def detections(*boxes, scores=None):
    scores = np.linspace(0.9, 0.6, len(boxes)) if scores is None else np.array(scores)
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "scores": scores.astype(np.float32),
        "masks": np.ones((len(boxes), 28, 28), np.float32),
    }


def test_same_instances():
    same_instances = load_script().same_instances
    first, second, shape = [10, 10, 60, 60], [20, 10, 70, 60], (100, 100)
    same = same_instances(detections(first, second), detections(second, first, scores=[0.6, 0.9]), shape)
    np.testing.assert_array_equal(same, [[False, True], [True, False]])

    assert not same_instances(detections(first), detections([10, 10, 60, 61]), shape).any()
    assert not same_instances(detections(first), detections(first, scores=[0.8985]), shape).any()
    assert same_instances(detections(first), detections(first, first), shape).sum() == 1
    assert same_instances(detections(), detections(first), shape).shape == (0, 1)

    half = detections(first)
    half["masks"][:, :14] = 0
    assert not same_instances(detections(first), half, shape).any()


def test_mask_iou():
    mask_iou = load_script().mask_iou
    square = np.ones((4, 4), bool)
    assert mask_iou((0, 0, square), (0, 2, square)) == pytest.approx(8 / 24)
    assert mask_iou((0, 0, square), (9, 9, square)) == 0
    assert mask_iou((3, 0, square[:0]), (0, 0, ~square)) == 1


def test_a_dense_segmenter_in_8_bit_integers_segments_alike(tmp_path, monkeypatch, capsys):
    """The released weights: a calibrated graph finds what one in floats finds."""
    for folder in ("seen", "new"):
        (tmp_path / folder).mkdir()
    for seed in range(5):
        field = render_field(seed, (256, 256), FieldOptions("medium", ("sphere",)))
        tifffile.imwrite(tmp_path / ("seen" if seed else "new") / f"{seed}.tif", field.pixels)
    run, micrograph = f"run={find_weights(DEFAULT)}", f"micrograph={tmp_path / 'new/0.tif'}"
    export(monkeypatch, run, micrograph, f"out={tmp_path / 'floats'}")
    export(monkeypatch, run, micrograph, f"out={tmp_path / 'integers'}", f"calibration={tmp_path / 'seen'}")
    assert "on the mean" in capsys.readouterr().out
    pixels = tifffile.imread(tmp_path / "new/0.tif")
    floats, integers = (Segmenter(tmp_path / name).segment(pixels).labels for name in ("floats", "integers"))
    assert floats.max() > 3
    assert aji_plus(floats, integers) > 0.9
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("integers", "floats")]
    assert sizes[0] < 0.6 * sizes[1]


def test_calibration_of_a_mask_rcnn_is_refused(finished, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="leave out calibration"):
        export(monkeypatch, f"run={finished}", f"calibration={tmp_path}")


def beside(path: Path) -> None:
    """Rewrite a graph as PyTorch's exporter writes one of more than 2 GB: each weight in a file of its own."""
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=64)


@pytest.mark.long
def test_weights_beside_a_graph_are_part_of_the_bundle_and_its_checksums(finished, tmp_path, monkeypatch):
    script = load_script()
    export = script.export_detector
    monkeypatch.setattr(sys, "argv", ["export_onnx.py", f"run={finished}", f"out={tmp_path / 'whole'}"])
    script.main()
    monkeypatch.setattr(script, "export_detector", lambda model, path: (export(model, path), beside(path)))
    monkeypatch.setattr(sys, "argv", ["export_onnx.py", f"run={finished}", f"out={tmp_path / 'parted'}"])
    script.main()
    bundle = tmp_path / "parted"
    assert {file.name for file in bundle.iterdir()} == {"model.onnx", "model.onnx.data", "model.json"}
    described = json.loads((bundle / "model.json").read_text())
    data = bundle / "model.onnx.data"
    assert described["data_sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert data.stat().st_size > 20 * (bundle / "model.onnx").stat().st_size
    onnx.checker.check_model(bundle / "model.onnx")
    pixels = np.asarray(Image.open(tmp_path / "micrograph.png"))
    one, other = (Segmenter(tmp_path / name).segment(pixels).labels for name in ("whole", "parted"))
    assert np.array_equal(one, other) and one.any()

    moved = tmp_path / "moved"
    shutil.copytree(bundle, moved)
    assert np.array_equal(Segmenter(moved).segment(pixels).labels, one)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    (moved / data.name).write_bytes(content)
    with pytest.raises(InputError, match=r"model\.onnx\.data is not the one"):
        Segmenter(moved)
    (moved / data.name).unlink()
    with pytest.raises(InputError, match=r"has no model\.onnx\.data"):
        Segmenter(moved)

    monkeypatch.setattr(script, "export_detector", export)
    script.main()
    assert {file.name for file in bundle.iterdir()} == {"model.onnx", "model.json"}, "one of before is taken away"
