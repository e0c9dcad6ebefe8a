"""Light micrographs of stained roots with a fungus in them.

After the rendered set of Zöngür, "Unsupervised segmentation of light microscopy images" (TU München, 2023), whose
structures are those of arbuscular mycorrhiza: hyphae, arbuscules, vesicles. What of the root is as thin and as dark,
cells' walls and vessels, is ground.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sempre.errors import InputError
from sempre.synthetic.field import MIN_AREA, Field
from sempre.synthetic.supports import correlated_noise

KINDS = ("hypha", "arbuscule", "vesicle")
STEP = 1.0  # px between two points of a filament
FORKS = 6  # times that an arbuscule's branches fork, at most
MAX_POINTS = 60_000  # of one fungus, whatever the field's size


@dataclass(frozen=True)
class Organ:
    """A part of the fungus: its `kind` of KINDS, and spheres `[N, 3]` (x, y, radius in px) that it is made of."""

    kind: str
    spheres: np.ndarray


def grow(start: tuple[float, float], heading: float, axis: float, unit: float, length: float, random) -> list[Organ]:
    """One fungus that enters the root at `start`: a tree of hyphae, and what hangs on them.

    Args:
        start: x and y in px.
        heading: the direction in which it grows at first, radians from x to y.
        axis: the direction of the root, along which hyphae turn.
        unit: px; a hypha is about 5 of it wide.
        length: of all hyphae together, px.
        random: a NumPy generator.
    """
    radius = 2.5 * unit * random.lognormal(0, 0.15)
    tips = [(*start, heading, radius, 0)]
    organs: list[Organ] = []
    paths, left = [], min(length, MAX_POINTS * STEP)
    while tips and left > 0:
        x, y, heading, radius, generation = tips.pop(0)
        path = _hypha(x, y, heading, axis, radius, min(left, unit * random.uniform(60, 320)), random)
        left -= len(path) * STEP
        paths.append(path)
        places = np.flatnonzero(random.random(len(path)) < STEP / (90 * unit))
        for place in places[: 4 if generation < 4 else 0]:
            side = random.choice([-1, 1]) * random.uniform(0.6, 1.5)
            tips.append(
                (*path[place, :2], _direction(path, place) + side, radius * random.uniform(0.7, 0.95), generation + 1)
            )
        (x, y), onwards = path[-1, :2], _direction(path, len(path) - 1)
        fate = random.random()
        if fate < 0.35:
            organs.append(Organ("arbuscule", _arbuscule(x, y, onwards, unit, random)))
        elif fate < 0.6:
            organs.append(Organ("vesicle", _vesicle(x, y, onwards, unit, random)))
        elif generation < 6:
            tips.append((x, y, onwards, radius, generation + 1))
    return [Organ("hypha", np.concatenate(paths)), *organs] if paths else organs


def _direction(path: np.ndarray, place: int) -> float:
    before, after = path[max(place - 3, 0)], path[min(place + 3, len(path) - 1)]
    return float(np.arctan2(after[1] - before[1], after[0] - before[0]))


def _hypha(x, y, heading, axis, radius, length, random) -> np.ndarray:
    """Points `[N, 3]` of a filament whose direction wanders and turns along the root, whichever way is nearer."""
    count = max(int(length / STEP), 4)
    wander = random.normal(0, 0.045, count)
    headings = np.empty(count)
    for number in range(count):
        heading += wander[number] - 0.012 * np.sin(2 * (heading - axis))
        headings[number] = heading
    steps = STEP * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    thickness = radius * (1 + 0.12 * np.cumsum(random.normal(0, 0.12, count)).clip(-2, 2))
    return np.column_stack([np.add((x, y), np.cumsum(steps, axis=0)), thickness])


def _arbuscule(x, y, heading, unit, random) -> np.ndarray:
    """Spheres of a bush that fills most of a cell: each branch forks into two that are shorter and thinner."""
    branches = [(x, y, heading, unit * random.uniform(10, 17), unit * random.uniform(2.0, 2.8), 0)]
    spheres = []
    while branches:
        x, y, heading, length, radius, forks = branches.pop()
        along = np.arange(0, length, max(0.6 * radius, 0.5))[:, None]
        bend = heading + random.normal(0, 0.02, (len(along), 1)).cumsum(axis=0)
        path = (x, y) + along * np.concatenate([np.cos(bend), np.sin(bend)], axis=1)
        spheres.append(np.column_stack([path, np.full(len(path), radius)]))
        if forks == FORKS:
            continue
        for side in (-1, 1):
            turned = heading + side * random.uniform(0.3, 0.9)
            branches.append(
                (*path[-1], turned, length * random.uniform(0.6, 0.9), max(0.78 * radius, 0.8 * unit), forks + 1)
            )
    return np.concatenate(spheres)


def _vesicle(x, y, heading, unit, random) -> np.ndarray:
    """Spheres of an ellipsoid at the end of a hypha."""
    radius, stretch = unit * random.uniform(8, 17), random.uniform(0.0, 0.7)
    shifts = np.linspace(-stretch, stretch, 9)[:, None] * radius
    centre = np.array([x, y]) + radius * (1 + stretch) * np.array([np.cos(heading), np.sin(heading)])
    centres = centre + shifts * [np.cos(heading), np.sin(heading)]
    return np.column_stack([centres, radius * np.sqrt(1 - 0.45 * np.linspace(-1, 1, 9) ** 2)])


PIXEL_SIZE_NM = (250.0, 800.0)
LAMP = np.array([0.97, 0.95, 0.90], np.float32)
# Optical density in red, green and blue of each material where it is as thick as it gets.
TISSUE, WALL, VESSEL, DEBRIS = (
    np.array(colour, np.float32) for colour in ((0.10, 0.13, 0.24), (0.24, 0.30, 0.42), (0.75, 0.9, 1.1), (0.9, 0.9, 1))
)
STAIN = np.array([1.15, 0.72, 0.18], np.float32)  # ink: it takes red away and looks blue
TREE, ROOT, RECORDING, COLOURS = range(1, 5)  # what is drawn, each from its own stream


def render_fungus(seed: int, size: tuple[int, int] = (640, 640), infected: bool = True) -> Field:
    """Render the root of `seed`, `size` (height, width) px large; the same seed gives the same bytes.

    Pixels are red, green and blue, uint8 `[H, W, 3]`. An instance is one fungus's hyphae, an arbuscule or a vesicle;
    what lies nearer to the eye owns its px. Light is absorbed (Beer and Lambert), out of focus, and counted.

    Args:
        infected: without, the root is bare and no px has a label.

    Raises:
        InputError: for a seed outside 0 to 2^64 - 1 or a side shorter than 64 px.
    """
    if not 0 <= seed < 2**64:
        raise InputError(f"seed {seed} is out of range: give an integer from 0 to 2^64 - 1")
    if min(size) < 64:
        raise InputError(f"a field of {size[1]}x{size[0]} px is too small: give at least 64x64")
    random = np.random.default_rng([seed, ROOT])
    unit = float(np.clip(min(size) / 640, 0.4, 2.5) * random.lognormal(0, 0.2))
    root = _Root(size, unit, random)
    random = np.random.default_rng([seed, TREE])
    fungi = _infection(root, unit, random) if infected else []
    density, owner, kinds = _absorbed(root, fungi, unit, seed)
    pixels = _recorded(density, np.random.default_rng([seed, RECORDING]))
    areas = np.bincount(owner.ravel(), minlength=len(kinds) + 1)
    shown = np.flatnonzero(areas >= MIN_AREA)
    shown = shown[shown > 0]
    ids = np.zeros(len(kinds) + 1, np.int32)
    ids[shown] = np.arange(1, len(shown) + 1)
    low, high = np.log(PIXEL_SIZE_NM)
    return Field(
        pixels, ids[owner], tuple(kinds[number - 1] for number in shown), float(np.exp(random.uniform(low, high)))
    )


class _Root:
    """A root across the field: where it lies, its cells' walls and its vessels.

    `along` and `across` are px `[H, W]` from a point of its axis, whose direction is `axis`; `radius` is its own, px;
    `inside` bool, `depth` its thickness over the diameter, `walls` and `vessels` 0 to 1, all float32 `[H, W]`.
    """

    def __init__(self, size, unit, random):
        height, width = size
        self.size, self.axis = size, random.uniform(-0.5, 0.5) + (np.pi / 2 if random.random() < 0.25 else 0)
        self.centre = np.array([width, height]) * random.uniform(0.4, 0.6, 2)
        self.radius = min(size) * random.uniform(0.35, 0.8)
        y, x = np.mgrid[:height, :width].astype(np.float32)
        x, y = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        cosine, sine = np.float32(np.cos(self.axis)), np.float32(np.sin(self.axis))
        self.along, across = cosine * x + sine * y, cosine * y - sine * x
        bend = random.normal(0, 0.12) / max(size)
        waves = 0.03 * self.radius * correlated_noise(size, 2.0, 30 * unit, random)
        self.across = (across + np.float32(bend) * self.along**2 + waves).astype(np.float32)
        self.depth = np.sqrt(np.clip(1 - (self.across / self.radius) ** 2, 0, 1)).astype(np.float32)
        self.inside = np.abs(self.across) < self.radius
        self._cells(unit, random)
        self._vessels(unit, random)

    def _cells(self, unit, random):
        """Rows of long cells: walls between them, and how dense each is."""
        wide = unit * random.uniform(26, 48)
        bounds = np.cumsum(
            np.concatenate([[-self.radius], wide * random.lognormal(0, 0.25, int(3 * self.radius / wide) + 1)])
        )
        row = np.searchsorted(bounds, self.across.ravel()).reshape(self.size)
        nearest = np.abs(self.across - np.concatenate([bounds, bounds[-1:]])[row])
        nearest = np.minimum(nearest, np.abs(self.across - bounds[np.maximum(row - 1, 0)]))
        self.contents = np.ones(self.size, np.float32)
        reach = 1.2 * np.hypot(*self.size)
        for number in np.unique(row[self.inside]):
            there = row == number
            lengths = wide * random.uniform(1.6, 5, int(2 * reach / (1.6 * wide)) + 2)
            ends = np.cumsum(lengths) - reach - random.uniform(0, lengths[0])
            tilt = random.normal(0, 0.25)
            along = self.along[there] + tilt * self.across[there]
            cell = np.searchsorted(ends, along)
            distances = np.abs(along - ends[np.minimum(cell, len(ends) - 1)])
            distances = np.minimum(distances, np.abs(along - ends[np.maximum(cell - 1, 0)]))
            nearest[there] = np.minimum(nearest[there], distances)
            self.contents[there] = random.lognormal(0, 0.08, len(ends) + 1)[cell]
        nearest = np.minimum(nearest, np.abs(np.abs(self.across) - self.radius))
        thin = max(unit * random.uniform(0.9, 1.8), 0.7)
        self.walls = np.exp(-((nearest / thin) ** 2)) * (np.abs(self.across) < self.radius + 2 * thin)

    def _vessels(self, unit, random):
        """A few dark lines along the root, thickened as by spirals: as dark as the fungus and no part of it."""
        self.vessels = np.zeros(self.size, np.float32)
        for _ in range(int(random.integers(1, 5))):
            place = random.normal(0, 0.22) * self.radius
            half = unit * random.uniform(1.2, 3.0)
            off = self.across - place - unit * 3 * np.sin(self.along / (unit * random.uniform(60, 160)))
            spiral = 0.75 + 0.25 * np.sin(2 * np.pi * (self.along + 1.5 * off) / (unit * random.uniform(5, 9)))
            self.vessels = np.maximum(self.vessels, spiral * np.exp(-((off / half) ** 4)))

    def place(self, along: float, across: float) -> tuple[float, float]:
        """x and y in px, of a straight root."""
        cosine, sine = np.cos(self.axis), np.sin(self.axis)
        x, y = np.add(self.centre, (cosine * along - sine * across, sine * along + cosine * across))
        return float(x), float(y)


def _infection(root: _Root, unit: float, random) -> list[list[Organ]]:
    """Fungi that enter the root from its sides or run in from outside the field, few or many."""
    half = 0.5 * max(root.size)
    fungi = []
    for _ in range(1 + int(random.poisson(random.uniform(2, 10)))):
        side = random.choice([-1.0, 1.0])
        if random.random() < 0.6:
            start, inwards = root.place(random.uniform(-half, half), side * 1.05 * root.radius), -side * np.pi / 2
        else:
            start, inwards = root.place(side * half * 1.2, random.uniform(-0.8, 0.8) * root.radius), np.pi * (side > 0)
        heading = root.axis + inwards + random.normal(0, 0.4)
        fungi.append(grow(start, heading, root.axis, unit, random.uniform(1, 5) * max(root.size), random))
    return fungi


def _absorbed(root: _Root, fungi, unit, seed) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Optical density float32 `[H, W, 3]`, the number of the organ that owns each px `[H, W]`, and their kinds."""
    random = np.random.default_rng([seed, COLOURS])
    stain = STAIN * random.uniform(0.75, 1.25, 3).astype(np.float32) * np.float32(random.uniform(0.75, 1.25))
    texture = (
        1 + 0.16 * correlated_noise(root.size, 1.2, 2, random) + 0.12 * correlated_noise(root.size, 2.0, 25, random)
    )
    tissue = root.inside * (0.35 + 0.65 * root.depth) * root.contents * texture.clip(0.2)
    takes_up = stain * np.float32(random.uniform(0.02, 0.12))  # the plant takes up some of the ink, too
    density = tissue[..., None] * (TISSUE * np.float32(random.uniform(0.3, 0.9)) + takes_up)
    density = density + root.walls[..., None] * (WALL * np.float32(random.uniform(0.5, 1.2)) + takes_up)
    density = density + root.vessels[..., None] * VESSEL * np.float32(random.uniform(0.5, 1.0))
    density = ndimage.gaussian_filter(density, (1.0 * unit, 1.0 * unit, 0), truncate=3)
    density = density + _debris(root.size, unit, random)[..., None] * DEBRIS
    owner, kinds = np.zeros(root.size, np.int32), []
    for organs in fungi:
        focus = random.choice([0.5, 0.8, 1.6, 2.6]) * unit  # how far it lies from the plane in focus
        uptake = random.lognormal(-0.05, 0.2)
        amount = np.zeros(root.size, np.float32)
        for organ in organs:
            kinds.append(organ.kind)
            window, part = _thickness(organ, root.size)
            inside, stained = _stained(organ.kind, part, unit)
            owner[window][inside] = len(kinds)
            amount[window] = np.maximum(amount[window], stained)
        amount *= (1 + 0.12 * correlated_noise(root.size, 1.0, 2, random)).clip(0.3)
        amount = ndimage.gaussian_filter(np.minimum(amount, 1.6), focus, truncate=3)
        density = density + np.float32(uptake) * amount[..., None] * stain
    return density.astype(np.float32), owner, kinds


def _thickness(organ: Organ, size: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
    """A window of the field, and through how many px of an organ light goes in it: of its spheres the largest."""
    x, y, radius = organ.spheres.T
    left, right = (int(edge) for edge in np.clip([(x - radius).min() - 4, (x + radius).max() + 6], 0, size[1]))
    top, bottom = (int(edge) for edge in np.clip([(y - radius).min() - 4, (y + radius).max() + 6], 0, size[0]))
    thickness = np.zeros((bottom - top, right - left), np.float32)
    for x, y, radius in organ.spheres - (left, top, 0):
        x0, x1 = max(int(x - radius), 0), min(int(x + radius) + 2, right - left)
        y0, y1 = max(int(y - radius), 0), min(int(y + radius) + 2, bottom - top)
        if x0 < x1 and y0 < y1:
            squared = radius**2 - (np.arange(y0, y1)[:, None] - y) ** 2 - (np.arange(x0, x1) - x) ** 2
            window = thickness[y0:y1, x0:x1]
            np.maximum(window, 2 * np.sqrt(np.maximum(squared, 0)), out=window)
    return (slice(top, bottom), slice(left, right)), thickness


def _stained(kind: str, part: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Where an organ is, bool, and how much stain it holds, of its thickness in px; all `[h, w]`."""
    inside = part > 0
    if kind == "hypha":
        return inside, part / (5 * unit)
    if kind == "arbuscule":  # its finest branches are not resolved: they fill the gaps
        inside = ndimage.binary_closing(np.pad(inside, 9), iterations=max(round(2.5 * unit), 1))[9:-9, 9:-9]
        return inside, part / (3.5 * unit) + 0.25 * inside
    # A vesicle is a bag of lipids: its wall is what is stained, and its contents a little.
    return inside, 0.5 * inside + 0.6 * _rim(part, unit)


def _rim(part: np.ndarray, unit: float) -> np.ndarray:
    inside = part > 0
    depth = ndimage.distance_transform_edt(inside)
    return inside * np.exp(-((depth / (1.8 * unit)) ** 2))


def _debris(size, unit, random) -> np.ndarray:
    """Specks and crumbs on the slide, 0 to 1, float32 `[H, W]`."""
    crumbs = correlated_noise(size, 1.4, 2.5 * unit, random) > random.uniform(3.2, 4.2)
    return ndimage.gaussian_filter(crumbs.astype(np.float32), 0.9 * unit, truncate=3)


def _recorded(density: np.ndarray, random) -> np.ndarray:
    """What a camera makes of the light that is left, uint8 `[H, W, 3]`."""
    height, width = density.shape[:2]
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    azimuth = random.uniform(0, 2 * np.pi)
    lamp = (
        1
        - random.uniform(0, 0.14) * (x**2 + y**2) / 2
        + random.uniform(0, 0.06) * (np.cos(azimuth) * x + np.sin(azimuth) * y)
    )
    balance = LAMP * random.uniform(0.82, 1.0) * random.uniform(0.97, 1.03, 3)
    light = lamp[..., None] * balance * np.exp(-np.log(10) * 0.75 * density)
    light = ndimage.gaussian_filter(light, (0.7, 0.7, 0), truncate=3)
    dose = random.uniform(700, 4000)  # electrons at white
    light = light + random.standard_normal(light.shape) * np.sqrt(light.clip(0.01) / dose)
    return np.rint(255 * light.clip(0, 1) ** (1 / 1.15)).astype(np.uint8)
