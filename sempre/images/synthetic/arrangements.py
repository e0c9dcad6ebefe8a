"""Where particles lie that did not fall one by one at random: soot-like aggregates, satellites and dust, crowds, rafts.

The aggregates join smaller ones wherever they touch, as cluster-cluster aggregation does, which gives soot its fractal
dimension of about 1.8: Meakin, "Formation of fractal clusters and networks by irreversible diffusion-limited
aggregation", Phys. Rev. Lett. 51 (1983); joined in halves as by Thouy and Jullien, J. Phys. A 27 (1994).
"""

import numpy as np
from scipy.spatial.distance import cdist

from sempre.images.synthetic.grounds.substrate import correlated_noise

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
