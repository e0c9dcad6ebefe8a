"""An arm of a comparison whose network is looked into: a fine-tuned model, or a backbone as pretraining left it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torchvision.models.detection import MaskRCNN

from sempre.deploy.detections.painting import paint_particles
from sempre.deploy.detections.paste import paste_masks
from sempre.deploy.networks.dense import DenseSettings, segment_dense
from sempre.embeddings.encoding.encoder import Encoder, open_encoder
from sempre.embeddings.insides.class_activation import detection_activation, foreground_activation
from sempre.embeddings.insides.feature_maps import has_response_norm
from sempre.errors import InputError
from sempre.images.normalise import MEAN, STD
from sempre.images.resize import boxes_between, resize, resize_to
from sempre.models.segmenters.dense import DenseSegmenter, as_network
from sempre.models.segmenters.dense_files import load_dense, read_settings
from sempre.models.segmenters.detector_files import load_detector
from sempre.models.segmenters.mask_rcnn import detect
from sempre.models.weights.model_files import DETAILS, read_details

LookInto = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class OpenedArm:
    """`encoder` is the arm's ConvNeXtV2, which sees micrographs at `scale` times their size.

    Where it is a part of a fine-tuned model, `look(pixels, stage)` gives the label image int32 `[H, W]` and the class
    activation map float32 `[H, W]` of a normalised micrograph `[H, W]`; a backbone alone has none.
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
        backbones: as `sempre.embeddings.encoding.encoder.open_encoder` takes them.

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
    detector: MaskRCNN, scale: float, threshold: float, pixels: np.ndarray, stage: int
) -> tuple[np.ndarray, np.ndarray]:
    found = detect(detector, pixels, scale)
    kept = found["scores"] >= threshold
    masks = paste_masks(found["boxes"][kept], found["masks"][kept], pixels.shape)
    labels, _ = paint_particles(masks, found["scores"][kept], pixels.shape)
    seen = resize(pixels, scale)
    boxes = boxes_between(found["boxes"][kept], pixels.shape, seen.shape)
    activation = detection_activation(detector, detector.backbone.body, seen, boxes, stage)
    return labels, resize_to(activation, pixels.shape)


def _look_densely(
    segmenter: DenseSegmenter, settings: DenseSettings, pixels: np.ndarray, stage: int
) -> tuple[np.ndarray, np.ndarray]:
    labels, _ = segment_dense(pixels, as_network(segmenter), settings)
    return labels, foreground_activation(segmenter, pixels, stage)
