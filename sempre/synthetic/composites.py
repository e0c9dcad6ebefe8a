"""Grains of many pieces that count as one particle: secondary grains of primary crystals, droplets with satellites."""

import numpy as np

from sempre.synthetic.solids import OUTSIDE, Ellipsoid, Surface, any_solid, random_solid, rough_surface

COMPOSITES = ("secondary", "satellited")
SHAPES = 14  # different primary crystals in a grain
MAX_PIECES = 1800
PRIMARIES = ("polyhedron", "polyhedron", "sphere", "plate", "rod")


class Composite:
    """A solid with pieces on its surface, all of them one particle.

    Args:
        base: the solid below.
        shapes: solids that the pieces are copies of.
        pieces: `[N, 4]`: number of the shape, and x, y, z of the piece's centre from the base's, px.
        sunk: how far the base itself lies below its own surface, px; negative infinity where it shows unchanged.
        roundness: how much of the base's slope the pieces' faces take over, 0 to 1.
    """

    def __init__(self, base, shapes: list, pieces: np.ndarray, sunk: float, roundness: float):
        self.base, self.shapes, self.pieces, self.sunk, self.roundness = base, shapes, pieces, sunk, roundness
        reach = np.array([shape.radius for shape in shapes])[pieces[:, 0].astype(int)]
        far = np.hypot(pieces[:, 1], pieces[:, 2]) + reach
        self.radius = float(max(base.radius, far.max(initial=0)))

    def surface(self, x: np.ndarray, y: np.ndarray, escape: float) -> Surface:
        """The surface over points x `[w]`, y `[h]` (px from the centre)."""
        below = self.base.surface(x, y, escape)
        inside = below.top > OUTSIDE
        top = np.where(inside, below.top - np.float32(self.sunk), OUTSIDE).astype(np.float32)
        bottom = np.where(inside, below.bottom, np.float32(1e9)).astype(np.float32)
        normal, edge = below.normal.astype(np.float32).copy(), below.edge.astype(np.float32).copy()
        surfaces = [_own_surface(shape, escape) for shape in self.shapes]
        height, width = top.shape
        for number, px, py, pz in self.pieces:
            piece, reach = surfaces[int(number)]
            left, upper = round(px - x[0]) - reach, round(py - y[0]) - reach
            x0, x1 = max(left, 0), min(left + 2 * reach + 1, width)
            y0, y1 = max(upper, 0), min(upper + 2 * reach + 1, height)
            if x0 >= x1 or y0 >= y1:
                continue
            there = (slice(y0, y1), slice(x0, x1))
            own = (slice(y0 - upper, y1 - upper), slice(x0 - left, x1 - left))
            raised = piece.top[own] + np.float32(pz)
            seen = raised > np.maximum(top[there], -1e8)
            top[there][seen] = raised[seen]
            bottom[there][seen] = np.minimum(bottom[there], piece.bottom[own] + np.float32(pz))[seen]
            edge[there][seen] = piece.edge[own][seen]
            normal[:, y0:y1, x0:x1][:, seen] = piece.normal[(slice(None), *own)][:, seen]
        if self.roundness:
            normal = normal + np.float32(self.roundness) * np.where(inside, below.normal, 0)
            length = np.sqrt((normal**2).sum(0))
            normal = normal / np.maximum(length / np.float32(0.98), 1)
        bottom = np.where(top > OUTSIDE, np.minimum(bottom, top), 0)
        return Surface(top, bottom.astype(np.float32), normal.astype(np.float32), edge)


def _own_surface(shape, escape) -> tuple[Surface, int]:
    """The surface of a shape on its own grid, and how far this reaches from the centre."""
    reach = int(np.ceil(shape.radius))
    grid = np.arange(-reach, reach + 1).astype(float)
    return shape.surface(grid, grid, escape), reach


def any_grain(kind: str, diameter: float, random: np.random.Generator):
    """A solid of a kind of COMPOSITES or WIDE_KINDS whose outline has about the area of a disc of `diameter` px."""
    if kind in COMPOSITES:
        return (secondary if kind == "secondary" else satellited)(diameter, random)
    return any_solid(kind, diameter, random)


def secondary(
    diameter: float, random: np.random.Generator, habit: str | None = None, primary: float | None = None
) -> Composite:
    """A grain whose surface is made of small crystals of one habit, as those of cathode powders or of granules.

    `habit` is one of PRIMARIES, `primary` the crystals' diameter in px; both are drawn where they are not given.
    """
    base = _grain(diameter, random)
    drawn = str(random.choice(PRIMARIES)), diameter * np.exp(random.uniform(np.log(0.035), np.log(0.16)))
    habit = habit or drawn[0]
    primary = float(np.clip(primary or drawn[1], 4.0, max(diameter / 6, 4.0)))
    spread = random.uniform(0.1, 0.4)
    different = SHAPES if diameter > 60 else SHAPES // 3
    shapes = [any_solid(habit, primary * random.lognormal(0, spread), random) for _ in range(different)]
    places = _over_surface(base, primary * random.uniform(0.45, 0.75), random)
    depth = random.uniform(0.0, 0.35) * primary + random.uniform(0.05, 0.3) * primary * random.normal(0, 1, len(places))
    pieces = np.column_stack([random.integers(different, size=len(places)), places[:, :2], places[:, 2] - depth])
    return Composite(base, shapes, pieces, 0.6 * primary, random.uniform(0.3, 0.8))


def _grain(diameter, random):
    """The body of a grain: a ball, a crushed piece, or several lumps in one."""
    shape = random.random()
    if shape < 0.4:
        stretch = random.uniform(0.85, 1.0)
        waves = random.normal(0, 0.05, 4) / np.arange(1, 5)
        axes = (diameter / 2, diameter / 2 * stretch, diameter / 2 * random.uniform(0.7, 1.0))
        return Ellipsoid(axes, random.uniform(0, np.pi), waves, random.uniform(0, 2 * np.pi, 4))
    if shape < 0.6:
        return random_solid("polyhedron", diameter, random)
    core = diameter * random.uniform(0.6, 0.8)
    count = int(random.integers(2, 9))
    lumps = [random_solid("sphere", core * random.uniform(0.3, 0.9), random) for _ in range(count)]
    azimuths, distances = random.uniform(0, 2 * np.pi, count), core * random.uniform(0.2, 0.55, count)
    pieces = np.column_stack(
        [
            np.arange(count),
            distances * np.cos(azimuths),
            distances * np.sin(azimuths),
            random.uniform(-0.2, 0.2, count) * core,
        ]
    )
    return Composite(random_solid("sphere", core, random), lumps, pieces, 0.0, 0.0)


def _over_surface(base, pitch, random) -> np.ndarray:
    """Points `[N, 3]` (x, y, z in px) about `pitch` px from each other on the upper surface of a solid."""
    reach = int(np.ceil(base.radius))
    grid = np.arange(-reach, reach + 1).astype(float)
    surface = base.surface(grid, grid, 1.0)
    pitch = max(pitch, np.sqrt((surface.top > OUTSIDE).sum() * 1.8 / MAX_PIECES))
    denser = 3  # the surface is seen at a slant near the rim, where points lie closer in the picture
    ticks = np.arange(-reach, reach + 1, pitch / np.sqrt(denser))
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    points = points + random.uniform(-0.5, 0.5, points.shape) * pitch / np.sqrt(denser)
    columns, rows = np.rint(points + reach).astype(int).clip(0, 2 * reach).T
    upright = np.sqrt(np.maximum(1 - (surface.normal[:, rows, columns] ** 2).sum(axis=0), 1 / 9))
    kept = (surface.top[rows, columns] > OUTSIDE) & (random.random(len(points)) < 1 / (denser * upright))
    return np.column_stack([points[kept], surface.top[rows, columns][kept]])


def satellited(diameter: float, random: np.random.Generator) -> Composite:
    """A droplet of an atomised metal: a ball or a drop, smooth or of cells, with small balls fused to its surface."""
    stretch = 1 + abs(random.normal(0, random.choice([0.02, 0.02, 0.2])))
    waves = random.normal(0, 1, 4) * random.choice([0.0, 0.02, 0.06]) / np.arange(1, 5)
    axes = (diameter / 2 * stretch, diameter / 2 / np.sqrt(stretch), diameter / 2 * random.uniform(0.8, 1.0))
    body = Ellipsoid(axes, random.uniform(0, np.pi), waves, random.uniform(0, 2 * np.pi, 4))
    base = rough_surface(body, diameter, random, random.uniform(0.05, 0.5)) if random.random() < 0.7 else body
    count = int(random.choice([0, 2, 6, 14]) * random.uniform(0.5, 1.5))
    sizes = (0.1 * random.lognormal(0, 0.5, count)).clip(0.03, 0.22) * diameter
    azimuths = random.uniform(0, 2 * np.pi, len(sizes))
    # Evenly over the half that is seen; each is sunk into the droplet by up to its radius.
    slant = np.sqrt(random.uniform(0, 1, len(sizes)))
    out = 1 + sizes / diameter * random.uniform(-0.5, 0.7, len(sizes))
    turn = body.angle
    along, across = axes[0] * slant * out * np.cos(azimuths), axes[1] * slant * out * np.sin(azimuths)
    z = axes[2] * np.sqrt(np.maximum(1 - slant**2, 0)) * out
    x, y = along * np.cos(turn) - across * np.sin(turn), along * np.sin(turn) + across * np.cos(turn)
    shapes = [random_solid("sphere", size, random) for size in sizes] or [body]
    pieces = np.column_stack([np.arange(len(sizes)), x, y, z])
    return Composite(base, shapes, pieces, 0.0, 0.0)
