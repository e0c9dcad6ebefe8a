"""Solids seen from above: spheres, rods, polyhedra, fibres, plates, rough, porous and hollow grains."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.spatial import HalfspaceIntersection

from sempre.synthetic.supports import correlated_noise

KINDS = ("polyhedron", "sphere", "rod")
OUTSIDE = np.float32(-1e9)  # height where a solid is not, px


@dataclass(frozen=True)
class Surface:
    """What of a solid lies above a grid of points; all arrays float32, lengths in px.

    `top` and `bottom` `[h, w]` are heights over the solid's centre (`top` is `OUTSIDE` beside the solid); `normal`
    `[2, h, w]` holds the x and y components of the unit normal of the top; `edge` `[h, w]` is 1 on edges and on the
    rim and falls to 0 within the depth that secondary electrons escape from; `chord` `[h, w]` is the path through the
    solid where its density is not 1 throughout.
    """

    top: np.ndarray
    bottom: np.ndarray
    normal: np.ndarray
    edge: np.ndarray
    chord: np.ndarray | None = None

    def chords(self) -> np.ndarray:
        """Path of an electron through the solid `[h, w]`, px of unit density, 0 beside it."""
        if self.chord is not None:
            return self.chord
        return np.where(self.top > OUTSIDE, self.top - self.bottom, 0)


class Ellipsoid:
    """An ellipsoid of semi-axes (a, b, c) in px, turned by `angle`, its outline waved by `waves` `[K]` (fractions)."""

    def __init__(self, axes: tuple[float, float, float], angle: float, waves: np.ndarray, phases: np.ndarray):
        self.axes, self.angle, self.waves, self.phases = axes, angle, waves, phases
        self.radius = max(axes) * (1 + float(np.abs(waves).sum()))

    def surface(self, x: np.ndarray, y: np.ndarray, escape: float) -> Surface:
        """The surface over points x `[w]`, y `[h]` (px from the centre)."""
        a, b, c = self.axes
        u, v = turned(x, y, self.angle)
        u, v = u / np.float32(a), v / np.float32(b)
        if self.waves.any():
            azimuth = np.arctan2(v, u)
            scale = np.ones_like(u)
            for order, (wave, phase) in enumerate(zip(self.waves, self.phases, strict=True), start=2):
                scale += np.float32(wave) * np.cos(np.float32(order) * azimuth + np.float32(phase))
            u, v = u / scale, v / scale
        square = 1 - u * u - v * v
        height = np.sqrt(np.maximum(square, 0))
        normal = np.stack([u / np.float32(a), v / np.float32(b)])
        normal /= np.sqrt((normal**2).sum(0) + (height / np.float32(c)) ** 2) + np.float32(1e-9)
        z = np.float32(c) * height
        return Surface(
            np.where(square > 0, z, OUTSIDE), -z, turned_back(normal, self.angle), np.exp(-2 * z / np.float32(escape))
        )


class Capsule:
    """A rod of round ends that lies flat: `length` over all and `radius_across` in px."""

    def __init__(self, length: float, radius_across: float, angle: float):
        self.half, self.across, self.angle = max(length / 2 - radius_across, 0.0), radius_across, angle
        self.radius = length / 2

    def surface(self, x: np.ndarray, y: np.ndarray, escape: float) -> Surface:
        """The surface over points x `[w]`, y `[h]` (px from the centre)."""
        along, across = turned(x, y, self.angle)
        past_end = along - np.clip(along, -np.float32(self.half), np.float32(self.half))
        square = np.float32(self.across**2) - across**2 - past_end**2
        z = np.sqrt(np.maximum(square, 0))
        normal = np.stack([past_end, across]) / np.float32(self.across)
        return Surface(
            np.where(square > 0, z, OUTSIDE), -z, turned_back(normal, self.angle), np.exp(-2 * z / np.float32(escape))
        )


class Polyhedron:
    """The convex polyhedron of points p with `normals [F, 3]` · p <= `distances [F]`, its farthest vertex in the plane
    scaled to `radius` px."""

    def __init__(self, normals: np.ndarray, distances: np.ndarray, radius: float):
        normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
        corners = HalfspaceIntersection(np.column_stack([normals, -distances]), np.zeros(3)).intersections
        scale = radius / np.linalg.norm(corners[:, :2], axis=1).max()
        self.normals, self.distances, self.radius = normals, distances * scale, radius

    def surface(self, x: np.ndarray, y: np.ndarray, escape: float) -> Surface:
        """The surface over points x `[w]`, y `[h]` (px from the centre)."""
        shape = (len(y), len(x))
        first = np.full(shape, 1e9, np.float32)  # lowest plane of an upward facet: the top
        second = first.copy()  # second lowest: how near the next facet is
        facet = np.zeros(shape, np.uint8)
        bottom = -first
        for index, ((nx, ny, nz), distance) in enumerate(zip(self.normals, self.distances, strict=True)):
            nz = nz if abs(nz) > 1e-3 else 1e-3
            column = ((distance - nx * x) / nz).astype(np.float32)
            plane = column[None] - (ny / nz * y).astype(np.float32)[:, None]
            if nz < 0:
                np.maximum(bottom, plane, out=bottom)
                continue
            np.putmask(facet, plane < first, index)
            np.minimum(second, np.maximum(first, plane), out=second)
            np.minimum(first, plane, out=first)
        inside = first > bottom
        normal = self.normals.T[:2].astype(np.float32)[:, facet]
        # A gap in height is not yet a distance to the edge: steep neighbours make the gap grow faster.
        edge = np.exp(-(second - first) / np.float32(1.5 * escape)) + np.exp(
            -np.maximum(first - bottom, 0) / np.float32(escape)
        )
        return Surface(np.where(inside, first, OUTSIDE), bottom, normal, np.where(inside, np.minimum(edge, 1), 0))


def random_solid(kind: str, diameter: float, random: np.random.Generator) -> Ellipsoid | Capsule | Polyhedron:
    """A solid of `kind` whose outline is about `diameter` px wide (a rod's: of the same area)."""
    angle = random.uniform(0, np.pi)
    if kind == "sphere":
        stretch = 1 + abs(random.normal(0, 0.06))
        waves = random.normal(0, 1, 3) * random.choice([0.0, 0.01, 0.035]) / np.arange(1, 4)
        axes = (diameter / 2 * stretch, diameter / 2 / stretch, diameter / 2 * random.uniform(0.85, 1.0))
        return Ellipsoid(axes, angle, waves, random.uniform(0, 2 * np.pi, 3))
    if kind == "rod":
        aspect = np.exp(random.uniform(np.log(2.2), np.log(9)))
        length = diameter * np.sqrt(np.pi / 4 * aspect)
        if random.random() < 0.55:
            return Capsule(length, length / aspect / 2, angle)
        normals, distances = prism(int(random.choice([4, 6, 6, 8])), aspect, random)
        # The prism's axis is z: lay it down, then turn it in the plane.
        lean = np.pi / 2 - abs(random.normal(0, 0.22))
        turn = rotation(2, angle * 2) @ rotation(1, lean) @ rotation(2, random.uniform(0, np.pi))
        return Polyhedron(normals @ turn.T, distances, length / 2)
    normals, distances = _facets(random)
    turn = rotation(2, 2 * angle) @ rotation(0, random.normal(0, 0.6)) @ rotation(1, random.normal(0, 0.6))
    return Polyhedron(normals @ turn.T, distances, diameter / 2 * 1.12)


def _facets(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Facets `[F, 3]`, `[F]` of a crystal's habit or of a crushed grain."""
    habit = random.choice(["cuboid", "truncated", "prism", "crushed", "crushed"])
    if habit == "cuboid":
        normals, distances = np.repeat(np.eye(3), 2, axis=0), np.repeat(random.uniform(0.6, 1.2, 3), 2)
        normals[1::2] *= -1
    elif habit == "truncated":  # cube {100} and octahedron {111}, from one to the other
        corners = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / np.sqrt(3)
        normals = np.concatenate([np.eye(3), -np.eye(3), corners])
        distances = np.concatenate([np.ones(6), np.full(8, random.uniform(0.68, 1.3))])
    elif habit == "prism":
        normals, distances = prism(int(random.choice([3, 5, 6, 6])), np.exp(random.uniform(-1.6, 0.3)), random)
    else:
        normals = random.normal(size=(int(random.integers(12, 26)), 3))
        normals = np.concatenate([normals, np.eye(3), -np.eye(3)])  # closed in every direction
        distances = random.uniform(0.75, 1.15, len(normals))
        normals = normals * random.uniform(0.7, 1.3, 3)
        distances = distances * np.linalg.norm(normals, axis=1)
    distances = distances * random.normal(1, 0.05, len(distances)).clip(0.85, 1.15)
    lengths = np.linalg.norm(normals, axis=1)
    return normals / lengths[:, None], distances / lengths


def prism(sides: int, aspect: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Facets of a prism along z, `aspect` times as long as wide."""
    azimuths = 2 * np.pi * np.arange(sides) / sides
    around = np.column_stack([np.cos(azimuths), np.sin(azimuths), np.zeros(sides)])
    normals = np.concatenate([around, [[0, 0, 1], [0, 0, -1]]])
    distances = np.concatenate([random.normal(1, 0.08, sides).clip(0.8, 1.2), [aspect, aspect]])
    return normals, distances


def rotation(axis: int, angle: float) -> np.ndarray:
    """The matrix `[3, 3]` of a turn by `angle` about axis 0, 1 or 2."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[second, first] = np.sin(angle)
    matrix[first, second] = -np.sin(angle)
    return matrix


def turned(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The grid of x `[w]`, y `[h]` along and across the direction `angle`, each float32 `[h, w]`."""
    cosine, sine = np.cos(angle), np.sin(angle)
    along = (cosine * x)[None] + (sine * y)[:, None]
    across = (-sine * x)[None] + (cosine * y)[:, None]
    return along.astype(np.float32), across.astype(np.float32)


def turned_back(normal: np.ndarray, angle: float) -> np.ndarray:
    """Components `[2, h, w]` along and across `angle` as components along x and y."""
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return np.stack([cosine * normal[0] - sine * normal[1], sine * normal[0] + cosine * normal[1]])


WIDE_KINDS = (*KINDS, "fibre", "plate", "rough", "hollow")
TILE = 512  # side of a periodic piece of surface, px


class Fibre:
    """A bent round wire that lies flat: `length` and `radius_across` in px, its middle `bend` px off the chord and its
    ends swung by `swing` px to either side."""

    def __init__(self, length: float, radius_across: float, bend: float, swing: float, angle: float):
        self.half, self.across, self.angle = max(length / 2 - radius_across, 1.0), radius_across, angle
        self.bend, self.swing = bend, swing
        self.radius = float(np.hypot(length / 2, abs(bend) + abs(swing))) + radius_across

    def surface(self, x: np.ndarray, y: np.ndarray, escape: float) -> Surface:
        """The surface over points x `[w]`, y `[h]` (px from the centre)."""
        along, across = turned(x, y, self.angle)
        place = np.clip(along / np.float32(self.half), -1, 1)
        line = np.float32(self.bend) * (place**2 - np.float32(1 / 3)) + np.float32(self.swing) * (place**3 - place)
        slope = (2 * np.float32(self.bend) * place + np.float32(self.swing) * (3 * place**2 - 1)) / np.float32(
            self.half
        )
        stretch = np.sqrt(1 + slope**2)
        off = (across - line) / stretch  # px from the axis, square to it
        past_end = along - place * np.float32(self.half)
        square = np.float32(self.across**2) - off**2 - past_end**2
        z = np.sqrt(np.maximum(square, 0))
        normal = np.stack([past_end - off * slope / stretch, off / stretch]) / np.float32(self.across)
        top = np.where(square > 0, z, OUTSIDE)
        return Surface(top, -z, turned_back(normal, self.angle), np.exp(-2 * z / np.float32(escape)))


class Rough:
    """A solid whose upper side bears the bumps, flakes or pores of `tile` `[TILE, TILE]`, `amplitude` px high."""

    def __init__(self, base: Ellipsoid | Capsule | Polyhedron, tile: np.ndarray, amplitude: float, offset: np.ndarray):
        self.base, self.tile, self.amplitude, self.offset, self.radius = base, tile, amplitude, offset, base.radius

    def surface(self, x: np.ndarray, y: np.ndarray, escape: float) -> Surface:
        """The surface over points x `[w]`, y `[h]` (px from the centre)."""
        smooth = self.base.surface(x, y, escape)
        rows, columns = (
            np.rint(line + shift).astype(int) % TILE for line, shift in zip((y, x), self.offset, strict=True)
        )
        relief = self.tile[rows][:, columns] * np.float32(self.amplitude)
        top = np.where(smooth.top > OUTSIDE, smooth.top + relief, OUTSIDE)
        inside = top > smooth.bottom  # near the rim a pit is a notch of the outline
        nx, ny = smooth.normal
        upright = np.sqrt(np.maximum(1 - nx**2 - ny**2, np.float32(0.05)))
        if min(relief.shape) > 1:
            slope_y, slope_x = np.gradient(relief)
            nx, ny = nx / upright - slope_x, ny / upright - slope_y
            length = np.sqrt(1 + nx**2 + ny**2)
            nx, ny = nx / length, ny / length
        crest = (relief / np.float32(self.amplitude) - 1).clip(0, 1) * np.float32(0.7)
        return replace(
            smooth,
            top=np.where(inside, top, OUTSIDE),
            normal=np.stack([nx, ny]).astype(np.float32),
            edge=np.where(inside, np.maximum(smooth.edge, crest), 0),
        )


class Hollow:
    """A sphere with a core of `share` of its radius that is `density` times as dense as the shell, 0 for a void; its
    centre is `offset` (x, y) px off the sphere's."""

    def __init__(self, base: Ellipsoid, share: float, density: float, offset: tuple[float, float] = (0, 0)):
        a, b, c = base.axes
        self.base, self.density, self.offset, self.radius = base, density, offset, base.radius
        self.core = Ellipsoid((a * share, b * share, c * share), base.angle, base.waves, base.phases)

    def surface(self, x: np.ndarray, y: np.ndarray, escape: float) -> Surface:
        """The surface over points x `[w]`, y `[h]` (px from the centre)."""
        shell = self.base.surface(x, y, escape)
        core = self.core.surface(x - self.offset[0], y - self.offset[1], escape)
        return replace(shell, chord=shell.chords() + np.float32(self.density - 1) * core.chords())


@lru_cache(maxsize=16)
def _tile(style: str, grain: int) -> np.ndarray:
    """Relief float32 `[TILE, TILE]` of about unit height, with features of `grain` px: the same in every process."""
    noise = correlated_noise((TILE, TILE), 0.7, grain, np.random.Generator(np.random.Philox(key=grain)))
    if style == "flakes":  # thin walls along level lines, as of nanoflowers
        return 2 - 4 * np.minimum(np.abs(noise), 1)
    if style == "pores":
        return -3 * np.tanh(2 * (noise - 1).clip(0))
    return noise


def any_solid(kind: str, diameter: float, random: np.random.Generator):
    """A solid of a kind of WIDE_KINDS whose outline has about the area of a disc of `diameter` px."""
    if kind in KINDS:
        return random_solid(kind, diameter, random)
    return {"fibre": _fibre, "plate": _plate, "rough": _rough, "hollow": _hollow}[kind](diameter, random)


def _fibre(diameter, random) -> Fibre:
    aspect = np.exp(random.uniform(np.log(4), np.log(40)))
    across = max(diameter / np.sqrt(aspect), 3.0)
    length = aspect * across
    bend, swing = random.normal(0, 0.12 * length) * (random.random() < 0.7), random.normal(0, 0.06 * length)
    return Fibre(length, across / 2, np.clip(bend, -length / 4, length / 4), swing, random.uniform(0, np.pi))


def _plate(diameter, random) -> Polyhedron:
    normals, distances = prism(int(random.choice([3, 4, 4, 5, 6, 6, 8])), random.uniform(0.04, 0.16), random)
    lean = _turns(random.normal(0, 0.3), random)
    return Polyhedron(normals @ lean.T, distances, diameter / 2 * 1.15)


def _turns(lean, random) -> np.ndarray:
    """The matrix `[3, 3]` of any turn in the plane after leaning by `lean` any way."""
    return rotation(2, random.uniform(0, 2 * np.pi)) @ rotation(0, lean) @ rotation(2, random.uniform(0, 2 * np.pi))


def _rough(diameter, random) -> Rough:
    base = random_solid("sphere" if random.random() < 0.6 else "polyhedron", diameter, random)
    return rough_surface(base, diameter, random)


def rough_surface(
    base: Ellipsoid | Capsule | Polyhedron, diameter: float, random: np.random.Generator, height: float = 1.0
) -> Rough:
    """A solid, about `diameter` px wide, with bumps, flakes or pores on its upper side, `height` times the usual."""
    style = str(random.choice(["bumps", "flakes", "pores"]))
    grain = int(np.clip(2 ** np.rint(np.log2(diameter * random.uniform(0.04, 0.15))), 2, 32))
    amplitude = grain * random.uniform(0.15, 0.5) * height
    return Rough(base, _tile(style, grain), amplitude, random.integers(0, TILE, 2))


def _hollow(diameter, random) -> Hollow:
    density = 0.0 if random.random() < 0.6 else random.uniform(1.8, 4)
    share, azimuth = random.uniform(0.4, 0.88), random.uniform(0, 2 * np.pi)
    off = 0.4 * diameter * (1 - share) * random.choice([0, 0, 0.5, 1.0])
    offset = float(off * np.cos(azimuth)), float(off * np.sin(azimuth))
    sphere = random_solid("sphere", diameter, random)
    assert isinstance(sphere, Ellipsoid)
    return Hollow(sphere, share, density, offset)
