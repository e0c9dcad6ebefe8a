"""Grounds full of structure in which nothing is a particle: felts, fractures, etched and polished sections, films."""

import numpy as np
from scipy import ndimage

from sempre.images.synthetic.grains import Fibre
from sempre.images.synthetic.grounds.cells import random_cells
from sempre.images.synthetic.grounds.substrate import correlated_noise, sigmoid
from sempre.images.synthetic.solids import OUTSIDE

STRUCTURED = (
    "felt",
    "fracture",
    "dimples",
    "etched",
    "polished",
    "spherulites",
    "crumpled",
    "porous",
    "layers",
)


def render_structure(kind: str, shape: tuple[int, int], scale: float, random: np.random.Generator):
    """Relief in px and brightness (about 1), both float32 `[H, W]`, of a ground of STRUCTURED.

    `scale` is the size of its features in px.
    """
    make = {
        "felt": _felt,
        "fracture": _fracture,
        "dimples": _dimples,
        "etched": _etched,
        "polished": _polished,
        "spherulites": _spherulites,
        "crumpled": _crumpled,
        "porous": _porous,
        "layers": _layers,
    }[kind]
    scale = float(np.clip(scale * np.exp(random.uniform(-0.7, 0.7)), 5, min(shape) / 3))
    relief, brightness = make(shape, scale, random)
    return relief.astype(np.float32), np.maximum(brightness, 0.05).astype(np.float32)


def _felt(shape, scale, random) -> tuple[np.ndarray, np.ndarray]:
    """Fibres over fibres, in all directions or nearly in one; rendered at half the size, for they are many."""
    height, width = (side // 2 + 1 for side in shape)
    across = float(np.clip(scale / 8 * np.exp(random.uniform(-0.5, 1.0)), 1.2, 5))
    relief, edge = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    azimuth, spread = random.uniform(0, np.pi), random.choice([0.08, 0.35, 1.6, 1.6])
    count = int(min(random.uniform(1.2, 3.0) * height * width / (2 * across * 0.8 * max(height, width)), 90))
    shade = np.full((height, width), 0.15, np.float32)
    for number in range(count):
        length = max(height, width) * random.uniform(0.8, 1.6)
        bend, swing = random.normal(0, 0.08 * length), random.normal(0, 0.04 * length)
        fibre = Fibre(
            length, across * random.lognormal(0, 0.25), bend, swing, (azimuth + random.normal(0, spread)) % np.pi
        )
        x, y = random.uniform(0, width), random.uniform(0, height)
        surface = fibre.surface(np.arange(width) - x, np.arange(height) - y, 1.0)
        there = surface.top > OUTSIDE
        lift = 1.5 * across * number / count * min(count, 12)
        relief = np.where(there, surface.top + np.float32(lift), relief)
        edge = np.where(there, surface.edge, edge)
        shade = np.where(there, np.float32(0.4 + 0.6 * number / count), shade)
    zoomed = [_doubled(plane, shape) for plane in (relief, shade * (1 + random.uniform(0.1, 0.6) * edge))]
    return 2 * zoomed[0], zoomed[1]


def _doubled(plane, shape) -> np.ndarray:
    smooth = ndimage.gaussian_filter(plane, 0.55, truncate=3)
    return ndimage.gaussian_filter(ndimage.zoom(smooth, 2, order=1)[: shape[0], : shape[1]], 0.8, truncate=3)


def _fracture(shape, scale, random) -> tuple[np.ndarray, np.ndarray]:
    """A cleaved surface: facets that fold into each other, terraces with bright edges, river lines."""
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
    large = max(3 * scale, min(shape) / 5)
    relief = 0.3 * correlated_noise(shape, 0.8, 2.5, random)
    for _ in range(int(random.integers(3, 6))):
        period = large * random.uniform(0.7, 2.5)
        relief = relief + random.uniform(0.05, 0.3) * period * _folds(shape, period, 0.15, random)
    level = correlated_noise(shape, 1.8, scale / 2, random) * random.uniform(1, 4)
    terraces = np.floor(level)
    brink = np.exp(-(level - terraces) / random.uniform(0.02, 0.08))
    relief = relief + random.uniform(0.03, 0.2) * scale * terraces
    azimuth = random.uniform(0, np.pi) + 0.5 * correlated_noise(shape, 2.0, large, random)
    across = (np.cos(azimuth) * x + np.sin(azimuth) * y) / max(scale / 6, 2)
    rivers = (across - np.floor(across)) * sigmoid(6 * (correlated_noise(shape, 1.8, scale, random) - 0.3))
    relief = relief + random.uniform(0.3, 2.0) * rivers
    return relief, 1 + random.uniform(0, 0.7) * brink + 0.05 * correlated_noise(shape, 1.0, 4, random)


def _folds(shape, period, bent, random) -> np.ndarray:
    """A triangle's wave of about `period` px in some direction, 0 in valleys and 1 on ridges, float64 `[H, W]`."""
    azimuth = random.uniform(0, np.pi)
    along = np.cos(azimuth) * np.arange(shape[1])[None] + np.sin(azimuth) * np.arange(shape[0])[:, None]
    place = along / period + bent * correlated_noise(shape, 1.6, 0.7 * period, random) + random.uniform()
    return 2 * np.abs(place - np.rint(place))


def _dimples(shape, scale, random) -> tuple[np.ndarray, np.ndarray]:
    """Cups of a ductile fracture, with bright rims; or the mounds of a galvanic deposit, their reverse."""
    cells = random_cells(shape, scale * random.uniform(0.7, 1.5), random.uniform(0.05, 0.3), random)
    depths = random.lognormal(0, 0.4, len(cells.sites))[cells.nearest]
    cups = depths * cells.distance**2 / scale * random.uniform(0.6, 1.4)
    rim = np.exp(-cells.border / random.uniform(1, 4))
    relief = cups + 0.5 * correlated_noise(shape, 1.0, 3, random)
    dark = np.exp(-((cells.distance / (0.35 * scale)) ** 2)) * random.choice([0.4, 0.7, 0.9])
    return relief, (1 + random.uniform(0.2, 0.9) * rim) * (1 - dark)


def _etched(shape, scale, random) -> tuple[np.ndarray, np.ndarray]:
    """A polished section of crystals in contact, flat: their tones differ, borders are etched, some bear lamellae."""
    cells = random_cells(shape, scale * random.uniform(1.0, 3.5), random.choice([0.0, 0.04, 0.12]), random)
    number = len(cells.sites)
    tones = random.normal(0, random.choice([0.02, 0.08, 0.2]), number)
    brightness = 1 + tones[cells.nearest]
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
    if random.random() < 0.5:
        azimuths = random.uniform(0, np.pi, number)[cells.nearest]
        period = random.uniform(3, 9) * random.lognormal(0, 0.25, number)[cells.nearest]
        bent = 3 * correlated_noise(shape, 1.8, 8, random)
        lamellae = np.sin(2 * np.pi * (np.cos(azimuths) * x + np.sin(azimuths) * y + bent) / period)
        bearing = (random.random(number) < random.uniform(0.2, 1))[cells.nearest]
        brightness += random.uniform(0.05, 0.3) * bearing * lamellae
    groove = np.exp(-((cells.border / random.uniform(1, 3.5)) ** 2))
    brightness *= 1 + random.choice([-0.6, -0.3, 0.3, 0.6]) * groove
    relief = -random.uniform(0, 2) * groove + 0.1 * correlated_noise(shape, 0.8, 2.5, random)
    pits = _specks(shape, random.choice([0, 3e-4, 2e-3]), random.uniform(0.7, 2), random)
    return relief, brightness * (1 - random.uniform(0.3, 0.8) * pits.clip(0, 1))


def _polished(shape, scale, random) -> tuple[np.ndarray, np.ndarray]:
    """A flat section with scratches in a few directions and pores of irregular outline."""
    brightness = 1 + random.uniform(0.01, 0.08) * correlated_noise(shape, 1.5, 10, random)
    relief = 0.1 * correlated_noise(shape, 0.8, 2.5, random)
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
    azimuth = random.uniform(0, np.pi)
    for _ in range(int(random.choice([0, 6, 25]) * random.uniform(0.5, 1.5))):
        azimuth = random.uniform(0, np.pi) if random.random() < 0.3 else azimuth + random.normal(0, 0.03)
        px, py = random.uniform(0, shape[1]), random.uniform(0, shape[0])
        across = np.cos(azimuth) * (x - px) + np.sin(azimuth) * (y - py)
        line = np.exp(-((across / random.uniform(0.5, 1.6)) ** 2))
        if random.random() < 0.6:
            along = np.cos(azimuth) * (y - py) - np.sin(azimuth) * (x - px)
            line = line * (np.abs(along) < min(shape) * random.uniform(0.05, 0.4))
        brightness += random.choice([-0.4, -0.2, 0.2, 0.4]) * line
    if random.random() < 0.75:
        noise = correlated_noise(shape, random.uniform(0.8, 1.8), max(scale / 3, 3), random)
        level = random.uniform(1.3, 2.6)
        pore = sigmoid((noise - level) * 12)
        rim = np.exp(-(((noise - level + 0.15) / 0.12) ** 2)) * random.choice([0, 0.2, 0.5])
        brightness = brightness * (1 - random.uniform(0.5, 0.95) * pore) + rim
        relief = relief - 0.1 * scale * pore
    return relief, brightness


def _spherulites(shape, scale, random) -> tuple[np.ndarray, np.ndarray]:
    """A crystallised polymer: bands around centres, made of lamellae that point outwards."""
    cells = random_cells(shape, min(5 * scale, min(shape) / 1.5), 0.1, random)
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
    centre = cells.sites[cells.nearest]
    azimuth = np.arctan2(y - centre[..., 1], x - centre[..., 0])
    radius = np.hypot(y - centre[..., 1], x - centre[..., 0])
    bands = 0.5 + 0.5 * np.sin(2 * np.pi * radius / random.uniform(14, 45) + correlated_noise(shape, 1.6, 10, random))
    tile = correlated_noise((512, 512), 0.5, random.uniform(2, 4), random)
    # Lamellae are some 5 times as long as wide, and as wide near the centre as far from it.
    turns = np.rint(azimuth * 2 ** np.floor(np.log2(np.maximum(radius, 8)))).astype(int)
    streaks = tile[turns % 512, np.rint(radius / random.uniform(3, 7)).astype(int) % 512]
    lamellae = ndimage.gaussian_filter(sigmoid(4 * (streaks - 0.3)), random.uniform(0.5, 1.0), truncate=3)
    strength = random.uniform(0.4, 1.5)
    brightness = 0.6 + strength * lamellae * bands ** random.uniform(0.3, 1.2)
    relief = 0.6 * lamellae + 0.15 * scale * correlated_noise(shape, 2.0, scale, random)
    holes = _specks(shape, random.choice([0, 0, 2e-4]), random.uniform(1.5, 3), random)
    return relief, brightness * (1 - 0.8 * holes.clip(0, 1))


def _crumpled(shape, scale, random) -> tuple[np.ndarray, np.ndarray]:
    """Thin sheets, crumpled: flat pieces of any slope between bright creases, fine ones on coarse ones."""
    scale = max(scale, 14)
    relief = 0.15 * scale * correlated_noise(shape, 1.9, scale, random)
    brightness = 1 + 0.1 * correlated_noise(shape, 1.8, scale, random)
    wide = random.uniform(0.8, 2)
    for order in range(int(random.integers(5, 9))):
        period = scale * 3.5 * 0.8**order * random.uniform(0.7, 1.4)
        fold = _folds(shape, period, 0.35, random)
        fades = sigmoid(4 * correlated_noise(shape, 1.5, period, random))
        relief = relief + random.uniform(0.1, 0.3) * period * fold * fades
        crease = np.exp(-(1 - fold) * period / (2 * wide))
        brightness = brightness + random.uniform(0.1, 0.8) * crease * fades - 0.15 * (1 - fold) * fades
    return relief, brightness


def _porous(shape, scale, random) -> tuple[np.ndarray, np.ndarray]:
    """A sponge: a body full of open pores of no definite outline, with a second, deeper body behind."""
    level = np.zeros(shape, np.float32)
    brightness = np.full(shape, 0.1, np.float32)
    for depth in range(int(random.integers(1, 4)) - 1, -1, -1):
        noise = correlated_noise(shape, random.uniform(0.3, 1.2), max(0.8 * scale, 4), random)
        noise = noise - random.uniform(-0.5, 0.3)
        body = sigmoid(noise * 14)
        rim = np.exp(-((noise / 0.12) ** 2))
        shade = 0.45**depth * (1 + random.uniform(0.1, 0.8) * rim)
        brightness = brightness + (shade - brightness) * body
        raised = (np.tanh(noise.clip(0) * 1.5) - 1.5 * depth) * 0.35 * scale
        level = np.maximum(level, raised) if depth else np.where(body > 0.5, raised, level)
    return level + 0.4 * correlated_noise(shape, 0.8, 3, random), brightness


def _layers(shape, scale, random) -> tuple[np.ndarray, np.ndarray]:
    """The cross-section of a coating: bands of different tone with wavy borders, pores and cracks."""
    y = np.arange(shape[0])[:, None] + np.zeros(shape[1])[None]
    wavy = 0.12 * scale * correlated_noise(shape, 2.0, 10, random)
    brightness = np.full(shape, random.uniform(0.4, 1.0))
    for place in np.sort(random.uniform(0.1, 0.9, int(random.integers(1, 4)))):
        below = sigmoid((y - place * shape[0] + random.uniform(1, 6) * wavy) / 0.8)
        brightness = brightness + below * (random.uniform(0.2, 1.6) - brightness)
    stretched = ndimage.zoom(correlated_noise((shape[0], shape[1] // 3 + 1), 0.9, max(scale / 4, 3), random), (1, 3))
    pores = sigmoid((stretched[:, : shape[1]] - random.uniform(1.0, 2.2)) * 9)
    crack = np.exp(-((correlated_noise(shape, 1.9, 3, random) / 0.02) ** 2)) * (
        correlated_noise(shape, 1.8, scale, random) > random.uniform(0.3, 1.5)
    )
    brightness = brightness * (1 - random.uniform(0.5, 0.9) * np.maximum(pores, crack))
    turned = random.random() < 0.5
    if turned and shape[0] == shape[1]:
        brightness = brightness.T
    return 0.1 * correlated_noise(shape, 0.8, 2.5, random), brightness


def _specks(shape, density, size, random) -> np.ndarray:
    """Round specks about 1 high, `density` of them a pixel and `size` px in radius."""
    seeds = (random.random(shape, dtype=np.float32) < density).astype(np.float32)
    if not seeds.any():
        return seeds
    return ndimage.gaussian_filter(seeds, size, truncate=3) * np.float32(2 * np.pi * size**2)
