"""Think, from clicks: a small classifier that is fitted anew at each."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from sempre.embeddings.segmentation.points import Clicks
from sempre.errors import InputError
from sempre.scan.think.one_thread import one_thread
from sempre.scan.think.patches import Patches

INVERSE_REGULARISATION = 10.0


def taught(patches: Patches, clicks: Clicks, background: int = 20, apart: float = 64, seed: int = 0) -> np.ndarray:
    """The probability float64 `[N]` that each patch shows what was clicked.

    A logistic regression (`class_weight="balanced"`, C = 10) of the patches under the clicks against those under the
    negative clicks and `background` others, drawn by the seed from all that are `apart` px or more from every positive
    click: what is rare is rarely among them. Every component counts the same: what tells a rare kind is seldom what
    varies most.

    Raises:
        InputError: without a positive click, for one outside the preview, or where no background is left.
    """
    if not len(clicks.positive):
        raise InputError("nothing was clicked: click at least once on what is sought")
    positive = patches_at(patches, clicks.positive)
    negative = patches_at(patches, clicks.negative)
    distance = np.linalg.norm(patches.centres[:, None] - clicks.positive[None], axis=-1).min(axis=1)
    far = np.flatnonzero(distance >= apart)
    drawn = np.random.default_rng(seed).permutation(far)[:background]
    negative = np.union1d(negative, drawn).astype(int)
    if not len(negative):
        raise InputError(f"no background is left {apart:g} px from the clicks: click on some, or take a smaller apart=")
    chosen = np.concatenate([positive, negative])
    sought = np.repeat([1, 0], [len(positive), len(negative)])
    vectors = patches.vectors / np.maximum(patches.vectors.std(axis=0), 1e-9)
    with one_thread():
        model = LogisticRegression(C=INVERSE_REGULARISATION, class_weight="balanced", max_iter=1000)
        return model.fit(vectors[chosen], sought).predict_proba(vectors)[:, 1]


def patches_at(patches: Patches, points: np.ndarray) -> np.ndarray:
    """Indices int64 `[P]` of the patches that points `[P, 2]` (y, x in px) are nearest the centres of.

    Raises:
        InputError: for a point outside the preview.
    """
    return np.asarray(np.ravel_multi_index(tuple(patches.grid.cells_at(points).T), patches.shape), np.int64)
