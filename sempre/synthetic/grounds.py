"""Grounds that mislead a segmenter: holes, ridges and stains, and structure in which nothing is a particle."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from sempre.synthetic.solids import OUTSIDE, Fibre
from sempre.synthetic.supports import SUBSTRATES, correlated_noise, disc, render_substrate, sigmoid


@dataclass(frozen=True)
class Cells:
    """Of each pixel `[H, W]`: `nearest`, the number of its site; `distance` to it and `border`, how much farther the
    next site is, both in px. `sites` `[N, 2]` are x and y in px."""

    sites: np.ndarray
    nearest: np.ndarray
    distance: np.ndarray
    border: np.ndarray


def random_cells(shape: tuple[int, int], pitch: float, bent: float, random: np.random.Generator) -> Cells:
    """Cells of random sites about `pitch` px apart; `bent` is how far their borders wander, in units of the pitch."""
    height, width = shape
    columns, rows = int(np.ceil(width / pitch)) + 2, int(np.ceil(height / pitch)) + 2
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) - 0.5
    return cells_of(shape, (grid + random.uniform(-0.5, 0.5, grid.shape)) * pitch, bent * pitch, 0.7 * pitch, random)


def cells_of(
    shape: tuple[int, int], sites: np.ndarray, bent: float, smooth: float, random: np.random.Generator
) -> Cells:
    """The cells of `sites` `[N, 2]` (x, y in px), whose borders wander by about `bent` px over `smooth` px."""
    height, width = shape
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    if bent:
        x = x + np.float32(bent) * correlated_noise(shape, 1.2, smooth, random)
        y = y + np.float32(bent) * correlated_noise(shape, 1.2, smooth, random)
    points = np.stack(np.broadcast_arrays(x, y), axis=-1)
    distances, nearest = cKDTree(sites).query(points, k=2)
    distance = distances[..., 0].astype(np.float32)
    return Cells(sites, nearest[..., 0], distance, distances[..., 1].astype(np.float32) - distance)


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
