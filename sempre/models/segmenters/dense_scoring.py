"""How well a dense segmenter does on labelled micrographs, and the thresholds that it does best with."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sempre.data.labels.labelled import LabelledSet
from sempre.data.labels.predictions import Prediction, predict_and_score, true_overlap
from sempre.deploy.networks.decode import Decoding
from sempre.deploy.networks.dense import DenseSettings, Network, instances, segment_dense, supported_maps
from sempre.metrics import aji_plus

# What is tried: thresholds of foreground and of markers, and what a particle's probability and depth reach at least.
THRESHOLDS, LEAST_SCORES, LEAST_DEPTHS = (0.4, 0.5, 0.6), (0.5, 0.7), (0.5, 0.6)


def best_settings(
    settings: DenseSettings, network: Network, labelled: LabelledSet, choosing: np.ndarray
) -> DenseSettings:
    """`settings` with the thresholds of highest mean AJI+ on the micrographs at `choosing`; as they are without any.

    Args:
        choosing: positions in `labelled`: of the training side, for held-out ones must have no say in it, and of those
            that the weights were not fitted to.
    """
    if not len(choosing):
        return settings
    candidates = [
        Decoding(foreground, marker, least_score=score, least_depth=depth)
        for foreground, marker, score, depth in product(THRESHOLDS, THRESHOLDS, LEAST_SCORES, LEAST_DEPTHS)
    ]
    totals = np.zeros(len(candidates))
    for index in tqdm(choosing, desc="choosing thresholds", unit="image"):
        micrograph = labelled.read(index)
        maps = supported_maps(micrograph.pixels.astype(np.float32) / 255, network, settings)
        for position, decoding in enumerate(candidates):
            labels, _ = instances(maps, micrograph.pixels.shape, decoding)
            totals[position] += aji_plus(true_overlap(micrograph, labels))
    return replace(settings, decoding=candidates[int(totals.argmax())])


def mean_aji_plus(network: Network, settings: DenseSettings, labelled: LabelledSet, indices: Iterable[int]) -> float:
    """Mean AJI+ over the micrographs at `indices`."""
    scores = []
    for index in indices:
        micrograph = labelled.read(index)
        labels, _ = segment_dense(micrograph.pixels.astype(np.float32) / 255, network, settings)
        scores.append(aji_plus(true_overlap(micrograph, labels)))
    return float(np.mean(scores))


def score_dense(
    network: Network, settings: DenseSettings, labelled: LabelledSet, held_out: np.ndarray, folder: Path
) -> dict:
    """Score a segmenter on the held-out micrographs, and write its predictions to the `predictions/` of its folder."""

    def predict(pixels: np.ndarray, _: int) -> Prediction:
        return Prediction(segment_dense(pixels, network, settings)[0])

    return predict_and_score(labelled, held_out, predict, folder / "predictions")
