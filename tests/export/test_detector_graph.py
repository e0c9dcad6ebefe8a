import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from sempre.export.detector_graph import OUTPUTS, DetectorGraph, export_detector
from sempre.models.mask_rcnn import DetectorOptions, build_mask_rcnn, detect

SLIM = {"pyramid_channels": 32, "box_head_width": 64, "mask_head_layers": 1, "detections": 60}


def random_detector(architecture: str = "convnextv2_atto"):
    """A detector whose every parameter is random, those that begin as zeros or ones too."""
    torch.manual_seed(1)
    model = build_mask_rcnn(DetectorOptions(architecture=architecture, **SLIM)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1 or parameter.unique().numel() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
        model.roi_heads.box_predictor.cls_score.weight.mul_(20)  # scores from near 0 to near 1
        model.roi_heads.mask_predictor.mask_fcn_logits.weight.mul_(20)
    return model


def blobs(height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(height * width)
    y, x = np.mgrid[:height, :width]
    pixels = random.uniform(0, 0.3, (height, width))
    for _ in range(12):
        centre_y, centre_x, radius = random.uniform(0, height), random.uniform(0, width), random.uniform(5, 25)
        pixels[(y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2] += 0.5
    return pixels.clip(0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The network in PyTorch, and the exported graph in ONNX Runtime."""
    model = random_detector()
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export_detector(model, path)
    return model, onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, pixels: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    feed = {"image": pixels[None, None], "score_threshold": np.array([threshold], np.float32)}
    return dict(zip(OUTPUTS, session.run(OUTPUTS, feed), strict=True))


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, tolerance in (("scores", 1e-4), ("boxes", 1e-2), ("masks", 1e-3)):
        np.testing.assert_allclose(found[name], expected[name], atol=tolerance, rtol=0, err_msg=name)


@pytest.mark.parametrize("shape", [(160, 192), (128, 128), (131, 190), (33, 150), (20, 20)])
def test_onnx_runtime_finds_what_pytorch_finds(exported, shape):
    model, session = exported
    pixels = blobs(*shape)
    expected = detect(model, pixels)
    assert len(expected["scores"]) > 5
    assert_same(run(session, pixels, model.roi_heads.score_thresh), expected)


@pytest.mark.parametrize("shape", [(100, 140), (160, 130), (128, 128), (224, 70)])
def test_proposals_are_torchvisions(shape):
    """Where the coarsest map is rounded up torchvision places its anchors less than 64 px apart."""
    model = random_detector()
    graph, proposals = DetectorGraph(model), []
    model.rpn.register_forward_hook(lambda module, inputs, output: proposals.append(output[0][0]))
    graph.proposals.register_forward_hook(lambda module, inputs, output: proposals.append(output))
    pixels = blobs(*shape)
    detect(model, pixels)
    with torch.inference_mode():
        graph(torch.from_numpy(pixels)[None, None], torch.tensor([0.5]))
    assert len(proposals[0]) == len(proposals[1]) > 200
    ious = box_iou(*proposals)
    assert (ious.max(0).values > 0.999).all() and (ious.max(1).values > 0.999).all()


def test_the_threshold_keeps_the_best(exported):
    model, session = exported
    pixels = blobs(128, 160)
    expected = detect(model, pixels)
    threshold = float(np.median(expected["scores"]))
    kept = expected["scores"] > threshold
    assert 0 < kept.sum() < len(kept)
    assert_same(run(session, pixels, threshold), {name: values[kept] for name, values in expected.items()})


def test_no_detections(exported):
    found = run(exported[1], blobs(128, 128), 1.0)
    assert {name: values.shape for name, values in found.items()} == {
        "boxes": (0, 4),
        "scores": (0,),
        "masks": (0, 28, 28),
    }


def test_a_constant_image(exported):
    model, session = exported
    pixels = np.zeros((96, 128), np.float32)
    found, expected = run(session, pixels, model.roi_heads.score_thresh), detect(model, pixels)
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)


@pytest.mark.parametrize(
    "architecture", ["convnext_atto", "convnext_atto_ols", "convnext_atto_rms", "edgenext_xx_small"]
)
def test_other_backbones(architecture):
    model = random_detector(architecture)
    pixels = blobs(100, 140)
    with torch.inference_mode():
        found = DetectorGraph(model)(torch.from_numpy(pixels)[None, None], torch.tensor([model.roi_heads.score_thresh]))
    found = {name: values.numpy() for name, values in zip(OUTPUTS, found, strict=True)}
    assert_same(found, detect(model, pixels))


def test_the_network_is_left_as_it_was(exported):
    model = random_detector()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    DetectorGraph(model)
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(isinstance(parameter, nn.Parameter) for parameter in model.parameters())
