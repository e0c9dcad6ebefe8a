"""Which of a micrograph's clusters are foreground: by a rule, by clicks or by hand."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy import ndimage

from sempre.embeddings.segmentation.points import Clicks
from sempre.errors import InputError
from sempre.metrics import iou

RULES = ("border", "bright")


def ranked(clusters: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Clusters `[h, w]` renamed to 0, 1, …, from the darkest mean of the grey values `[h, w]` to the brightest, int64.

    K-means names its clusters by chance; ranks mean the same in every micrograph of one kind.
    """
    names, places = np.unique(clusters, return_inverse=True)
    places = places.ravel()
    means = np.bincount(places, grey.ravel()) / np.bincount(places)
    ranks = np.empty(len(names), np.int64)
    ranks[np.argsort(means, kind="stable")] = np.arange(len(names))
    return ranks[places].reshape(clusters.shape)


def chosen_by_rule(clusters: np.ndarray, grey: np.ndarray, rule: str = "border") -> list[int]:
    """The clusters of `clusters` `[h, w]` that are taken for particles; `grey` are the values `[h, w]`.

    `border`: with k clusters, those that hold less than 1/k of the image's border px; for two clusters the side that
    touches the border less, as `otsu_watershed` chooses. `bright`: those whose mean grey value is above the middle
    between the darkest cluster's and the brightest one's. A single cluster is background.

    Raises:
        InputError: for an unknown rule.
    """
    if rule not in RULES:
        raise InputError(f"rule={rule} is unknown: choose {' or '.join(RULES)}")
    names = np.unique(clusters).tolist()
    if len(names) == 1:
        return []
    if rule == "border":
        border = np.concatenate([clusters[0], clusters[-1], clusters[1:-1, 0], clusters[1:-1, -1]])
        return [name for name in names if np.mean(border == name) < 1 / len(names)]
    means = np.array([grey[clusters == name].mean() for name in names])
    return [name for name, mean in zip(names, means, strict=True) if mean > (means.min() + means.max()) / 2]


def chosen_by_clicks(clusters: np.ndarray, clicks: Clicks) -> list[int]:
    """The clusters of `clusters` `[h, w]` with more positive than negative clicks.

    Raises:
        InputError: for a click outside.
    """
    counts: dict[int, int] = {}
    for points, sign in ((clicks.positive, 1), (clicks.negative, -1)):
        for y, x in points:
            if not (0 <= y < clusters.shape[0] and 0 <= x < clusters.shape[1]):
                shape = f"{clusters.shape[0]}x{clusters.shape[1]}"
                raise InputError(f"the point y={y:g} x={x:g} is outside the micrograph of {shape} px")
            name = int(clusters[int(y), int(x)])
            counts[name] = counts.get(name, 0) + sign
    return sorted(name for name, count in counts.items() if count > 0)


def most_chosen(choices: Sequence[Sequence[int]]) -> list[int]:
    """The clusters that are in more than half of the choices: what a micrograph without clicks is given."""
    names = sorted({name for choice in choices for name in choice})
    return [name for name in names if 2 * sum(name in choice for choice in choices) > len(choices)]


def foreground(clusters: np.ndarray, chosen: Sequence[int], fill_holes: bool = True) -> np.ndarray:
    """Which px, bool `[h, w]`, belong to the chosen ones of the clusters `[h, w]`.

    Holes of particles are filled, as `otsu_watershed` does; the meshes of a net of filaments are no holes.
    """
    mask = np.isin(clusters, chosen)
    return ndimage.binary_fill_holes(mask) if fill_holes else mask


def best_iou(clusters: np.ndarray, true: np.ndarray, fill_holes: bool = True) -> float:
    """The IoU with the mask `true` of the union of clusters, both `[h, w]`, that is most like it.

    It looks at the truth, and so is no result but a bound: what the clusters could give if no rule had to choose.
    """
    names = np.unique(clusters)
    unions = (subset for size in range(len(names)) for subset in combinations(names, size))
    return max(iou(true, foreground(clusters, subset, fill_holes)) for subset in unions)
