"""What is learnt from thousands of particles is what torchvision learns from, in less memory."""

import copy
import subprocess
import sys

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from sempre.models import mask_rcnn
from sempre.models import mask_rcnn as crowds
from sempre.models.mask_rcnn import DetectorOptions, build_mask_rcnn

SMALL = DetectorOptions("convnextv2_atto", 16, 32, 1, proposals=60, proposals_sampled=32, detections=50)

HUNGRY = """
import resource, torch
from sempre.models.mask_rcnn import DetectorOptions, build_mask_rcnn
grid = torch.arange(4, 1000, 14.0)
corners = torch.cartesian_prod(grid, grid)
boxes = torch.cat([corners, corners + 10], 1)
masks = torch.zeros(len(boxes), 1024, 1024, dtype=torch.uint8)
for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist()):
    mask[y0:y1, x0:x1] = 1
model = build_mask_rcnn(DetectorOptions("convnextv2_atto", 16, 16, 1, proposals=200)).train()
target = {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64), "masks": masks}
sum(model([torch.rand(1, 1024, 1024)], [target]).values()).backward()
print(len(boxes), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def random_boxes(count: int, seed: int) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    corners = 100 * torch.rand(count, 2, generator=draws)
    return torch.cat([corners, corners + 1 + 30 * torch.rand(count, 2, generator=draws)], 1).round()  # with ties


@pytest.mark.parametrize(("boxes", "anchors"), [(1, 50), (7, 400), (300, 900)])
@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize("at_once", [1, 2000, 1 << 23])
def test_anchors_are_matched_as_by_torchvision(boxes, anchors, low_quality, at_once, monkeypatch):
    monkeypatch.setattr(crowds, "AT_ONCE", at_once)
    for seed in range(5):
        pair = random_boxes(boxes, seed), random_boxes(anchors, 100 + seed)
        expected = Matcher(0.5, 0.3, low_quality)(box_iou(*pair))
        found = crowds.MatcherInBlocks(0.5, 0.3, low_quality)(pair)
        assert torch.equal(found < 0, expected < 0)
        assert torch.equal(found[found < 0], expected[expected < 0])
        ious = box_iou(*pair)[:, expected >= 0]
        columns = torch.arange(ious.shape[1])
        assert torch.equal(ious[found[found >= 0], columns], ious[expected[expected >= 0], columns]), "of ties either"


@pytest.mark.parametrize("particles", [(3, 0), (40, 5)])
def test_losses_and_gradients_are_those_of_torchvision(particles, monkeypatch):
    torch.manual_seed(0)
    ours = build_mask_rcnn(SMALL).train()
    monkeypatch.setattr(mask_rcnn, "learn_from_crowds", lambda model: None)
    theirs = build_mask_rcnn(SMALL).train()
    theirs.load_state_dict(ours.state_dict())
    images, targets = [torch.rand(1, 96, 96) for _ in particles], []
    for seed, count in enumerate(particles):
        boxes = random_boxes(count, seed).clamp(max=95)
        boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        masks = torch.zeros(count, 96, 96, dtype=torch.uint8)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = 1
        targets.append({"boxes": boxes, "labels": torch.ones(count, dtype=torch.int64), "masks": masks})
    found = {}
    for name, model in (("ours", ours), ("theirs", theirs)):
        torch.manual_seed(1)
        losses = model(images, copy.deepcopy(targets))
        sum(losses.values()).backward()
        found[name] = losses, [weight.grad for weight in model.parameters() if weight.grad is not None]
    for name, loss in found["theirs"][0].items():
        assert torch.equal(found["ours"][0][name], loss), name
    assert all(map(torch.equal, found["ours"][1], found["theirs"][1]))


@pytest.mark.slow
def test_five_thousand_particles_in_a_crop_fit_into_a_few_gigabytes():
    finished = subprocess.run([sys.executable, "-c", HUNGRY], capture_output=True, text=True, check=True)
    count, gigabytes = map(float, finished.stdout.split())
    assert count > 5000
    assert gigabytes < 10
