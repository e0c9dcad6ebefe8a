"""A heap of solids: how particles are arranged, and how each falls until it touches what lies below.

The aggregates join smaller ones wherever they touch, as cluster-cluster aggregation does, which gives soot its fractal
dimension of about 1.8: Meakin, "Formation of fractal clusters and networks by irreversible diffusion-limited
aggregation", Phys. Rev. Lett. 51 (1983); joined in halves as by Thouy and Jullien, J. Phys. A 27 (1994).
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from sempre.synthetic.composites import any_grain
from sempre.synthetic.solids import OUTSIDE
from sempre.synthetic.supports import correlated_noise

ARRANGED = ("aggregates", "bimodal", "crowded", "lattice")
PRIMARIES = {"low": (6.0, 14.0), "medium": (10.0, 30.0), "high": (24.0, 70.0)}  # diameters in an aggregate, px
MAX_PRIMARIES = 600
MAX_CROWD = 3000


def arranged(
    arrangement: str, shape: tuple[int, int], magnification: str, count: int | None, random: np.random.Generator
) -> np.ndarray:
    """Places and diameters `[N, 3]` (x, y, diameter in px) in the order of dropping; `count` of them, None to draw."""
    place = {"aggregates": _aggregates, "bimodal": _bimodal, "crowded": _crowded, "lattice": _lattice}[arrangement]
    return place(shape, magnification, count, random)


def _aggregates(shape, magnification, count, random) -> np.ndarray:
    low, high = np.log(PRIMARIES[magnification])
    diameter = np.exp(random.uniform(low, high))
    if count is None:
        count = int(random.uniform(0.05, 0.45) * shape[0] * shape[1] / (np.pi / 4 * diameter**2))
    count = min(count, MAX_PRIMARIES)
    overlap, spread, typical = random.uniform(0.02, 0.25), random.uniform(0.02, 0.16), random.uniform(5, 120)
    parts = []
    while count > 0:
        size = min(count, int(typical * random.lognormal(0, 0.6)) + 1)
        centres = cluster(size, 1 - overlap, random) * diameter
        centres[:, :2] += random.uniform(0, 1, 2) * shape[::-1]
        parts.append(centres)
        count -= size
    if not parts:
        return np.zeros((0, 3))
    centres = np.concatenate(parts)
    centres = centres[np.argsort(centres[:, 2], kind="stable")]  # the nearer to the eye falls later
    diameters = diameter * random.lognormal(0, spread, len(centres))
    return np.column_stack([centres[:, :2], diameters])


def cluster(size: int, gap: float, random: np.random.Generator) -> np.ndarray:
    """Centres `[size, 3]`, about the origin, of spheres of diameter 1 that touch at a distance of `gap`."""
    if size == 1:
        return np.zeros((1, 3))
    part = int(np.clip(np.rint(size * random.uniform(0.3, 0.7)), 1, size - 1))
    one, other = cluster(part, gap, random), cluster(size - part, gap, random)
    best, widest = other, -1.0
    for _ in range(10):
        turned = other @ _any_turn(random).T
        direction = random.normal(size=3)
        step = one[random.integers(len(one))] + gap * direction / np.linalg.norm(direction)
        moved = turned - turned[random.integers(len(turned))] + step
        clearance = cdist(one, moved).min()
        if clearance > widest:
            best, widest = moved, clearance
        if widest > 0.98 * gap:
            break
    centres = np.concatenate([one, best])
    return centres - centres.mean(axis=0)


def _any_turn(random) -> np.ndarray:
    """A turn `[3, 3]` in space, all equally likely but for its sign."""
    return np.linalg.qr(random.normal(size=(3, 3)))[0]


def _bimodal(shape, magnification, count, random) -> np.ndarray:
    """A few grains up to half of the field wide, satellites on them, dust beside them: up to two decades of sizes."""
    side = min(shape)
    large = side * np.exp(random.uniform(np.log(0.08), np.log(0.5))) * random.lognormal(0, 0.25, 12)
    large = large[: 1 + int(np.searchsorted(np.cumsum(np.pi / 4 * large**2), random.uniform(0.1, 0.6) * side**2))]
    large = np.sort(large.clip(8, side / 2))[::-1]
    centres = random.uniform(0, 1, (len(large), 2)) * shape[::-1]
    small = max(large[0] / np.exp(random.uniform(np.log(6), np.log(60))), 5.0)
    number = int(np.exp(random.uniform(np.log(15), np.log(250)))) if count is None else max(count - len(large), 0)
    diameters = (small * random.lognormal(0, random.uniform(0.1, 0.5), number)).clip(4.5, large[0] / 3)
    places = random.uniform(0, 1, (number, 2)) * shape[::-1]
    satellites = np.flatnonzero(random.random(number) < random.choice([0.1, 0.5, 0.9]))
    host = random.integers(len(large), size=len(satellites))
    # Evenly over the half that is seen, and a little beyond the rim.
    distance = (large[host] / 2) * np.sqrt(random.uniform(0, 1.1, len(satellites)))
    azimuth = random.uniform(0, 2 * np.pi, len(satellites))
    places[satellites] = centres[host] + (distance * [np.cos(azimuth), np.sin(azimuth)]).T
    everything = np.concatenate([np.column_stack([centres, large]), np.column_stack([places, diameters])])
    return everything if count is None else everything[:count]


def _crowded(shape, magnification, count, random) -> np.ndarray:
    """Up to MAX_CROWD particles of 6 to 15 px."""
    median, spread = random.uniform(7, 13), random.uniform(0.03, 0.3)
    if count is None:
        count = int(random.uniform(0.12, 0.8) * shape[0] * shape[1] / (np.pi / 4 * median**2))
    count = min(count, MAX_CROWD)
    diameters = (median * random.lognormal(0, spread, count)).clip(6, 15)
    return np.column_stack([_scattered(shape, count, random), diameters])


def _scattered(shape, count, random) -> np.ndarray:
    """Places `[count, 2]` (x, y): at random, or kept apart by a jittered grid of which patches may be bare."""
    if count == 0 or random.random() < 0.4:
        return random.uniform(0, 1, (count, 2)) * shape[::-1]
    pitch = np.sqrt(shape[0] * shape[1] * random.choice([1, 1, 0.7, 0.5]) / count)
    columns, rows = int(np.ceil(shape[1] / pitch)), int(np.ceil(shape[0] / pitch))
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) + 0.5
    density = (
        correlated_noise((rows, columns), 1.5, 1.5, random).ravel() if min(rows, columns) > 1 else np.zeros(len(grid))
    )
    grid = grid[np.argsort(-density, kind="stable")[:count]]
    grid[:, 0] += 0.5 * (grid[:, 1] // 1 % 2)  # every other row moved by half a pitch: nowhere a square
    return (grid + random.uniform(-0.5, 0.5, grid.shape) * random.uniform(0.6, 1.0)) * pitch


def _lattice(shape, magnification, count, random) -> np.ndarray:
    """A raft of spheres of one size: hexagonally packed, with vacancies."""
    low, high = {"low": (8, 24), "medium": (16, 60), "high": (40, 130)}[magnification]
    diameter = max(np.exp(random.uniform(np.log(low), np.log(high))), np.sqrt(shape[0] * shape[1] / MAX_CROWD))
    pitch = diameter * random.uniform(1.0, 1.12)
    reach = int(np.hypot(*shape) / pitch / 2 * 1.2) + 2
    i, j = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    points = np.column_stack([(i + 0.5 * (j % 2)).ravel(), (np.sqrt(3) / 2 * j).ravel()]) * pitch
    angle = random.uniform(0, np.pi)
    cosine, sine = np.cos(angle), np.sin(angle)
    points = points @ [[cosine, sine], [-sine, cosine]] + np.array(shape[::-1]) / 2
    points += random.normal(0, random.uniform(0, 0.05) * diameter, points.shape)
    within = ((points > -diameter / 2) & (points < np.array(shape[::-1]) + diameter / 2)).all(axis=1)
    points = points[within & (random.random(len(points)) > random.choice([0.01, 0.08, 0.3]))]
    points = random.permutation(points)[:count]
    return np.column_stack([points, diameter * random.lognormal(0, random.uniform(0, 0.05), len(points))])


# Equivalent diameters in px; in a small field the largest take 0.63 of its shorter side.
DIAMETERS = {"low": (5.0, 45.0), "medium": (14.0, 130.0), "high": (60.0, 400.0)}
ARRANGEMENTS = ("dispersed", "agglomerated", "packed")
WIDE_ARRANGEMENTS = (*ARRANGEMENTS, *ARRANGED)
# Area of all particles over the area of the field.
COVERAGE = {"dispersed": (0.08, 0.25), "agglomerated": (0.15, 0.55), "packed": (1.1, 1.7)}
MAX_PARTICLES = {"plain": 400, "wide": 1500}  # where no count is given
ESCAPE_DEPTH = {"low": 0.8, "medium": 1.3, "high": 4.0}  # of secondary electrons, px: grows with magnification


@dataclass
class Scene:
    """What is seen from above; floats are float32, lengths px.

    `height` `[H, W]` over the tape, `normal` `[2, H, W]` (x and y of the unit normal), `edge` `[H, W]` (1 on edges),
    `owner` int32 `[H, W]` (0 substrate, else the particle's number from 1), `relief` `[H, W]` the substrate's height.
    """

    height: np.ndarray
    relief: np.ndarray
    normal: np.ndarray
    edge: np.ndarray
    owner: np.ndarray

    @classmethod
    def of_relief(cls, relief: np.ndarray) -> "Scene":
        """The bare substrate with heights `relief` `[H, W]`."""
        slope_y, slope_x = np.gradient(relief)
        length = np.sqrt(1 + slope_x**2 + slope_y**2)
        normal = np.stack([-slope_x / length, -slope_y / length]).astype(np.float32)
        return cls(relief.copy(), relief, normal, np.zeros_like(relief), np.zeros(relief.shape, np.int32))

    def drop(self, solid, x: float, y: float, number: int, escape: float, z: float | None = None) -> None:
        """Let a solid fall at (x, y) px until it touches, or hold its centre at height `z` px where this is given.

        Its part outside the field is cut off.
        """
        height, width = self.owner.shape
        x0, x1 = max(int(x - solid.radius), 0), min(int(x + solid.radius) + 2, width)
        y0, y1 = max(int(y - solid.radius), 0), min(int(y + solid.radius) + 2, height)
        if x0 >= x1 or y0 >= y1:
            return
        surface = solid.surface(np.arange(x0, x1) - x, np.arange(y0, y1) - y, escape)
        solid_there = surface.top > OUTSIDE
        if not solid_there.any():
            return
        window = (slice(y0, y1), slice(x0, x1))
        below = self.height[window]
        rise = (below - surface.bottom)[solid_there].max() if z is None else np.float32(z)
        seen = solid_there & (surface.top + rise > below)
        below[seen] = surface.top[seen] + rise
        self.normal[:, y0:y1, x0:x1][:, seen] = surface.normal[:, seen]
        self.edge[window][seen] = surface.edge[seen]
        self.owner[window][seen] = number


def pour(
    scene: Scene,
    kinds: tuple[str, ...],
    magnification: str,
    arrangement: str,
    count: int | None,
    limit: int,
    random: np.random.Generator,
) -> list[str]:
    """Drop particles of `kinds` onto the scene, large ones first on the whole; their kinds, by number from 1.

    `scene` is a `Scene`, or a `Projection` for transmitted electrons. `limit` bounds a `count` that is drawn; the
    ARRANGED have their own bounds.
    """
    height, width = scene.owner.shape
    if arrangement in ARRANGED:
        return _lay(
            scene, kinds, magnification, arranged(arrangement, (height, width), magnification, count, random), random
        )
    diameters = _diameters(min(height, width), height * width, magnification, arrangement, count, limit, random)
    if len(diameters) == 0:
        return []
    centres = random.uniform(0.1, 0.9, (int(random.integers(1, 5)), 2)) * (width, height)
    laid, poured = [], []
    for number, diameter in enumerate(diameters, start=1):
        kind = kinds[int(random.integers(len(kinds)))]
        candidates = _candidates(arrangement, diameter, centres, laid, (height, width), random)
        x, y = candidates[np.argmin(_ground(scene, candidates, diameter / 3))]
        scene.drop(any_grain(kind, diameter, random), x, y, number, ESCAPE_DEPTH[magnification])
        laid.append((x, y, diameter))
        poured.append(kind)
    return poured


def _lay(scene, kinds, magnification, places, random) -> list[str]:
    """Drop a particle at each of `places` `[N, 3]`; their kinds, by number from 1."""
    laid = []
    for number, (x, y, diameter) in enumerate(places, start=1):
        kind = kinds[int(random.integers(len(kinds)))]
        scene.drop(any_grain(kind, diameter, random), x, y, number, ESCAPE_DEPTH[magnification])
        laid.append(kind)
    return laid


def _diameters(side, area, magnification, arrangement, count, limit, random) -> np.ndarray:
    """Diameters in px, log-normal within the magnification's range, falling on the whole."""
    smallest, largest = DIAMETERS[magnification]
    largest = min(largest, 0.63 * side)
    smallest = min(smallest, largest / 4)
    spread = random.uniform(0.05, 0.75)
    median = np.exp(random.uniform(np.log(smallest * 1.2), np.log(largest / (1.3 + spread))))
    diameters = (median * np.exp(random.normal(0, spread, limit))).clip(smallest, largest)
    if count is None:
        coverage = random.uniform(*COVERAGE[arrangement])
        count = int(np.searchsorted(np.cumsum(np.pi / 4 * diameters**2), coverage * area)) + 1
    diameters = np.resize(diameters, count)
    return diameters[np.argsort(-diameters * np.exp(random.normal(0, 0.35, count)), kind="stable")]


def _candidates(arrangement, diameter, centres, laid, shape, random) -> np.ndarray:
    """Places `[K, 2]` (x, y in px), of which a particle takes the lowest: in a packed bed it finds the gaps."""
    height, width = shape
    margin = 0.35 * diameter
    anywhere = random.uniform(
        (-margin, -margin), (width + margin, height + margin), (6 if arrangement == "packed" else 2, 2)
    )
    if arrangement != "agglomerated" or random.random() < 0.12:
        return anywhere
    if not laid or random.random() < 0.08:
        return centres[random.integers(len(centres), size=1)] + random.normal(0, 0.04 * min(shape), (1, 2))
    neighbours = [laid[index] for index in random.integers(len(laid), size=3)]
    azimuths = random.uniform(0, 2 * np.pi, 3)
    return np.array(
        [
            (x + 0.46 * (diameter + other) * np.cos(azimuth), y + 0.46 * (diameter + other) * np.sin(azimuth))
            for (x, y, other), azimuth in zip(neighbours, azimuths, strict=True)
        ]
    )


def _ground(scene: Scene, places: np.ndarray, reach: float) -> np.ndarray:
    """Summed height `[K]` in px, above the substrate, of five points around each of `places` `[K, 2]`."""
    height, width = scene.owner.shape
    cross = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]) * reach
    columns, rows = (places[:, None] + cross).astype(np.intp).transpose(2, 0, 1)
    points = rows.clip(0, height - 1), columns.clip(0, width - 1)
    return (scene.height[points] - scene.relief[points]).sum(axis=1)
