"""How well a detector does on labelled micrographs, and the score threshold that it does best with.

A micrograph is cut into tiles, and a tile again that holds more particles than the detector lists, as in
`sempre.deploy.segmenter`: so the scores are those of what `sempre segment` will find.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn
from torchvision.models.detection import MaskRCNN

from sempre import __version__
from sempre.data.labelled import LabelledSet, Share, one_by_one
from sempre.deploy.bundle import MaskRCNNBundle
from sempre.deploy.scale import seen_scales
from sempre.deploy.tiled_networks import Detector
from sempre.images import is_blank
from sempre.metrics import aji_plus
from sempre.models.mask_rcnn import DetectorOptions, detect
from sempre.training.scoring import Prediction, predict_and_score, true_overlap

THRESHOLDS = np.arange(0.05, 0.96, 0.05).round(2)  # from torchvision's, below which it lists nothing
TILE, OVERLAP = 1024, 256  # px; the tile a multiple of the network's stride, the overlap wider than a particle
MASK_THRESHOLD = 0.5


def best_score_threshold(
    detector: nn.Module,
    scale: float,
    labelled: LabelledSet,
    choosing: Iterable[int],
    share: Share = one_by_one,
) -> float:
    """The score threshold, of `THRESHOLDS`, of highest mean AJI+ on the given micrographs.

    Args:
        scale: the detector sees micrographs at this many times their size.
        choosing: positions in `labelled`: of the training split, for held-out ones must have no say in it, best ones
            that the detector was not fitted to, for it is surer of those that it was.
        share: by which processes.
    """
    return float(THRESHOLDS[threshold_scores(detector, scale, labelled, choosing, THRESHOLDS, share).argmax()])


def threshold_scores(
    detector: nn.Module,
    scale: float,
    labelled: LabelledSet,
    choosing: Iterable[int],
    thresholds: Sequence[float] | np.ndarray = THRESHOLDS,
    share: Share = one_by_one,
) -> np.ndarray:
    """Mean AJI+ on the given micrographs at each score threshold, `[len(thresholds)]`; arguments as above.

    The network looks once for all thresholds, and tiles are cut as they are at the highest one.
    """
    segmenter = as_bundle(detector, scale, float(max(thresholds)))

    def scores(index: int) -> list[float]:
        micrograph = labelled.read(index)
        image = labelled.normalised(index)
        painted = segmenter.segment_at(image, (scale,), [float(threshold) for threshold in thresholds])
        return [aji_plus(true_overlap(micrograph, labels)) for labels in painted]

    return np.mean(share(choosing, scores, "choosing the score threshold"), axis=0)


def segment(
    detector: nn.Module,
    scale: float,
    threshold: float,
    pixels: np.ndarray,
    pixel_size_nm: float | None = None,
    trained_at_nm: float | None = None,
) -> Prediction:
    """The particles in a normalised micrograph `[H, W]` that score more than `threshold`, and all detections.

    Args:
        pixel_size_nm: nm per px, None if unknown.
        trained_at_nm: that of the training micrographs, if they have a common one: the detector sees the micrograph at
            this, too.
    """
    segmenter = as_bundle(detector, scale, threshold, trained_at_nm)
    labels, instances = segmenter.segment_and_list(pixels, seen_scales(segmenter.bundle, pixel_size_nm))
    masks = [(instance.y, instance.x, instance.mask) for instance in instances]
    return Prediction(labels, masks, np.array([instance.score for instance in instances]))


def score_detector(
    detector: nn.Module,
    scale: float,
    threshold: float,
    labelled: LabelledSet,
    held_out: np.ndarray,
    folder: Path,
    share: Share = one_by_one,
) -> dict:
    """Score a detector on the held-out micrographs, and write its predictions to the `predictions/` of its folder.

    What it sees and finds is what its bundle does: see `as_bundle`.
    """
    trained_at_nm = labelled.common_pixel_size_nm()

    def predict(_: np.ndarray, index: int) -> Prediction:
        pixels = labelled.normalised(index)
        if is_blank(pixels):
            return Prediction(np.zeros(pixels.shape, np.int32), [], np.zeros(0))
        return segment(detector, scale, threshold, pixels, labelled.pixel_size_nm(index), trained_at_nm)

    return predict_and_score(labelled, held_out, predict, folder / "predictions", share)


def as_bundle(detector: nn.Module, scale: float, threshold: float, pixel_size_nm: float | None = None) -> Detector:
    """The detector with the tiles, caps and thresholds of the bundle that tools/export_onnx.py makes of it."""
    detections, proposals = listed_at_once(detector)
    bundle = MaskRCNNBundle(
        model=Path(),
        kind="mask_rcnn",
        percentiles=(0.0, 100.0),
        low=0.0,
        high=1.0,
        scale=scale,
        tile=TILE,
        overlap=OVERLAP,
        class_names=("particle",),
        pixel_size_nm=pixel_size_nm,
        sempre_version=__version__,
        score_threshold=threshold,
        mask_threshold=MASK_THRESHOLD,
        detections_per_tile=detections,
        proposals_per_tile=proposals,
    )
    return Detector(bundle, DetectorSession(detector), TILE, OVERLAP)


def listed_at_once(detector: nn.Module) -> tuple[int, int]:
    """How many particles the detector lists of what it sees at once, and at how many proposals it looks for them."""
    if isinstance(detector, MaskRCNN):
        parts = cast(Any, detector)  # whose attributes torch takes for tensors
        return parts.roi_heads.detections_per_img, parts.rpn._post_nms_top_n["testing"]
    usual = DetectorOptions()
    return getattr(detector, "detections", usual.detections), getattr(detector, "proposals", usual.proposals)


class DetectorSession:
    """A detector that answers as its graph on ONNX Runtime does (`sempre.export.detector_graph`)."""

    def __init__(self, detector: nn.Module):
        self.detector = detector

    def run(self, names: Sequence[str], inputs: dict[str, Any]) -> list[np.ndarray]:
        """The outputs `names` of `image [1, 1, H, W]`, of all detections that score more than `score_threshold [1]`."""
        (threshold,) = inputs["score_threshold"]
        if isinstance(self.detector, MaskRCNN):
            cast(Any, self.detector).roi_heads.score_thresh = float(threshold)
        found = detect(self.detector, inputs["image"][0, 0], 1.0)
        kept = found["scores"] > threshold
        return [found[name][kept] for name in names]
