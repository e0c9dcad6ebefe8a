"""What particles lie on: tapes, wafers and filters in a scanning microscope, films in a transmission microscope.

Nothing here is a particle: ridges, round holes and large faint regions are what a segmenter must leave alone.
"""

import numpy as np
from scipy import fft, ndimage

SUBSTRATES = ("tape", "wafer", "membrane")


def correlated_noise(shape: tuple[int, int], exponent: float, shortest: float, random: np.random.Generator):
    """Gaussian noise float32 `[H, W]`, mean 0 and variance 1, of the amplitude spectrum `k^-exponent`.

    Wavelengths below `shortest` px fade. The field is periodic. Random-phase synthesis: Voss, "Random fractal
    forgeries", in Fundamental Algorithms for Computer Graphics, 1985.
    """
    white = random.standard_normal(shape, dtype=np.float32)
    rows, columns = fft.fftfreq(shape[0]).astype(np.float32), fft.rfftfreq(shape[1]).astype(np.float32)
    frequency = np.hypot(rows[:, None], columns[None])
    frequency[0, 0] = 1
    amplitude = frequency ** np.float32(-exponent) * np.exp(-((frequency * np.float32(shortest)) ** 2))
    amplitude[0, 0] = 0
    noise = fft.irfft2(fft.rfft2(white) * amplitude, s=shape)
    return noise / noise.std()


def render_substrate(kind: str, shape: tuple[int, int], scale: float, random: np.random.Generator):
    """Relief in px and brightness (about 1), both float32 `[H, W]`, of tape, wafer or membrane.

    `scale` is the size of its features in px.
    """
    if kind == "wafer":
        stains = correlated_noise(shape, 1.6, 12, random)
        return np.zeros(shape, np.float32) + 0.02 * stains, 1 + random.uniform(0.0, 0.05) * stains
    if kind == "membrane":
        return _membrane(shape, scale, random)
    return _tape(shape, scale, random)


def _tape(shape, scale, random) -> tuple[np.ndarray, np.ndarray]:
    relief = (
        random.uniform(0.4, 1.8) * scale / 12 * correlated_noise(shape, random.uniform(1.3, 2.0), scale / 3, random)
    )
    relief += random.uniform(0.04, 0.25) * correlated_noise(shape, 0.6, 2.5, random)
    brightness = 1 + random.uniform(0.03, 0.10) * correlated_noise(shape, 1.2, 6, random)
    for _ in range(int(random.poisson(random.choice([0, 3, 14])))):  # bubbles in the adhesive
        x, y = random.uniform(0, shape[1]), random.uniform(0, shape[0])
        radius = scale * random.lognormal(-0.9, 0.5)
        window, distance = disc(shape, x, y, radius * 2, random)
        distance /= radius
        relief[window] -= np.float32(0.5 * radius) * np.exp(-(distance**4))
        brightness[window] *= 1 - random.uniform(0.2, 0.5) * np.exp(-(distance**6))
    if random.random() < 0.35:
        cracks = _cracks(shape, scale, random)
        brightness *= 1 - 0.75 * cracks
        brightness += 0.3 * (ndimage.gaussian_filter(cracks, 2.5, truncate=2) - cracks).clip(0)
        relief -= 3 * cracks
    dust = (random.random(shape, dtype=np.float32) < random.choice([0, 2e-4, 1e-3])).astype(np.float32)
    brightness += random.uniform(2, 6) * ndimage.gaussian_filter(dust, random.uniform(0.6, 1.1), truncate=3)
    return relief.astype(np.float32), brightness.astype(np.float32)


def _cracks(shape, scale, random) -> np.ndarray:
    """How much of each pixel is crack, float32 `[H, W]`: level lines of noise, broken where a second noise is low."""
    noise = correlated_noise(shape, 1.9, 3, random)
    slope = np.hypot(*np.gradient(noise)) + 1e-3
    line = np.exp(-((noise / slope / random.uniform(0.7, 1.6)) ** 2))
    return line * (correlated_noise(shape, 1.8, scale, random) > random.uniform(0.0, 1.0))


def _membrane(shape, scale, random) -> tuple[np.ndarray, np.ndarray]:
    """A track-etched filter: flat, with round pores of one size."""
    relief = 0.25 * correlated_noise(shape, 1.4, 4, random)
    brightness = 1 + 0.04 * correlated_noise(shape, 1.2, 5, random)
    radius = scale * random.uniform(0.25, 0.5)
    pores = int(random.uniform(0.04, 0.14) * shape[0] * shape[1] / (np.pi * radius**2))
    for _ in range(min(pores, 300)):
        window, distance = disc(shape, random.uniform(0, shape[1]), random.uniform(0, shape[0]), radius * 1.6, random)
        depth = 1 / (1 + np.exp((distance - radius) / 0.6))
        brightness[window] *= 1 - 0.72 * depth
        brightness[window] += 0.22 * np.exp(-(((distance - radius - 1) / 1.3) ** 2))
    return relief.astype(np.float32), brightness.astype(np.float32)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """From 0 to 1 over a few units about 0, without overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * values)


def disc(shape, x, y, reach, random) -> tuple[tuple[slice, slice], np.ndarray]:
    """The window of a slightly elliptical disc and the distances `[h, w]` from its centre in px."""
    x0, x1 = (int(np.clip(bound, 0, shape[1])) for bound in (x - reach, x + reach + 1))
    y0, y1 = (int(np.clip(bound, 0, shape[0])) for bound in (y - reach, y + reach + 1))
    stretch = random.uniform(0.9, 1.1)
    rows, columns = (np.arange(y0, y1) - y)[:, None] * stretch, (np.arange(x0, x1) - x)[None] / stretch
    return (slice(y0, y1), slice(x0, x1)), np.hypot(rows, columns)


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
