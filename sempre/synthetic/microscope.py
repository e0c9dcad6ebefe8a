"""From a scene to grey values: what particles are made of, secondary and transmitted electrons, charging and noise.

Goldstein et al., "Scanning Electron Microscopy and X-Ray Microanalysis", 4th ed. 2018, chapters 3 to 6 and 9.

Williams and Carter, "Transmission Electron Microscopy", 2nd ed. 2009, chapter 22 (mass-thickness and diffraction
contrast) and section 23.7 (Fresnel fringes).

Goldstein et al., "Scanning Electron Microscopy and X-Ray Microanalysis", 4th ed. 2018, section 9.2.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sempre.synthetic.scene import Scene
from sempre.synthetic.solids import OUTSIDE
from sempre.synthetic.supports import correlated_noise


@dataclass(frozen=True)
class Microscope:
    """How the scene is recorded.

    Args:
        tilt_exponent: the yield grows as 1/cos(tilt) to this power.
        edge: extra yield of edges, in units of a flat surface's.
        detector: azimuth of the detector, radians; `asymmetry` is how much brighter faces are that look its way.
        occlusion: how dark crevices and contact shadows are.
        blur: standard deviation of the probe, px.
        dose: electrons a pixel at mean brightness, which set the shot noise.
        charging: strength of the streaks along the scan lines, 0 for none.
        gradient: brightness across the field, in units of the mean.
    """

    tilt_exponent: float
    edge: float
    detector: float
    asymmetry: float
    occlusion: float
    blur: float
    dose: float
    charging: float
    gradient: float

    @classmethod
    def draw(cls, random: np.random.Generator) -> "Microscope":
        """A microscope and its settings as they differ from session to session."""
        return cls(
            tilt_exponent=random.uniform(0.45, 1.0),
            edge=random.uniform(0.15, 0.8),
            detector=random.uniform(0, 2 * np.pi),
            asymmetry=random.uniform(0.15, 0.55),
            occlusion=random.uniform(0.5, 1.3),
            blur=random.uniform(0.5, 1.5),
            dose=float(np.exp(random.uniform(np.log(25), np.log(400)))),
            charging=float(random.choice([0, 0, 0.4, 1.0]) * random.uniform(0.5, 1)),
            gradient=random.uniform(0, 0.22),
        )


def emitted(scene: Scene, brightness: np.ndarray, roughness: np.ndarray, microscope: Microscope) -> np.ndarray:
    """Electrons that reach the detector, float32 `[H, W]`, 1 for a flat face of brightness 1 in the open.

    Args:
        brightness: yield of the material at each pixel, `[H, W]`.
        roughness: slopes of the surface's fine texture, `[2, H, W]`.
    """
    nx, ny = scene.normal
    upright = 1 - nx**2 - ny**2  # of the squared normal: texture is foreshortened where the surface turns away
    nx, ny = scene.normal + roughness * upright
    cosine = np.sqrt(np.maximum(1 - nx**2 - ny**2, 0) + np.float32(0.04))  # the yield stays finite on vertical walls
    towards = nx * np.float32(np.cos(microscope.detector)) + ny * np.float32(np.sin(microscope.detector))
    light = cosine ** np.float32(-microscope.tilt_exponent) * (1 + np.float32(microscope.asymmetry) * towards)
    light += np.float32(microscope.edge) * scene.edge
    return light * brightness / (1 + np.float32(microscope.occlusion) * _occlusion(scene.height))


def _occlusion(height: np.ndarray) -> np.ndarray:
    """How far the surroundings stand above each point, over several distances: 0 in the open."""
    side = min(height.shape)
    occlusion = np.zeros_like(height)
    for reach in (0.008, 0.025, 0.08):
        distance = max(int(reach * side) * 2 + 1, 3)
        mean = ndimage.uniform_filter(ndimage.uniform_filter(height, distance), distance)
        occlusion += np.maximum(mean - height, 0) / np.float32(distance)
    return occlusion


def record(light: np.ndarray, microscope: Microscope, random: np.random.Generator) -> np.ndarray:
    """Scan the emitted electrons `[H, W]` into grey values uint8 `[H, W]`."""
    height, width = light.shape
    azimuth = random.uniform(0, 2 * np.pi)
    y, x = np.linspace(-0.5, 0.5, height)[:, None], np.linspace(-0.5, 0.5, width)[None]
    light = light * (1 + microscope.gradient * (np.cos(azimuth) * x + np.sin(azimuth) * y)).astype(np.float32)
    light = ndimage.gaussian_filter(light, microscope.blur, truncate=3)
    if microscope.charging:
        light = _charge(light, microscope.charging, random)
    # Dose and display range follow the picture, as an operator's do; the shoulder keeps bright edges from clipping.
    low, middle, high = np.percentile(light[::2, ::2], [0.5, 50, 99.5])
    electrons = random.poisson(np.maximum(light / max(middle, 1e-3), 0.02) * microscope.dose)
    scanned = electrons.astype(np.float32) * np.float32(middle / microscope.dose)
    scanned = ndimage.gaussian_filter1d(scanned, random.uniform(0.25, 0.6), axis=1, truncate=3)  # amplifier's bandwidth
    contrast = max(high - low, 1.2 * middle)
    low -= 0.35 * (contrast - (high - low))  # a field without contrast becomes a grey one, not one of black and white
    black, white = random.uniform(15, 45), random.uniform(185, 230)
    grey = black + (white - black) * (scanned - low) / contrast
    grey = np.where(grey > 200, 200 + 55 * np.tanh((grey - 200) / 55), grey)
    grey = np.where(grey < 14, 14 * np.exp((grey - 14) / 14), grey)
    return np.rint(grey.clip(0, 255)).astype(np.uint8)


def _charge(light: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Streaks along the scan: lines differ in gain, and what lies behind a bright particle is darkened for a while."""
    from scipy.signal import lfilter  # here, for it takes most of a second, and who augments crops draws no charge

    height, width = light.shape
    gain = ndimage.gaussian_filter1d(random.standard_t(2.5, height), random.uniform(0.5, 2))
    light = light * (1 + np.float32(0.025 * strength) * gain.astype(np.float32)).clip(0.5, 1.6)[:, None]
    bright = np.maximum(light - np.percentile(light[::4, ::4], 90), 0)
    decay = np.exp(-1 / (width * random.uniform(0.03, 0.15)))
    charge = lfilter([1 - decay], [1, -decay], bright, axis=1).astype(np.float32)
    fitful = 1 + ndimage.gaussian_filter1d(random.standard_normal((height, 1)), 2.5, axis=0).astype(np.float32)
    # A field that repels the beam saturates: shadows deepen ever more slowly.
    return light / (1 + np.float32(0.8 * strength) * np.tanh(2 * charge * fitful.clip(0.2)))


def surface_texture(shape: tuple[int, int], grain: float, random: np.random.Generator) -> np.ndarray:
    """Slopes float32 `[2, H, W]` of variance about 1 of a rough surface with bumps of `grain` px."""
    bumps = correlated_noise(shape, 0.9, grain, random)
    slope_y, slope_x = np.gradient(bumps)
    slopes = np.stack([slope_x, slope_y])
    return slopes / slopes.std()


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


def material(
    scene: Scene,
    substrate: np.ndarray,
    count: int,
    magnification: str,
    random: np.random.Generator,
    tones: tuple[float, ...] = (),
    spread: float = 0.06,
) -> tuple[np.ndarray, np.ndarray]:
    """Yield `[H, W]` and slopes of the fine texture `[2, H, W]` of substrate and particles.

    Args:
        scene: what is seen.
        substrate: yield of the substrate `[H, W]`, about 1.
        count: particles in the scene.
        magnification: low, medium or high, which sets the grain of the texture.
        random: a NumPy generator.
        tones: yields of the phases that particles are made of; one to three are drawn where none is given.
        spread: of the yield from particle to particle, as the standard deviation of its logarithm.
    """
    if tones:
        phases = np.array(tones)
    else:
        phases = random.uniform(1.3, 3.4) * random.lognormal(0, 0.18, int(random.integers(1, 4)))
    yields = phases[random.integers(len(phases), size=count)] * random.lognormal(0, spread, count)
    yields = np.concatenate([[1.0], yields]).astype(np.float32)
    grain = {"low": 2.0, "medium": 3.5, "high": 7.0}[magnification] * random.uniform(0.7, 1.6)
    texture = surface_texture(substrate.shape, grain, random)
    rough = np.concatenate([[0.0], random.choice([0.02, 0.06, 0.14]) * random.lognormal(0, 0.4, count)])
    # Each particle shows its own part of the texture.
    height, width = substrate.shape
    shift_y, shift_x = random.integers(0, (height, width), (count + 1, 2)).T
    rows = (np.arange(height)[:, None] + shift_y[scene.owner]) % height
    columns = (np.arange(width)[None] + shift_x[scene.owner]) % width
    roughness = texture[:, rows, columns] * rough.astype(np.float32)[scene.owner]
    particle = scene.owner > 0
    return np.where(particle, yields[scene.owner], substrate), roughness
