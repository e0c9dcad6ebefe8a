"""Transmitted electrons: particles as the mass that the beam passes, in bright field (TEM) and dark field (STEM).

Williams and Carter, "Transmission Electron Microscopy", 2nd ed. 2009, chapter 22 (mass-thickness and diffraction
contrast) and section 23.7 (Fresnel fringes).
"""

import numpy as np
from scipy import ndimage

from sempre.images.synthetic.grounds.substrate import correlated_noise
from sempre.images.synthetic.solids import OUTSIDE

VISIBLE = 0.2  # of the mass below: a particle that adds less is not seen
HIDDEN = 0.85  # of another's thickness: a sphere whose centre lies where another is so thick is not told from it
THICKEST = 2.5  # optical thickness of amorphous particles one over the other: their outlines show through


class Projection:
    """What the beam passes; particles are added to it as solids are dropped onto a `Scene`.

    `mass` float32 `[H, W]` sums the chords (px) through all particles times their scattering power, so that overlaps
    scatter more. `owner` int32 `[H, W]` is 0 or the number of the particle that was added last: the nearest to the eye,
    and on the whole the smaller of two. One that adds next to nothing to what lies there owns no pixel. `height`
    `[H, W]` sums the chords, by which places are chosen; `share` `[H, W]` is the owner's chord over its longest, where
    particles are `parted`.

    Args:
        crystalline: how much the scattering power differs from crystal to crystal, 0 for amorphous particles.
        parted: two overlapping particles meet where both are equally thick, spheres along their common chord, for
            nothing shows which of two translucent spheres is nearer to the eye.
    """

    def __init__(self, shape: tuple[int, int], crystalline: float, random: np.random.Generator, parted: bool = False):
        self.height, self.relief, self.mass, self.share = (np.zeros(shape, np.float32) for _ in range(4))
        self.owner = np.zeros(shape, np.int32)
        self.crystalline, self.random, self.parted = crystalline, random, parted

    def drop(self, solid, x: float, y: float, number: int, escape: float) -> None:
        """Add a solid at (x, y) px; its part outside the field is cut off."""
        height, width = self.owner.shape
        x0, x1 = max(int(x - solid.radius), 0), min(int(x + solid.radius) + 2, width)
        y0, y1 = max(int(y - solid.radius), 0), min(int(y + solid.radius) + 2, height)
        if x0 >= x1 or y0 >= y1:
            return
        surface = solid.surface(np.arange(x0, x1) - x, np.arange(y0, y1) - y, escape)
        window = (slice(y0, y1), slice(x0, x1))
        chords, there = surface.chords(), surface.top > OUTSIDE
        added = chords * self._scattering(chords, solid.radius)
        if self.parted:
            self._part(window, chords, number)
        elif added[there].sum() > VISIBLE * self.mass[window][there].sum():
            self.owner[window][there] = number
        self.height[window] += chords
        self.mass[window] += added

    def _part(self, window, chords, number: int) -> None:
        """Give the particle the pixels where it is thicker, over its thickest, than what owns them."""
        if not chords.any():
            return
        centre = np.unravel_index(chords.argmax(), chords.shape)
        if self.share[window][centre] > HIDDEN:
            return
        share = chords / chords.max()
        thicker = share > self.share[window]
        self.share[window][thicker] = share[thicker]
        self.owner[window][thicker] = number

    def _scattering(self, chords, radius) -> np.ndarray | np.float32:
        """Scattering power of the next particle: a number, or `[h, w]` with the bands of a bent or wedged crystal."""
        random = self.random
        # Small particles and thin plates would vanish beside large ones: their power rises as the chord falls.
        power = max(float(chords.max()), 1.0) ** -0.5 * random.lognormal(0, 0.08)
        if not self.crystalline:
            return np.float32(power)
        excited = random.random() < 0.25  # near a Bragg condition: nearly black
        power *= np.exp(self.crystalline * (random.uniform(0.5, 1.1) if excited else random.normal(-0.25, 0.3)))
        if radius < 12 or random.random() < 0.6:
            return np.float32(power)
        azimuth, phase = random.uniform(0, 2 * np.pi, 2)
        rows, columns = np.arange(chords.shape[0])[:, None], np.arange(chords.shape[1])[None]
        along = (np.cos(azimuth) * columns + np.sin(azimuth) * rows) / radius
        across = (np.cos(azimuth) * rows - np.sin(azimuth) * columns) / radius
        contour = random.uniform(0.4, 1.5) * (along + random.normal(0, 0.3) * across**2)
        bands = 1 + 0.4 * self.crystalline * np.sin(2 * np.pi * contour + phase)
        return (power * bands).astype(np.float32)


def transmitted(projection: Projection, support: np.ndarray, modality: str, random: np.random.Generator) -> np.ndarray:
    """Electrons that reach the detector float32 `[H, W]`: tem, dark on bright, or stem, bright on dark.

    `support` `[H, W]` is the optical thickness of what the particles lie on.
    """
    particles = projection.mass * np.float32(_opacity(projection, random))
    if modality == "stem":
        dark = random.uniform(0.03, 0.2)
        return (dark + random.uniform(0.1, 0.7) * support + particles).astype(np.float32)
    light = np.exp(-(particles + support))
    light *= 1 + random.uniform(0.01, 0.07) * _speckle(support, random)
    return _defocused(light, random).clip(0.02)


def _opacity(projection, random) -> float:
    """Optical thickness of a unit of mass, such that most particles are seen; crystals may be black throughout."""
    opacity = np.exp(random.uniform(np.log(0.6), np.log(4)))
    there = projection.mass[projection.owner > 0]
    if not there.size:
        return 0.0
    usual, thick = np.percentile(there, [45, 95])
    if projection.crystalline:
        return float(opacity / usual)
    return float(min(opacity / usual, THICKEST / thick))


def _speckle(support, random) -> np.ndarray:
    """Phase contrast of amorphous matter, about 1 high, with the fringes of graphitic planes at times."""
    speckle = correlated_noise(support.shape, 0.0, random.uniform(1.2, 3.0), random)
    if random.random() < 0.25:
        azimuth, period = random.uniform(0, 2 * np.pi), random.uniform(3, 7)
        rows, columns = np.arange(support.shape[0])[:, None], np.arange(support.shape[1])[None]
        bent = 12 * correlated_noise(support.shape, 1.9, 20, random)
        along = np.cos(azimuth) * columns + np.sin(azimuth) * rows + bent
        speckle += 1.2 * np.sin(2 * np.pi / period * along) * (correlated_noise(support.shape, 1.8, 15, random) > 0.4)
    return speckle.astype(np.float32) * (0.3 + 0.7 * np.tanh(support / 0.1))


def _defocused(light, random) -> np.ndarray:
    """Fresnel fringes at outlines: bright without and dark within under focus, the reverse over focus."""
    width, strength = random.uniform(0.8, 2.5), random.uniform(-0.4, 0.8)
    narrow = ndimage.gaussian_filter(light, width, truncate=3)
    wide = ndimage.gaussian_filter(narrow, width * 1.5, truncate=3)
    return light + np.float32(strength) * (narrow - wide)
