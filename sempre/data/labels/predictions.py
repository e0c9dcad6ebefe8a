"""Predictions on a labelled set: written as label images, scored against the labels."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sempre.data.labels.labelled import LabelledMicrograph, LabelledSet
from sempre.data.labels.run_summary import summarise_run
from sempre.files import write_json
from sempre.images import encode_rle, write_labels
from sempre.metrics import (
    Overlap,
    average_precision,
    label_overlap,
    mask_overlap,
    score_sample,
    summarise,
)


@dataclass(frozen=True)
class Prediction:
    """A label image `[H, W]`; and where the method gives them, all its detections, which may overlap, with scores.

    `masks` are (y0, x0, bool crop), `scores` `[N]`. Detections whose score was too low for the label image are among
    them, for average precision weighs them by their rank.
    """

    labels: np.ndarray
    masks: list[tuple[int, int, np.ndarray]] = field(default_factory=list)
    scores: np.ndarray | None = None


def predict_and_score(
    dataset: LabelledSet, indices: Iterable[int], predict: Callable[[np.ndarray, int], Prediction], folder: Path
) -> dict:
    """Segment the micrographs at `indices`, write `folder/<name>.tif` label images, and score them.

    Detections with scores are written beside their label image, to `folder/<name>.json`, as tools/score.py reads them.

    Args:
        predict: takes float32 pixels `[H, W]` in [0, 1], and the micrograph's position in the set.

    Returns:
        `{"summary", "samples", "seconds_a_micrograph"}`: the first two as `sempre.metrics.summarise` and `score_sample`
        give them, the summary with mask AP when the predictions have scores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples, true, predicted = {}, {}, {}
    seconds = 0.0
    for index in tqdm(list(indices), desc="/".join(("segmenting for", *folder.parts[-3:-1])), unit="image"):
        name, micrograph = dataset.names[index], dataset.read(index)
        start = time.monotonic()
        prediction = predict(micrograph.pixels.astype(np.float32) / 255, index)
        seconds += time.monotonic() - start
        write_labels(folder / f"{name}.tif", prediction.labels)
        samples[name] = score_sample(true_overlap(micrograph, prediction.labels))
        if prediction.scores is not None:
            true[name] = [encode_rle(mask) for mask in true_masks(micrograph)]
            whole = (_on_micrograph(mask, micrograph.pixels.shape) for mask in prediction.masks)
            predicted[name] = [encode_rle(mask) for mask in whole], prediction.scores.tolist()
            detections = [
                {"counts": rle["counts"], "score": score} for rle, score in zip(*predicted[name], strict=True)
            ]
            write_json(folder / f"{name}.json", {"size": list(micrograph.pixels.shape), "instances": detections})
    summary = summarise(samples)
    if predicted:
        summary |= average_precision(true, predicted)
    return {"summary": summary, "samples": samples, "seconds_a_micrograph": seconds / len(samples)}


def score_untrained(
    dataset: LabelledSet,
    indices: Iterable[int],
    predict: Callable[[np.ndarray, int], Prediction],
    folder: Path,
    groups: Mapping[str, str] | None = None,
) -> dict:
    """Score a method that learns nothing here, as `predict_and_score` does; `folder` becomes a run's of one repeat.

    With `groups`, of each micrograph by its name, they are scored apart too.

    Returns:
        The summary over the micrographs.
    """
    scores = predict_and_score(dataset, indices, predict, folder / "repeat-0/predictions")
    write_json(folder / "repeat-0/summary.json", scores)
    write_json(folder / "summary.json", summarise_run([scores], groups))
    return scores["summary"]


def true_overlap(micrograph: LabelledMicrograph, labels: np.ndarray) -> Overlap:
    """The overlap of a micrograph's instances, which may overlap among themselves, and predicted labels `[H, W]`."""
    if len(micrograph.layers) == 1:
        return label_overlap(micrograph.layers[0], labels)
    predicted = [labels == label for label in range(1, int(labels.max(initial=0)) + 1)]
    return mask_overlap(true_masks(micrograph), [mask for mask in predicted if mask.any()])


def true_masks(micrograph: LabelledMicrograph) -> list[np.ndarray]:
    """The micrograph's instances as bool masks `[H, W]`."""
    return [layer == label for layer in micrograph.layers for label in np.unique(layer[layer > 0])]


def _on_micrograph(mask: tuple[int, int, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    y, x, crop = mask
    whole = np.zeros(shape, dtype=bool)
    whole[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return whole
