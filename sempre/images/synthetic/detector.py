"""From a scene to grey values: secondary electron yield, shadowing, the probe, charging and shot noise.

Goldstein et al., "Scanning Electron Microscopy and X-Ray Microanalysis", 4th ed. 2018, chapters 3 to 6 and 9.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sempre.images.synthetic.grounds.substrate import correlated_noise
from sempre.images.synthetic.scene import Scene


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
