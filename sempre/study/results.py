"""What the cells of a study have come to, and whether one arm is better than another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.stats import t, wilcoxon

from sempre.files import read_json
from sempre.metrics import by_group, summarise
from sempre.study.cells import cell_state
from sempre.study.design import Cell

DRAWS = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class PairedDifference:
    """A difference of means over micrographs, its bootstrap confidence interval, and Wilcoxon's two-sided p."""

    mean: float
    low: float
    high: float
    p: float
    micrographs: int


def paired_difference(first: np.ndarray, second: np.ndarray, seed: int = 0) -> PairedDifference:
    """`second` minus `first`, scores of the same micrographs, each `[N]`.

    The interval is the percentile bootstrap of the differences (Efron and Tibshirani, 1993), micrographs drawn with
    replacement, at 95 %. p is that of Wilcoxon's signed-rank test, without the micrographs that are equal, and 1 when
    all are. It says nothing below six micrographs, where even the clearest difference has p above 0.05.
    """
    differences = np.asarray(second, float) - np.asarray(first, float)
    means = bootstrap_means(differences, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    p = float(wilcoxon(differences).pvalue) if np.any(differences) else 1.0
    return PairedDifference(float(differences.mean()), float(low), float(high), p, len(differences))


def bootstrap_means(values: np.ndarray, seed: int = 0, draws: int = DRAWS) -> np.ndarray:
    """Means of `draws` samples of `values` (`[N]`) drawn with replacement, `[draws]`."""
    chosen = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    return values[chosen].mean(axis=1)


def paired_differences(scores: Mapping[str, Mapping[str, float]]) -> dict[tuple[str, str], PairedDifference]:
    """Of every pair of arms, by their names; `scores` are by arm and micrograph, and those that both have count."""
    pairs = {}
    for first, second in combinations(scores, 2):
        shared = sorted(set(scores[first]) & set(scores[second]))
        if shared:
            before, after = (np.array([scores[arm][name] for name in shared]) for arm in (first, second))
            pairs[first, second] = paired_difference(before, after)
    return pairs


SATURATION_LEVEL = 0.95
LEAST_COUNTS = 4  # distinct numbers of images: a curve of three parameters goes through any three points
LEAST_RISE = 1e-6  # b of a curve that rises


@dataclass(frozen=True)
class Saturation:
    """`a - b n^-c`: a is what infinitely many images would give. `covariance` is that of (a, b, c), `[3, 3]`."""

    a: float
    b: float
    c: float
    covariance: np.ndarray
    freedom: int  # degrees of it: points less three

    def at(self, n: np.ndarray | float) -> np.ndarray:
        """The curve at `n` images, of n's shape."""
        return self.a - self.b * np.asarray(n, float) ** -self.c

    def half_width(self, n: np.ndarray | float) -> np.ndarray:
        """Half of the curve's confidence band at `n`, by the delta method and Student's t at 95 %."""
        n = np.asarray(n, float)
        decay = n**-self.c
        gradient = np.stack([np.ones_like(n), -decay, self.b * np.log(n) * decay], axis=-1)
        variance = np.einsum("...i,ij,...j->...", gradient, self.covariance, gradient)
        return t.ppf((1 + SATURATION_LEVEL) / 2, self.freedom) * np.sqrt(np.maximum(variance, 0))

    def reaches(self, level: float) -> float | None:
        """The number of images at which the curve passes `level` upwards; None when it never does, or begins above."""
        if self.b <= 0 or self.a <= level or self.at(1.0) >= level:
            return None
        return float((self.b / (self.a - level)) ** (1 / self.c))


def fit_saturation(n: np.ndarray, scores: np.ndarray) -> Saturation | None:
    """The least-squares curve through scores at `n` images, each `[N]`, a point a repeat; without those at n = 0.

    Returns:
        None when there are fewer than four distinct n, or no curve is the best: scores that do not saturate, say.
    """
    n, scores = np.asarray(n, float), np.asarray(scores, float)
    n, scores = n[n > 0], scores[n > 0]
    if len(np.unique(n)) < LEAST_COUNTS or len(n) < LEAST_COUNTS:
        return None
    first, last = scores[n == n.min()].mean(), scores[n == n.max()].mean()
    start = (last + 0.01, last - first + 0.01, 0.5)
    bounds = ([-1.0, -2.0, 0.02], [2.0, 2.0, 4.0])
    with np.errstate(all="ignore"):
        try:
            found, covariance = curve_fit(_curve, n, scores, start, bounds=bounds, maxfev=20_000)
        except (RuntimeError, ValueError, OptimizeWarning):
            return None
    on_a_bound = np.isclose(found, bounds[0], atol=1e-3) | np.isclose(found, bounds[1], atol=1e-3)
    if on_a_bound.any() or found[1] < LEAST_RISE or not np.isfinite(covariance).all():
        return None
    a, b, c = map(float, found)
    return Saturation(a, b, c, covariance, len(n) - len(found))


def _curve(n: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    return a - b * n**-c


SHOWN = ("aji_plus", "correct", "missed", "false_positives")


@dataclass(frozen=True)
class Result:
    """`samples` are the scores of each micrograph (`sempre.metrics.score_sample`), none of a cell without scores."""

    cell: Cell
    state: str  # finished, failed or not run
    reason: str
    samples: Mapping[str, Mapping]

    def aji_plus(self, names: Sequence[str]) -> float:
        return float(np.mean([self.samples[name]["aji_plus"] for name in names]))


def read_results(folder: Path, cells: Sequence[Cell]) -> list[Result]:
    """A result for every cell, missing ones too: they say why."""
    states = {cell.name: cell_state(folder, cell) for cell in cells}
    results = []
    for cell in cells:
        state, reason = states[cell.name]
        if state == "not run" and cell.needs and states.get(cell.needs, ("",))[0] == "failed":
            reason = f"{cell.needs} failed"
        samples = {}
        if state == "finished" and cell.stage == "finetune":
            try:
                samples = read_samples(folder / cell.name)
            except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
                state, reason = "failed", f"its summary.json cannot be read: {error!r}"
        results.append(Result(cell, state, reason, samples))
    return results


def read_samples(run: Path) -> dict[str, dict]:
    """The scores of each micrograph in the first repeat of a run's `summary.json`."""
    return read_json(run / "summary.json")["repeats"][0]["samples"]


def result_rows(results: Sequence[Result], groups: Mapping[str, str]) -> list[dict]:
    """One row a cell: its labels, its state, and AJI+ and counts over all micrographs and over each group."""
    rows = []
    for result in results:
        cell = result.cell
        row = {
            "cell": cell.name,
            "recipe": cell.recipe,
            "size": cell.size,
            "arm": cell.arm,
            "images": cell.images or "all",
            "labels": cell.labels or "all",
            "seed": cell.seed,
            "state": result.state,
            "reason": result.reason,
        }
        if result.samples:
            row |= {name: summarise(result.samples)[name] for name in SHOWN}
            if groups:
                for group, members in by_group(result.samples, groups).items():
                    row |= {f"{name} {group}": summarise(members)[name] for name in SHOWN}
        rows.append(row)
    return rows


def repeats_of(results: Sequence[Result], **labels: object) -> list[Result]:
    """The scored repeats of one combination: of all images and labels where `labels` say no others."""
    wanted = {"images": 0, "labels": 0, **labels}
    return [
        result
        for result in results
        if result.samples and all(getattr(result.cell, name) == value for name, value in wanted.items())
    ]


def mean_of_micrographs(repeats: Sequence[Result], score: str = "aji_plus") -> dict[str, float]:
    """The mean over repeats of each micrograph's score."""
    names = sorted({name for repeat in repeats for name in repeat.samples})
    return {name: float(np.mean([repeat.samples[name][score] for repeat in repeats])) for name in names}


def group_members(results: Sequence[Result], groups: Mapping[str, str]) -> dict[str, list[str]]:
    """The scored micrographs of each group; all of them as one, `all micrographs`, where there are no groups."""
    names = sorted({name for result in results for name in result.samples})
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(groups.get(name, "all micrographs"), []).append(name)
    return dict(sorted(members.items()))
