"""What deserves the beam: strangeness, clicks and words, each a priority, and their mixture."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression

from sempre.errors import InputError
from sempre.frozen.pooling import bulk_distance
from sempre.frozen.prototypes import NO_CLICKS, Clicks
from sempre.ranges import Count, OneOf, PositiveOrZero, Seed
from sempre.scan.patches import Patches, PatchOptions, one_thread
from sempre.scan.preview import Preview
from sempre.scan.text import text_scores

METHODS = ("isolation_forest", "bulk", "neighbours")
TREES = 100
BANK = 2000  # patches that others are compared with, at most
NEAREST = 3  # of them are averaged


def strangeness(patches: Patches, method: str = "neighbours", seed: int = 0, overlap: int = 64) -> np.ndarray:
    """How strange each patch is, float64 `[N]`; higher is stranger, the scale is the method's own.

    - `isolation_forest`: s = 2^(-E[h] / c(n)) of the path length h in random trees (Liu et al., "Isolation forest",
      ICDM 2008; scikit-learn's), 0 to 1.
    - `bulk`: cosine distance to the centroid of the nearest nine tenths.
    - `neighbours`: mean distance to the nearest patches elsewhere, those that share no px with it, of a bank drawn by
      the seed (after Roth et al., "PatchCore", CVPR 2022, the normal ones being the preview's own bulk).

    Args:
        overlap: side in px of the largest patch, by which `neighbours` knows which share px.

    Raises:
        InputError: for an unknown method.
    """
    if method == "isolation_forest":
        forest = IsolationForest(n_estimators=TREES, random_state=seed).fit(patches.vectors)
        return -forest.score_samples(patches.vectors)
    if method == "bulk":
        return bulk_distance(patches.vectors)
    if method == "neighbours":
        return _distance_elsewhere(patches, seed, overlap)
    raise InputError(f"anomaly={method} is unknown: choose {', '.join(METHODS)}")


def _distance_elsewhere(patches: Patches, seed: int, overlap: int) -> np.ndarray:
    """Row by row of the grid, for what shares px with a row's patches is a band of the bank and near in few columns."""
    vectors = patches.vectors.astype(np.float32)
    rows, columns = patches.shape
    bank = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:BANK])
    bank_rows, bank_columns = np.divmod(bank, columns)
    # One product gives |b|^2 - 2ab, the squared distance less a patch's own square, which no order depends on.
    others = np.concatenate([vectors[bank].T, (vectors[bank] ** 2).sum(axis=1)[None]])
    own = np.concatenate([-2 * vectors, np.ones((len(vectors), 1), np.float32)], axis=1)
    squares, reach = (vectors**2).sum(axis=1), overlap / patches.grid.cell
    nearest = np.zeros(len(vectors))
    with one_thread():
        for row in range(rows):
            part = slice(row * columns, (row + 1) * columns)
            distances = own[part] @ others
            band = np.flatnonzero(np.abs(bank_rows - row) < reach)
            shared = np.abs(np.arange(columns)[:, None] - bank_columns[band]) < reach
            distances[:, band] = np.where(shared, np.inf, distances[:, band])
            kept = np.partition(distances, min(NEAREST, len(bank)) - 1, axis=1)[:, :NEAREST]
            kept = np.sqrt(np.maximum(kept + squares[part, None], 0))
            seen = np.isfinite(kept)
            nearest[part] = np.where(seen, kept, 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    return nearest


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


PARTS = ("anomaly", "clicks", "text")


@dataclass(kw_only=True)
class ThinkOptions(PatchOptions):
    anomaly: Annotated[str, OneOf(*METHODS)] = "neighbours"  # method that finds unusual places
    text: list[str] = field(default_factory=list)  # words for what to look for, for example [cracks,long thin lines]
    without: list[str] = field(default_factory=list)  # words for what to avoid, for example [round particles]
    clip: str = ""  # for text=: folder with CLIP's weights
    anomaly_weight: PositiveOrZero = 1.0  # weight of unusualness in the priority
    clicks_weight: PositiveOrZero = 1.0  # weight of similarity to the clicks, if there are any
    text_weight: PositiveOrZero = 1.0  # weight of similarity to text=, if given
    background: Count = 100  # random patches used as negatives, in addition to negative clicks
    seed: Seed = 0  # random seed of trees, banks and background


@dataclass(frozen=True)
class Decision:
    """The priority float32 `[rows * columns]` of patches, the parts it is mixed from, and their weights."""

    priority: np.ndarray
    parts: dict[str, np.ndarray]
    weights: dict[str, float]


def decide(
    preview: Preview,
    patches: Patches,
    options: ThinkOptions,
    clicks: Clicks | None = None,
    known: dict[str, np.ndarray] | None = None,
    embeddings: str = "runs/embeddings",
) -> Decision:
    """The priority of each patch: strangeness, and likeness to clicks and text where there are any, by weight.

    A click is answered sooner with the parts of an earlier decision, `known`: those that no click changes are taken
    from there. A part of weight 0 is not computed.

    Raises:
        InputError: for options that cannot be, or when nothing is left to decide by.
    """
    largest, given = max(options.scales), clicks or NO_CLICKS
    makers: dict[str, tuple[float, bool, Callable[[], np.ndarray]]] = {
        "anomaly": (
            options.anomaly_weight,
            True,
            lambda: strangeness(patches, options.anomaly, options.seed, overlap=largest),
        ),
        "clicks": (
            options.clicks_weight,
            len(given.positive) > 0,
            lambda: taught(patches, given, options.background, largest, options.seed),
        ),
        "text": (
            options.text_weight,
            bool(options.text),
            lambda: text_scores(
                preview, patches.grid, largest, options.text, options.without, options.clip, embeddings
            ),
        ),
    }
    parts, weights = {}, {}
    for name, (weight, there, make) in makers.items():
        if not 0 <= weight < np.inf:
            raise InputError(f"{name}_weight={weight} cannot be: take 0 or more")
        if not there or weight == 0:
            continue
        parts[name] = known[name] if known and name != "clicks" and name in known else priorities(make())
        weights[name] = weight
    if not parts:
        raise InputError("nothing is left to decide by: give clicks=, text=, or anomaly_weight above 0")
    return Decision(mixed(parts, weights), parts, weights)
