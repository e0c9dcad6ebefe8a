"""Calibrate a dense segmenter's bundle: how probable each particle is, and how sure its diameter.

    python tools/calibrate.py bundle=my_bundle data=my_set
    python tools/calibrate.py data=path/to/emps_train              # the model that comes with sempre

`data` is a labelled set; of the micrographs that its split holds out, which the network must not have learned from,
half are calibrated on and the others checked, `micrographs` at most on each side. The calibration goes into the
bundle's `model.json`, with how well it held on the others: which share of the diameters lay in their intervals of 90 %,
and by how much probabilities and shares of real particles differ. If less than 85 % or more than 95 % lie there, or the
difference is above 0.15, the bundle is left as it is, unless `force=true`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from sempre.config import read_options
from sempre.data.folds import divide
from sempre.data.labelled import LabelledSet
from sempre.deploy.bundle import NAMES, DenseBundle
from sempre.deploy.released import find_bundle
from sempre.deploy.segmenter import Segmenter
from sempre.errors import InputError, run_command
from sempre.files import read_json, write_json
from sempre.metrics import label_overlap
from sempre.ranges import Count, CountOrZero, Seed, Share
from sempre.released import DEFAULT
from sempre.segmentation.calibration import (
    Calibration,
    Evidence,
    diameter_intervals,
    features,
    is_doubtful,
    probabilities,
    shifts,
)

REAL = 0.5  # IoU with a label from which on a particle is real
LEVEL = 0.9  # of the intervals
HOLDS = (0.85, 0.95)  # the share of diameters in them that is accepted, on micrographs they were not made on
WORST = 0.15  # mean difference of probabilities and shares of real particles that is accepted
GROUPS = 10  # of equally many particles, in which probabilities are compared with shares


@dataclass
class Options:
    data: str = "???"  # folder of labelled micrographs
    bundle: str = DEFAULT  # bundle of a dense segmenter to change, or a released model's name
    micrographs: Count = 30  # largest number to calibrate on, and to check with
    split_file: str = ""  # JSON of "train", "validation", "test" (optional) stems; empty: seeded split
    validation_fraction: Share = 0.2  # share of images that the seeded split holds out, as in the training
    test_fraction: Share = 0.0  # share of images for the test, as in the training
    split_seed: Seed = 0  # seed of the split; another one holds out other images
    threads: CountOrZero = 0  # threads of ONNX Runtime; 0: all cores
    force: bool = False  # write the calibration even if it does not hold


class Found(NamedTuple):
    """The particles of one micrograph: scores, areas in px, IoU with the label that fits best, that label's area."""

    scores: np.ndarray
    areas: np.ndarray
    evidence: Evidence
    ious: np.ndarray
    true_areas: np.ndarray


def main(argv: list[str] | None = None) -> int:
    options = read_options(Options, argv)
    folder = find_bundle(options.bundle)
    segmenter = Segmenter(folder, options.threads or None)
    if not isinstance(segmenter.bundle, DenseBundle):
        raise InputError(f"{folder} is a {segmenter.bundle.kind}, which has no maps to calibrate: give a dense bundle")
    labelled = LabelledSet(options.data, percentiles=segmenter.bundle.percentiles)
    held_out = [int(index) for index in divide(labelled, options).held_out][: 2 * options.micrographs]
    found = [find(segmenter, labelled, index) for index in tqdm(held_out, unit="micrograph")]
    found = [one for one in found if len(one.scores)]
    fitted, checked = found[::2], found[1::2]
    if not checked or not any((one.ious >= REAL).any() for one in fitted):
        raise InputError(f"{options.data} holds out too little with particles that are found: give a larger set")
    calibration = calibrate(fitted)
    figures = check(calibration, checked)
    told = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in figures.items())
    print(f"{len(fitted)} micrographs to calibrate on; on the others: {told}")
    holds = HOLDS[0] <= figures["coverage"] <= HOLDS[1] and figures["calibration_error"] <= WORST
    if not holds and not options.force:
        raise InputError(
            f"on {len(checked)} other micrographs intervals of {LEVEL:.0%} hold {figures['coverage']:.1%} and"
            f" probabilities are {figures['calibration_error']:.2f} off: calibrate on more micrographs, or"
            " give force=true to write what there is"
        )
    description = folder / NAMES[1]
    fields = read_json(description)
    fields["calibration"] = {
        "weights": list(calibration.weights),
        "interval": [calibration.low, calibration.high],
        "micrographs": len(fitted),
        "checked": figures,
    }
    write_json(description, fields)
    print(f"{description} has the calibration")
    return 0


def find(segmenter: Segmenter, labelled: LabelledSet, index: int) -> Found:
    """The particles that a labelled micrograph shows to the segmenter, and the labels that fit them."""
    micrograph = labelled.read(index)
    labels, scores, evidence = segmenter.find_with_evidence(micrograph.pixels)
    areas = np.bincount(labels.ravel(), minlength=len(scores) + 1)[1:].astype(float)
    ious, true_areas = np.zeros(len(scores)), np.ones(len(scores))
    for layer in micrograph.layers:  # overlapping labels lie in several
        overlap = label_overlap(layer, labels)
        for pair in np.argsort(overlap.ious):  # the best of each particle comes last
            particle = overlap.predicted[pair]
            if overlap.ious[pair] > ious[particle]:
                ious[particle], true_areas[particle] = overlap.ious[pair], overlap.true_areas[overlap.true[pair]]
    return Found(scores, areas, evidence, ious, true_areas)


def calibrate(found: list[Found]) -> Calibration:
    """The calibration by the particles of labelled micrographs."""
    seen = np.concatenate([features(one.scores, one.areas, one.evidence) for one in found])
    real = np.concatenate([one.ious >= REAL for one in found])
    if real.all():
        raise InputError("all particles are real, which tells nothing of those that are not: give more micrographs")
    weights = shared_weights([len(one.scores) for one in found])
    fit = LogisticRegression(C=10.0, fit_intercept=False, max_iter=10_000).fit(seen, real, sample_weight=weights)
    errors = np.concatenate([relative_errors(one) for one in found])
    weights = shared_weights([int((one.ious >= REAL).sum()) for one in found])
    low, high = weighted_quantiles(errors, weights, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Calibration(tuple(fit.coef_[0].tolist()), low, high)


def shared_weights(counts: list[int]) -> np.ndarray:
    """A weight for each particle of micrographs with so many; 1 on average.

    A micrograph weighs as the root of its number, for its particles are much alike and say little of other ones.
    """
    weights = np.concatenate([np.full(count, max(count, 1) ** -0.5) for count in counts])
    return weights / weights.mean()


def relative_errors(found: Found) -> np.ndarray:
    """ln(true diameter / diameter) of each real particle, in units of its outline's shift."""
    errors = np.log(found.true_areas / found.areas) / 2 / shifts(found.areas, found.evidence)
    return errors[found.ious >= REAL]


def weighted_quantiles(values: np.ndarray, weights: np.ndarray, shares: tuple[float, ...]) -> tuple[float, ...]:
    """The values below which these shares of the weights lie."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    middles = (below - weights[order] / 2) / below[-1]
    return tuple(np.interp(shares, middles, values[order]).tolist())


def check(calibration: Calibration, found: list[Found]) -> dict[str, float]:
    """How well the calibration holds on other micrographs."""
    real = np.concatenate([one.ious >= REAL for one in found])
    probable = [probabilities(calibration, one.scores, one.areas, one.evidence) for one in found]
    intervals = [np.stack(diameter_intervals(calibration, one.areas, one.evidence)) for one in found]
    low, high = np.concatenate(intervals, axis=1)[:, real]
    true = np.sqrt(4 / np.pi * np.concatenate([one.true_areas for one in found]))[real]
    order = np.argsort(np.concatenate(probable), kind="stable")
    groups = [group for group in np.array_split(order, GROUPS) if len(group)]
    apart = [abs(np.concatenate(probable)[group].mean() - real[group].mean()) for group in groups]
    return {
        "micrographs": len(found),
        "particles": len(real),
        "coverage": float(((low <= true) & (true <= high)).mean()),
        "relative_width": float(np.median((high - low) / true)),
        "calibration_error": float(np.average(apart, weights=[len(group) for group in groups])),
        "doubted": sum(map(is_doubtful, probable)),
    }


if __name__ == "__main__":
    run_command(main)
