"""The timm pyramid as a backbone of detectron2's."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor

from sempre.models.segmenters.mask_rcnn import TimmPyramid
from sempre.models.weights.checkpoints import load_backbone_weights

LEVELS = ("p2", "p3", "p4", "p5", "p6")
STRIDES = (4, 8, 16, 32, 64)


class TimmPyramidBackbone(Backbone):
    """`sempre.models.segmenters.mask_rcnn.TimmPyramid`, the same modules, under detectron2's names of levels.

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
