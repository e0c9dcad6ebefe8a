"""A grainy film with a few cracks and pores in it, by secondary electrons."""

import numpy as np
from scipy import ndimage

from sempre.images.synthetic.detector import Microscope, emitted, record
from sempre.images.synthetic.grounds.substrate import correlated_noise
from sempre.images.synthetic.samples.defects import Defects, scattered
from sempre.images.synthetic.scene import Scene

STEP = 2.0  # px between the points of a crack's course
SITE = 24  # px between the sites that stand for a crack


def render_cracked_film(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, Defects, float]:
    """Grey values uint8 `[H, W]`, defects, nm per px; see `sempre.images.synthetic.samples.sample.render_sample`."""
    random = np.random.default_rng([seed, 3])
    grain = random.uniform(5, 11)  # px
    relief = (correlated_noise(size, 0.2, grain, random) * grain * 0.1).astype(np.float32)
    kinds, sites, owner = [], [], []
    depth = np.zeros(size, np.float32)  # of what is missing from the film, px
    middles = scattered(int(random.integers(8, 13)), size, 60, 110, random)
    cracks = int(random.integers(2, 5))
    for number, middle in enumerate(middles):
        if number < cracks:
            course = _course(middle, random.uniform(70, 180), size, random)
            _cut(depth, course, random.uniform(0.9, 1.8), random)
            own = course[:: round(SITE / STEP)]
        else:
            _sink(depth, middle, random.uniform(3.5, 8), random)
            own = middle[None]
        kinds.append("crack" if number < cracks else "pore")
        sites.append(own)
        owner.append(np.full(len(own), number))
    brightness = 1 + 0.05 * correlated_noise(size, 1.0, 3 * grain, random)
    scene = Scene.of_relief(relief - depth)
    # Few electrons come out of a hole, more from its rim.
    hole = np.clip(depth / 4, 0, 1)
    scene.edge = np.clip(ndimage.gaussian_filter(hole, 1.6) - hole, 0, 1).astype(np.float32)
    brightness = (brightness * (1 - 0.75 * hole)).astype(np.float32)
    light = emitted(scene, brightness, np.zeros((2, *size), np.float32), Microscope.draw(random))
    pixels = record(light, Microscope.draw(random), random)
    defects = Defects(tuple(kinds), np.concatenate(sites), np.concatenate(owner))
    return pixels, defects, float(random.uniform(3, 15))


def _course(middle, length, size, random) -> np.ndarray:
    """A crack's points (y, x) `[N, 2]`, `STEP` px apart: it keeps its direction but for small turns."""
    steps = int(length / STEP)
    turns = random.normal(0, 0.12, steps) + random.choice([0, 0, 0, 0, 0.6, -0.6], steps) * (random.random(steps) < 0.2)
    angle = random.uniform(0, 2 * np.pi) + np.cumsum(turns)
    course = np.cumsum(np.stack([np.sin(angle), np.cos(angle)], axis=1) * STEP, axis=0)
    course = course - course[steps // 2] + middle
    return course[((course > 4) & (course < np.array(size) - 4)).all(axis=1)]


def _cut(depth, course, width, random) -> None:
    """Open a crack of about `width` px half width along its course, thinner at its ends."""
    along = np.sin(np.linspace(0.15, np.pi - 0.15, len(course)))
    for (y, x), opening in zip(course, width * along * random.lognormal(0, 0.15, len(course)), strict=True):
        _dig(depth, y, x, opening, 6.0)


def _sink(depth, middle, radius, random) -> None:
    y, x = middle
    _dig(depth, y, x, radius, 6.0, stretch=random.uniform(0.75, 1.0), angle=random.uniform(0, np.pi))


def _dig(depth, y, x, radius, deepest, stretch=1.0, angle=0.0) -> None:
    """Take away an ellipse's worth, `deepest` px deep in its middle, with a slope at its rim."""
    reach = int(np.ceil(radius + 3))
    rows = np.arange(max(int(y) - reach, 0), min(int(y) + reach + 1, depth.shape[0]))
    columns = np.arange(max(int(x) - reach, 0), min(int(x) + reach + 1, depth.shape[1]))
    dy, dx = rows[:, None] - y, columns[None] - x
    along, across = dy * np.cos(angle) + dx * np.sin(angle), (dx * np.cos(angle) - dy * np.sin(angle)) / stretch
    dug = deepest * np.clip(radius + 0.5 - np.hypot(along, across), 0, 1.5) / 1.5
    window = depth[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    np.maximum(window, dug.astype(np.float32), out=window)
