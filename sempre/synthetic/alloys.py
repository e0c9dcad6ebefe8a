"""Flat sections and surfaces with a second phase: gamma prime in a superalloy, small precipitates, islands on a foil.

After micrographs of Stuckner et al., "Microstructure segmentation with deep learning encoders pre-trained on a large
microscopy dataset", npj Comput. Mater. 8 (2022), and of islands of graphene on copper.
"""

import numpy as np
from scipy import ndimage

from sempre.synthetic.grounds import cells_of, render_structure
from sempre.synthetic.supports import correlated_noise, disc, sigmoid

MAX_SMALL = 700
LARGEST = 6  # squares that have grown together to one precipitate


def cuboids(shape: tuple[int, int], scale: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Electrons `[H, W]` and owners `[H, W]` of a dense array of rounded squares with thin channels between.

    Some squares have grown together, but for a notch; small round precipitates lie in the wider channels at times.
    """
    pitch = min(scale * np.exp(random.uniform(-0.3, 0.8)), min(shape) / 4)
    sites, angle = _array(shape, pitch, random)
    cells = cells_of(shape, sites, random.uniform(0.0, 0.08) * pitch, 0.7 * pitch, random)
    channel = pitch * np.exp(random.uniform(np.log(0.12), np.log(0.7))) * np.ones(shape, np.float32)
    channel = channel * np.exp(random.uniform(0, 0.5) * correlated_noise(shape, 1.6, pitch, random))
    vacant = random.random(len(sites)) < random.choice([0.0, 0.03, 0.2])
    rounding = random.uniform(0.05, 0.12) * pitch
    channel = channel.clip(max(1.6 * rounding, 1.2))  # what is narrower would be closed by the rounding
    body = (cells.border > channel) & ~vacant[cells.nearest]
    merged = random.choice([0.0, 0.4, 0.7, 1.0])
    if merged:  # channels that end blindly
        open_share = sigmoid(6 * (correlated_noise(shape, 1.2, 1.2 * pitch, random) + 1.2 - 0.7 * merged))
        grown = (cells.border > channel * open_share) & ~vacant[cells.nearest]
        pieces = _pieces(_rounded(grown.astype(np.float32), rounding))
        areas = np.bincount(pieces.ravel())
        areas[0] = 0
        body = np.where((areas > LARGEST * pitch**2)[pieces], body, grown)
    body = _rounded(body.astype(np.float32), rounding)
    owner = _pieces(body)
    sizes = []
    if random.random() < 0.6:
        small = max(pitch * random.uniform(0.06, 0.16), 2.2)
        sizes = _scatter(owner, small, random.uniform(0.02, 0.2), body, random)
    return _section(owner, len(sizes), angle, random), owner


def _array(shape, pitch, random) -> tuple[np.ndarray, float]:
    """Sites `[N, 2]` (x, y in px) of a square array that is bent and jittered, and its azimuth."""
    reach = int(np.hypot(*shape) / pitch / 2 * 1.3) + 2
    i, j = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    points = np.stack([i.ravel(), j.ravel() * np.exp(random.normal(0, 0.15))], axis=1).astype(float)
    points += random.uniform(-0.5, 0.5, points.shape) * random.uniform(0.05, 0.9)
    points[:, 0] += random.choice([0, 0.25, 0.5]) * (j.ravel() % 2)
    points *= pitch
    angle = random.uniform(0, np.pi)
    cosine, sine = np.cos(angle), np.sin(angle)
    points = points @ [[cosine, sine], [-sine, cosine]] + np.array(shape[::-1]) / 2
    within = ((points > -2 * pitch) & (points < np.array(shape[::-1]) + 2 * pitch)).all(axis=1)
    return points[within], angle


def _rounded(body, radius) -> np.ndarray:
    """The mask `[H, W]` with corners rounded to about `radius` px, thin parts gone."""
    return (ndimage.gaussian_filter(body, max(radius, 0.7), truncate=3) > 0.5).astype(np.float32)


def _pieces(body) -> np.ndarray:
    """The connected pieces of a mask, int32 `[H, W]`."""
    return ndimage.label(body)[0].astype(np.int32)


def _scatter(owner, size, coverage, body, random) -> list[float]:
    """Number small discs where the mask `body` is empty, in patches; their diameters in px."""
    shape = owner.shape
    free = ndimage.distance_transform_edt(body == 0) > 0.8 * size
    noise = correlated_noise(shape, 1.8, 4 * size, random)
    free &= noise > np.quantile(noise[::4, ::4], random.choice([0.0, 0.3, 0.7]))
    rows, columns = np.nonzero(free)
    if not len(rows):
        return []
    count = min(int(coverage * len(rows) / (np.pi / 4 * size**2)), MAX_SMALL)
    first = int(owner.max())
    sizes = []
    for place in random.integers(len(rows), size=count):
        y, x, own = rows[place], columns[place], size * random.lognormal(0, 0.25)
        window, distance = disc(shape, float(x), float(y), own, random)
        near = distance < own / 2 + 1.2
        if not near.any() or (owner[window][near] > 0).any():
            continue
        sizes.append(own)
        owner[window][distance < own / 2] = first + len(sizes)
    return sizes


def _section(owner, small, azimuth, random) -> np.ndarray:
    """Electrons `[H, W]` of a section in which the pieces of `owner` are of another tone, the last `small` of a third.

    An etched piece lies a little higher or lower: its rim is bright, its inner side shaded, more so on one side.
    """
    shape = owner.shape
    there = owner > 0
    dark = random.random() < 0.65
    tone = random.uniform(0.3, 0.8) if dark else random.uniform(1.2, 2.4)
    tones = np.full(owner.max() + 1, tone) * random.lognormal(0, random.choice([0, 0.02, 0.08]), owner.max() + 1)
    if small:
        tones[-small:] = tones[-small:] ** random.uniform(0.7, 1.6)
    tones[0] = 1
    soft = random.uniform(0.5, 1.2)
    light = ndimage.gaussian_filter(tones[owner].astype(np.float32), soft, truncate=3)
    mask = there.astype(np.float32)
    wide = random.uniform(1.5, 5)
    near = ndimage.gaussian_filter(mask, wide, truncate=3)
    outside, inside = np.where(there, 0, near), np.where(there, 1 - near, 0)
    light = light + random.choice([0.0, 0.5, 1.4]) * random.uniform(0.6, 1.3) * outside
    light = light * (1 - random.choice([0.0, 0.4, 0.9]) * random.uniform(0.5, 1) * inside)
    slope_y, slope_x = np.gradient(near)
    light = light + random.uniform(0, 2.5) * (np.cos(azimuth) * slope_x + np.sin(azimuth) * slope_y)
    # Marks of polishing run through the pieces; both phases are mottled.
    marks = ndimage.gaussian_filter1d(random.standard_normal(2 * max(shape)), random.uniform(0.7, 2.5))
    direction = random.uniform(0, np.pi)
    across = np.cos(direction) * np.arange(shape[1])[None] + np.sin(direction) * np.arange(shape[0])[:, None]
    across = across + 2 * correlated_noise(shape, 1.5, 8, random)
    light = light * (1 + random.uniform(0, 0.08) * marks[(across - across.min()).astype(int) % len(marks)])
    light = light * (1 + random.uniform(0.0, 0.12) * correlated_noise(shape, 0.7, 3, random))
    return light.clip(0.03).astype(np.float32)


def precipitates(shape: tuple[int, int], scale: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Electrons `[H, W]` and owners `[H, W]` of sparse precipitates of one or two sizes, bright or dark, in a section.

    The larger ones are round, angular or lobed.
    """
    owner = np.zeros(shape, np.int32)
    noise = correlated_noise(shape, random.uniform(0.2, 0.9), scale * random.uniform(0.7, 1.6), random)
    if random.random() < 0.6:  # lobed outlines: level lines of noise
        body = (noise > np.quantile(noise[::3, ::3], random.uniform(0.62, 0.94))).astype(np.float32)
        owner = _pieces(_rounded(body, 0.08 * scale))
    else:
        _scatter(owner, max(scale * random.uniform(0.3, 0.8), 6), random.uniform(0.03, 0.2), owner, random)
    small = _scatter(owner, random.uniform(4.5, 9), random.uniform(0.01, 0.15), owner, random)
    return _section(owner, len(small), random.uniform(0, 2 * np.pi), random), owner


def islands(shape: tuple[int, int], scale: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Electrons `[H, W]` and owners `[H, W]` of thin islands on a foil of crystals: dark hexagons, discs or stars.

    Islands that meet are told apart only by their outlines. Bright specks are none.
    """
    relief, ground = render_structure("etched" if random.random() < 0.7 else "polished", shape, 2 * scale, random)
    owner = np.zeros(shape, np.int32)
    size = max(min(scale * np.exp(random.uniform(-1.2, 0.4)), min(shape) / 5), 6.0)
    count = min(int(random.uniform(0.03, 0.35) * shape[0] * shape[1] / (np.pi / 4 * size**2)), MAX_SMALL)
    lobes, depth, turn = int(random.choice([4, 6, 6])), random.choice([0.0, 0.06, 0.18]), random.uniform(0, np.pi)
    noise = correlated_noise(shape, 1.8, 2 * size, random)
    allowed = noise > np.quantile(noise[::4, ::4], random.choice([0.0, 0.4, 0.8]))
    sign = random.choice([-1, -1, -1, 1])
    change = np.zeros(shape, np.float32)
    for number in range(1, count + 1):
        x, y = random.uniform(0, shape[1]), random.uniform(0, shape[0])
        if not allowed[int(y), int(x)]:
            continue
        own = size * random.lognormal(0, 0.25)
        window, distance = disc(shape, x, y, own, random)
        rows, columns = np.arange(window[0].start, window[0].stop) - y, np.arange(window[1].start, window[1].stop) - x
        azimuth = np.arctan2(rows[:, None], columns[None]) + turn + random.normal(0, 0.15)
        radius = own / 2 * (1 + depth * np.cos(lobes * azimuth))
        inside = (distance < radius) & (owner[window] == 0)
        if (owner[window][distance < radius] > 0).mean() > 0.5 or not inside.any():
            continue
        owner[window][inside] = number
        rim = np.exp(-((distance - radius).clip(-1e3, 0) / -max(0.05 * own, 1.0)))
        change[window][inside] = random.uniform(0.85, 1.15) * (1 + random.uniform(0, 0.3) * rim[inside])
    light = ground + 0.3 * np.gradient(relief)[1]
    strength = random.uniform(0.2, 0.75)
    light = light * np.exp(sign * strength * ndimage.gaussian_filter(change, 0.6))
    specks = (random.random(shape, dtype=np.float32) < random.choice([0, 3e-4, 2e-3])).astype(np.float32)
    width = random.uniform(0.7, 1.6)
    light = light + random.uniform(0.5, 3) * (2 * np.pi * width**2) * ndimage.gaussian_filter(specks, width, truncate=3)
    return light.clip(0.05).astype(np.float32), owner
