"""detectron2's Mask R-CNN on the timm pyramid: backbone, LazyConfig, data catalogue, and the detector."""

from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
from detectron2.config import CfgNode, LazyCall, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, GeneralizedRCNN
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
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from pycocotools import mask as coco_mask
from torch import Tensor, nn

from sempre.data.labelled import LabelledSet
from sempre.errors import InputError
from sempre.images.normalise import MEAN, STD
from sempre.models.backbones import load_backbone_weights
from sempre.models.mask_rcnn import (
    ANCHOR_ASPECT_RATIOS,
    ANCHOR_SIZES,
    POSITIVE_ANCHOR_IOU,
    DetectorOptions,
    TimmPyramid,
    group_norm,
)
from sempre.training.scoring import true_masks

LEVELS = ("p2", "p3", "p4", "p5", "p6")
STRIDES = (4, 8, 16, 32, 64)


class TimmPyramidBackbone(Backbone):
    """`sempre.models.mask_rcnn.TimmPyramid`, the same modules, under detectron2's names of levels.

    `forward(images [B, 1, H, W])`, normalised, gives `p2` to `p6`, `[B, pyramid_channels, H/s, W/s]`, s = 4 to 64; H
    and W are multiples of 32, as detectron2 sees to.

    Args:
        architecture: of timm.
        pyramid_channels: of each level.
        weights: folder of a pretrained backbone, or a file of the original ConvNeXtV2 code; none: random.

    Raises:
        InputError: for another architecture, and for weights that are not its own.
    """

    def __init__(self, architecture: str, pyramid_channels: int = 256, weights: str = ""):
        super().__init__()
        self.pyramid = TimmPyramid(architecture, pyramid_channels)
        if weights:
            load_backbone_weights(self.pyramid.body, weights, architecture)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return dict(zip(LEVELS, self.pyramid(images).values(), strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        channels = self.pyramid.out_channels
        return {
            level: ShapeSpec(channels=channels, stride=stride) for level, stride in zip(LEVELS, STRIDES, strict=True)
        }

    @property
    def size_divisibility(self) -> int:
        return 32


def add_timm_pyramid(settings: CfgNode) -> None:
    """Add `MODEL.TIMM_PYRAMID` to settings as detectron2's own, and choose that backbone.

    For pipelines that are configured by YAML; `MODEL.FPN.OUT_CHANNELS` is the pyramid's width.
    """
    settings.MODEL.TIMM_PYRAMID = CfgNode({"ARCHITECTURE": "convnextv2_pico", "WEIGHTS": ""})
    settings.MODEL.BACKBONE.NAME = build_timm_pyramid.__name__


@BACKBONE_REGISTRY.register()
def build_timm_pyramid(settings: CfgNode, input_shape: ShapeSpec) -> TimmPyramidBackbone:
    """The backbone of `MODEL.TIMM_PYRAMID`; `input_shape` is detectron2's, one channel whatever it says."""
    own = settings.MODEL.TIMM_PYRAMID
    return TimmPyramidBackbone(own.ARCHITECTURE, settings.MODEL.FPN.OUT_CHANNELS, own.WEIGHTS)


def register_labelled_set(name: str, labelled: LabelledSet, indices: Iterable[int]) -> None:
    """Register the micrographs at `indices` as `name`; label images or COCO annotations, as the set has them.

    The catalogue's records name the micrographs' files as they are; pipelines that read them by detectron2's own mapper
    take masks with `INPUT.MASK_FORMAT: bitmask`, and are shown grey values that are not normalised by percentiles.

    Raises:
        InputError: for a name that is taken.
    """
    if name in DatasetCatalog.list():
        raise InputError(f"detectron2's catalogue has a set called {name} already: choose another name")
    indices = [int(index) for index in indices]
    DatasetCatalog.register(name, lambda: [_record(labelled, index) for index in indices])
    MetadataCatalog.get(name).set(thing_classes=["particle"], evaluator_type="coco")


def _record(labelled: LabelledSet, index: int) -> dict:
    micrograph = labelled.read(index)
    height, width = micrograph.pixels.shape
    return {
        "file_name": str(labelled.images[index]),
        "image_id": labelled.names[index],
        "height": height,
        "width": width,
        "annotations": [_annotation(mask) for mask in true_masks(micrograph)],
    }


def _annotation(mask: np.ndarray) -> dict:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return {
        "bbox": [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 0,
        "segmentation": coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)),
    }


LOWEST_SCORE = 0.05  # of a detection that is listed, torchvision's


def mask_rcnn_config(options: DetectorOptions, weights: str = "") -> DictConfig:
    """The LazyConfig of the network; `detectron2.config.instantiate` makes it.

    Sizes, anchors and their matching are those of `sempre.models.mask_rcnn`; what detectron2 does its own
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
    `sempre.models.mask_rcnn.build_mask_rcnn`.

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
