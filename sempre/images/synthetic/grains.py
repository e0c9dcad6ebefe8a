"""Solids that are no plain sphere, rod or crystal: bent fibres, plates, rough and porous grains, hollow spheres."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from sempre.images.synthetic.grounds.substrate import correlated_noise
from sempre.images.synthetic.solids import (
    KINDS,
    OUTSIDE,
    Capsule,
    Ellipsoid,
    Polyhedron,
    Surface,
    prism,
    random_solid,
    rotation,
    turned,
    turned_back,
)

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
