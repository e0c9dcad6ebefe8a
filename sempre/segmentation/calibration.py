"""How far the particles of a dense segmenter can be trusted: whether each is real, and how sure its diameter is.

Both follow from the maps and a calibration on labelled micrographs that the network did not learn from, see
`tools/calibrate.py`. They hold for micrographs like those.
"""

import math
from dataclasses import dataclass

import numpy as np

from sempre.images.resize import resize_rows
from sempre.segmentation.decode import ROWS, Decoding

FEATURES = ("constant", "log-odds of the score", "log of the diameter in px", "log of the outline's shift", "depth")
LEAST_SCORE, MOST_SCORE = 0.01, 0.995  # scores beyond have the log-odds of these
PIXEL = 0.5  # px that are added to every outline's shift, for no outline is surer than that
SURE, SUREST = 0.85, 0.9  # probability that this quantile of a micrograph's particles reaches, or it is doubted


@dataclass(frozen=True)
class Calibration:
    """`weights` of `FEATURES` in the log-odds that a particle is real; `low` and `high`: the quantiles of 5 % and 95 %
    of ln(true diameter / diameter), in units of the outline's relative shift."""

    weights: tuple[float, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Evidence:
    """What the maps say of each particle: `inner` `[N]`, px of it where the foreground is surer than half way between
    the threshold and 1; `depth` `[N]`, where it is deepest."""

    inner: np.ndarray
    depth: np.ndarray


def read_calibration(fields: dict) -> Calibration:
    """The calibration of a bundle's description.

    Raises:
        KeyError, TypeError, ValueError: for fields that are missing or cannot be.
    """
    weights, (low, high) = tuple(map(float, fields["weights"])), map(float, fields["interval"])
    if len(weights) != len(FEATURES) or not all(map(math.isfinite, (*weights, low, high))) or not low <= high:
        raise ValueError("'calibration'")
    return Calibration(weights, low, high)


def look_closer(labels: np.ndarray, maps: np.ndarray, count: int, decoding: Decoding) -> Evidence:
    """The evidence of the particles 1 to `count` of labels `[H, W]`, from maps `[2, h, w]` of the same micrograph."""
    surer = (1 + decoding.foreground) / 2
    inner, depth = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.float32)
    for start in range(0, len(labels), ROWS):
        rows = slice(start, min(start + ROWS, len(labels)))
        owners = labels[rows]
        inner += np.bincount(owners[resize_rows(maps[0], labels.shape, rows) > surer], minlength=count + 1)
        seen = owners > 0
        np.maximum.at(depth, owners[seen], resize_rows(maps[1], labels.shape, rows)[seen])
    return Evidence(inner[1:], depth[1:])


def shifts(areas: np.ndarray, evidence: Evidence) -> np.ndarray:
    """By which share of its diameter each outline moves as the threshold of the foreground rises, `[N]`."""
    return 1 - np.sqrt(evidence.inner / areas) + PIXEL / _diameters(areas)


def features(scores: np.ndarray, areas: np.ndarray, evidence: Evidence) -> np.ndarray:
    """`FEATURES` of each particle, float64 `[N, 5]`; areas in px."""
    scores = np.clip(np.asarray(scores, np.float64), LEAST_SCORE, MOST_SCORE)
    return np.stack(
        [
            np.ones(len(scores)),
            np.log(scores / (1 - scores)),
            np.log(_diameters(areas)),
            np.log(shifts(areas, evidence)),
            np.asarray(evidence.depth, np.float64),
        ],
        axis=1,
    )


def probabilities(calibration: Calibration, scores: np.ndarray, areas: np.ndarray, evidence: Evidence) -> np.ndarray:
    """The probability `[N]` that a particle is real: that a person's label overlaps it by an IoU of half or more."""
    return 1 / (1 + np.exp(-features(scores, areas, evidence) @ np.array(calibration.weights)))


def diameter_intervals(
    calibration: Calibration, areas: np.ndarray, evidence: Evidence
) -> tuple[np.ndarray, np.ndarray]:
    """Between which equivalent diameters, px, each real particle's lies nine times of ten, `[N]` each.

    Split conformal prediction: the errors on the calibration's micrographs, in units of each outline's shift, have the
    quantiles that are laid around each diameter (Lei et al., "Distribution-free predictive inference for regression",
    Journal of the American Statistical Association 113, 2018).
    """
    diameters, shift = _diameters(areas), shifts(areas, evidence)
    return diameters * np.exp(calibration.low * shift), diameters * np.exp(calibration.high * shift)


def is_doubtful(probabilities: np.ndarray) -> bool:
    """Whether a micrograph whose particles are real with these probabilities `[N]` looks as if it held none.

    Structured ground gives many particles of low probability; where there are particles, the surest are sure.
    """
    return len(probabilities) > 0 and bool(np.quantile(probabilities, SUREST) < SURE)


def _diameters(areas: np.ndarray) -> np.ndarray:
    return np.sqrt(4 * np.asarray(areas, np.float64) / np.pi)
