"""Particles that touch side by side: where they lie, and how each is cut off where it meets its neighbours."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from sempre.synthetic.solids import OUTSIDE, Surface

REACH = 1.3  # of its radius: how far from its centre a particle may meet another
TRIED = 48  # places tried for a particle
LEAST = 0.25  # of its radius: a contact is not nearer to a particle's centre


@dataclass(frozen=True)
class Seam:
    """What a contact of two particles looks like from above; lengths in px.

    Args:
        gap: width of the empty space between the two.
        depth: how far the surfaces sink towards the contact.
        width: distance from the contact over which they sink by about two thirds of that.
        line: extra electrons from the contact, as those of an edge; 0 for none.
    """

    gap: float
    depth: float
    width: float
    line: float


class Joined:
    """A solid cut off by upright walls where it meets its neighbours.

    `walls` `[K, 4]` are unit normals (x, y), distances from the centre in px, and curvatures in 1/px.
    """

    def __init__(self, base, walls: np.ndarray, seam: Seam):
        self.base, self.walls, self.seam, self.radius = base, walls, seam, base.radius

    def surface(self, x: np.ndarray, y: np.ndarray, escape: float) -> Surface:
        """The surface over points x `[w]`, y `[h]` (px from the centre)."""
        whole = self.base.surface(x, y, escape)
        shape = (len(y), len(x))
        nearest = np.full(shape, 1e9, np.float32)
        wall_x, wall_y = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for nx, ny, distance, curvature in self.walls.astype(np.float32):
            left = (distance - nx * x).astype(np.float32)[None] - (ny * y).astype(np.float32)[:, None]
            if curvature:
                along = (ny * x).astype(np.float32)[None] - (nx * y).astype(np.float32)[:, None]
                left = left + curvature * along**2
            nearer = left < nearest
            nearest = np.where(nearer, left, nearest)
            wall_x, wall_y = np.where(nearer, nx, wall_x), np.where(nearer, ny, wall_y)
        inside = (whole.top > OUTSIDE) & (nearest > 0)
        seam = self.seam
        sunk = np.float32(seam.depth) * np.exp(-np.maximum(nearest, 0) / np.float32(seam.width))
        steepness = sunk / np.float32(seam.width)
        nx, ny = whole.normal
        upright = np.sqrt(np.maximum(1 - nx**2 - ny**2, np.float32(0.05)))
        nx, ny = nx / upright + steepness * wall_x, ny / upright + steepness * wall_y
        length = np.sqrt(1 + nx**2 + ny**2)
        line = np.float32(seam.line) * np.exp(-np.maximum(nearest, 0) / np.float32(escape))
        return replace(
            whole,
            top=np.where(inside, whole.top - sunk, OUTSIDE),
            normal=np.stack([nx / length, ny / length]).astype(np.float32),
            edge=np.where(inside, np.minimum(whole.edge + line, 1), 0).astype(np.float32),
        )


def packed_places(
    shape: tuple[int, int], diameters: np.ndarray, overlap: float, allowed: np.ndarray | None, random
) -> np.ndarray:
    """Places `[N, 3]` (x, y, diameter in px) of particles that touch side by side, the largest placed first.

    Each takes, of some places drawn, the one that lies closest to those laid before it, where neither reaches into
    the other by more than `overlap` of their radii. One that finds no room is left out. Centres lie where `allowed`
    `[H, W]` is true.
    """
    height, width = shape
    diameters = np.sort(diameters)[::-1]
    margin = 0.4 * diameters.max(initial=0)
    laid = np.zeros((len(diameters), 3))
    count = 0
    for diameter in diameters:
        places = random.uniform((-margin, -margin), (width + margin, height + margin), (TRIED, 2))
        if allowed is not None:
            columns, rows = places.astype(int).clip(0, (width - 1, height - 1)).T
            places = places[allowed[rows, columns]]
        if count and len(places):
            others = laid[:count]
            apart = np.hypot(places[:, :1] - others[:, 0], places[:, 1:] - others[:, 1])
            room = (apart - (1 - overlap) * (others[:, 2] + diameter) / 2).min(axis=1)
            places = places[room >= 0][np.argsort(room[room >= 0])]
        if len(places):
            laid[count] = *places[0], diameter
            count += 1
    return laid[:count]


def walls_between(places: np.ndarray, gap: float, bend: float, random) -> list[np.ndarray]:
    """The walls `[K, 4]` of each of `places` `[N, 3]`, as `Joined` takes them: power diagram of the discs.

    Two particles that meet are `gap` px apart; `bend` is how much contacts are curved, in units of 1/radius.
    """
    walls: list[list[tuple[float, float, float, float]]] = [[] for _ in places]
    if len(places) < 2:
        return [np.zeros((0, 4)) for _ in places]
    radii = places[:, 2] / 2
    pairs = cKDTree(places[:, :2]).query_pairs(2 * REACH * radii.max(), output_type="ndarray")
    for one, other in pairs[np.lexsort(pairs.T[::-1])]:
        step = places[other, :2] - places[one, :2]
        apart = float(np.hypot(*step))
        if apart >= REACH * (radii[one] + radii[other]) or apart < 1e-6:
            continue
        towards = step / apart
        meeting = (apart**2 + radii[one] ** 2 - radii[other] ** 2) / (2 * apart)
        meeting = float(np.clip(meeting, LEAST * radii[one], apart - LEAST * radii[other]))
        curvature = bend * random.normal() / (radii[one] + radii[other])
        walls[one].append((*towards, meeting - gap / 2, curvature))
        walls[other].append((*-towards, apart - meeting - gap / 2, -curvature))
    return [np.array(own).reshape(-1, 4) for own in walls]
