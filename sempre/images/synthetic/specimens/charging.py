"""Insulating particles under the beam: they glow, cast dark shadows and leave streaks along the scan lines.

Goldstein et al., "Scanning Electron Microscopy and X-Ray Microanalysis", 4th ed. 2018, section 9.2.
"""

import numpy as np
from scipy import ndimage

CHARGED = 40  # particles at most that hold a charge


def charged(light: np.ndarray, owner: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The electrons `[H, W]` that reach the detector where some of the particles of `owner` `[H, W]` are charged."""
    numbers = np.unique(owner[::2, ::2])
    numbers = numbers[numbers > 0]
    if not len(numbers):
        return light
    count = min(max(int(len(numbers) * random.choice([0.1, 0.4, 1.0])), 1), CHARGED)
    chosen = random.choice(numbers, count, replace=False)
    charge = np.zeros(owner.max() + 1, np.float32)
    charge[chosen] = random.uniform(0.4, 1, count)
    charge = charge[owner]
    side = min(light.shape)
    level = np.float32(np.percentile(light[::2, ::2], 60))
    if random.random() < 0.7:
        light = _shadowed(light, charge, owner > 0, side, random)
    light = light * (1 + np.float32(random.choice([0, 0.4, 1.2])) * charge)
    if random.random() < 0.7:
        light = light + level * random.uniform(0.3, 1.5) * _glow(charge, side, random)
    if random.random() < 0.7:
        light = _streaked(light, charge, random)
    return light.astype(np.float32)


def _glow(charge, side, random) -> np.ndarray:
    """A bright halo around charged particles, 0 to about 1."""
    reach = side * np.exp(random.uniform(np.log(0.008), np.log(0.06)))
    halo = ndimage.gaussian_filter(charge, reach, truncate=3)
    return halo / max(float(halo.max()), 1e-6)


def _shadowed(light, charge, particle, side, random) -> np.ndarray:
    """A dark surround of charged particles, even or on one side, that ends softly or at a rim."""
    reach = side * np.exp(random.uniform(np.log(0.01), np.log(0.09)))
    dark = ndimage.gaussian_filter(charge, reach, truncate=3)
    dark = dark / max(float(np.percentile(dark[charge > 0], 30)), 1e-6)
    azimuth, off = random.uniform(0, 2 * np.pi), reach * random.choice([0, 0, 0.5, 1.0])
    shift = round(off * np.sin(azimuth)), round(off * np.cos(azimuth))
    rows, columns = (np.arange(side) - by for side, by in zip(dark.shape, shift, strict=True))
    dark = dark[rows.clip(0, len(rows) - 1)][:, columns.clip(0, len(columns) - 1)]
    if random.random() < 0.4:
        dark = 0.5 + 0.5 * np.tanh((dark - 0.35) * random.uniform(4, 25))  # a discharged disc with an outline
    on_particles = random.choice([0.0, 0.3])
    strength = random.uniform(0.35, 0.9) * np.where(particle, on_particles, 1).astype(np.float32)
    return light * (1 - strength * dark.clip(0, 1))


def _streaked(light, charge, random) -> np.ndarray:
    """Scan lines that are too bright or too dark from a charged particle on, or that jump to one side there."""
    from scipy.signal import lfilter  # here, for it takes most of a second to import

    height, width = light.shape
    decay = np.exp(-1 / (width * np.exp(random.uniform(np.log(0.03), np.log(0.8)))))
    after = lfilter([1 - decay], [1, -decay], charge, axis=1).astype(np.float32)
    after = after / max(float(after.max()), 1e-6)
    fitful = ndimage.gaussian_filter1d(random.standard_normal(height), random.uniform(0.3, 1.5))
    fitful = (fitful / fitful.std()).clip(-2.5, 2.5).astype(np.float32)
    bias = np.float32(random.choice([-1, 0, 0, 1]))
    gain = np.float32(random.uniform(0.15, 0.7)) * after * (fitful + bias)[:, None]
    light = light * (1 + gain).clip(0.15, 2.5)
    if random.random() < 0.3:
        jumping = (np.abs(fitful) > 1.2) & (charge.max(axis=1) > 0)
        shift = np.rint(random.uniform(0.5, 2.0) * fitful * jumping).astype(int)
        columns = (np.arange(width)[None] - shift[:, None]).clip(0, width - 1)
        light = light[np.arange(height)[:, None], columns]
    return light


def overexposed(pixels: np.ndarray, owner: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Grey values uint8 `[H, W]` with the contrast turned up until much of the particles' area is white."""
    particle = owner > 0
    if particle.mean() < 0.005:
        return pixels
    share = random.uniform(0.05, 0.8)
    grey = pixels.astype(np.float32)
    white = np.percentile(grey[particle], 100 * (1 - share))
    black = np.percentile(grey[::2, ::2], 1) * random.uniform(0, 1)
    return np.rint(((grey - black) * (250 / max(white - black, 20))).clip(0, 255)).astype(np.uint8)
