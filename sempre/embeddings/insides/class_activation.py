"""Where a fine-tuned segmenter looks: Grad-CAM on its backbone, by the library `grad-cam`.

Selvaraju et al., "Grad-CAM", ICCV 2017: a stage's maps are added up, each weighted by the mean gradient of what the
model found with respect to it, and negative sums are cut off.
"""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sempre.errors import InputError, how_to_install, one_input_error
from sempre.models.encoders import TimmEncoder, stages_at
from sempre.models.segmenters.dense import DenseSegmenter
from sempre.models.timm_networks import TimmNetwork


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
    detector: nn.Module, body: nn.Module, seen: np.ndarray, boxes: np.ndarray, stage: int = -1
) -> np.ndarray:
    """Grad-CAM of a Mask R-CNN's detections, float32 `[H, W]` from 0 to 1; zero where it has none.

    What is differentiated is the sum, over the boxes, of the score and IoU of the detection that fits each best.

    Args:
        detector: takes a list of images `[1, H, W]` in [0, 1] and gives torchvision's boxes, scores and labels.
        body: the detector's timm backbone.
        seen: the micrograph at the scale that the detector sees, float32 `[H, W]` in [0, 1].
        boxes: those of the detections that count, `[N, 4]` in px of `seen`.
        stage: of the backbone.

    Raises:
        InputError: without grad-cam, and for a stage that the backbone does not have.
    """
    check_grad_cam()
    from pytorch_grad_cam.utils.model_targets import FasterRCNNBoxScoreTarget

    if not len(boxes):
        return np.zeros(seen.shape, np.float32)
    target = FasterRCNNBoxScoreTarget(np.ones(len(boxes), int), boxes)
    return _grad_cam(detector, body, torch.from_numpy(seen)[None, None], target, stage)


def foreground_activation(segmenter: DenseSegmenter, seen: np.ndarray, stage: int = -1) -> np.ndarray:
    """Grad-CAM of a dense segmenter's foreground, float32 `[H, W]` from 0 to 1; zero where it finds none.

    What is differentiated is the sum of the foreground's logits where they are positive. `seen` and `stage` as above;
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
    return _grad_cam(segmenter, segmenter.encoder.body, padded, target, stage)[:height, :width]


def share_on_particles(activation: np.ndarray, foreground: np.ndarray) -> float:
    """The share of an activation map `[H, W]` that lies on the particles, bool `[H, W]`; nan where the map is zero."""
    total = float(activation.sum())
    return float(activation[foreground].sum()) / total if total else float("nan")


def _grad_cam(model: nn.Module, body: nn.Module, images: Tensor, target: object, stage: int) -> np.ndarray:
    from pytorch_grad_cam import GradCAM

    timms = cast(TimmNetwork, body)
    stages = [body.get_submodule(timms.feature_info[place]["module"]) for place in stages_at(timms).values()]
    if not -len(stages) <= stage < len(stages):
        raise InputError(f"stage={stage} is none of the backbone's {len(stages)}: count from 0, or from -1")
    with torch.enable_grad(), GradCAM(model, [stages[stage]]) as cam:
        activation = cam(images, targets=[target])[0]
    model.zero_grad(set_to_none=True)
    return activation.astype(np.float32)
