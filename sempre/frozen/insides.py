"""What goes on inside networks: feature maps of their stages, where they look, and the arms that are opened.

Selvaraju et al., "Grad-CAM", ICCV 2017: a stage's maps are added up, each weighted by the mean gradient of what the
model found with respect to it, and negative sums are cut off.

Ramaswamy and Desai, "Ablation-CAM", WACV 2020: each map is weighted by the share of the score that is lost without it.

Rettenberger et al., npj Comput. Mater. 2025 (doi 10.1038/s41524-025-01802-3), figures 5 and 6.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeGuard, cast

import numpy as np
import torch
from timm.layers.mlp import GlobalResponseNormMlp
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import MaskRCNN

from sempre.errors import InputError, how_to_install, one_input_error
from sempre.frozen.encoder import Encoder, open_encoder
from sempre.images.normalise import MEAN, STD
from sempre.images.resize import boxes_between, resize, resize_to
from sempre.models.dense import DenseSegmenter, as_network, load_dense, read_settings
from sempre.models.encoders import TimmEncoder, stages_at
from sempre.models.mask_rcnn import detect, load_detector
from sempre.models.timm_networks import TimmNetwork, blocks_of, stages_of
from sempre.models.weight_files import DETAILS, read_details
from sempre.pretraining.collapse import channel_distance, dead_channels, saturated_channels
from sempre.segmentation.detections import paste_masks
from sempre.segmentation.maps import DenseSettings, segment_dense
from sempre.segmentation.tiling import paint_particles

CAMS = ("grad", "ablation")
ABLATED_AT_A_TIME = 8  # channels, each a pass of the whole model


def check_grad_cam() -> None:
    """Whether the library is there.

    Raises:
        InputError: when it is absent or ill-installed.
    """
    with one_input_error(
        lambda reason: f"grad-cam cannot be imported ({reason}): install it with {how_to_install('insides')}"
    ):
        import pytorch_grad_cam  # noqa: F401


def detection_activation(
    detector: nn.Module, body: nn.Module, seen: np.ndarray, boxes: np.ndarray, stage: int = -1, cam: str = "grad"
) -> np.ndarray:
    """A class activation map of a Mask R-CNN's detections, float32 `[H, W]` from 0 to 1; zero where it has none.

    What is explained is the sum, over the boxes, of the score and IoU of the detection that fits each best.

    Args:
        detector: takes a list of images `[1, H, W]` in [0, 1] and gives torchvision's boxes, scores and labels.
        body: the detector's timm backbone.
        seen: the micrograph at the scale that the detector sees, float32 `[H, W]` in [0, 1].
        boxes: those of the detections that count, `[N, 4]` in px of `seen`.
        stage: of the backbone.
        cam: one of `CAMS`.

    Raises:
        InputError: without grad-cam, and for a stage that the backbone does not have.
    """
    check_grad_cam()
    from pytorch_grad_cam.utils.model_targets import FasterRCNNBoxScoreTarget

    if not len(boxes):
        return np.zeros(seen.shape, np.float32)
    target = FasterRCNNBoxScoreTarget(np.ones(len(boxes), int), boxes)
    return _activation_map(detector, body, torch.from_numpy(seen)[None, None], target, stage, cam)


def foreground_activation(
    segmenter: DenseSegmenter, seen: np.ndarray, stage: int = -1, cam: str = "grad"
) -> np.ndarray:
    """A class activation map of a dense segmenter's foreground, float32 `[H, W]` from 0 to 1; zero where it finds none.

    What is explained is the sum of the foreground's logits where they are positive. `seen`, `stage` and `cam` as above;
    the image is continued at its border to a whole number of the encoder's cells.
    """
    check_grad_cam()
    from pytorch_grad_cam.utils.model_targets import SemanticSegmentationTarget

    height, width = seen.shape
    padded = functional.pad(torch.from_numpy(seen)[None, None], (0, -width % 32, 0, -height % 32), "replicate")
    with torch.inference_mode():
        found = (segmenter(padded.to(next(segmenter.parameters()).device))[0, 0] > 0).float().cpu().numpy()
    if not found.any():
        return np.zeros(seen.shape, np.float32)
    target = SemanticSegmentationTarget(0, found)
    assert isinstance(segmenter.encoder, TimmEncoder)
    return _activation_map(segmenter, segmenter.encoder.body, padded, target, stage, cam)[:height, :width]


def share_on_particles(activation: np.ndarray, foreground: np.ndarray) -> float:
    """The share of an activation map `[H, W]` that lies on the particles, bool `[H, W]`; nan where the map is zero."""
    total = float(activation.sum())
    return float(activation[foreground].sum()) / total if total else float("nan")


def _activation_map(
    model: nn.Module, body: nn.Module, images: Tensor, target: object, stage: int, cam: str
) -> np.ndarray:
    from pytorch_grad_cam import AblationCAM, GradCAM
    from pytorch_grad_cam.ablation_layer import AblationLayer

    timms = cast(TimmNetwork, body)
    stages = [body.get_submodule(timms.feature_info[place]["module"]) for place in stages_at(timms).values()]
    if not -len(stages) <= stage < len(stages):
        raise InputError(f"stage={stage} is none of the backbone's {len(stages)}: count from 0, or from -1")
    if cam == "ablation":

        class Zeroed(AblationLayer):
            """The stage with one channel of each image of the batch at 0, as in the method's paper. The library takes
            ten millions off where activations are negative, as a ConvNeXt's are, and a network then finds nothing."""

            def __call__(self, _: Tensor) -> Tensor:
                output = self.activations
                for image in range(len(output)):
                    output[image, self.indices[image]] = 0
                return output

        own = {"ablation_layer": Zeroed(), "batch_size": ABLATED_AT_A_TIME}
        with torch.no_grad(), AblationCAM(model, [stages[stage]], **own) as explained:
            return explained(images, targets=[target])[0].astype(np.float32)
    with torch.enable_grad(), GradCAM(model, [stages[stage]]) as explained:
        activation = explained(images, targets=[target])[0]
    model.zero_grad(set_to_none=True)
    return activation.astype(np.float32)


@dataclass(frozen=True)
class ChannelFigures:
    """Of a stage's maps: channels in all, dead and saturated ones, and the mean cosine distance between channels."""

    channels: int
    dead: int
    saturated: int
    mean_cosine_distance: float


@torch.inference_mode()
def stage_activations(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    """What leaves the global response normalisation of each stage's last block, float32 `[B, C, h, w]`.

    That is the expanded layer, four times as wide as the stage, where Woo et al. ("ConvNeXt V2", CVPR 2023, section 3)
    see features collapse.

    Args:
        network: a ConvNeXtV2 of timm.
        inputs: normalised images `[B, channels, H, W]`.

    Raises:
        InputError: for a network without such layers.
    """
    if not has_response_norm(network):
        raise InputError(
            f"{type(network).__name__} has no global response normalisation to look behind: choose a ConvNeXtV2"
        )
    seen = []
    blocks = [blocks_of(stage)[-1] for stage in stages_of(network)]
    norms = [block.mlp.get_submodule("grn") for block in blocks]
    hooks = [norm.register_forward_hook(lambda _, __, maps: seen.append(maps.float())) for norm in norms]
    try:
        network.forward_features(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [maps if block.use_conv_mlp else maps.permute(0, 3, 1, 2) for block, maps in zip(blocks, seen, strict=True)]


def has_response_norm(network: nn.Module) -> TypeGuard[ConvNeXt]:
    """Whether it is a ConvNeXtV2: a ConvNeXt with global response normalisation in every stage."""
    return isinstance(network, ConvNeXt) and all(
        isinstance(blocks_of(stage)[-1].mlp, GlobalResponseNormMlp) for stage in stages_of(network)
    )


def channel_figures(maps: Tensor) -> ChannelFigures:
    """Of a stage's maps `[B, C, h, w]`; dead, saturated and the distance as `sempre.pretraining.collapse` defines."""
    return ChannelFigures(
        channels=maps.shape[1],
        dead=int(dead_channels(maps).sum()),
        saturated=int(saturated_channels(maps).sum()),
        mean_cosine_distance=channel_distance(maps),
    )


def mean_figures(by_micrograph: Sequence[ChannelFigures]) -> Mapping[str, float]:
    """The means of several micrographs' figures of one stage."""
    return {
        name: float(np.mean([getattr(figures, name) for figures in by_micrograph]))
        for name in ChannelFigures.__dataclass_fields__
    }


def drawn_channels(channels: int, count: int, seed: int) -> np.ndarray:
    """`count` channels of a stage drawn without repetition, ascending; the same ones in networks of one width."""
    draws = np.random.default_rng([seed, channels])
    return np.sort(draws.choice(channels, min(count, channels), replace=False))


LookInto = Callable[[np.ndarray, int, str], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class OpenedArm:
    """`encoder` is the arm's ConvNeXtV2, which sees micrographs at `scale` times their size.

    Where it is a part of a fine-tuned model, `look(pixels, stage, cam)` gives the label image int32 `[H, W]` and the
    class activation map float32 `[H, W]` of a normalised micrograph `[H, W]`; a backbone alone has none.
    """

    name: str
    encoder: Encoder
    scale: float = 1.0
    look: LookInto | None = None

    @property
    def percentiles(self) -> tuple[float, float]:
        """That micrographs are normalised by for it; 1 and 99 where nothing says so."""
        return self.encoder.percentiles or (1.0, 99.0)


def open_arms(runs: Sequence[str], backbones: Sequence[str], device: torch.device) -> list[OpenedArm]:
    """The arms in their order, under names of their own.

    Args:
        runs: folders of finished fine-tunings, whose first repeat is taken, or of one repeat.
        backbones: as `sempre.frozen.encoder.open_encoder` takes them.

    Raises:
        InputError: for what is no such model, another network than a ConvNeXtV2, and two arms of one name.
    """
    arms = [_open_run(Path(run), device) for run in runs] + [_open_backbone(backbone, device) for backbone in backbones]
    for arm in arms:
        if not has_response_norm(arm.encoder.network):
            raise InputError(
                f"{arm.encoder.name} is a {arm.encoder.architecture}, which has no global response normalisation to "
                "look behind: give models of a ConvNeXtV2"
            )
        if sum(other.name == arm.name for other in arms) > 1:
            raise InputError(f"two arms are called {arm.name}: rename the folder of one of them")
    return arms


def _open_run(run: Path, device: torch.device) -> OpenedArm:
    folder = run if (run / DETAILS).is_file() else run / "repeat-0"
    details = read_details(folder, "a finished run's folder, such as runs/mask_rcnn")
    name = run.parent.name if run.name.startswith("repeat-") else run.name
    if details.get("kind") == "dense":
        segmenter, details = load_dense(folder)
        architecture, percentiles = segmenter.architecture, details["percentiles"]
        body, scale = getattr(segmenter.encoder, "body", segmenter.encoder), 1.0
        look = partial(_look_densely, segmenter.to(device), read_settings(details))
    else:
        detector, details = load_detector(folder)
        architecture, percentiles = details["detector"]["architecture"], details["normalisation"]["percentiles"]
        body, scale = detector.backbone.body, details["scale"]
        look = partial(_look_for_boxes, detector.to(device), scale, details["score_threshold"])
    encoder = Encoder(body, str(run), architecture, -1, (MEAN,), (STD,), tuple(percentiles))
    return OpenedArm(name, encoder, scale, look)


def _open_backbone(backbone: str, device: torch.device) -> OpenedArm:
    path = Path(backbone)
    name = path.parent.name if path.name == "backbone" and path.parent.name else path.name
    return OpenedArm(name.replace(":", "_"), open_encoder(backbone).to(device))


def _look_for_boxes(
    detector: MaskRCNN, scale: float, threshold: float, pixels: np.ndarray, stage: int, cam: str
) -> tuple[np.ndarray, np.ndarray]:
    found = detect(detector, pixels, scale)
    kept = found["scores"] >= threshold
    masks = paste_masks(found["boxes"][kept], found["masks"][kept], pixels.shape)
    labels, _ = paint_particles(masks, found["scores"][kept], pixels.shape)
    seen = resize(pixels, scale)
    boxes = boxes_between(found["boxes"][kept], pixels.shape, seen.shape)
    activation = detection_activation(detector, detector.backbone.body, seen, boxes, stage, cam)
    return labels, resize_to(activation, pixels.shape)


def _look_densely(
    segmenter: DenseSegmenter, settings: DenseSettings, pixels: np.ndarray, stage: int, cam: str
) -> tuple[np.ndarray, np.ndarray]:
    labels, _ = segment_dense(pixels, as_network(segmenter), settings)
    return labels, foreground_activation(segmenter, pixels, stage, cam)
