"""What particles lie on in a transmission microscope: carbon films, whole, lacey or holey, flakes, catalyst supports.

Nothing here is a particle: ridges, round holes and large faint regions are what a segmenter must leave alone.
"""

import numpy as np

from sempre.images.synthetic.grounds.substrate import correlated_noise, sigmoid

SUPPORTS = ("film", "lacey", "holey", "flakes", "clumps")


def render_support(kind: str, shape: tuple[int, int], scale: float, random: np.random.Generator) -> np.ndarray:
    """Optical thickness float32 `[H, W]`, at least 0, of a support with features of about `scale` px."""
    film = random.uniform(0.02, 0.2) * (1 + random.uniform(0.05, 0.35) * correlated_noise(shape, 1.7, 8, random))
    make = {"film": lambda *_: film, "lacey": _lacey, "holey": _holey, "flakes": _flakes, "clumps": _clumps}[kind]
    thickness = make(film, scale, random)
    return np.maximum(thickness + random.uniform(0, 0.1) * _stains(shape, random), 0).astype(np.float32)


def _stains(shape, random) -> np.ndarray:
    """Faint regions of contamination, 0 to about 1: none, or some with the soft rim of a dried drop."""
    noise = correlated_noise(shape, 2.2, 20, random)
    level = random.uniform(0.3, 2.5)
    return sigmoid((noise - level) * random.uniform(3, 30)) + 0.5 * np.exp(-(((noise - level) / 0.12) ** 2))


def _lacey(film, scale, random) -> np.ndarray:
    """A web of strands, thicker at their rims, with vacuum between."""
    noise = correlated_noise(film.shape, 1.9, max(scale, 25), random)
    width = random.uniform(0.15, 0.5)
    strand = sigmoid((width - np.abs(noise)) * 40)
    rim = np.exp(-(((np.abs(noise) - 0.9 * width) / 0.06) ** 2))
    return strand * (film + random.uniform(0.1, 0.5)) + random.uniform(0.0, 0.25) * rim


def _holey(film, scale, random) -> np.ndarray:
    """A film with round holes of one size or of many, each with a rim."""
    height, width = film.shape
    film = film + random.uniform(0.08, 0.35)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    typical = min(scale * np.exp(random.uniform(-0.5, 1.2)), 0.3 * min(film.shape))
    spread = random.choice([0.03, 0.5])
    number = int(random.uniform(0.05, 0.3) * height * width / (np.pi * typical**2)) + 1
    for _ in range(min(number, 40)):
        radius = typical * random.lognormal(0, spread)
        distance = np.hypot(rows - random.uniform(0, height), columns - random.uniform(0, width)) - radius
        film = film * sigmoid(distance / 0.9).astype(np.float32)
        film += np.float32(random.uniform(0, 0.2)) * np.exp(-((distance / 3 - 1) ** 2)).astype(np.float32)
    return film


def _flakes(film, scale, random) -> np.ndarray:
    """Large thin sheets with straight edges and wrinkles, one over the other."""
    height, width = film.shape
    wrinkles = np.exp(-((correlated_noise(film.shape, 1.8, 6, random) / 0.06) ** 2))
    for _ in range(int(random.integers(1, 6))):
        inside = np.ones(film.shape, np.float32)
        x, y = random.uniform(0, width), random.uniform(0, height)
        reach = min(height, width) * random.uniform(0.15, 0.6)
        for azimuth in random.uniform(0, 2 * np.pi) + np.cumsum(random.uniform(0.6, 1.6, 6)):
            distance = (np.arange(width)[None] - x) * np.cos(azimuth) + (np.arange(height)[:, None] - y) * np.sin(
                azimuth
            )
            inside *= distance < reach * random.uniform(0.6, 1.2)
        folds = 1 + random.uniform(0, 1.5) * wrinkles
        film = film + random.uniform(0.04, 0.25) * inside * folds
    return film


def _clumps(film, scale, random) -> np.ndarray:
    """An oxide or carbon black support: mottled, thicker inside, ending somewhere in the field."""
    envelope = correlated_noise(film.shape, 2.3, 15, random) + random.uniform(-0.6, 1.2)
    mottled = correlated_noise(film.shape, random.uniform(1.0, 1.6), random.uniform(3, max(scale / 3, 4)), random)
    body = np.tanh((envelope + 0.35 * mottled).clip(0) * random.uniform(1.5, 5))
    return film * random.choice([0, 1]) + random.uniform(0.15, 0.7) * body * (1 + 0.35 * mottled).clip(0.2)
