"""How well a dense segmenter does on labelled micrographs, and the thresholds that it does best with."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from sempre.data.labelled import LabelledSet, Share, one_by_one
from sempre.images import is_blank
from sempre.metrics import aji_plus
from sempre.segmentation.decode import Decoding
from sempre.segmentation.maps import DenseSettings, Network, instances, segment_dense, supported_maps
from sempre.training.scoring import Prediction, predict_and_score, true_overlap

# What is tried: thresholds of foreground and of markers, and what a particle's probability and depth reach at least.
THRESHOLDS, LEAST_SCORES, LEAST_DEPTHS = (0.4, 0.5, 0.6), (0.5, 0.7), (0.5, 0.6)


def best_settings(
    settings: DenseSettings,
    network: Network,
    labelled: LabelledSet,
    choosing: np.ndarray,
    share: Share = one_by_one,
) -> DenseSettings:
    """`settings` with the thresholds of highest mean AJI+ on the micrographs at `choosing`; as they are without any.

    Args:
        choosing: positions in `labelled`: of the training split, for held-out ones must have no say in it, and of those
            that the weights were not fitted to.
        share: by which processes.
    """
    if not len(choosing):
        return settings
    candidates = [
        Decoding(foreground, marker, least_score=score, least_depth=depth)
        for foreground, marker, score, depth in product(THRESHOLDS, THRESHOLDS, LEAST_SCORES, LEAST_DEPTHS)
    ]

    def scores(index: int) -> list[float]:
        micrograph = labelled.read(index)
        maps = supported_maps(labelled.normalised(index), network, settings)
        labels = (instances(maps, micrograph.pixels.shape, decoding)[0] for decoding in candidates)
        return [aji_plus(true_overlap(micrograph, of_candidate)) for of_candidate in labels]

    totals = np.sum(share(choosing, scores, "choosing thresholds"), axis=0)
    return replace(settings, decoding=candidates[int(totals.argmax())])


def mean_aji_plus(
    network: Network,
    settings: DenseSettings,
    labelled: LabelledSet,
    indices: Iterable[int],
    share: Share = one_by_one,
) -> float:
    """Mean AJI+ over the micrographs at `indices`."""

    def score(index: int) -> float:
        labels, _ = segment_dense(labelled.normalised(index), network, settings)
        return aji_plus(true_overlap(labelled.read(index), labels))

    return float(np.mean(share(indices, score, "validating")))


def score_dense(
    network: Network,
    settings: DenseSettings,
    labelled: LabelledSet,
    held_out: np.ndarray,
    folder: Path,
    share: Share = one_by_one,
) -> dict:
    """Score a segmenter on the held-out micrographs, and write its predictions to the `predictions/` of its folder.

    It sees and finds what its bundle does.
    """

    def predict(_: np.ndarray, index: int) -> Prediction:
        pixels = labelled.normalised(index)
        if is_blank(pixels):
            return Prediction(np.zeros(pixels.shape, np.int32))
        return Prediction(segment_dense(pixels, network, settings)[0])

    return predict_and_score(labelled, held_out, predict, folder / "predictions", share)
