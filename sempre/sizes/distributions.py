"""Distributions of size by number, area and volume, and the figures that describe them (ISO 9276-1, -2).

Every function takes diameters `[N]` and weights `[N]`: for how many particles of the material each stands. Area and
volume are those of the circle and the sphere of equal diameter.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import gaussian_kde

TYPES = {0: "number", 2: "area", 3: "volume"}
MOST_BINS = 60
MODE_POINTS = 512


@dataclass(frozen=True)
class Table:
    """A distribution in classes: edges `[K + 1]`, particles `[K]`, densities q `[K]` and sums Q `[K]` by type.

    q is per unit of length, so that its sum over the classes times their widths is 1. Q is at the upper edge.
    """

    edges: np.ndarray
    particles: np.ndarray
    density: dict[int, np.ndarray]
    cumulative: dict[int, np.ndarray]


def quantile(values: np.ndarray, weights: np.ndarray, shares: float | np.ndarray) -> np.ndarray:
    """The sizes that `shares` of the weight lie below, linear between the middles of the steps.

    With equal weights it is Hazen's quantile, `numpy.quantile(..., method="hazen")`.
    """
    order = np.argsort(values, kind="stable")
    ordered, steps = values[order], weights[order]
    middles = (np.cumsum(steps) - steps / 2) / steps.sum()
    return np.asarray(np.interp(shares, middles, ordered))


def describe(diameters: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """The figures of a distribution of at least one particle, by their names in `statistics.json`.

    D10, D50, D90 by number and volume, the mode by number, span (D90 - D10) / D50, mean and standard deviation by
    number, geometric mean and standard deviation, Sauter's D[3,2] and De Brouckere's D[4,3] (ISO 9276-2).
    """
    logs = np.log(diameters)
    total = weights.sum()
    moments = {power: float((weights * diameters**power).sum()) for power in (2, 3, 4)}
    mean = float((weights * diameters).sum() / total)
    log_mean = float((weights * logs).sum() / total)
    d10, d50, d90 = quantile(diameters, weights, np.array([0.1, 0.5, 0.9]))
    v10, v50, v90 = quantile(diameters, weights * diameters**3, np.array([0.1, 0.5, 0.9]))
    return {
        "D10": float(d10),
        "D50": float(d50),
        "D90": float(d90),
        "mode": mode(diameters, weights),
        "span": float((d90 - d10) / d50),
        "mean": mean,
        "standard_deviation": float(np.sqrt((weights * (diameters - mean) ** 2).sum() / total)),
        "geometric_mean": float(np.exp(log_mean)),
        "GSD": float(np.exp(np.sqrt((weights * (logs - log_mean) ** 2).sum() / total))),
        "D[3,2]": moments[3] / moments[2],
        "D[4,3]": moments[4] / moments[3],
        "DV10": float(v10),
        "DV50": float(v50),
        "DV90": float(v90),
        "span_volume": float((v90 - v10) / v50),
    }


def mode(diameters: np.ndarray, weights: np.ndarray) -> float:
    """The most frequent size: where the density by number is highest, by a kernel estimate of the logarithms.

    The kernel is Gauss's with Silverman's width ("Density Estimation", 1986). Of fewer than three sizes it is the one
    that has the most weight.
    """
    logs = np.log(diameters)
    if len(np.unique(logs)) < 3 or np.ptp(logs) < 1e-9:
        sizes, at = np.unique(diameters, return_inverse=True)
        return float(sizes[np.bincount(at, weights).argmax()])
    if len(logs) > 20_000:  # the estimate's cost is N times the points
        edges = np.linspace(logs.min(), logs.max(), 2001)
        weights, logs = np.histogram(logs, edges, weights=weights)[0], (edges[1:] + edges[:-1]) / 2
    points = np.linspace(logs.min(), logs.max(), MODE_POINTS)
    density = gaussian_kde(logs, "silverman", weights)(points) * np.exp(-points)
    return float(np.exp(points[density.argmax()]))


def class_edges(diameters: np.ndarray) -> np.ndarray:
    """Edges `[K + 1]` of equal ratio over the sizes, as wide as Freedman and Diaconis (1981) advise, in logarithms."""
    low, high = float(diameters.min()), float(diameters.max())
    if high < 1.01 * low:  # all of one size
        low, high = 0.9 * low, 1.1 * high
    logs = np.log10(diameters)
    lower, upper = np.quantile(logs, [0.25, 0.75])
    width = 2 * (upper - lower) / len(logs) ** (1 / 3)
    classes = int(np.clip(np.ceil(np.log10(high / low) / width), 5, MOST_BINS)) if width > 0 else 5
    edges = np.geomspace(low, high, classes + 1)
    edges[0], edges[-1] = low, high
    return edges


def tabulate(diameters: np.ndarray, weights: np.ndarray, edges: np.ndarray) -> Table:
    """The distribution in classes by number, area and volume (q0 Q0, q2 Q2, q3 Q3)."""
    widths = np.diff(edges)
    density, cumulative = {}, {}
    for power in TYPES:
        amounts = np.histogram(diameters, edges, weights=weights * diameters.astype(float) ** power)[0]
        shares = amounts / amounts.sum()
        density[power], cumulative[power] = shares / widths, np.cumsum(shares)
    return Table(edges, np.histogram(diameters, edges)[0], density, cumulative)
