"""From a detector's boxes and small masks to a segmented micrograph, and the score that a detection must reach."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from torchvision.models.detection import MaskRCNN
from tqdm import tqdm

from sempre.data.labels.labelled import LabelledSet
from sempre.data.labels.predictions import Prediction, predict_and_score, true_overlap
from sempre.deploy.detections.painting import paint_particles
from sempre.deploy.detections.paste import paste_masks
from sempre.metrics import aji_plus
from sempre.models.segmenters.mask_rcnn import detect

THRESHOLDS = np.arange(0.05, 0.96, 0.05).round(2)  # from torchvision's, below which it lists nothing


def best_score_threshold(detector: MaskRCNN, scale: float, labelled: LabelledSet, choosing: Iterable[int]) -> float:
    """The score threshold, of `THRESHOLDS`, of highest mean AJI+ on the given micrographs.

    Args:
        scale: the detector sees micrographs at this many times their size.
        choosing: positions in `labelled`: of the training side, for held-out ones must have no say in it, and best ones
            that the detector was not fitted to, for it is surer of those that it was.
    """
    shown = tqdm(choosing, desc="choosing the score threshold", unit="image")
    return float(THRESHOLDS[threshold_scores(detector, scale, labelled, shown).argmax()])


def threshold_scores(
    detector: MaskRCNN,
    scale: float,
    labelled: LabelledSet,
    choosing: Iterable[int],
    thresholds: Sequence[float] = THRESHOLDS,
) -> np.ndarray:
    """Mean AJI+ on the given micrographs at each score threshold, `[len(thresholds)]`; arguments as above."""
    scores = []
    for index in choosing:
        micrograph = labelled.read(index)
        found = detect(detector, micrograph.pixels.astype(np.float32) / 255, scale)
        painted = (paint(found, threshold, micrograph.pixels.shape) for threshold in thresholds)
        scores.append([aji_plus(true_overlap(micrograph, labels)) for labels in painted])
    return np.mean(scores, axis=0)


def segment(detector: MaskRCNN, scale: float, threshold: float, pixels: np.ndarray) -> Prediction:
    """The particles in a normalised micrograph `[H, W]` that score at least `threshold`, and all detections."""
    found = detect(detector, pixels, scale)
    masks = paste_masks(found["boxes"], found["masks"], pixels.shape)
    return Prediction(paint(found, threshold, pixels.shape), masks, found["scores"])


def score_detector(
    detector: MaskRCNN, scale: float, threshold: float, labelled: LabelledSet, held_out: np.ndarray, folder: Path
) -> dict:
    """Score a detector on the held-out micrographs, and write its predictions to the `predictions/` of its folder."""

    def predict(pixels: np.ndarray, _: int) -> Prediction:
        return segment(detector, scale, threshold, pixels)

    return predict_and_score(labelled, held_out, predict, folder / "predictions")


def paint(found: dict[str, np.ndarray], threshold: float, shape: tuple[int, int]) -> np.ndarray:
    """The label image of `shape` of the detections, as `detect` gives them, that score at least `threshold`."""
    kept = found["scores"] >= threshold
    masks = paste_masks(found["boxes"][kept], found["masks"][kept], shape)
    return paint_particles(masks, found["scores"][kept], shape)[0]
