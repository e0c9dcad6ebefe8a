"""Whether two samples differ in size, and by how much; micrographs, not particles, are what is independent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sempre.sizes.borders import Counted
from sempre.sizes.distributions import describe, quantile
from sempre.sizes.uncertainty import DRAWN, LEVEL, Bootstrap

PERMUTATIONS = 999


@dataclass(frozen=True)
class Comparison:
    """`second` against `first`. Ratios are second over first with their limits at `LEVEL`, by the figure's name."""

    first: str
    second: str
    difference: dict[str, tuple[float, float, float]]
    ratio: dict[str, tuple[float, float, float]]
    distance: float  # Kolmogorov's and Smirnov's, between the distributions by number
    distance_p: float | None  # None where a sample has one micrograph
    mann_whitney: float | None  # U of the micrographs' medians
    mann_whitney_p: float | None


def compare(names: tuple[str, str], counted: tuple[Counted, Counted], drawn: tuple[Bootstrap, Bootstrap]) -> Comparison:
    """Compare two samples that were measured with the same microscope: its calibration cancels.

    Limits are those of Welch's t interval, with the deviations of the bootstrap over micrographs. p of the distance is
    by permuting the micrographs between the samples, for the usual p takes particles for independent. Mann and
    Whitney's test is on the medians of the micrographs.
    """
    first, second = (describe(one.diameter, one.weight) for one in counted)
    difference, ratio = {}, {}
    for name in DRAWN:
        low, high = _welch([np.log(one.draws[name]) for one in drawn], drawn)
        estimate = float(np.log(second[name] / first[name]))
        ratio[name] = tuple(float(np.exp(estimate + shift)) for shift in (0.0, low, high))
        low, high = _welch([one.draws[name] for one in drawn], drawn)
        estimate = second[name] - first[name]
        difference[name] = (estimate, estimate + low, estimate + high)
    distance, p = _permuted_distance(*counted)
    medians = [micrograph_medians(one) for one in counted]
    statistic = stats.mannwhitneyu(*medians) if all(len(one) > 1 for one in medians) else None
    return Comparison(
        *names,
        difference,
        ratio,
        distance,
        p,
        None if statistic is None else float(statistic.statistic),
        None if statistic is None else float(statistic.pvalue),
    )


def micrograph_medians(counted: Counted) -> np.ndarray:
    """The weighted median diameter of each micrograph that shows a particle."""
    order = np.argsort(counted.field, kind="stable")
    cuts = np.flatnonzero(np.diff(counted.field[order])) + 1
    groups = np.split(order, cuts)
    return np.array([float(quantile(counted.diameter[at], counted.weight[at], 0.5)) for at in groups if len(at)])


def ks_distance(first: np.ndarray, w1: np.ndarray, second: np.ndarray, w2: np.ndarray) -> float:
    """The largest difference of two weighted cumulative distributions of values `[N]`, `[M]`."""
    values = np.concatenate([first, second])
    signed = np.concatenate([w1 / w1.sum(), -w2 / w2.sum()])
    order = np.argsort(values, kind="stable")
    ends = np.append(np.diff(values[order]) > 0, True)  # equal values are one step
    return float(np.abs(np.cumsum(signed[order])[ends]).max())


def _welch(draws: Sequence[np.ndarray], drawn: tuple[Bootstrap, Bootstrap]) -> tuple[float, float]:
    """The limits, about the estimate, of the difference of two figures with these draws."""
    degrees = [max(one.units - 1, 1) for one in drawn]
    variances = [
        float(np.var(values)) * one.units / free for values, one, free in zip(draws, drawn, degrees, strict=True)
    ]
    total = sum(variances)
    if total == 0:
        return 0.0, 0.0
    free = total**2 / sum(variance**2 / one for variance, one in zip(variances, degrees, strict=True))
    half = float(stats.t.ppf((1 + LEVEL) / 2, free) * np.sqrt(total))
    return -half, half


def _permuted_distance(first: Counted, second: Counted) -> tuple[float, float | None]:
    """The distance, and how often it is as large when micrographs change samples at random."""
    values = np.concatenate([first.diameter, second.diameter])
    weights = np.concatenate([first.weight, second.weight])
    micrographs = np.concatenate([first.field, first.fields + second.field])
    order = np.argsort(values, kind="stable")
    weights, micrographs = weights[order], micrographs[order]
    ends = np.append(np.diff(values[order]) > 0, True)

    def distance(in_first: np.ndarray) -> float:
        one, other = (weights * mask for mask in (in_first[micrographs], ~in_first[micrographs]))
        if not one.any() or not other.any():
            return 0.0
        return float(np.abs(np.cumsum(one / one.sum() - other / other.sum())[ends]).max())

    total = first.fields + second.fields
    observed = distance(np.arange(total) < first.fields)
    if min(first.fields, second.fields) < 2:
        return observed, None
    random = np.random.default_rng(0)
    as_large = sum(distance(random.permutation(total) < first.fields) >= observed - 1e-12 for _ in range(PERMUTATIONS))
    return observed, (1 + as_large) / (1 + PERMUTATIONS)
