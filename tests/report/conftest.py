"""Runs as finetune/mask_rcnn.py and evaluate/watershed.py leave them, of predictions that are given."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempre.data.labelled import LabelledSet
from sempre.files import write_json
from sempre.images import write_labels
from sempre.training.scoring import Prediction, predict_and_score, summarise_run

SIZE = 80  # px
CENTRES = ((15, 15), (15, 60), (55, 25))  # y, x of the discs on every micrograph
RADII = (5, 7, 18)  # px


def discs(shown: Sequence[int]) -> np.ndarray:
    """A label image int32 `[80, 80]` of those of the three discs."""
    rows, columns = np.ogrid[:SIZE, :SIZE]
    labels = np.zeros((SIZE, SIZE), np.int32)
    for label in shown:
        (y, x), radius = CENTRES[label], RADII[label]
        labels[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = label + 1
    return labels


@pytest.fixture
def disc_set(tmp_path) -> LabelledSet:
    """Three micrographs `a`, `b`, `c` of the three discs."""
    folder = tmp_path / "disc_set"
    for side in ("images", "labels"):
        (folder / side).mkdir(parents=True)
    draws = np.random.default_rng(0)
    for name in "abc":
        labels = discs((0, 1, 2))
        noise = draws.integers(0, 60, labels.shape)
        Image.fromarray((100 * (labels > 0) + noise).astype(np.uint8)).save(folder / f"images/{name}.png")
        write_labels(folder / f"labels/{name}.tif", labels)
    return LabelledSet(folder)


@pytest.fixture
def write_run(disc_set) -> Callable[..., Path]:
    """`write_run(folder, repeat, …)`: a run; a repeat is, of each micrograph scored, which discs it finds."""

    def write(folder: Path, *repeats: dict[str, Sequence[int]], groups: dict[str, str] | None = None) -> Path:
        scored = []
        for number, found in enumerate(repeats):
            predictions = iter(Prediction(discs(shown)) for shown in found.values())
            indices = [disc_set.names.index(name) for name in found]
            target = folder / f"repeat-{number}/predictions"
            scored.append(predict_and_score(disc_set, indices, lambda *_, given=predictions: next(given), target))
        write_json(folder / "summary.json", summarise_run(scored, groups))
        return folder

    return write
