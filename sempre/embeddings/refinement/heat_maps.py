"""Maps of how much each place of a micrograph is like particles, as a network takes them for input."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sempre.embeddings.encoding.embedding_file import Embedding
from sempre.embeddings.segmentation.points import sample_points
from sempre.embeddings.segmentation.prototypes import prototypes, score, support_of
from sempre.errors import InputError


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
