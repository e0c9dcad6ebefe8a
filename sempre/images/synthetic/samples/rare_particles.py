"""Spheres on a tape, and among them a few particles of another kind."""

import numpy as np

from sempre.images.synthetic.detector import Microscope, emitted, record
from sempre.images.synthetic.grounds.substrate import render_substrate
from sempre.images.synthetic.samples.defects import Defects
from sempre.images.synthetic.scene import Scene
from sempre.images.synthetic.solids import random_solid

RARE = ("rod", "polyhedron")
ESCAPE = 1.3  # depth of secondary electrons, px
SEEN = 0.5  # of a rare particle's own area: one that shows less lies under others and is none


def render_rare_particles(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, Defects, float]:
    """Grey values uint8 `[H, W]`, defects, nm per px; see `sempre.images.synthetic.samples.sample.render_sample`.

    The rare ones have the spheres' size and material: shape alone tells them.
    """
    random = np.random.default_rng([seed, 2])
    diameter = random.uniform(24, 38)
    relief, brightness = render_substrate("tape", size, 35.0, random)
    scene = Scene.of_relief(relief)
    count = int(size[0] * size[1] / (diameter**2 * random.uniform(4.5, 9.0)))
    rare_count = int(random.integers(4, 9))
    kind = RARE[int(random.integers(len(RARE)))]
    rare = set(random.choice(np.arange(count // 2, count), rare_count, replace=False).tolist())
    laid: list[tuple[float, float]] = []
    for number in range(count):
        own = kind if number in rare else "sphere"
        y, x = _place(laid, diameter, size, random)
        scene.drop(random_solid(own, diameter * random.lognormal(0, 0.06), random), x, y, number + 1, ESCAPE)
        laid.append((y, x))
    particle = scene.owner > 0
    brightness = np.where(particle, np.float32(random.uniform(1.4, 2.4)), brightness).astype(np.float32)
    light = emitted(scene, brightness, np.zeros((2, *size), np.float32), Microscope.draw(random))
    microscope = Microscope.draw(random)
    pixels = record(light, microscope, random)
    shown = np.bincount(scene.owner.ravel(), minlength=count + 1)
    usual = SEEN * np.median(shown[1:])
    found = [number for number in sorted(rare) if shown[number + 1] >= usual]
    points = [np.argwhere(scene.owner == number + 1).mean(axis=0) for number in found]
    return pixels, Defects.of_points([kind] * len(found), points), float(random.uniform(8, 30))


def _place(laid, diameter, size, random) -> np.ndarray:
    """Where the next particle falls: of eight places the one farthest from the others, so that few lie on another."""
    places = random.uniform(0.6 * diameter, np.array(size) - 0.6 * diameter, (8, 2))
    if not laid:
        return places[0]
    gaps = np.linalg.norm(places[:, None] - np.array(laid)[None], axis=-1).min(axis=1)
    return places[gaps.argmax()]
