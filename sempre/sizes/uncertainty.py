"""How sure the figures of a size distribution are: micrographs, pixel size, outlines, and numbers of particles.

Particles of one micrograph are not independent: they share its place, focus and agglomeration. So micrographs are
drawn, not particles (cluster bootstrap: A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application",
1997, section 3.8).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sempre.sizes.borders import Counted
from sempre.sizes.distributions import describe, quantile

LEVEL = 0.95
DRAWS = 1000
GRID = 1000  # classes in which the draws' distributions are kept
NANO = 100.0  # nm: the upper limit of a nanoparticle's smallest dimension (EU 2022/C 229/01)
CALIBRATION_LIMITS = 0.03  # the scale of a microscope without a certificate is taken to be right within so much
BAR_LIMIT_PX = 1.0  # the length of a scale bar is read within so many px
DRAWN = ("D10", "D50", "D90", "mean", "geometric_mean", "GSD", "D[3,2]", "D[4,3]", "DV10", "DV50", "DV90")
WITHOUT_LENGTH = ("GSD",)  # figures that a wrong pixel size does not change
RECTANGLE = 3**-0.5  # standard deviation of a uniform distribution over its half width


@dataclass(frozen=True)
class Interval:
    """A figure with the limits of its interval at `LEVEL`, and the parts of its relative standard uncertainty."""

    value: float
    low: float
    high: float
    sampling: float
    pixel_size: float = 0.0
    outline: float | None = None  # None where the outlines' uncertainty is not known


@dataclass(frozen=True)
class Bootstrap:
    """Draws of each figure of `DRAWN` `[draws]`; `units` is how many micrographs (or particles) were drawn from."""

    draws: dict[str, np.ndarray]
    units: int
    by: str  # "micrographs" or "particles"


def bootstrap(counted: Counted, seed: int = 0, draws: int = DRAWS) -> Bootstrap:
    """Figures of samples of micrographs drawn with replacement; of a single micrograph, of its particles.

    The latter leaves out how micrographs differ, so its intervals are too narrow: reports must say so.
    """
    by = "micrographs" if counted.fields > 1 else "particles"
    units = counted.fields if by == "micrographs" else len(counted)
    groups = counted.field if by == "micrographs" else np.arange(len(counted))
    random = np.random.default_rng(seed)
    d, w = counted.diameter, counted.weight
    logs = np.log(d)
    log_edges = np.linspace(logs.min() - 1e-9, logs.max() + 1e-9, GRID + 1)
    cell = np.clip(np.searchsorted(log_edges, logs, "right") - 1, 0, GRID - 1)
    terms = [w, w * d, w * d**2, w * d**3, w * d**4, w * logs, w * logs**2]
    sums = np.stack([np.bincount(groups, term, units) for term in terms], axis=1)  # [units, 7]
    edges = np.exp(log_edges)
    found: dict[str, list[np.ndarray]] = {name: [] for name in DRAWN}
    step = max(1, min(draws, int(2e7 // max(GRID, units, len(d)))))
    for first in range(0, draws, step):
        times = random.multinomial(units, np.full(units, 1 / units), size=min(step, draws - first))
        times = times[times @ sums[:, 0] > 0]  # at least one particle
        n, m1, m2, m3, m4, l1, l2 = (times @ sums).T
        found["mean"].append(m1 / n)
        found["geometric_mean"].append(np.exp(l1 / n))
        found["GSD"].append(np.exp(np.sqrt(np.maximum(l2 / n - (l1 / n) ** 2, 0))))
        found["D[3,2]"].append(m3 / m2)
        found["D[4,3]"].append(m4 / m3)
        for power, names in ((0, ("D10", "D50", "D90")), (3, ("DV10", "DV50", "DV90"))):
            for row in times:
                amount = np.bincount(cell, row[groups] * w * d**power, GRID)
                total = np.concatenate([[0], np.cumsum(amount)])
                at = np.interp(np.array([0.1, 0.5, 0.9]) * total[-1], total, edges)
                for name, value in zip(names, at, strict=True):
                    found[name].append(np.array([value]))
    return Bootstrap({name: np.concatenate(parts) for name, parts in found.items()}, units, by)


def pixel_size_uncertainty(source: str, given: float | None = None) -> float:
    """The relative standard uncertainty of a pixel size by its source, as `summary.csv` names it.

    `given` is what a certificate or the user's own calibration says, and wins. A scale bar of L px adds ± 1 px over L
    to the microscope's own limits of ± 3 %, which also hold for metadata and a typed size: the bar, the metadata, and
    as a rule what is typed come from the microscope. Limits are of a uniform distribution (JCGM 100:2008, 4.3.7).
    """
    if given is not None:
        return given
    own = CALIBRATION_LIMITS * RECTANGLE
    if bar := re.search(r"nm on ([\d.]+) px", source):
        return float(np.hypot(own, BAR_LIMIT_PX / max(float(bar[1]), 1.0) * RECTANGLE))
    return own


def outline_uncertainty(counted: Counted) -> dict[str, float] | None:
    """The relative standard uncertainty of each figure from that of the outlines; None where that is not known.

    Each particle's diameter has an interval of 90 %. All outlines are taken to be off in the same way, to the lower
    limit or to the upper one: a threshold that is wrong moves them together.
    """
    if counted.low is None or counted.high is None or np.isnan(counted.low).any() or np.isnan(counted.high).any():
        return None
    low, high = (describe(np.maximum(d, 1e-9), counted.weight) for d in (counted.low, counted.high))
    width = 2 * stats.norm.ppf(0.95)
    return {name: abs(float(np.log(high[name] / low[name]))) / width for name in DRAWN}


def intervals(
    counted: Counted, drawn: Bootstrap, pixel_size: float = 0.0, outline: dict[str, float] | None = None
) -> dict[str, Interval]:
    """Each figure of `DRAWN` with its interval: Student's t times the draws' deviation, in logarithms.

    The deviation of the draws is multiplied by √(n / (n - 1)), for that of a few micrographs is too small by as much.
    Other parts of the budget are added in squares, with the normal distribution's factor.
    """
    values = describe(counted.diameter, counted.weight)
    degrees = max(drawn.units - 1, 1)
    t, z = stats.t.ppf((1 + LEVEL) / 2, degrees), stats.norm.ppf((1 + LEVEL) / 2)
    found = {}
    for name in DRAWN:
        spread = float(np.std(np.log(drawn.draws[name]))) * np.sqrt(drawn.units / degrees)
        size = 0.0 if name in WITHOUT_LENGTH else pixel_size
        edge = None if outline is None else outline[name]
        half = float(np.sqrt((t * spread) ** 2 + (z * size) ** 2 + (z * (edge or 0.0)) ** 2))
        value = values[name]
        found[name] = Interval(value, value * np.exp(-half), value * np.exp(half), float(spread), size, edge)
    return found


def share_below(counted: Counted, limit: float, drawn_from: int | None = None) -> Interval:
    """The share of particles by number whose smallest Feret diameter is below a limit, with its interval.

    The interval is Clopper and Pearson's with the number of particles that, drawn independently, would tell as much:
    E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data", Survey Methodology 24 (1998). So it holds for shares of 0 and 1, too.
    """
    inside = (counted.feret_min < limit).astype(float)
    w = counted.weight
    share = float((w * inside).sum() / w.sum())
    kish = float(w.sum() ** 2 / (w**2).sum())
    units = counted.fields if drawn_from is None else drawn_from
    effective = kish
    if units > 1 and 0 < share < 1:
        residual = np.bincount(counted.field, w * (inside - share), units)
        variance = units / (units - 1) * float((residual**2).sum()) / float(w.sum()) ** 2
        if variance > 0:
            effective = min(kish, share * (1 - share) / variance)
    if units > 1:
        level = (1 + LEVEL) / 2
        effective *= float(stats.t.ppf(level, max(kish - 1, 1)) / stats.t.ppf(level, units - 1)) ** 2
    low, high = clopper_pearson(share * effective, effective)
    return Interval(share, low, high, float(np.sqrt(share * (1 - share) / max(effective, 1e-9))))


def clopper_pearson(positive: float, number: float) -> tuple[float, float]:
    """The limits at `LEVEL` of a share of `positive` in `number`, neither of which must be whole."""
    tail = (1 - LEVEL) / 2
    low = 0.0 if positive <= 0 else float(stats.beta.ppf(tail, positive, number - positive + 1))
    high = 1.0 if positive >= number else float(stats.beta.ppf(1 - tail, positive + 1, number - positive))
    return low, high


def particles_needed(gsd: float, relative: float = 0.05, power: int = 0) -> float:
    """How many independent particles a log-normal distribution takes for its median, within `relative` at `LEVEL`.

    n = u² σ² (c² σ² + 1) exp(c² σ²) / δ², with σ = ln GSD, u the normal quantile, and c the power by which particles
    are weighted, 0 by number and 3 by volume. It is after H. Masuda and K. Iinoya, "Theoretical study of the
    scatter of experimental data due to particle-size-distribution", J. Chem. Eng. Japan 4 (1971), for the estimator
    exp(Σ d^c ln d / Σ d^c).
    """
    sigma2, c2 = float(np.log(gsd)) ** 2, float(power) ** 2
    u = float(stats.norm.ppf((1 + LEVEL) / 2))
    return u**2 * sigma2 * (c2 * sigma2 + 1) * float(np.exp(c2 * sigma2)) / relative**2


@dataclass(frozen=True)
class Settling:
    """How D50 settles: of 1 to n micrographs in random order the mean and the limits of 90 % of orders, each `[n]`."""

    micrographs: Sequence[int]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def settling(counted: Counted, seed: int = 0, orders: int = 100, points: int = 20) -> Settling:
    """D50 of the first 1, 2 … n micrographs, over random orders; at `points` numbers where there are more."""
    random = np.random.default_rng(seed)
    numbers = np.unique(np.linspace(1, counted.fields, min(points, counted.fields)).round().astype(int))
    found = np.full((orders, len(numbers)), np.nan)
    for row in found:
        rank = np.empty(counted.fields, np.int64)
        rank[random.permutation(counted.fields)] = np.arange(counted.fields)
        rank_of_particle = rank[counted.field]
        for column, number in enumerate(numbers):
            chosen = rank_of_particle < number
            if chosen.any():
                row[column] = quantile(counted.diameter[chosen], counted.weight[chosen], 0.5)
    with np.errstate(all="ignore"):
        low, high = np.nanquantile(found, [0.05, 0.95], axis=0)
        return Settling(numbers.tolist(), np.nanmean(found, axis=0), low, high)
