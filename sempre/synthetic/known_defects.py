"""Rendered samples whose defects are known: what a search for rare things is measured by.

Intensities go with the square of the atomic number, roughly (Pennycook and Nellist, "Scanning Transmission Electron
Microscopy", 2011, chapter 1); oxygen is not seen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sempre.errors import InputError
from sempre.synthetic.microscope import Microscope, emitted, record
from sempre.synthetic.scene import Scene
from sempre.synthetic.solids import random_solid
from sempre.synthetic.supports import correlated_noise, render_substrate


@dataclass(frozen=True)
class Defects:
    """`kinds` of the D defects; the sites (y, x in px) that make them up, float64 `[N, 2]`, and whose each is `[N]`.

    What is small has one site, a crack one every few px along its course.
    """

    kinds: tuple[str, ...]
    sites: np.ndarray
    owner: np.ndarray

    @classmethod
    def of_points(cls, kinds: list[str], points: list) -> "Defects":
        """Defects of one site each."""
        return cls(tuple(kinds), np.array(points, np.float64).reshape(-1, 2), np.arange(len(kinds)))

    @property
    def weights(self) -> np.ndarray:
        """What each site counts `[N]`: a defect's sites together as much as another's, all together 1."""
        own = np.bincount(self.owner, minlength=len(self.kinds))
        return 1 / (own[self.owner] * len(self.kinds))


def scattered(count: int, size: tuple[int, int], margin: float, gap: float, random: np.random.Generator) -> np.ndarray:
    """Up to `count` points (y, x in px) `[N, 2]`, `margin` from the border and `gap` from each other where they fit."""
    points: list[np.ndarray] = []
    for _ in range(200 * count):
        if len(points) == count:
            break
        point = random.uniform(margin, np.array(size) - margin)
        if not points or np.hypot(*(np.array(points) - point).T).min() >= gap:
            points.append(point)
    return np.array(points).reshape(-1, 2)


STEP = 2.0  # px between the points of a crack's course
SITE = 24  # px between the sites that stand for a crack


def render_cracked_film(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, Defects, float]:
    """Grey values uint8 `[H, W]`, defects, nm per px; see `sempre.synthetic.known_defects.render_sample`."""
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


CONSTANT_NM = 0.3905  # of SrTiO3
B_COLUMN = 0.5  # intensity over an A column's
VACANCY, SUBSTITUTION = "vacancy", "substitution"


def render_perovskite(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, Defects, float]:
    """Grey values uint8 `[H, W]`, defects, nm per px; see `sempre.synthetic.known_defects.render_sample`.

    A vacant column keeps up to 0.4 of its intensity, for others of its atoms are there; a column with a heavy dopant
    has 1.6 to 2.2 times its own.
    """
    random = np.random.default_rng([seed, 1])
    constant = random.uniform(17, 24)  # px
    columns, is_b = _columns(constant, size, random)
    brightness = np.where(is_b, B_COLUMN, 1.0) * random.normal(1, 0.03, len(columns))
    kinds, points = [], []
    count = int(random.integers(8, 15))
    for number, place in enumerate(scattered(count, size, 1.5 * constant, 4 * constant, random)):
        kind = (VACANCY, SUBSTITUTION)[number % 2]
        # Vacancies of the bright sublattice; dopants go where they fit.
        allowed = columns if kind == SUBSTITUTION else columns[~is_b]
        column = int(np.flatnonzero((columns == allowed[((allowed - place) ** 2).sum(1).argmin()]).all(1))[0])
        brightness[column] *= random.uniform(0, 0.4) if kind == VACANCY else random.uniform(1.6, 2.2)
        kinds.append(kind)
        points.append(columns[column])
    width = constant * random.uniform(0.11, 0.14)
    light = _columns_seen(columns, brightness, width, size)
    # Thickness and what the beam has laid down change slowly over the field.
    slow = correlated_noise(size, 2.0, constant, random)
    light = light * (1 + 0.08 * slow) + 0.18 + 0.05 * np.maximum(slow, 0)
    light = _scanned(light, random)
    dose = random.uniform(60, 200)
    grey = random.poisson(np.maximum(light, 0) * dose) / dose
    low, high = np.percentile(grey, [0.5, 99.8])
    pixels = np.rint((20 + 215 * (grey - low) / (high - low)).clip(0, 255)).astype(np.uint8)
    return pixels, Defects.of_points(kinds, points), CONSTANT_NM / constant


def _columns(constant, size, random) -> tuple[np.ndarray, np.ndarray]:
    """Places (y, x) `[N, 2]` of all columns in the field, and which are of the B sublattice `[N]`."""
    angle = random.uniform(0, np.pi / 2)
    reach = int(np.hypot(*size) / constant) + 2
    grid = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    places = np.concatenate([grid, grid + 0.5]) * constant @ turn.T + np.array(size) / 2
    places = places + random.normal(0, 0.008 * constant, places.shape)
    is_b = np.repeat([False, True], len(grid))
    inside = ((places > -constant) & (places < np.array(size) + constant)).all(axis=1)
    return places[inside], is_b[inside]


def _columns_seen(columns, brightness, width, size) -> np.ndarray:
    """Gaussian peaks float64 `[H, W]`."""
    reach = int(np.ceil(4 * width))
    light = np.zeros((size[0] + 4 * reach + 80, size[1] + 4 * reach + 80))
    margin = 2 * reach + 40
    offsets = np.arange(-reach, reach + 1)
    for (y, x), peak in zip(columns, brightness, strict=True):
        row, column = round(y), round(x)
        vertical = np.exp(-0.5 * ((offsets - (y - row)) / width) ** 2)
        horizontal = np.exp(-0.5 * ((offsets - (x - column)) / width) ** 2)
        top, left = row - reach + margin, column - reach + margin
        light[top : top + len(offsets), left : left + len(offsets)] += peak * vertical[:, None] * horizontal
    return light[margin : margin + size[0], margin : margin + size[1]]


def _scanned(light, random) -> np.ndarray:
    """Each line a little beside its place, as the scan's flyback and hum leave it."""
    height, width = light.shape
    jitter = random.normal(0, 0.25, height) + ndimage.gaussian_filter1d(random.normal(0, 2.0, height), 8)
    rows = np.broadcast_to(np.arange(height)[:, None], light.shape)
    return ndimage.map_coordinates(light, [rows, np.arange(width) + jitter[:, None]], order=1, mode="nearest")


RARE = ("rod", "polyhedron")
ESCAPE = 1.3  # depth of secondary electrons, px
SEEN = 0.5  # of a rare particle's own area: one that shows less lies under others and is none


def render_rare_particles(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, Defects, float]:
    """Grey values uint8 `[H, W]`, defects, nm per px; see `sempre.synthetic.known_defects.render_sample`.

    The rare ones have the spheres' size and material: shape alone tells them.
    """
    random = np.random.default_rng([seed, 2])
    diameter = random.uniform(24, 38)
    relief, brightness = render_substrate("tape", size, 35.0, random)
    scene = Scene.of_relief(relief)
    count = int(size[0] * size[1] / (diameter**2 * random.uniform(4.5, 9.0)))
    rare_count = int(random.integers(4, 9))
    kind = RARE[int(random.integers(len(RARE)))]
    rare = set(random.choice(np.arange(count // 2, count), rare_count, replace=False).tolist())
    laid: list[tuple[float, float]] = []
    for number in range(count):
        own = kind if number in rare else "sphere"
        y, x = _place(laid, diameter, size, random)
        scene.drop(random_solid(own, diameter * random.lognormal(0, 0.06), random), x, y, number + 1, ESCAPE)
        laid.append((y, x))
    particle = scene.owner > 0
    brightness = np.where(particle, np.float32(random.uniform(1.4, 2.4)), brightness).astype(np.float32)
    light = emitted(scene, brightness, np.zeros((2, *size), np.float32), Microscope.draw(random))
    microscope = Microscope.draw(random)
    pixels = record(light, microscope, random)
    shown = np.bincount(scene.owner.ravel(), minlength=count + 1)
    usual = SEEN * np.median(shown[1:])
    found = [number for number in sorted(rare) if shown[number + 1] >= usual]
    points = [np.argwhere(scene.owner == number + 1).mean(axis=0) for number in found]
    return pixels, Defects.of_points([kind] * len(found), points), float(random.uniform(8, 30))


def _place(laid, diameter, size, random) -> np.ndarray:
    """Where the next particle falls: of eight places the one farthest from the others, so that few lie on another."""
    places = random.uniform(0.6 * diameter, np.array(size) - 0.6 * diameter, (8, 2))
    if not laid:
        return places[0]
    gaps = np.linalg.norm(places[:, None] - np.array(laid)[None], axis=-1).min(axis=1)
    return places[gaps.argmax()]


SAMPLES: dict[str, Callable[[int, tuple[int, int]], tuple[np.ndarray, Defects, float]]] = {
    "perovskite": render_perovskite,
    "particles": render_rare_particles,
    "film": render_cracked_film,
}


@dataclass(frozen=True)
class Sample:
    """A micrograph uint8 `[H, W]`, its defects, and the size of a pixel in nm."""

    pixels: np.ndarray
    defects: Defects
    pixel_size_nm: float


def render_sample(name: str, seed: int, size: tuple[int, int] = (1024, 1024)) -> Sample:
    """Render the sample of `seed`, `size` (height, width) px large; the same seed gives the same bytes.

    `perovskite` is a lattice as a dark-field STEM shows it, with vacancies and substitutions; `particles` are spheres
    with a few of other kinds among them; `film` is a grainy film with cracks and pores.

    Raises:
        InputError: for an unknown name, a seed outside 0 to 2^63 - 1, or a side shorter than 256 px.
    """
    if name not in SAMPLES:
        raise InputError(f"sample {name} is unknown: choose {', '.join(SAMPLES)}")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed {seed} is out of range: give an integer from 0 to 2^63 - 1")
    if min(size) < 256:
        raise InputError(f"a sample of {size[1]}x{size[0]} px is too small: give at least 256x256")
    return Sample(*SAMPLES[name](seed, size))
