"""How the particles of a label image lie to each other: the gaps between them, and the aggregates that they form."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

FEWEST = 10  # particles of an aggregate whose fractal dimension is told: that of fewer depends on their places alone
PREFACTOR = 1.3  # of the law of fractal aggregates
MOST_PAIRS = 20_000  # of pixels whose distances are all computed; more are searched by a tree


def gaps(outlines: list[np.ndarray], boxes: np.ndarray, touching: np.ndarray, tall: float = 1.0) -> np.ndarray:
    """The smallest distance from each particle to another, in widths of a pixel, 0 where they touch `[N]`; NaN of one
    that is alone.

    It is the distance between the centres of the nearest pixels less one pixel, half of one for either outline.

    Args:
        outlines: the pixels (x, y) `[K, 2]` on each particle's outline.
        boxes: of the particles, x0, y0, x1, y1 in px, the last pixels among them, `[N, 4]`.
        touching: pairs of particles `[M, 2]` that touch.
        tall: height of a pixel in widths.
    """
    nearest = np.full(len(outlines), np.inf)
    nearest[touching.ravel()] = 0
    trees: dict[int, cKDTree] = {}
    left, top, right, bottom = (boxes * (1.0, tall, 1.0, tall)).T.copy()
    points = [outline * (1.0, tall) for outline in outlines]
    for index in np.flatnonzero(nearest > 0).tolist() if len(outlines) > 1 else ():
        x = np.maximum(left - right[index], left[index] - right)
        y = np.maximum(top - bottom[index], top[index] - bottom)
        apart = np.maximum(x, 0) ** 2 + np.maximum(y, 0) ** 2  # of the boxes: the particles' pixels are no closer
        apart[index] = np.inf
        while apart[other := int(np.argmin(apart))] < (nearest[index] + 1) ** 2:
            apart[other] = np.inf
            gap = max(_distance(points, index, other, trees) - 1, 0.0)
            nearest[index], nearest[other] = min(nearest[index], gap), min(nearest[other], gap)
    return np.where(np.isinf(nearest), np.nan, nearest)


def _distance(points: list[np.ndarray], one: int, other: int, trees: dict[int, cKDTree]) -> float:
    """The smallest distance between two particles' pixels, from centre to centre."""
    if len(points[one]) * len(points[other]) <= MOST_PAIRS:
        return float(np.sqrt(((points[one][:, None] - points[other][None]) ** 2).sum(axis=2).min()))
    large, small = (one, other) if len(points[one]) >= len(points[other]) else (other, one)
    if large not in trees:
        trees[large] = cKDTree(points[large])
    return float(trees[large].query(points[small])[0].min())


def aggregates(touching: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `count` particles the number of its aggregate, from 1, and how many particles form that one, `[N]`.

    Particles that touch, or are joined by others that do, are an aggregate; one that touches none is alone in its own.
    """
    pairs = coo_array((np.ones(len(touching), bool), (touching[:, 0], touching[:, 1])), shape=(count, count))
    _, found = connected_components(pairs, directed=False)
    _, first, numbers = np.unique(found, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # an aggregate's number rises with its first particle's
    numbers = order[numbers]
    return numbers + 1, np.bincount(numbers, minlength=1)[numbers]


def fractal_dimensions(
    numbers: np.ndarray, areas: np.ndarray, centres: np.ndarray, inertia: np.ndarray, tall: float = 1.0
) -> np.ndarray:
    """The mass fractal dimension of each particle's aggregate `[N]`; NaN of those of fewer than `FEWEST` particles.

    N = k (R / a)^D for N particles of mean radius a and the radius of gyration R of all their pixels, with k = 1.3
    (Sorensen, "The mobility of fractal aggregates: a review", Aerosol Science and Technology 45, 2011). The prefactor
    is that of soot, for which D is about 1.8; a straight chain gives 1.1, a raft 2.

    Args:
        numbers: of the aggregates, from 1, `[N]`.
        areas: of the particles, px.
        centres: (x, y) `[N, 2]`, px.
        inertia: mean squared distance of each particle's pixels to its centre, in widths of a pixel `[N]`.
        tall: height of a pixel in widths.
    """
    centres = centres * (1.0, tall)
    particles = np.bincount(numbers)
    mass = np.bincount(numbers, areas)
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = np.stack([np.bincount(numbers, areas * of) / mass for of in centres.T], axis=1)
        spread = inertia + ((centres - middle[numbers]) ** 2).sum(axis=1)
        gyration = np.sqrt(np.bincount(numbers, areas * spread) / mass)
        radius = np.bincount(numbers, np.sqrt(areas * tall / np.pi)) / particles
        dimension = np.log(particles / PREFACTOR) / np.log(gyration / radius)
    return np.where(particles >= FEWEST, dimension, np.nan)[numbers]
