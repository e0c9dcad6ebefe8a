"""Grounds that mislead a segmenter of scanning micrographs: round holes, ridges and scratches, stains, bare dark."""

import numpy as np
from scipy import ndimage

from sempre.images.synthetic.grounds.structured import STRUCTURED, render_structure
from sempre.images.synthetic.grounds.substrate import SUBSTRATES, correlated_noise, disc, render_substrate, sigmoid

WIDE_SUBSTRATES = (*SUBSTRATES, "holes", "ridges", "stains", "bare")


def render_backdrop(kind: str, shape: tuple[int, int], scale: float, random: np.random.Generator):
    """Relief in px and brightness (about 1), both float32 `[H, W]`, of a ground of WIDE_SUBSTRATES or STRUCTURED."""
    if kind in STRUCTURED:
        return render_structure(kind, shape, scale, random)
    if kind in SUBSTRATES:
        return render_substrate(kind, shape, scale, random)
    if kind == "bare":
        return np.zeros(shape, np.float32), np.full(shape, 1, np.float32)
    relief, brightness = render_substrate("tape" if random.random() < 0.6 else "wafer", shape, scale, random)
    relief, brightness = {"holes": _holes, "ridges": _ridges, "stains": _stains}[kind](
        relief, brightness, scale, random
    )
    return relief.astype(np.float32), brightness.clip(0.05).astype(np.float32)


def _holes(relief, brightness, scale, random) -> tuple[np.ndarray, np.ndarray]:
    """Dark round holes, as in carbon tape: sharp or soft, some with a bright rim on one side."""
    shape = relief.shape
    typical = min(scale * np.exp(random.uniform(-1, 1)), 0.25 * min(shape))
    for _ in range(int(random.integers(1, 25))):
        radius = min(typical * random.lognormal(0, 0.5), 0.35 * min(shape))
        window, distance = disc(shape, random.uniform(0, shape[1]), random.uniform(0, shape[0]), radius * 1.5, random)
        soft = random.uniform(0.6, max(0.08 * radius, 0.7))
        depth = sigmoid((radius - distance) / soft)
        brightness[window] *= 1 - random.uniform(0.25, 0.85) * depth
        rim = np.exp(-(((distance - radius) / (2 * soft)) ** 2))
        brightness[window] += random.choice([0.0, 0.15, 0.4]) * rim
        relief[window] -= 0.3 * radius * depth
    return relief, brightness


def _ridges(relief, brightness, scale, random) -> tuple[np.ndarray, np.ndarray]:
    """Wrinkles that branch, or the parallel scratches of a rolled or ground sheet."""
    shape = relief.shape
    if random.random() < 0.5:
        level = correlated_noise(shape, 1.7, scale / 3, random)
        ridge = np.exp(-((level / random.uniform(0.05, 0.2)) ** 2))
    else:
        lines = ndimage.gaussian_filter1d(random.standard_normal(2 * max(shape)), random.uniform(1, 4))
        azimuth = random.uniform(0, np.pi)
        across = np.cos(azimuth) * np.arange(shape[1])[None] + np.sin(azimuth) * np.arange(shape[0])[:, None]
        ridge = lines[(across - across.min()).astype(int) % len(lines)] / lines.std()
    relief = relief + random.uniform(0.5, 2.5) * ridge
    return relief, brightness * (1 + random.uniform(0, 0.25) * ridge)


def _stains(relief, brightness, scale, random) -> tuple[np.ndarray, np.ndarray]:
    """Large faint regions, brighter or darker, sharp or soft, with the rim of a dried drop at times."""
    for _ in range(int(random.integers(1, 4))):
        noise = correlated_noise(relief.shape, random.uniform(1.8, 2.6), 15, random)
        level, steepness = random.uniform(-0.3, 1.2), np.exp(random.uniform(np.log(3), np.log(60)))
        inside = sigmoid((noise - level) * steepness)
        rim = random.choice([0, 0, 0.25]) * np.exp(-(((noise - level) / 0.05) ** 2))
        brightness = brightness * (1 + random.uniform(-0.45, 0.6) * inside + rim)
    return relief, brightness
