"""detectron2's Mask R-CNN on the timm pyramid: its LazyConfig, and the detector as this project trains and asks one."""

from typing import cast

import torch
from detectron2.config import LazyCall, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    MaskRCNNConvUpsampleHead,
    StandardROIHeads,
)
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import Tensor, nn

from sempre.detectron2.backbone import LEVELS, STRIDES, TimmPyramidBackbone
from sempre.images.normalise import MEAN, STD
from sempre.models.segmenters.mask_rcnn import (
    ANCHOR_ASPECT_RATIOS,
    ANCHOR_SIZES,
    POSITIVE_ANCHOR_IOU,
    DetectorOptions,
    group_norm,
)

LOWEST_SCORE = 0.05  # of a detection that is listed, torchvision's


def mask_rcnn_config(options: DetectorOptions, weights: str = "") -> DictConfig:
    """The LazyConfig of the network; `detectron2.config.instantiate` makes it.

    Sizes, anchors and their matching are those of `sempre.models.segmenters.mask_rcnn`; what detectron2 does its own
    way stays: regions are pooled half a pixel aligned, and its losses are used. It takes images in [0, 1] of one
    channel.

    Args:
        weights: of the backbone, as `TimmPyramidBackbone` takes them.
    """
    channels, pooled = options.pyramid_channels, list(LEVELS[:4])
    call = LazyCall

    def pooler(size: int) -> DictConfig:
        scales = tuple(1 / stride for stride in STRIDES[:4])
        return call(ROIPooler)(output_size=size, scales=scales, sampling_ratio=2, pooler_type="ROIAlignV2")

    return call(GeneralizedRCNN)(
        backbone=call(TimmPyramidBackbone)(
            architecture=options.architecture, pyramid_channels=channels, weights=weights
        ),
        proposal_generator=call(RPN)(
            in_features=list(LEVELS),
            head=call(StandardRPNHead)(
                in_channels=channels, num_anchors=len(ANCHOR_SIZES[0]) * len(ANCHOR_ASPECT_RATIOS)
            ),
            anchor_generator=call(DefaultAnchorGenerator)(
                sizes=[list(sizes) for sizes in ANCHOR_SIZES],
                aspect_ratios=list(ANCHOR_ASPECT_RATIOS),
                strides=list(STRIDES),
                offset=0.0,
            ),
            anchor_matcher=call(Matcher)(
                thresholds=[0.3, POSITIVE_ANCHOR_IOU], labels=[0, -1, 1], allow_low_quality_matches=True
            ),
            box2box_transform=call(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_topk=(options.proposals, options.proposals),
            post_nms_topk=(options.proposals, options.proposals),
            nms_thresh=0.7,
        ),
        roi_heads=call(StandardROIHeads)(
            num_classes=1,
            batch_size_per_image=options.proposals_sampled,
            positive_fraction=options.positive_share,
            proposal_matcher=call(Matcher)(thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False),
            box_in_features=pooled,
            box_pooler=pooler(7),
            box_head=call(FastRCNNConvFCHead)(
                input_shape=ShapeSpec(channels=channels, height=7, width=7),
                conv_dims=[],
                fc_dims=[options.box_head_width] * 2,
            ),
            box_predictor=call(FastRCNNOutputLayers)(
                input_shape=ShapeSpec(channels=options.box_head_width),
                test_score_thresh=LOWEST_SCORE,
                test_nms_thresh=0.5,
                test_topk_per_image=options.detections,
                box2box_transform=call(Box2BoxTransform)(weights=(10, 10, 5, 5)),
                num_classes=1,
            ),
            mask_in_features=pooled,
            mask_pooler=pooler(14),
            mask_head=call(MaskRCNNConvUpsampleHead)(
                input_shape=ShapeSpec(channels=channels, width=14, height=14),
                num_classes=1,
                conv_dims=[channels] * (options.mask_head_layers + 1),
                conv_norm=group_norm,
            ),
        ),
        pixel_mean=[MEAN],
        pixel_std=[STD],
        input_format="L",
    )


class Detectron2Detector(nn.Module):
    """detectron2's Mask R-CNN with torchvision's arguments and results, as
    `sempre.models.segmenters.mask_rcnn.build_mask_rcnn`.

    So the crops, `detect`, `segment` and the choice of a score threshold serve both. While it is trained it returns the
    losses, `loss` their sum.

    Args:
        rcnn: what `instantiate(mask_rcnn_config(…))` gives.
    """

    def __init__(self, rcnn: GeneralizedRCNN):
        super().__init__()
        self.rcnn = rcnn

    @property
    def detections(self) -> int:
        """How many particles it lists at most."""
        return self.rcnn.roi_heads.box_predictor.test_topk_per_image

    @property
    def proposals(self) -> int:
        """How many proposals for them it looks at, at most."""
        return self.rcnn.proposal_generator.post_nms_topk[False]

    @property
    def body(self) -> nn.Module:
        """The timm network."""
        return self.rcnn.backbone.pyramid.body

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        if not self.training:
            found = self.rcnn.inference([{"image": image} for image in images], do_postprocess=False)
            return [_as_torchvision(instances) for instances in found]
        assert targets is not None
        inputs = [
            {"image": image, "instances": _as_instances(target, image.shape[1:])}
            for image, target in zip(images, targets, strict=True)
        ]
        with EventStorage():  # its parts report to one, and refuse to run without
            losses = self.rcnn(inputs)
        return {"loss": cast(Tensor, sum(losses.values())), **losses}


def build_detectron2_detector(options: DetectorOptions) -> Detectron2Detector:
    """The detector with random weights.

    Raises:
        InputError: for an architecture that timm does not have or whose strides are not 4, 8, 16, 32.
    """
    return Detectron2Detector(instantiate(mask_rcnn_config(options)))


def _as_instances(target: dict[str, Tensor], size: torch.Size) -> Instances:
    """torchvision's target of one class as detectron2's."""
    return Instances(
        tuple(size),
        gt_boxes=Boxes(target["boxes"]),
        gt_classes=torch.zeros_like(target["labels"]),
        gt_masks=BitMasks(target["masks"]),
    )


def _as_torchvision(instances: Instances) -> dict[str, Tensor]:
    """detectron2's detections of one class as torchvision's."""
    return {
        "boxes": instances.pred_boxes.tensor,
        "scores": instances.scores,
        "labels": instances.pred_classes + 1,
        "masks": instances.pred_masks,
    }
