"""From a map of scores to a mask: thresholds that are fixed, that adapt to the map, or that fit the clicks."""

import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from skimage.filters import threshold_otsu
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from sempre.errors import InputError
from sempre.metrics import dice

RULES = ("top", "otsu", "mixture", "clicks")
NONE = np.empty(0, np.float32)
MIXTURE_VALUES = 20_000  # of a map, evenly spaced in order: a mixture of two needs no more


def threshold(
    scores: np.ndarray,
    rule: str,
    percent: float = 10.0,
    at_positive: np.ndarray = NONE,
    at_negative: np.ndarray = NONE,
) -> float:
    """The value that scores of the foreground exceed, by one of the `RULES`.

    `top` takes the highest `percent`; `otsu` and `mixture` adapt to the map; `clicks` fits the scores at the clicks.
    The first three find no foreground in a map of one value.

    Args:
        scores: `[...]`, of a micrograph.
        percent: of the scores, for `top`.
        at_positive: scores `[P]` at the positive points, for `clicks`.
        at_negative: scores `[Q]` at the negative points, for `clicks`.

    Raises:
        InputError: for an unknown rule, a per cent that is none, or `clicks` without clicks of both sorts.
    """
    if rule == "top":
        return top_threshold(scores, percent)
    if rule == "otsu":
        return float(threshold_otsu(np.asarray(scores, np.float64)))  # its histogram needs room between the scores
    if rule == "mixture":
        return mixture_threshold(scores)
    if rule != "clicks":
        raise InputError(f"threshold={rule} is unknown: choose {', '.join(RULES)}")
    if not len(at_positive) or not len(at_negative):
        raise InputError("threshold=clicks needs positive and negative clicks: choose top, otsu or mixture without")
    return click_threshold(at_positive, at_negative)


def top_threshold(scores: np.ndarray, percent: float) -> float:
    """The value that `percent` of the scores exceed, or fewer where scores are equal or few.

    Raises:
        InputError: for a per cent that is not above 0 and at most 100.
    """
    if not 0 < percent <= 100:
        raise InputError(f"percent={percent:g} is no share of a map: take more than 0 and at most 100")
    return float(np.percentile(scores, 100 - percent, method="higher"))


def mixture_threshold(scores: np.ndarray) -> float:
    """Where two Gaussians fitted to the scores (expectation maximisation, scikit-learn) are equally likely.

    That is the crossing of their weighted densities between their means; where one outweighs the other all the way,
    the middle of the means. Scores of one value give that value.
    """
    values = np.sort(scores, axis=None).astype(np.float64)
    values = values[:: -(-values.size // MIXTURE_VALUES)]
    centre, spread = values.mean(), values.std()
    if spread == 0:
        return float(centre)
    standard = ((values - centre) / spread)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # two values, or the last digits of a fit
        mixture = GaussianMixture(2, random_state=0).fit(standard)
    means, variances = mixture.means_[:, 0], mixture.covariances_[:, 0, 0]
    # log of the ratio of the weighted densities, a polynomial of x
    quadratic = (1 / variances[1] - 1 / variances[0]) / 2
    linear = means[0] / variances[0] - means[1] / variances[1]
    constant = (means[1] ** 2 / variances[1] - means[0] ** 2 / variances[0]) / 2
    constant += np.log(mixture.weights_[0] / mixture.weights_[1]) - np.log(variances[0] / variances[1]) / 2
    roots = np.roots([quadratic, linear, constant])
    crossings = [root.real for root in roots if root.imag == 0 and means.min() < root.real < means.max()]
    return float(centre + spread * (crossings[0] if crossings else means.mean()))


def click_threshold(positive: np.ndarray, negative: np.ndarray) -> float:
    """The threshold that tells scores at positive points `[P]` from those at negative ones `[Q]` best.

    It lies in the middle of two neighbouring scores, where the mean of the shares that are on the right side is
    largest, of equal ones in the widest gap. Where all scores are the same, it is that score.
    """
    values = np.unique(np.concatenate([positive, negative]).astype(np.float64))
    if len(values) == 1:
        return float(values[0])
    middles = (values[1:] + values[:-1]) / 2
    right = (positive > middles[:, None]).mean(axis=1) + (negative <= middles[:, None]).mean(axis=1)
    best = np.isclose(right, right.max())
    return float(middles[best][np.argmax(np.diff(values)[best])])


def best_cut(predictions: Iterable[tuple[np.ndarray, np.ndarray]], cuts: Sequence[float]) -> float:
    """The one of `cuts` whose masks have the highest mean Dice, of equal ones the middle one.

    `predictions` are probabilities and true masks, both `[H, W]`.
    """
    scores = np.mean([[dice(true, image > cut) for cut in cuts] for image, true in predictions], axis=0)
    best = np.flatnonzero(np.isclose(scores, scores.max()))
    return float(cuts[best[len(best) // 2]])
