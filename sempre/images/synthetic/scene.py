"""A heap of solids: each falls where it is put until it touches what lies below; the highest point is what is seen."""

from dataclasses import dataclass

import numpy as np

from sempre.images.synthetic.arrangements import ARRANGED, arranged
from sempre.images.synthetic.composites import any_grain
from sempre.images.synthetic.solids import OUTSIDE

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
