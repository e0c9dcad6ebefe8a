import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from sempre.errors import InputError
from sempre.frozen.insides import check_grad_cam, detection_activation, foreground_activation
from sempre.frozen.insides import share_on_particles as share
from sempre.models.dense import DenseOptions, DenseSegmenter
from sempre.models.mask_rcnn import DetectorOptions, build_mask_rcnn

TINY = DetectorOptions("convnextv2_atto", 16, 32, 1, proposals=20, proposals_sampled=8, detections=5)


@pytest.fixture
def seen() -> np.ndarray:
    return np.random.default_rng(0).random((96, 128), dtype=np.float32)


def test_a_segmenters_map_is_grad_cam_by_hand(seen):
    pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed: pip install -e '.[insides]'")
    torch.manual_seed(0)
    segmenter = DenseSegmenter(DenseOptions("convnextv2_atto")).eval()
    activation = foreground_activation(segmenter, seen, stage=-2)
    kept = []
    stage = segmenter.encoder.body.stages[-2]
    hook = stage.register_forward_hook(lambda _, __, output: kept.append(output))
    logits = segmenter(torch.from_numpy(seen)[None, None])[0, 0]
    hook.remove()
    (gradient,) = torch.autograd.grad(logits[logits > 0].sum(), kept[0])
    expected = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1).clamp(min=0)
    expected = functional.interpolate(expected[None], (96, 128), mode="bilinear")[0, 0].detach().numpy()
    assert activation.shape == seen.shape and activation.min() >= 0 and activation.max() == pytest.approx(1, abs=1e-3)
    assert np.corrcoef(activation.ravel(), expected.ravel())[0, 1] > 0.99
    assert all(parameter.grad is None for parameter in segmenter.parameters())
    assert not stage._forward_hooks


def test_ablation_weighs_each_channel_by_what_is_lost_without_it(seen):
    """By hand: every channel of the stage is set to 0 in turn, in a pass of its own."""
    pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed: pip install -e '.[insides]'")
    torch.manual_seed(0)
    segmenter = DenseSegmenter(DenseOptions("convnextv2_atto")).eval()
    activation = foreground_activation(segmenter, seen, stage=0, cam="ablation")
    stage, kept = segmenter.encoder.body.stages[0], []
    image = torch.from_numpy(seen)[None, None]
    with torch.no_grad():
        hook = stage.register_forward_hook(lambda _, __, output: kept.append(output))
        logits = segmenter(image)[0, 0]
        hook.remove()
        found, weights = logits > 0, []
        for channel in range(kept[0].shape[1]):
            less = kept[0].clone()
            less[:, channel] = 0
            hook = stage.register_forward_hook(lambda *_, less=less: less)
            weights.append(float(1 - segmenter(image)[0, 0][found].sum() / logits[found].sum()))
            hook.remove()
        expected = (torch.tensor(weights)[:, None, None] * kept[0][0]).sum(0).clamp(min=0)
    expected = functional.interpolate(expected[None, None], (96, 128), mode="bilinear")[0, 0].numpy()
    assert activation.shape == seen.shape and activation.min() >= 0
    assert np.corrcoef(activation.ravel(), expected.ravel())[0, 1] > 0.99
    assert segmenter.encoder.body.stages[0] is stage


def test_a_detector_looks_where_its_boxes_come_from_and_nowhere_without_any(seen):
    pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed: pip install -e '.[insides]'")
    torch.manual_seed(0)
    detector = build_mask_rcnn(TINY).eval()
    with torch.no_grad():
        boxes = detector([torch.from_numpy(seen)[None]])[0]["boxes"].numpy()
    activation = detection_activation(detector, detector.backbone.body, seen, boxes)
    assert len(boxes) and activation.shape == seen.shape and activation.min() >= 0 and activation.max() > 0.9
    assert not detection_activation(detector, detector.backbone.body, seen, boxes[:0]).any()
    with pytest.raises(InputError, match="stage=7"):
        detection_activation(detector, detector.backbone.body, seen, boxes, stage=7)


def test_the_share_on_particles_is_weighed_by_the_map():
    activation = np.array([[0.5, 1.0], [0.0, 0.5]])
    assert share(activation, np.array([[False, True], [True, False]])) == 0.5
    assert np.isnan(share(np.zeros((2, 2)), np.ones((2, 2), bool)))


def test_without_grad_cam_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(InputError, match=r"^grad-cam cannot be imported .*\[insides\]'$"):
        check_grad_cam()
