"""The particle detector as a graph for deployment: an image in; boxes, scores and small masks out.

The same parameters and the same result as `build_mask_rcnn`'s network in evaluation, arranged for a runtime without
PyTorch: channels last, 3x3 convolutions as matrix products, only the anchors and masks that are kept are decoded, and
no mask is pasted into an image.
"""

import math
import warnings
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign, roi_align

from sempre.export.channels_last import ChannelsLastPyramid, GroupNormConvolution

OUTPUTS = ["boxes", "scores", "masks"]
PARTICLE = 1  # the class' index; 0 is the background


class DetectorGraph(nn.Module):
    """`forward(image [1, 1, H, W] in [0, 1], score_threshold [1])` gives `boxes [N, 4]` (x0, y0, x1, y1, px), `scores
    [N]` and mask probabilities `masks [N, M, M]`, by falling score, all scoring more than the threshold.
    """

    def __init__(self, model: MaskRCNN):
        super().__init__()
        self.mean, self.std = model.transform.image_mean[0], model.transform.image_std[0]
        self.pyramid = ChannelsLastPyramid(model.backbone)
        self.proposals = ProposalGraph(model.rpn)
        self.boxes = BoxGraph(model.roi_heads)
        self.masks = MaskGraph(model.roi_heads)

    def forward(self, image: Tensor, score_threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = image.shape[2:]
        padding = (0, (width + 31) // 32 * 32 - width, 0, (height + 31) // 32 * 32 - height)
        maps = self.pyramid(functional.pad((image - self.mean) / self.std, padding))
        limits = torch.stack([torch.as_tensor(side) for side in (width, height, width, height)]).to(image.dtype)
        proposals = self.proposals(maps, limits)
        maps = [level.permute(2, 3, 0, 1) for level in maps[:4]]
        boxes, scores = self.boxes(maps, proposals, limits, score_threshold)
        return boxes, scores, self.masks(maps, boxes)


def export_detector(model: MaskRCNN, path: Path) -> None:
    """Write `model` as an ONNX file with the inputs and outputs of `DetectorGraph`, for images of any size."""
    image, score_threshold = torch.rand(1, 1, 160, 192), torch.tensor([0.5])
    with warnings.catch_warnings():
        # The tracing exporter, which `NonMaximumSuppression.symbolic` is written for, says that it is deprecated and
        # warns wherever a size is used; the tests hold the exported graph to the network at several sizes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            DetectorGraph(model).eval(),
            (image, score_threshold),
            str(path),  # beside which the exporter can put what exceeds 2 GB
            dynamo=False,
            opset_version=17,
            input_names=["image", "score_threshold"],
            output_names=OUTPUTS,
            dynamic_axes={"image": {2: "height", 3: "width"}, **{name: {0: "detections"} for name in OUTPUTS}},
        )


class ProposalGraph(nn.Module):
    """torchvision's region proposal network: five maps `[H/s, W/s, 1, C]` to at most 1000 boxes `[P, 4]`."""

    cell_anchors: Tensor

    def __init__(self, rpn: RegionProposalNetwork):
        super().__init__()
        self.hidden = nn.Sequential(*(GroupNormConvolution(layer) for layer in rpn.head.conv))
        self.anchors = len(rpn.anchor_generator.cell_anchors[0])
        weights = [rpn.head.cls_logits.weight.flatten(1), rpn.head.bbox_pred.weight.flatten(1)]
        self.head = nn.Linear(weights[0].shape[1], 5 * self.anchors)
        self.head.weight = nn.Parameter(torch.cat(weights).detach())
        self.head.bias = nn.Parameter(torch.cat([rpn.head.cls_logits.bias, rpn.head.bbox_pred.bias]).detach())
        self.register_buffer("cell_anchors", torch.stack(rpn.anchor_generator.cell_anchors))
        self.candidates, self.limit = rpn._pre_nms_top_n["testing"], rpn._post_nms_top_n["testing"]
        self.nms_threshold, self.smallest_side = rpn.nms_thresh, rpn.min_size
        self.clip = rpn.box_coder.bbox_xform_clip

    def forward(self, maps: list[Tensor], limits: Tensor) -> Tensor:
        padded = [4 * side for side in maps[0].shape[:2]]
        levels = [self._candidates(level, x, padded) for level, x in enumerate(maps)]
        boxes = clip_boxes(torch.stack([boxes for boxes, _ in levels]), limits)
        scores = torch.stack([scores for _, scores in levels])
        small = (boxes[..., 2:] - boxes[..., :2] < self.smallest_side).any(-1)
        scores = torch.where(small, torch.full_like(scores, -1.0), scores)
        level, _, candidate = NonMaximumSuppression.apply(
            boxes, scores[:, None], torch.zeros(1), self.nms_threshold, self.limit
        ).unbind(1)
        kept = level * self.candidates + candidate
        best = scores.flatten()[kept].sort(descending=True).indices[: self.limit]
        return boxes.reshape(-1, 4)[kept[best]]

    def _candidates(self, level: int, x: Tensor, padded: list[int]) -> tuple[Tensor, Tensor]:
        """The level's best boxes `[K, 4]` and scores `[K]`, with a score of 0 where it has fewer than K anchors."""
        height, width = x.shape[:2]
        outputs = self.head(self.hidden(x)).reshape(height * width, -1)
        objectness = outputs[:, : self.anchors].reshape(-1)
        fill = torch.full((self.candidates,), -math.inf)
        objectness, index = torch.cat([objectness, fill]).topk(self.candidates)
        index = torch.minimum(index, torch.as_tensor(height * width * self.anchors - 1))
        cell, anchor = index // self.anchors, index % self.anchors
        column = self.anchors + anchor[:, None] * 4 + torch.arange(4)
        deltas = outputs.reshape(-1)[cell[:, None] * (5 * self.anchors) + column]
        # torchvision's rule for an anchor's place: less than 64 px apart where the coarsest map is rounded up
        x0, y0 = cell % width * (padded[1] // width), cell // width * (padded[0] // height)
        anchors = self.cell_anchors[level][anchor] + torch.stack([x0, y0, x0, y0], 1)
        return decode_boxes(deltas, anchors, self.clip), objectness.sigmoid()


class BoxGraph(nn.Module):
    """torchvision's box head: proposals to kept boxes `[N, 4]` and scores `[N]`, by falling score."""

    def __init__(self, heads: RoIHeads):
        super().__init__()
        self.pool = heads.box_roi_pool
        self.head = heads.box_head
        scores, deltas = heads.box_predictor.cls_score, heads.box_predictor.bbox_pred
        box = slice(4 * PARTICLE, 4 * PARTICLE + 4)
        coder = torch.tensor(heads.box_coder.weights)[:, None]
        # with two classes, softmax is the sigmoid of the logits' difference
        weights = [scores.weight[PARTICLE:] - scores.weight[:PARTICLE], deltas.weight[box] / coder]
        biases = [scores.bias[PARTICLE:] - scores.bias[:PARTICLE], deltas.bias[box] / coder[:, 0]]
        self.predictor = nn.Linear(scores.in_features, 5)
        self.predictor.weight = nn.Parameter(torch.cat(weights).detach())
        self.predictor.bias = nn.Parameter(torch.cat(biases).detach())
        self.nms_threshold, self.limit = heads.nms_thresh, heads.detections_per_img
        self.clip = heads.box_coder.bbox_xform_clip

    def forward(
        self, maps: list[Tensor], proposals: Tensor, limits: Tensor, score_threshold: Tensor
    ) -> tuple[Tensor, Tensor]:
        regions, order = pool_regions(maps, proposals, self.pool)
        outputs = self.predictor(self.head(regions))
        scores = outputs[:, 0].sigmoid()
        boxes = clip_boxes(decode_boxes(outputs[:, 1:], proposals[order], self.clip), limits)
        small = (boxes[:, 2:] - boxes[:, :2] < 1e-2).any(1)
        scores = torch.where(small, torch.full_like(scores, -1.0), scores)
        kept = NonMaximumSuppression.apply(
            boxes[None], scores[None, None], score_threshold, self.nms_threshold, self.limit
        )[:, 2]
        return boxes[kept], scores[kept]


class MaskGraph(nn.Module):
    """torchvision's mask head for the kept boxes only: probabilities `[N, M, M]` of the particle's class."""

    def __init__(self, heads: RoIHeads):
        super().__init__()
        self.pool = heads.mask_roi_pool
        self.hidden = nn.Sequential(*(GroupNormConvolution(layer) for layer in heads.mask_head))
        upsample, logits = heads.mask_predictor.conv5_mask, heads.mask_predictor.mask_fcn_logits
        weight = upsample.weight.detach().permute(0, 2, 3, 1)  # [C, 2, 2, C_out]
        self.upsample = nn.Linear(weight.shape[0], 4 * weight.shape[3])
        self.upsample.weight = nn.Parameter(weight.flatten(1).T.contiguous())
        self.upsample.bias = nn.Parameter(upsample.bias.detach().repeat(4))
        self.logits = nn.Linear(logits.in_channels, 1)
        self.logits.weight = nn.Parameter(logits.weight.detach().flatten(1)[PARTICLE : PARTICLE + 1])
        self.logits.bias = nn.Parameter(logits.bias.detach()[PARTICLE : PARTICLE + 1])

    def forward(self, maps: list[Tensor], boxes: Tensor) -> Tensor:
        # ONNX cannot reshape an array without elements by "the same size here": one region more, dropped at the end.
        boxes = torch.cat([boxes, torch.zeros(1, 4)])
        regions, order = pool_regions(maps, boxes, self.pool)
        x = self.hidden(regions.permute(2, 3, 0, 1))
        side = x.shape[0]
        x = functional.relu(self.upsample(x)).reshape(side, side, -1, 2, 2, self.logits.in_features)
        masks = self.logits(x)[..., 0].permute(2, 0, 3, 1, 4).reshape(-1, 2 * side, 2 * side)
        return masks.sigmoid()[order.sort().indices[:-1]]


class NonMaximumSuppression(torch.autograd.Function):
    """ONNX's operator: indices `[M, 3]` (batch, class, box) of the kept boxes, by falling score within each batch."""

    @staticmethod
    def forward(
        ctx, boxes: Tensor, scores: Tensor, score_threshold: Tensor, iou_threshold: float, limit: int
    ) -> Tensor:
        kept = []
        for batch, (batch_boxes, (batch_scores,)) in enumerate(zip(boxes, scores, strict=True)):
            above = torch.where(batch_scores > score_threshold)[0]
            index = above[torchvision.ops.nms(batch_boxes[above], batch_scores[above], iou_threshold)[:limit]]
            kept.append(torch.stack([torch.full_like(index, batch), torch.zeros_like(index), index], 1))
        return torch.cat(kept)

    @staticmethod
    def symbolic(g, boxes, scores, score_threshold, iou_threshold: float, limit: int):
        limit = g.op("Constant", value_t=torch.tensor([limit]))
        iou_threshold = g.op("Constant", value_t=torch.tensor([iou_threshold]))
        return g.op("NonMaxSuppression", boxes, scores, limit, iou_threshold, score_threshold)


def pool_regions(maps: list[Tensor], boxes: Tensor, pool: MultiScaleRoIAlign) -> tuple[Tensor, Tensor]:
    """Regions `[N, C, S, S]` of the boxes `[N, 4]`, each from its own pyramid level, and their order among the boxes.

    The level is that of Lin et al., "Feature Pyramid Networks", CVPR 2017, equation 1.
    """
    sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    levels = torch.floor(pool.canonical_level + torch.log2(sides / pool.canonical_scale) + 1e-6).clamp(2, 5)
    regions, order = [], []
    for level, x in enumerate(maps, start=2):
        index = torch.where(levels == level)[0]
        level_boxes = boxes[index]
        level_boxes = torch.cat([torch.zeros_like(level_boxes[:, :1]), level_boxes], 1)
        regions.append(roi_align(x, level_boxes, pool.output_size, 0.5**level, pool.sampling_ratio))
        order.append(index)
    return torch.cat(regions), torch.cat(order)


def decode_boxes(deltas: Tensor, anchors: Tensor, clip: float) -> Tensor:
    """Boxes `[N, 4]` from anchors `[N, 4]` and deltas `[N, 4]` (shift of the centre in sides, log of the sides)."""
    sides = anchors[:, 2:] - anchors[:, :2]
    centres = anchors[:, :2] + 0.5 * sides + deltas[:, :2] * sides
    half_sides = 0.5 * sides * deltas[:, 2:].clamp(max=clip).exp()
    return torch.cat([centres - half_sides, centres + half_sides], 1)


def clip_boxes(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes `[..., 4]` cut to the image, whose width, height, width, height are `limits [4]`."""
    return torch.minimum(boxes.clamp(min=0), limits)
