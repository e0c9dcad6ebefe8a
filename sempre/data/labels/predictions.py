"""Predictions on a labelled set: written as label images, scored against the labels."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sempre.data.labels.labelled import LabelledMicrograph, LabelledSet
from sempre.data.labels.run_summary import summarise_run
from sempre.data.labels.share import Share, one_by_one
from sempre.errors import InputError, warn
from sempre.files import write_json
from sempre.images import encode_rle_of_crop, instance_boxes, write_labels
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
    dataset: LabelledSet,
    indices: Iterable[int],
    predict: Callable[[np.ndarray, int], Prediction],
    folder: Path,
    share: Share = one_by_one,
) -> dict:
    """Segment the micrographs at `indices`, write `folder/<name>.tif` label images, and score them.

    Detections with scores are written beside their label image, to `folder/<name>.json`, as tools/score.py reads them.

    Args:
        predict: takes float32 pixels `[H, W]` in [0, 1], and the micrograph's position in the set.
        share: by which processes.

    Returns:
        `{"summary", "samples", "seconds_a_micrograph"}`: the first two as `sempre.metrics.summarise` and `score_sample`
        give them, the summary with mask AP when the predictions have scores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    indices = [int(index) for index in indices]

    def segment_and_score(index: int) -> dict:
        micrograph = dataset.read(index)
        start = time.monotonic()
        prediction = predict(micrograph.pixels.astype(np.float32) / 255, index)
        seconds = time.monotonic() - start
        write_labels(folder / f"{dataset.names[index]}.tif", prediction.labels)
        result = {"seconds": seconds, "sample": score_sample(true_overlap(micrograph, prediction.labels))}
        if prediction.scores is None:
            return result
        size, scores = list(micrograph.pixels.shape), prediction.scores.tolist()
        predicted = [
            encode_rle_of_crop(mask, y, x, micrograph.pixels.shape)["counts"] for y, x, mask in prediction.masks
        ]
        detections = [{"counts": counts, "score": score} for counts, score in zip(predicted, scores, strict=True)]
        write_json(folder / f"{dataset.names[index]}.json", {"size": size, "instances": detections})
        return {**result, "size": size, "true": true_counts(micrograph), "predicted": predicted, "scores": scores}

    label = "/".join(("segmenting for", *folder.parts[-3:-1]))
    names = [dataset.names[index] for index in indices]
    results = dict(zip(names, share(indices, segment_and_score, label), strict=True))
    samples = {name: result["sample"] for name, result in results.items()}
    summary = summarise(samples)
    detected = {name: result for name, result in results.items() if "scores" in result}
    if detected:
        true = {name: _run_lengths(result, "true") for name, result in detected.items()}
        predicted = {name: (_run_lengths(result, "predicted"), result["scores"]) for name, result in detected.items()}
        summary |= average_precision(true, predicted)
    seconds = sum(result["seconds"] for result in results.values()) / len(results)
    return {"summary": summary, "samples": samples, "seconds_a_micrograph": seconds}


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

    Raises:
        InputError: where nothing in the set shows a particle.
    """
    indices = list(indices)
    if not dataset.holds_particles(indices):
        if not dataset.holds_particles(range(len(dataset))):
            raise InputError(
                f"no micrograph of {dataset.folder} shows a particle: label some, there is nothing to score"
            )
        warn(f"none of the {len(indices)} micrographs of {dataset.folder} that are scored shows a particle")
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


def true_counts(micrograph: LabelledMicrograph) -> list[list[int]]:
    """COCO's uncompressed run lengths of the micrograph's instances, by layer and id."""
    counts = []
    for layer in micrograph.layers:
        for label, (x0, y0, x1, y1) in zip(*instance_boxes(layer), strict=True):
            crop = layer[y0:y1, x0:x1] == label
            counts.append(encode_rle_of_crop(crop, int(y0), int(x0), layer.shape)["counts"])
    return counts


def _run_lengths(result: dict, side: str) -> list[dict]:
    return [{"size": result["size"], "counts": counts} for counts in result[side]]
