"""Priority maps: scores of patches as numbers in [0, 1], alone or as a mixture."""

from collections.abc import Mapping

import numpy as np

from sempre.errors import InputError


def priorities(scores: np.ndarray) -> np.ndarray:
    """Scores `[N]` as float32 in [0, 1]: the median and what is below become 0, the highest 1.

    More than half of a preview shows nothing, and how it differs among itself is nobody's business. Equal scores
    give zeros.
    """
    scores = np.asarray(scores, np.float64)
    low, high = np.median(scores), scores.max()
    if not high > low:
        return np.zeros(scores.shape, np.float32)
    return np.clip((scores - low) / (high - low), 0, 1).astype(np.float32)


def mixed(parts: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """The weighted mean float32 `[N]` of priorities `[N]` by name.

    Raises:
        InputError: for a weight without its part, a negative one, or none above 0.
    """
    for name, weight in weights.items():
        if name not in parts:
            raise InputError(f"weights name {name}, which is not there: there are {', '.join(parts)}")
        if not 0 <= weight < np.inf:
            raise InputError(f"the weight {name}={weight} cannot be: take 0 or more")
    total = sum(weights.values())
    if not total > 0:
        raise InputError("all weights are 0: give one of them more")
    return np.asarray(sum(weight * parts[name] for name, weight in weights.items()) / total, np.float32)
