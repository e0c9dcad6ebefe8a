"""Many micrographs segmented by a method that learns nothing from them: what is written, and what it scores."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sempre.data.labels.labelled import LabelledSet
from sempre.data.labels.predictions import Prediction, predict_and_score
from sempre.embeddings.encoding.tiles import TileSource
from sempre.embeddings.segmentation.points import Clicks
from sempre.embeddings.segmentation.segmented import Segmentation, describe, mean_figures, write_segmentation
from sempre.images import write_labels
from sempre.images.watershed import split_touching
from sempre.metrics import by_group


@dataclass(frozen=True)
class MicrographSet:
    """What is segmented: the micrographs of `tiles`, by their positions there, in this order.

    `stems` are their names and `clicks` those on some of them. Of a labelled set `in_set` are their positions in it,
    and `groups`, by name, the groups that are scored apart.
    """

    tiles: TileSource
    order: list[int]
    stems: list[str]
    clicks: dict[int, Clicks]
    labelled: LabelledSet | None = None
    in_set: np.ndarray | None = None
    groups: dict[str, str] = field(default_factory=dict)

    def true(self, position: int) -> np.ndarray | None:
        """The true mask, bool `[H, W]`, where there are labels."""
        if self.labelled is None or self.in_set is None:
            return None
        return self.labelled.read(self.in_set[position]).foreground


@dataclass(frozen=True)
class Arm:
    """A method: `segment` gives the segmentation of the micrograph at a position, in the set's order.

    It has learnt from so many `labelled_micrographs`.
    """

    name: str
    labelled_micrographs: int
    segment: Callable[[int], Segmentation]


def segment_all(
    arm: Arm,
    micrographs: MicrographSet,
    out: Path,
    clusters: int,
    fill_holes: bool,
    distance: int,
    smallest: int,
    kept: Collection[int] = (),
) -> tuple[dict, dict[int, Segmentation]]:
    """Segment the micrographs one by one, write what is found, and score it where there are labels.

    Args:
        out: a folder; instances go to its `predictions/`, the rest where `write_segmentation` puts it.
        clusters: of each micrograph.
        fill_holes: of every foreground that is tried for the best one.
        distance: smallest distance between two instances' centres, px.
        smallest: instances of fewer px are dropped.
        kept: positions of micrographs whose segmentations are given back, too.

    Returns:
        `labelled_micrographs`, the means of all figures, and `samples`, by name the figures of each micrograph; with
        groups such means by group, as `groups`. And the segmentations kept, by position.
    """
    samples: dict[str, dict] = {}
    segmentations = {}

    def predict(position: int) -> Prediction:
        name, found = micrographs.stems[position], arm.segment(position)
        write_segmentation(out, name, found, clusters)
        samples[name] = describe(found, micrographs.true(position), fill_holes)
        if position in kept:
            segmentations[position] = found
        return Prediction(split_touching(found.mask, distance, smallest))

    instances: dict[str, dict] = {"summary": {}, "samples": {}}
    if micrographs.labelled is not None and micrographs.in_set is not None:
        position_of = {int(micrographs.in_set[position]): position for position in micrographs.order}
        instances = predict_and_score(
            micrographs.labelled, position_of, lambda _, index: predict(position_of[index]), out / "predictions"
        )
    else:
        (out / "predictions").mkdir(parents=True, exist_ok=True)
        for position in tqdm(micrographs.order, desc=f"clusters of {arm.name}", unit="image"):
            write_labels(out / f"predictions/{micrographs.stems[position]}.tif", predict(position).labels)
    figures = [name for name, value in next(iter(samples.values())).items() if isinstance(value, float)]
    samples = {name: sample | instances["samples"].get(name, {}) for name, sample in samples.items()}
    scores = {"labelled_micrographs": arm.labelled_micrographs}
    result = scores | mean_figures(samples, figures) | instances["summary"] | {"samples": samples}
    if micrographs.groups:
        members = by_group(samples, micrographs.groups)
        figures = [*figures, "aji_plus"]
        result["groups"] = {group: scores | mean_figures(of_it, figures) for group, of_it in members.items()}
    return result, segmentations
