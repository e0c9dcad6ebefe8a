"""Training torchvision's Mask R-CNN on thousands of particles in one crop, in little memory.

torchvision compares all particles with all anchors at once, and makes floats of all particles' masks. Of 2,500
particles in a crop of 1024x1024 px that is 31 GB, then 10 GB. Here the particles are compared a few at a time, and only
the masks that the loss looks at are made floats. What is learnt from is the same (tests compare with torchvision).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

AT_ONCE = 1 << 23  # pairs of a particle and an anchor


def learn_from_crowds(model: MaskRCNN) -> None:
    """Make the detector learn as before, in memory that thousands of particles do not fill."""
    rpn: Any = model.rpn
    usual = rpn.proposal_matcher
    rpn.box_similarity = lambda boxes, anchors: (boxes, anchors)
    rpn.proposal_matcher = MatcherInBlocks(usual.high_threshold, usual.low_threshold, usual.allow_low_quality_matches)
    heads: Any = model.roi_heads
    heads.select_training_samples = _with_few_masks(heads.select_training_samples)


class MatcherInBlocks(Matcher):
    """torchvision's matcher, given boxes `[M, 4]` and anchors `[N, 4]` in place of their IoUs `[M, N]`."""

    def __call__(self, match_quality_matrix: tuple[Tensor, Tensor]) -> Tensor:
        """The box of each anchor, int64 `[N]`; `BELOW_LOW_THRESHOLD` or `BETWEEN_THRESHOLDS` where it has none."""
        boxes, anchors = match_quality_matrix
        highest = anchors.new_full((len(anchors),), -1.0)
        matches = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
        best_of_a_box = torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
        block = max(1, AT_ONCE // len(anchors))
        for start in range(0, len(boxes), block):
            ious = box_iou(boxes[start : start + block], anchors)
            values, rows = ious.max(dim=0)
            higher = values > highest
            highest, matches = torch.where(higher, values, highest), torch.where(higher, rows + start, matches)
            best_of_a_box |= (ious == ious.max(dim=1, keepdim=True).values).any(dim=0)
        kept = matches.clone()
        matches[highest < self.low_threshold] = self.BELOW_LOW_THRESHOLD
        matches[(highest >= self.low_threshold) & (highest < self.high_threshold)] = self.BETWEEN_THRESHOLDS
        return torch.where(best_of_a_box, kept, matches) if self.allow_low_quality_matches else matches


def _with_few_masks(select: Callable) -> Callable:
    """torchvision's `select_training_samples`, which leaves in the targets only the masks that the loss will look at.

    The matched positions then count into these.
    """

    def select_and_thin_out(proposals: list[Tensor], targets: list[dict[str, Tensor]]) -> tuple:
        proposals, matched, labels, regression = select(proposals, targets)
        for number, target in enumerate(targets):
            if not len(target["masks"]):
                continue
            used, position = torch.unique(matched[number], return_inverse=True)
            matched[number] = position
            targets[number] = target | {name: target[name][used] for name in ("masks", "labels")}
        return proposals, matched, labels, regression

    return select_and_thin_out
