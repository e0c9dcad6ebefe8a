"""Models of a size distribution, fitted by weighted maximum likelihood, and how well each suits.

Normal and log-normal, Rosin-Rammler (Weibull's with two parameters; P. Rosin and E. Rammler 1933) and
Gates-Gaudin-Schuhmann (Q = (x / x_max)^m; R. Schuhmann 1940), as ISO 9276-3 lists them. The last two describe ground
material, by volume as a rule.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import brentq

MODELS = ("normal", "log-normal", "Rosin-Rammler", "Gates-Gaudin-Schuhmann")
AT = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])  # shares at which residuals are listed


@dataclass(frozen=True)
class Fit:
    """A fitted model. Residuals are measured Q minus the model's Q, between -1 and 1."""

    model: str
    parameters: dict[str, float]
    rms: float  # of the residuals over all particles
    largest: float  # residual by size, which is Kolmogorov's distance
    residuals: dict[str, float]  # where the measured Q is one of `AT`
    distribution: Any  # of scipy.stats, frozen


def fit_models(diameters: np.ndarray, weights: np.ndarray) -> list[Fit]:
    """All models that can be fitted to diameters `[N]` of weights `[N]`, the one that suits best first.

    The best has the smallest root mean square residual. Fewer than three different sizes give no fit.
    """
    if len(np.unique(diameters)) < 3:
        return []
    share = weights / weights.sum()
    order = np.argsort(diameters)
    sizes, share = diameters[order].astype(float), share[order]
    measured = np.cumsum(share) - share / 2
    fits = []
    for model in MODELS:
        parameters, distribution = _fit(model, sizes, share)
        expected = distribution.cdf(sizes)
        residual = measured - expected
        upper, lower = np.cumsum(share) - expected, np.cumsum(share) - share - expected
        at = np.interp(AT, measured, sizes)
        fits.append(
            Fit(
                model,
                parameters,
                float(np.sqrt((share * residual**2).sum())),
                float(max(np.abs(upper).max(), np.abs(lower).max())),
                {f"{q:g}": float(q - distribution.cdf(x)) for q, x in zip(AT, at, strict=True)},
                distribution,
            )
        )
    return sorted(fits, key=lambda fit: fit.rms)


def _fit(model: str, sizes: np.ndarray, share: np.ndarray) -> tuple[dict[str, float], Any]:
    """The parameters by their names, and the frozen distribution."""
    logs = np.log(sizes)
    match model:
        case "normal":
            mean = float((share * sizes).sum())
            deviation = float(np.sqrt((share * (sizes - mean) ** 2).sum()))
            return {"mean": mean, "standard_deviation": deviation}, stats.norm(mean, deviation)
        case "log-normal":
            mean = float((share * logs).sum())
            deviation = float(np.sqrt((share * (logs - mean) ** 2).sum()))
            named = {"median": float(np.exp(mean)), "GSD": float(np.exp(deviation))}
            return named, stats.lognorm(deviation, scale=np.exp(mean))
        case "Rosin-Rammler":
            exponent = weibull_exponent(sizes, share)
            top = sizes.max()
            scale = float(top * (share * (sizes / top) ** exponent).sum() ** (1 / exponent))
            return {"x63": scale, "n": exponent}, stats.weibull_min(exponent, scale=scale)
        case _:
            top = float(sizes.max())
            exponent = float(1 / (share * np.log(top / sizes)).sum())
            return {"x_max": top, "m": exponent}, stats.powerlaw(exponent, scale=top)


def weibull_exponent(sizes: np.ndarray, share: np.ndarray) -> float:
    """The exponent of Weibull's distribution that is most likely, with the location 0; weights `[N]` sum to 1."""
    logs = np.log(sizes / sizes.max())
    mean = float((share * logs).sum())

    def slope(exponent: float) -> float:
        powers = share * np.exp(exponent * logs)
        return float((powers * logs).sum() / powers.sum() - 1 / exponent - mean)

    high = 1.0
    while slope(high) < 0 and high < 1e6:
        high *= 2
    return float(brentq(slope, 1e-6, high, xtol=1e-10))
