"""Mask R-CNN for particles: torchvision's detector on a timm backbone, trained on crowds, and its files.

torchvision compares all particles with all anchors at once, and makes floats of all particles' masks. Of 2,500
particles in a crop of 1024x1024 px that is 31 GB, then 10 GB. Here the particles are compared a few at a time, and only
the masks that the loss looks at are made floats. What is learnt from is the same (tests compare with torchvision).

He et al., "Mask R-CNN", ICCV 2017; Lin et al., "Feature Pyramid Networks", CVPR 2017. Group normalisation in the
pyramid and the heads (Wu and He, ECCV 2018) lets small batches train, from random weights too.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, box_iou
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from sempre.data.labelled import LabelledSet
from sempre.images.normalise import MEAN, STD
from sempre.images.resize import boxes_between, resize
from sempre.models.encoders import TimmBody
from sempre.models.weight_files import (
    DETAILS,
    WEIGHTS,
    build_fitting,
    check_numbers,
    describing,
    read_details,
    save_model,
)

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


# Side of the square anchors (px) on each pyramid level, strides 4 to 64: particles from 8 px up.
ANCHOR_SIZES = ((8, 14), (22, 32), (46, 64), (92, 128), (192, 288))
ANCHOR_ASPECT_RATIOS = (0.5, 1.0, 2.0)
# From this IoU with a particle's box on, an anchor is one to learn from. At torchvision's 0.7 four of five EMPS boxes
# have their single best one alone, for next to small particles the anchors' grid is coarse; at 0.5 they have eight.
# Other sizes help less, and would have a saved detector read with anchors that it was not trained with.
POSITIVE_ANCHOR_IOU = 0.5


@dataclass(frozen=True)
class DetectorOptions:
    """The detector's size. The defaults are torchvision's; a CPU wants slimmer ones."""

    architecture: str = "convnextv2_pico"
    pyramid_channels: int = 256
    box_head_width: int = 1024
    mask_head_layers: int = 4
    proposals: int = 1000  # proposals of each image that reach the heads
    proposals_sampled: int = 256  # of them, used for the heads' loss
    positive_share: float = 0.25  # of those, at most this share shows particles; the mask head learns from no others
    detections: int = 500  # at most this many particles an image


class TimmPyramid(TimmBody):
    """A timm network's maps through torchvision's feature pyramid.

    `forward(images [B, C, H, W])` gives five maps `[B, pyramid_channels, H/s, W/s]`, s = 4, 8, 16, 32, 64.
    """

    def __init__(self, architecture: str, pyramid_channels: int):
        super().__init__(architecture, finest=4)
        self.out_channels = pyramid_channels
        self.pyramid = FeaturePyramidNetwork(
            list(self.widths), pyramid_channels, extra_blocks=LastLevelMaxPool(), norm_layer=group_norm
        )

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        return self.pyramid(OrderedDict((str(level), stage) for level, stage in enumerate(self.coarse(images))))


class MicrographTransform(GeneralizedRCNNTransform):
    """Normalise and batch, at the micrograph's own scale; masks leave as 28x28 probabilities, not as full images.

    A particle's size in pixels carries meaning, and pasting N masks into N full images is quadratic in memory traffic.
    """

    def __init__(self):
        super().__init__(min_size=0, max_size=0, image_mean=[MEAN], image_std=[STD])

    def resize(self, image: Tensor, target: dict | None = None) -> tuple[Tensor, dict | None]:
        return image, target

    def postprocess(self, result: list[dict], image_shapes: list, original_image_sizes: list) -> list[dict]:
        return result


class DetectionLoss(nn.Module):
    """The losses of a detector of torchvision's arguments, and their sum as `loss`, which is minimised."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        losses = self.detector(images, targets)
        return {"loss": cast(Tensor, sum(losses.values())), **losses}


def build_mask_rcnn(options: DetectorOptions) -> MaskRCNN:
    """Mask R-CNN with random weights, one input channel, two classes (background, particle).

    Takes torchvision's arguments: a list of float32 images `[1, H, W]` in [0, 1] and, for training, targets with
    `boxes [N, 4]` (x0, y0, x1, y1 in px), `labels [N]` and `masks [N, H, W]`. In evaluation each result holds
    `boxes [N, 4]`, `scores [N]`, `labels [N]` and `masks [N, 1, 28, 28]`, probabilities inside each box.

    Raises:
        InputError: for an architecture that timm does not have, or that gives no maps for a pyramid.
    """
    channels = options.pyramid_channels
    anchors_per_cell = len(ANCHOR_SIZES[0]) * len(ANCHOR_ASPECT_RATIOS)
    model = MaskRCNN(
        TimmPyramid(options.architecture, channels),
        rpn_anchor_generator=AnchorGenerator(ANCHOR_SIZES, (ANCHOR_ASPECT_RATIOS,) * len(ANCHOR_SIZES)),
        rpn_head=RPNHead(channels, anchors_per_cell),
        rpn_fg_iou_thresh=POSITIVE_ANCHOR_IOU,
        rpn_pre_nms_top_n_train=options.proposals,
        rpn_pre_nms_top_n_test=options.proposals,
        rpn_post_nms_top_n_train=options.proposals,
        rpn_post_nms_top_n_test=options.proposals,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
        box_head=FastRCNNConvFCHead((channels, 7, 7), [], [options.box_head_width] * 2),
        box_predictor=FastRCNNPredictor(options.box_head_width, num_classes=2),
        box_batch_size_per_image=options.proposals_sampled,
        box_positive_fraction=options.positive_share,
        box_detections_per_img=options.detections,
        mask_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=14, sampling_ratio=2),
        mask_head=MaskRCNNHeads(channels, [channels] * options.mask_head_layers, dilation=1, norm_layer=group_norm),
        mask_predictor=MaskRCNNPredictor(channels, channels, num_classes=2),
    )
    model.transform = MicrographTransform()
    learn_from_crowds(model)
    for head in (model.rpn.head, model.roi_heads.box_predictor, model.roi_heads.mask_predictor):
        head.register_forward_hook(_to_float32)
    return model


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with groups of 16 channels, or fewer where 16 does not divide `channels`."""
    return nn.GroupNorm(channels // math.gcd(channels, 16), channels)


def _to_float32(module: nn.Module, inputs: tuple, output: Any) -> Any:
    """A hook on outputs, tensors or lists and tuples of them, for torchvision decodes boxes in the heads' output type,
    and bf16 cannot tell 257 px from 256."""
    if isinstance(output, Tensor):
        return output.float()
    return type(output)(_to_float32(module, inputs, item) for item in output)


@torch.inference_mode()
def detect(model: MaskRCNN, pixels: np.ndarray, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Run the detector on one normalised micrograph.

    Args:
        pixels: float32 `[H, W]` in [0, 1].
        scale: the detector sees the micrograph at this many times its size.

    Returns:
        `boxes [N, 4]` (x0, y0, x1, y1, px of the micrograph), `scores [N]` and `masks [N, 28, 28]`, float32, by
        falling score.
    """
    model.eval()
    device = next(model.parameters()).device
    seen = resize(pixels, scale)
    result = model([torch.from_numpy(seen)[None].to(device)])[0]
    result["masks"] = result["masks"][:, 0]
    found = {name: result[name].float().cpu().numpy() for name in ("boxes", "scores", "masks")}
    found["boxes"] = boxes_between(found["boxes"], seen.shape, pixels.shape)
    return found


def save_detector(folder: str | Path, model: MaskRCNN, details: dict) -> None:
    """Write `model.safetensors` and `model.json` into `folder`; each file is whole or absent, the details come last.

    Args:
        details: what JSON holds; `detector` are the fields of `DetectorOptions` that `model` was built with. The rest
            is for whoever uses the model: `normalisation`, `class_names`, `score_threshold`, `pixel_size_nm` and
            `micrograph` (the path of a micrograph to try the model on).
    """
    save_model(folder, model, details)


def describe_detector(options: DetectorOptions, scale: float, threshold: float, labelled: LabelledSet) -> dict:
    """What `model.json` says of a detector that was fitted to micrographs of `labelled`.

    Args:
        scale: it sees micrographs at this many times their size.
        threshold: detections that score less are dropped.
    """
    return {
        "detector": asdict(options),
        "normalisation": {"percentiles": labelled.percentiles, "mean": MEAN, "std": STD},
        "class_names": ["particle"],
        "scale": scale,
        "score_threshold": threshold,
        "pixel_size_nm": labelled.common_pixel_size_nm(),
    }


def load_detector(folder: str | Path) -> tuple[MaskRCNN, dict]:
    """The detector in `folder`, in evaluation mode on the CPU, and its details.

    Raises:
        InputError: for a missing or damaged file, and for weights that are not those of the detector described.
    """
    folder = Path(folder)
    details = read_details(folder, "a finished run's folder, such as runs/mask_rcnn/repeat-0")
    with describing(folder, "detector"):
        known = {field.name for field in fields(DetectorOptions)}
        options = DetectorOptions(**{name: value for name, value in details["detector"].items() if name in known})
    check_numbers(asdict(options), folder / DETAILS)
    model = build_fitting(lambda: build_mask_rcnn(options), folder / WEIGHTS)
    return model.eval(), details
