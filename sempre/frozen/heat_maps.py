"""Heat maps of likeness to prototypes, which a U-Net sees beside a micrograph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sempre.errors import InputError
from sempre.frozen.embedding_file import Embedding
from sempre.frozen.prototypes import (
    prototypes,
    sample_points,
    score,
    support_of,
)


@dataclass(frozen=True)
class HeatMaps:
    """What makes heat maps: prototypes `[P, C]` of particles and `[Q, C]` of background, and the maps' common scale."""

    positive: np.ndarray
    negative: np.ndarray
    weight: float = 0.8  # of the likeness to background
    mean: float = 0.0  # of the scores, which is taken off
    std: float = 1.0  # of the scores, which they are divided by

    def __call__(self, embedding: Embedding) -> np.ndarray:
        """The heat map, float32 `[h, w]` at the size that the micrograph was embedded at."""
        grid = embedding.grid
        at_input = replace(grid, height=grid.input_height, width=grid.input_width)
        scores = score(embedding.cells, self.positive, self.negative, self.weight)
        return at_input.to_pixels((scores - self.mean) / self.std)


@dataclass(frozen=True)
class OwnHeatMaps:
    """Heat maps of labelled micrographs by points of each one's own mask, `by_sha256`; `common` makes those of
    micrographs that show only particles or only background."""

    common: HeatMaps
    by_sha256: Mapping[str, HeatMaps]

    def __call__(self, embedding: Embedding) -> np.ndarray:
        """As `HeatMaps` gives it."""
        return self.by_sha256.get(embedding.sha256, self.common)(embedding)


def fit_own_heat_maps(
    embeddings: Sequence[Embedding],
    masks: Sequence[np.ndarray],
    common: HeatMaps,
    points: int,
    margin: float,
    count: int,
    seed: int = 0,
) -> OwnHeatMaps:
    """Heat maps of micrographs by points of their own masks, in the scale of `common`.

    A network that is given such maps of held-out micrographs knows points of their truth, as an annotator's clicks on
    each would tell it. Arguments are those of `fit_heat_maps`.
    """
    own = {}
    for embedding, mask in zip(embeddings, masks, strict=True):
        seeds = (seed, int(embedding.sha256[:16], 16))
        support = support_of(embedding, sample_points(mask, points, margin, seeds))
        if len(support.positive) and len(support.negative):
            positive, negative = (prototypes(side, count, seed) for side in (support.positive, support.negative))
            own[embedding.sha256] = replace(common, positive=positive, negative=negative)
    return OwnHeatMaps(common, own)


def fit_heat_maps(
    embeddings: Sequence[Embedding],
    masks: Sequence[np.ndarray],
    points: int,
    margin: float,
    count: int,
    weight: float = 0.8,
    seed: int = 0,
) -> HeatMaps:
    """Heat maps by prototypes from points in micrographs whose masks, bool `[H, W]`, are known.

    Their scale makes the cells of these micrographs have mean 0 and deviation 1, one scale for all micrographs: a map
    without particles stays low.

    Args:
        points: drawn in a micrograph's mask, and as many outside, as `sample_points` does it; they depend on the seed
            and the micrograph's checksum alone.
        margin: px that points keep from the mask's boundary.
        count: prototypes of particles, and of background.
        weight: of the likeness to background.

    Raises:
        InputError: when no micrograph shows a particle, or none background.
    """
    supports = [
        support_of(embedding, sample_points(mask, points, margin, (seed, int(embedding.sha256[:16], 16))))
        for embedding, mask in zip(embeddings, masks, strict=True)
    ]
    positive, negative = (
        np.concatenate([getattr(support, side) for support in supports]) for side in ("positive", "negative")
    )
    if not len(positive) or not len(negative):
        missing = "particles" if not len(positive) else "background"
        raise InputError(f"the {len(masks)} micrographs that prototypes are made from show no {missing}: add others")
    maps = HeatMaps(prototypes(positive, count, seed), prototypes(negative, count, seed), weight)
    scores = [score(embedding.cells, maps.positive, maps.negative, weight) for embedding in embeddings]
    scores = np.concatenate([values.ravel() for values in scores])
    return replace(maps, mean=float(scores.mean()), std=float(scores.std()) or 1.0)
