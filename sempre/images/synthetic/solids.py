"""Solids seen from above: the upper and lower surface of spheres, rods and convex polyhedra, and their normals."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import HalfspaceIntersection

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
