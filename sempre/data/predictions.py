"""Predictions on a labelled set: written as label images, scored against the labels."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sempre.data.labelled import LabelledSet
from sempre.images import write_labels
from sempre.metrics import score_sample, summarise


def predict_and_score(
    dataset: LabelledSet,
    indices: Iterable[int],
    predict: Callable[[np.ndarray], np.ndarray],
    folder: Path,
) -> dict:
    """Segment the micrographs at `indices`, write `folder/<name>.tif` label images, and score them.

    Args:
        predict: takes float32 pixels `[H, W]` in [0, 1], gives a label image `[H, W]`.

    Returns:
        `{"summary": …, "samples": {name: …}}` as `sempre.metrics.summarise` and `score_sample` give them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples = {}
    for index in tqdm(list(indices), desc=f"segmenting {folder.parent.name}", unit="image"):
        micrograph = dataset.read(index)
        labels = predict(micrograph.pixels.astype(np.float32) / 255)
        write_labels(folder / f"{dataset.names[index]}.tif", labels)
        samples[dataset.names[index]] = score_sample(micrograph.layers[0], labels)
    return {"summary": summarise(samples), "samples": samples}
