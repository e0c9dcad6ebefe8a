"""How a score grows with the number of images, and what more of them would give."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.stats import t

LEVEL = 0.95
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
        return t.ppf((1 + LEVEL) / 2, self.freedom) * np.sqrt(np.maximum(variance, 0))

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
