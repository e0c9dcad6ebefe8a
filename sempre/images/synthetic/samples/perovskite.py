"""A perovskite along [001] as a dark-field STEM shows it: A and B columns, a few of them vacant or of another element.

Intensities go with the square of the atomic number, roughly (Pennycook and Nellist, "Scanning Transmission Electron
Microscopy", 2011, chapter 1); oxygen is not seen.
"""

import numpy as np
from scipy import ndimage

from sempre.images.synthetic.grounds.substrate import correlated_noise
from sempre.images.synthetic.samples.defects import Defects, scattered

CONSTANT_NM = 0.3905  # of SrTiO3
B_COLUMN = 0.5  # intensity over an A column's
VACANCY, SUBSTITUTION = "vacancy", "substitution"


def render_perovskite(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, Defects, float]:
    """Grey values uint8 `[H, W]`, defects, nm per px; see `sempre.images.synthetic.samples.sample.render_sample`.

    A vacant column keeps up to 0.4 of its intensity, for others of its atoms are there; a column with a heavy dopant
    has 1.6 to 2.2 times its own.
    """
    random = np.random.default_rng([seed, 1])
    constant = random.uniform(17, 24)  # px
    columns, is_b = _columns(constant, size, random)
    brightness = np.where(is_b, B_COLUMN, 1.0) * random.normal(1, 0.03, len(columns))
    kinds, points = [], []
    count = int(random.integers(8, 15))
    for number, place in enumerate(scattered(count, size, 1.5 * constant, 4 * constant, random)):
        kind = (VACANCY, SUBSTITUTION)[number % 2]
        # Vacancies of the bright sublattice; dopants go where they fit.
        allowed = columns if kind == SUBSTITUTION else columns[~is_b]
        column = int(np.flatnonzero((columns == allowed[((allowed - place) ** 2).sum(1).argmin()]).all(1))[0])
        brightness[column] *= random.uniform(0, 0.4) if kind == VACANCY else random.uniform(1.6, 2.2)
        kinds.append(kind)
        points.append(columns[column])
    width = constant * random.uniform(0.11, 0.14)
    light = _columns_seen(columns, brightness, width, size)
    # Thickness and what the beam has laid down change slowly over the field.
    slow = correlated_noise(size, 2.0, constant, random)
    light = light * (1 + 0.08 * slow) + 0.18 + 0.05 * np.maximum(slow, 0)
    light = _scanned(light, random)
    dose = random.uniform(60, 200)
    grey = random.poisson(np.maximum(light, 0) * dose) / dose
    low, high = np.percentile(grey, [0.5, 99.8])
    pixels = np.rint((20 + 215 * (grey - low) / (high - low)).clip(0, 255)).astype(np.uint8)
    return pixels, Defects.of_points(kinds, points), CONSTANT_NM / constant


def _columns(constant, size, random) -> tuple[np.ndarray, np.ndarray]:
    """Places (y, x) `[N, 2]` of all columns in the field, and which are of the B sublattice `[N]`."""
    angle = random.uniform(0, np.pi / 2)
    reach = int(np.hypot(*size) / constant) + 2
    grid = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    places = np.concatenate([grid, grid + 0.5]) * constant @ turn.T + np.array(size) / 2
    places = places + random.normal(0, 0.008 * constant, places.shape)
    is_b = np.repeat([False, True], len(grid))
    inside = ((places > -constant) & (places < np.array(size) + constant)).all(axis=1)
    return places[inside], is_b[inside]


def _columns_seen(columns, brightness, width, size) -> np.ndarray:
    """Gaussian peaks float64 `[H, W]`."""
    reach = int(np.ceil(4 * width))
    light = np.zeros((size[0] + 4 * reach + 80, size[1] + 4 * reach + 80))
    margin = 2 * reach + 40
    offsets = np.arange(-reach, reach + 1)
    for (y, x), peak in zip(columns, brightness, strict=True):
        row, column = round(y), round(x)
        vertical = np.exp(-0.5 * ((offsets - (y - row)) / width) ** 2)
        horizontal = np.exp(-0.5 * ((offsets - (x - column)) / width) ** 2)
        top, left = row - reach + margin, column - reach + margin
        light[top : top + len(offsets), left : left + len(offsets)] += peak * vertical[:, None] * horizontal
    return light[margin : margin + size[0], margin : margin + size[1]]


def _scanned(light, random) -> np.ndarray:
    """Each line a little beside its place, as the scan's flyback and hum leave it."""
    height, width = light.shape
    jitter = random.normal(0, 0.25, height) + ndimage.gaussian_filter1d(random.normal(0, 2.0, height), 8)
    rows = np.broadcast_to(np.arange(height)[:, None], light.shape)
    return ndimage.map_coordinates(light, [rows, np.arange(width) + jitter[:, None]], order=1, mode="nearest")
