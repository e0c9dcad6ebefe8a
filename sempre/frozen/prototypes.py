"""Segmentation by prototypes: clicked or sampled points, what looks like them, and the threshold."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy import ndimage
from skimage.filters import threshold_otsu
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from sempre.errors import InputError
from sempre.files import parse_json, read_json, whole_or_absent
from sempre.frozen.embedding_file import Embedding
from sempre.metrics import dice

SIDES = ("positive", "negative")
FARTHEST = 1e9  # px; no micrograph is as wide


@dataclass(frozen=True)
class Clicks:
    """Points `positive` `[P, 2]` on what is sought and `negative` `[Q, 2]` on what is not: y and x in px, float64."""

    positive: np.ndarray
    negative: np.ndarray


NO_CLICKS = Clicks(np.zeros((0, 2)), np.zeros((0, 2)))


def read_clicks(path: str | Path, need_negative: bool = True) -> dict[str, Clicks]:
    """The clicks on each micrograph, by its name, of a JSON file:

        {"steel_03.tif": {"positive": [[y, x], ...], "negative": [[y, x], ...]}, ...}

    y and x are px from the upper left corner. Not every micrograph needs clicks of both sorts, but the file does.

    Raises:
        InputError: for a file that is not of this form, has no positive clicks, or no negative ones where they are
            needed.
    """
    path = Path(path)
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: give the JSON file of clicks") from None
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}): save the clicks again") from error
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise InputError(f'{path} holds no clicks: it must be {{"<file name>": {{"positive": [[y, x], ...]}}, ...}}')
    clicks = {}
    for name, entry in content.items():
        if unknown := set(entry) - set(SIDES):
            raise InputError(f"{path} has '{min(unknown)}' clicks on {name}: they are positive or negative")
        clicks[name] = Clicks(*(_points(entry.get(side, []), f"{path}: a {side} click on {name}") for side in SIDES))
    if not any(len(entry.positive) for entry in clicks.values()):
        raise InputError(f"{path} has no positive clicks: click at least once on what is sought")
    if need_negative and not any(len(entry.negative) for entry in clicks.values()):
        raise InputError(
            f"{path} has positive clicks only: click at least once on the background, "
            "or take weight=0 and a threshold other than clicks"
        )
    return clicks


def clicked_positions(clicks: Mapping[str, Clicks], names: Sequence[str], file: str | Path) -> dict[int, Clicks]:
    """The clicks by the position in `names` of their micrograph, which they name by its path or its file name.

    Raises:
        InputError: when it is none of these; `file` is where the clicks are from.
    """
    position = {Path(name).name: index for index, name in enumerate(names)}
    position |= {name: index for index, name in enumerate(names)}
    for name in clicks:
        if name not in position:
            known = f"{names[0]} … {names[-1]}" if len(names) > 1 else names[0]
            raise InputError(f"{file} names {name}, which is not among the micrographs: there is {known}")
    return {position[name]: points for name, points in clicks.items()}


def sample_points(mask: np.ndarray, count: int, margin: float, seed: int | Sequence[int]) -> Clicks:
    """Points as a careful person would click them: `count` well inside a mask `[H, W]`, `count` well outside it.

    Points keep more than `margin` px from the mask's boundary, which is an erosion and a dilation by a disc of that
    radius. Where nothing is left the margin is halved, at last to none. Fewer px than `count` give one point each; an
    empty mask has no positive points, a full one no negative ones. The first n points are those that count=n gives.
    """
    random = np.random.default_rng(seed)
    sides = []
    for side in (mask, ~mask):
        # A mask that fills the micrograph has no boundary to keep from.
        depth = ndimage.distance_transform_edt(side) if not side.all() else np.full(side.shape, np.inf)
        kept = margin
        while kept > 0 and not (depth > kept).any():
            kept = kept / 2 if kept > 0.5 else 0
        inside = np.flatnonzero(depth > kept)
        chosen = random.permutation(inside)[:count]
        sides.append(np.stack(np.unravel_index(chosen, mask.shape), axis=1).astype(np.float64))
    return Clicks(*sides)


def _points(points: object, where: str) -> np.ndarray:
    """Points `[P, 2]` of a list of pairs."""
    if not isinstance(points, list):
        raise InputError(f"{where} is {json.dumps(points)}: give a list of [y, x]")
    for point in points:
        numbers = isinstance(point, list) and len(point) == 2 and all(type(value) in (int, float) for value in point)
        # Compared, not converted, for a whole number may be too large for any float; NaN is not below anything.
        if not numbers or not all(abs(value) <= FARTHEST for value in point):
            raise InputError(f"{where} is {json.dumps(point)}: give [y, x] in px")
    return np.array(points, np.float64).reshape(-1, 2)


SIZES = ("scale", "size", "pixel_size_nm")  # options of an extraction that change what a cell shows
SWITCHES = ("square", "plain_percentiles")  # and those that are on or off


@dataclass(frozen=True)
class Support:
    """Embeddings float32 of the cells that points lie in: `positive` `[P, C]` and `negative` `[Q, C]`.

    Few-shot learning calls the examples that prototypes are made of the support set (Snell et al., "Prototypical
    Networks", NeurIPS 2017).
    """

    positive: np.ndarray
    negative: np.ndarray


def support_of(embedding: Embedding, clicks: Clicks) -> Support:
    """The cells of one micrograph that its points lie in.

    Raises:
        InputError: for a point outside the micrograph.
    """
    cells = (embedding.cells[tuple(embedding.grid.cells_at(points).T)] for points in (clicks.positive, clicks.negative))
    return Support(*cells)


def normalise(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings `[..., C]` at length 1, float32; a zero vector stays one, and has the cosine 0 with all others."""
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return np.divide(embeddings, lengths, out=np.zeros(embeddings.shape, np.float32), where=lengths > 0)


def prototypes(embeddings: np.ndarray, count: int = 1, seed: int = 0) -> np.ndarray:
    """What embeddings `[N, C]` have in common, float32 `[count, C]` of length 1.

    One prototype is the mean of the normalised embeddings; several are the centres of a spherical k-means (Dhillon and
    Modha, Machine Learning 42, 2001; here k-means of normalised vectors, centres normalised), for what is sought may
    look in several ways. There are never more prototypes than different embeddings; of none there is none.

    Raises:
        InputError: for a count below 1.
    """
    if count < 1:
        raise InputError(f"prototypes={count} is too few: take at least 1")
    directions = normalise(embeddings)
    count = min(count, len(np.unique(directions, axis=0)))
    if count <= 1:
        return normalise(directions.mean(axis=0, keepdims=True)) if count else directions
    return normalise(KMeans(count, n_init=10, random_state=seed).fit(directions).cluster_centers_.astype(np.float32))


def score(cells: np.ndarray, positive: np.ndarray, negative: np.ndarray, weight: float = 0.8) -> np.ndarray:
    """Likeness of cells `[..., C]` to what is sought, float32 `[...]`.

    The largest cosine with the positive prototypes `[P, C]` less `weight` times the largest with the negative ones
    `[Q, C]`; without negative prototypes the former alone.
    """
    directions = normalise(cells)
    like = (directions @ positive.T).max(axis=-1)
    return like - weight * (directions @ negative.T).max(axis=-1) if len(negative) else like


@dataclass(frozen=True)
class Prototypes:
    """Prototypes `positive` `[K, C]` and `negative` `[L, C]`, how much the latter weigh, and the scores `[P]` and `[Q]`
    that they give to the cells they were made of.
    """

    positive: np.ndarray
    negative: np.ndarray
    weight: float
    at_positive: np.ndarray
    at_negative: np.ndarray

    def heat_map(self, embedding: Embedding) -> np.ndarray:
        """The score at every px of a micrograph, float32 `[H, W]`."""
        return embedding.grid.to_pixels(score(embedding.cells, self.positive, self.negative, self.weight))

    def mask(self, heat_map: np.ndarray, rule: str, percent: float = 10.0) -> np.ndarray:
        """The foreground bool `[H, W]` of a heat map, by one of the `sempre.frozen.prototypes.RULES`.

        Raises:
            InputError: as `threshold` does.
        """
        return heat_map > threshold(heat_map, rule, percent, self.at_positive, self.at_negative)


def prototypes_of(support: Support, count: int = 1, weight: float = 0.8, seed: int = 0) -> Prototypes:
    """At most `count` prototypes a class of a support set.

    Raises:
        InputError: for a support set without positive cells, a count below 1 or a negative weight.
    """
    if not len(support.positive):
        raise InputError("there are no positive points: prototypes need at least one on what is sought")
    if weight < 0:
        raise InputError(f"weight={weight:g} is negative: take 0 to leave negative prototypes out, or more")
    sides = support.positive, support.negative
    positive, negative = (prototypes(cells, count, seed) for cells in sides)
    return Prototypes(positive, negative, weight, *(score(cells, positive, negative, weight) for cells in sides))


def save_support(path: str | Path, support: Support, settings: dict) -> None:
    """Write a support set with the `encoder_checksum`, the `percentiles` and the `SIZES` of its embeddings' settings.

    The file is whole or absent.
    """
    kept = {name: settings[name] for name in ("encoder_checksum", "percentiles", *SIZES)}
    kept |= {name: True for name in SWITCHES if settings.get(name)}
    tensors = {"positive": support.positive, "negative": support.negative}
    with whole_or_absent(path) as partial:
        tensors = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
        save_file(tensors, partial, {"settings": json.dumps(kept)})


def load_support(path: str | Path, settings: dict) -> Support:
    """A saved support set, to be used with embeddings of these settings.

    Raises:
        InputError: for a file that `save_support` did not write, or that is of another backbone or size.
    """
    try:
        with safe_open(path, "numpy") as file:
            saved = dict(parse_json(file.metadata()["settings"]))
            support = Support(file.get_tensor("positive"), file.get_tensor("negative"))
            sides = (support.positive, support.negative)
            if any(cells.ndim != 2 for cells in sides) or support.positive.shape[1] != support.negative.shape[1]:
                raise ValueError("the cells of both sorts do not agree")
            if not all(np.isfinite(cells).all() for cells in sides):
                raise ValueError("its cells are not finite")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"{path} holds no prototypes ({error}): give clicks= to make them") from error
    if saved.get("encoder_checksum") != settings["encoder_checksum"]:
        raise InputError(f"{path} holds prototypes of another backbone or layer: give clicks= to make new ones")
    for name in ("percentiles", *SIZES):
        if saved.get(name) != settings[name]:
            raise InputError(
                f"{path} holds prototypes of {name}={saved.get(name)}, not {name}={settings[name]}: take the former, "
                "or give clicks= to make new ones"
            )
    for name in SWITCHES:
        if bool(saved.get(name)) != bool(settings.get(name)):
            raise InputError(f"{path} holds prototypes of {name}={str(bool(saved.get(name))).lower()}: take that too")
    return support


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


def dice_of_cuts(image: np.ndarray, true: np.ndarray, cuts: Sequence[float]) -> list[float]:
    """The Dice of each cut through probabilities `[H, W]` with the true mask, bool `[H, W]`."""
    return [float(dice(true, image > cut)) for cut in cuts]


def best_cut(scores: Sequence[Sequence[float]], cuts: Sequence[float]) -> float:
    """The one of `cuts` whose masks have the highest mean Dice, of equal ones the middle one.

    `scores` are of each micrograph those of each cut (`dice_of_cuts`).
    """
    means = np.mean(scores, axis=0)
    best = np.flatnonzero(np.isclose(means, means.max()))
    return float(cuts[best[len(best) // 2]])
