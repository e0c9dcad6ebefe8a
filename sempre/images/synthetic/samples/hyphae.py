"""How a mycorrhizal fungus grows in a root: hyphae that branch, arbuscules that fork again and again, vesicles."""

from dataclasses import dataclass

import numpy as np

KINDS = ("hypha", "arbuscule", "vesicle")
STEP = 1.0  # px between two points of a filament
FORKS = 6  # times that an arbuscule's branches fork, at most
MAX_POINTS = 60_000  # of one fungus, whatever the field's size


@dataclass(frozen=True)
class Organ:
    """A part of the fungus: its `kind` of KINDS, and spheres `[N, 3]` (x, y, radius in px) that it is made of."""

    kind: str
    spheres: np.ndarray


def grow(start: tuple[float, float], heading: float, axis: float, unit: float, length: float, random) -> list[Organ]:
    """One fungus that enters the root at `start`: a tree of hyphae, and what hangs on them.

    Args:
        start: x and y in px.
        heading: the direction in which it grows at first, radians from x to y.
        axis: the direction of the root, along which hyphae turn.
        unit: px; a hypha is about 5 of it wide.
        length: of all hyphae together, px.
        random: a NumPy generator.
    """
    radius = 2.5 * unit * random.lognormal(0, 0.15)
    tips = [(*start, heading, radius, 0)]
    organs: list[Organ] = []
    paths, left = [], min(length, MAX_POINTS * STEP)
    while tips and left > 0:
        x, y, heading, radius, generation = tips.pop(0)
        path = _hypha(x, y, heading, axis, radius, min(left, unit * random.uniform(60, 320)), random)
        left -= len(path) * STEP
        paths.append(path)
        places = np.flatnonzero(random.random(len(path)) < STEP / (90 * unit))
        for place in places[: 4 if generation < 4 else 0]:
            side = random.choice([-1, 1]) * random.uniform(0.6, 1.5)
            tips.append(
                (*path[place, :2], _direction(path, place) + side, radius * random.uniform(0.7, 0.95), generation + 1)
            )
        (x, y), onwards = path[-1, :2], _direction(path, len(path) - 1)
        fate = random.random()
        if fate < 0.35:
            organs.append(Organ("arbuscule", _arbuscule(x, y, onwards, unit, random)))
        elif fate < 0.6:
            organs.append(Organ("vesicle", _vesicle(x, y, onwards, unit, random)))
        elif generation < 6:
            tips.append((x, y, onwards, radius, generation + 1))
    return [Organ("hypha", np.concatenate(paths)), *organs] if paths else organs


def _direction(path: np.ndarray, place: int) -> float:
    before, after = path[max(place - 3, 0)], path[min(place + 3, len(path) - 1)]
    return float(np.arctan2(after[1] - before[1], after[0] - before[0]))


def _hypha(x, y, heading, axis, radius, length, random) -> np.ndarray:
    """Points `[N, 3]` of a filament whose direction wanders and turns along the root, whichever way is nearer."""
    count = max(int(length / STEP), 4)
    wander = random.normal(0, 0.045, count)
    headings = np.empty(count)
    for number in range(count):
        heading += wander[number] - 0.012 * np.sin(2 * (heading - axis))
        headings[number] = heading
    steps = STEP * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    thickness = radius * (1 + 0.12 * np.cumsum(random.normal(0, 0.12, count)).clip(-2, 2))
    return np.column_stack([np.add((x, y), np.cumsum(steps, axis=0)), thickness])


def _arbuscule(x, y, heading, unit, random) -> np.ndarray:
    """Spheres of a bush that fills most of a cell: each branch forks into two that are shorter and thinner."""
    branches = [(x, y, heading, unit * random.uniform(10, 17), unit * random.uniform(2.0, 2.8), 0)]
    spheres = []
    while branches:
        x, y, heading, length, radius, forks = branches.pop()
        along = np.arange(0, length, max(0.6 * radius, 0.5))[:, None]
        bend = heading + random.normal(0, 0.02, (len(along), 1)).cumsum(axis=0)
        path = (x, y) + along * np.concatenate([np.cos(bend), np.sin(bend)], axis=1)
        spheres.append(np.column_stack([path, np.full(len(path), radius)]))
        if forks == FORKS:
            continue
        for side in (-1, 1):
            turned = heading + side * random.uniform(0.3, 0.9)
            branches.append(
                (*path[-1], turned, length * random.uniform(0.6, 0.9), max(0.78 * radius, 0.8 * unit), forks + 1)
            )
    return np.concatenate(spheres)


def _vesicle(x, y, heading, unit, random) -> np.ndarray:
    """Spheres of an ellipsoid at the end of a hypha."""
    radius, stretch = unit * random.uniform(8, 17), random.uniform(0.0, 0.7)
    shifts = np.linspace(-stretch, stretch, 9)[:, None] * radius
    centre = np.array([x, y]) + radius * (1 + stretch) * np.array([np.cos(heading), np.sin(heading)])
    centres = centre + shifts * [np.cos(heading), np.sin(heading)]
    return np.column_stack([centres, radius * np.sqrt(1 - 0.45 * np.linspace(-1, 1, 9) ** 2)])
