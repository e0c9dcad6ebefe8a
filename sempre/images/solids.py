"""Volume and surface of the objects in a label volume, slice by slice."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

# To the neighbours of a voxel, one of each pair of opposite ones: z, y, x.
STEPS = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]
DIRECTIONS = 20_000  # points on the sphere


@dataclass(frozen=True)
class Solids:
    """Of objects 1 to N, by position `[N]`: their `voxels`, `volume` and `surface` in units of the voxel's sides, the
    `first` and `last` slice that shows them, counted from 0, and whether they `touch` the volume's border."""

    voxels: np.ndarray
    volume: np.ndarray
    surface: np.ndarray
    first: np.ndarray
    last: np.ndarray
    touches: np.ndarray


def measure_solids(slices: Iterable[np.ndarray], count: int, voxel: tuple[float, float, float]) -> Solids:
    """Measure objects of a label volume; two slices are in memory at a time.

    The surface is Crofton's: lines through the voxels' centres along the 13 directions to their neighbours cut it so
    often, each direction weighing as the share of all directions that it is nearest to (Lehmann and Legland, "Efficient
    N-dimensional surface estimation using Crofton formula and run-length encoding", Insight Journal, 2012). Where the
    volume's border cuts an object the cut is no surface.

    Args:
        slices: label images int `[H, W]`, from the first slice to the last, ids 0 to `count`.
        voxel: its sides along z, y and x.
    """
    sides = np.array(voxel)
    steps = np.array(STEPS)
    weights = 2 * sides.prod() * direction_shares(steps * sides) / np.linalg.norm(steps * sides, axis=1)
    voxels, surface = np.zeros(count + 1, np.int64), np.zeros(count + 1)
    first, last = np.full(count + 1, -1), np.full(count + 1, -1)
    touches = np.zeros(count + 1, bool)
    before = None
    for number, labels in enumerate(slices):
        counts = np.bincount(labels.ravel(), minlength=count + 1)
        voxels += counts
        shown = counts > 0
        last[shown] = number
        first[shown & (first < 0)] = number
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            touches[edge] = True
        if before is None:
            touches[shown] = True
        for (below, *step), weight in zip(STEPS, weights, strict=True):
            start = before if below else labels
            if start is not None:
                surface += weight * _cuts(start, labels, step, count)
        before = labels
    if before is not None:
        touches[before.ravel()] = True
    return Solids(*(values[1:] for values in (voxels, voxels * sides.prod(), surface, first, last, touches)))


def direction_shares(steps: np.ndarray) -> np.ndarray:
    """Of all directions the share `[K]` that is nearest to each of the lines along `steps` `[K, 3]`; the sum is 1."""
    # Evenly spread on the sphere: Gonzalez, "Measurement of areas on a sphere using Fibonacci lattices", 2010.
    numbers = np.arange(DIRECTIONS) + 0.5
    heights, angles = 1 - 2 * numbers / DIRECTIONS, np.pi * (1 + 5**0.5) * numbers
    radii = np.sqrt(1 - heights**2)
    points = np.stack([heights, radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    unit = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    nearest = np.abs(points @ unit.T).argmax(axis=1)
    return np.bincount(nearest, minlength=len(steps)) / DIRECTIONS


def _cuts(start: np.ndarray, end: np.ndarray, step: Sequence[int], count: int) -> np.ndarray:
    """How often steps (y, x) from a px of `start` to one of `end`, both `[H, W]`, enter or leave each object."""
    here, there = (
        tuple(slice(max(sign * length, 0), min(sign * length, 0) or None) for length in step) for sign in (-1, 1)
    )
    from_, to = start[here], end[there]
    cut = from_ != to
    return np.bincount(from_[cut], minlength=count + 1) + np.bincount(to[cut], minlength=count + 1)
