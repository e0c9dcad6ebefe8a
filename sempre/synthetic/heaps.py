"""Heaps and single grains by secondary electrons: particles in contact, secondary grains, dust, powder over powder.

Each function fills a scene with numbered particles, and returns their kinds and what they look like.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from sempre.synthetic.composites import COMPOSITES, PRIMARIES, any_grain, secondary
from sempre.synthetic.contacts import REACH, Joined, Seam, packed_places, walls_between
from sempre.synthetic.microscope import Microscope
from sempre.synthetic.scene import ESCAPE_DEPTH, Scene, pour
from sempre.synthetic.solids import Ellipsoid, random_solid
from sempre.synthetic.supports import correlated_noise

DIAMETERS = {"low": (9.0, 24.0), "medium": (18.0, 60.0), "high": (50.0, 150.0)}  # of particles in contact, px
POWDERS = ("polyhedron", "polyhedron", "sphere", "rough", "satellited", "secondary", "plate", "rod")
MAX_AGGLOMERATES = 90
MAX_JOINED = 700  # particles in one layer
MAX_POURED = 700
THINNEST = 1.3  # px from the middle to the border: a thinner piece of a particle below others is not outlined
LEAST_SHOWN = 0.08  # of the usual area: a smaller piece is not outlined, unless it is thick
UNLIT = 0.15  # of the light: a particle that sends out less is not seen


@dataclass
class Heap:
    """Particles that were laid into a scene.

    `kinds` are theirs, by number from 1. `tones` and `spread` are those of `material`. `depth` is the height in px over
    which what lies below others gets darker by a factor of e; 0 where it does not.
    """

    kinds: list[str] = field(default_factory=list)
    tones: tuple[float, ...] = ()
    spread: float = 0.06
    depth: float = 0.0


def one_tone(microscope: Microscope, magnification: str, random: np.random.Generator) -> Microscope:
    """A microscope under which facets hardly differ and contacts are faint, as at high voltage; blurred at times."""
    blurred = {"low": 1.0, "medium": 1.6, "high": 2.5}[magnification] if random.random() < 0.25 else 1.0
    return replace(
        microscope,
        blur=microscope.blur * blurred,
        tilt_exponent=random.uniform(0.15, 0.8),
        edge=random.choice([0.0, 0.15, 0.5]) * random.uniform(0.5, 1.5),
        asymmetry=random.uniform(0.02, 0.35),
        occlusion=random.uniform(0.05, 0.7),
        dose=microscope.dose * random.uniform(1, 4),
    )


def pitch(magnification: str, side: int, random: np.random.Generator) -> float:
    """The usual diameter of particles in contact, px."""
    low, high = DIAMETERS[magnification]
    high = min(high, side / 3)
    return float(np.exp(random.uniform(np.log(min(low, high / 2)), np.log(high))))


def facets(scene: Scene, magnification: str, random: np.random.Generator) -> Heap:
    """Faceted crystals of an oxide that touch: one tone, several layers, edges faint or bright."""
    tone = (float(random.uniform(1.5, 4.0)),)
    diameter = pitch(magnification, min(scene.owner.shape), random)
    kind = str(random.choice(["polyhedron", "polyhedron", "polyhedron", "plate", "rod"]))
    if random.random() < 0.3:
        heap = _poured(scene, (kind,), diameter, random.uniform(0.05, 0.45), random.uniform(0.8, 3), random)
        return replace(heap, tones=tone, spread=random.uniform(0, 0.03))
    allowed = _patches(scene.owner.shape, diameter, 0.45, random)
    layers = int(random.choice([1, 2, 2, 3]))
    spread, gap = random.uniform(0.05, 0.4), random.choice([0.0, 0.0, 0.02, 0.06]) * diameter
    heap = Heap(tones=tone, spread=random.uniform(0, 0.03))
    seam = Seam(gap, random.uniform(0, 0.1) * diameter, max(0.04 * diameter, 1), random.choice([0.0, 0.0, 0.4, 1.0]))
    for layer in range(layers):
        _joined_layer(scene, heap, diameter, spread, (0.1, 0.22), seam, 0.0, allowed, layer, magnification, random)
    return heap


def sintered(scene: Scene, magnification: str, random: np.random.Generator) -> Heap:
    """Grains that have grown together: necks, or the flat mosaic of a ceramic whose borders were etched by heat."""
    diameter = pitch(magnification, min(scene.owner.shape), random)
    dense = random.random() < 0.5
    allowed = _patches(scene.owner.shape, diameter, 1.0 if dense else 0.45, random)
    width = max(random.uniform(0.03, 0.16) * diameter, 1.0)
    seam = Seam(0.0, random.uniform(0.3, 1.6) * width, width, random.choice([0.0, 0.0, 0.5]))
    heap = Heap(tones=(float(random.uniform(1.3, 3.5)),), spread=random.choice([0.0, 0.02, 0.08]))
    layers = 1 if dense else int(random.choice([1, 2, 3]))
    spread, overlap = random.uniform(0.08, 0.45), (0.28, 0.42) if dense else (0.12, 0.3)
    flat = random.uniform(0.1, 0.5) if dense else random.uniform(0.7, 1.0)
    for layer in range(layers):
        _joined_layer(scene, heap, diameter, spread, overlap, seam, flat, allowed, layer, magnification, random)
    return heap


def _patches(shape, diameter, everywhere, random) -> np.ndarray | None:
    """Where particles lie `[H, W]`: everywhere (None), so probably, or in patches with bare ground between.

    The patches are never larger than MAX_JOINED particles fill.
    """
    share = 1.0 if random.random() < everywhere else random.uniform(0.2, 0.8)
    filled = 1.1 * MAX_JOINED * np.pi / 4 * diameter**2 / (shape[0] * shape[1])
    noise = correlated_noise(shape, 2.0, diameter, random)
    if min(share, filled) >= 1:
        return None
    return noise > np.quantile(noise[::4, ::4], 1 - min(share, filled))


def _joined_layer(scene, heap, diameter, spread, overlaps, seam, flat, allowed, layer, magnification, random) -> None:
    """A layer of particles in contact; crystals where `flat` is 0, else balls of so much of their width in height."""
    height, width = scene.owner.shape
    overlap = random.uniform(*overlaps)
    if not heap.kinds:  # the ground reaches through no particle
        np.minimum(scene.height, 0, out=scene.height)
    number = int(min(2.2 * (height + diameter) * (width + diameter) / (np.pi / 4 * diameter**2), MAX_JOINED))
    if allowed is not None:
        number = int(number * allowed[::4, ::4].mean()) + 1
    diameters = (diameter * random.lognormal(0, spread, number)).clip(0.35 * diameter, 2.2 * diameter)
    places = packed_places((height, width), diameters, overlap, allowed, random)
    walls = walls_between(places, seam.gap, 0.0 if not flat else random.choice([0.0, 0.25]), random)
    undulation = random.uniform(0, 0.35) * diameter * correlated_noise((height, width), 2.0, 2 * diameter, random)
    rough = random.uniform(0.0, 0.25) * diameter
    swollen = 1 + 0.6 * overlap if not flat else min(1 + 0.9 * overlap, REACH)
    for (x, y, own), around in zip(places, walls, strict=True):
        if flat:
            axes = (own / 2 * swollen, own / 2 * swollen * random.uniform(0.88, 1), own / 2 * flat * swollen)
            waves = random.normal(0, 0.03, 3)
            solid = Ellipsoid(axes, random.uniform(0, np.pi), waves, random.uniform(0, 2 * np.pi, 3))
        else:
            solid = random_solid("polyhedron", own * swollen, random)
        row, column = int(np.clip(y, 0, height - 1)), int(np.clip(x, 0, width - 1))
        z = (0.5 + 0.8 * layer) * diameter + undulation[row, column] + rough * random.normal()
        heap.kinds.append("polyhedron" if not flat else "sphere")
        scene.drop(Joined(solid, around, seam), x, y, len(heap.kinds), ESCAPE_DEPTH[magnification], z)


def _poured(scene, kinds, diameter, spread, coverage, random) -> Heap:
    """Particles that fall one by one, each into the lowest of some places, until they cover the field so many times."""
    height, width = scene.owner.shape
    sizes = (diameter * random.lognormal(0, spread, MAX_POURED)).clip(0.3 * diameter, 3 * diameter)
    sizes = sizes.clip(None, 0.6 * min(height, width))
    count = int(np.searchsorted(np.cumsum(np.pi / 4 * sizes**2), coverage * height * width)) + 1
    heap = Heap()
    for number, size in enumerate(sizes[:count], start=1):
        places = random.uniform((-size / 4, -size / 4), (width + size / 4, height + size / 4), (6, 2))
        columns, rows = places.astype(int).clip(0, (width - 1, height - 1)).T
        x, y = places[scene.height[rows, columns].argmin()]
        kind = kinds[int(random.integers(len(kinds)))]
        scene.drop(any_grain(kind, size, random), x, y, number, max(0.02 * size, 0.8))
        heap.kinds.append(kind)
    return heap


def powder(scene: Scene, magnification: str, random: np.random.Generator) -> Heap:
    """Powder over powder: particles everywhere, no ground between them, those that lie deep in the dark."""
    low, high = {"low": (14, 40), "medium": (30, 90), "high": (80, 220)}[magnification]
    side = min(scene.owner.shape)
    diameter = np.exp(random.uniform(np.log(low), np.log(high)))
    diameter = max(min(diameter, side / 2.5), side / 22)
    kind = str(random.choice(POWDERS))
    if kind in COMPOSITES:  # each takes some ms
        diameter = max(diameter, side / 10)
    kinds = (kind, "polyhedron") if random.random() < 0.2 else (kind,)
    heap = _poured(scene, kinds, diameter, random.uniform(0.08, 0.6), random.uniform(2.0, 4.0), random)
    return replace(
        heap,
        tones=(float(random.uniform(1.5, 3.0)),),
        spread=random.uniform(0.0, 0.05),
        depth=diameter * random.uniform(0.6, 2.5),
    )


def grains(scene: Scene, kind: str, random: np.random.Generator) -> Heap:
    """A few large grains of one kind, a fifth to a half of the field wide, some cut by its border; dust at times."""
    height, width = scene.owner.shape
    side = min(height, width)
    typical = side * np.exp(random.uniform(np.log(0.2), np.log(0.5)))
    # Primary crystals are of one powder: the same in every grain, on the whole.
    habit, primary = str(random.choice(PRIMARIES)), typical * np.exp(random.uniform(np.log(0.03), np.log(0.15)))
    alike = random.random() < 0.75
    covered, target = 0.0, random.uniform(0.1, 0.9) * height * width
    heap = Heap(tones=(float(random.uniform(1.3, 3.2)),), spread=random.uniform(0, 0.08))
    laid: list[tuple[float, float, float]] = []
    while covered < target and len(laid) < 9:
        diameter = min(typical * random.lognormal(0, 0.3), 0.55 * side)
        places = random.uniform((0, 0), (width, height), (4, 2))
        if laid and random.random() < 0.85:  # beside the others rather than on them
            others = np.array(laid)
            apart = np.hypot(places[:, :1] - others[:, 0], places[:, 1:] - others[:, 1])
            places = places[(apart - others[:, 2] / 2).min(axis=1).argsort()[::-1]]
        x, y = places[0]
        heap.kinds.append(kind)
        laid.append((x, y, diameter))
        if kind == "secondary" and alike:
            grain = secondary(diameter, random, habit, primary)
        else:
            grain = any_grain(kind, diameter, random)
        scene.drop(grain, x, y, len(heap.kinds), max(0.006 * diameter, 0.8))
        covered += np.pi / 4 * diameter**2
    if random.random() < 0.4:
        _dust(scene, heap, laid, random)
    return heap


def agglomerates(scene: Scene, random: np.random.Generator) -> Heap:
    """Agglomerates of small crystals, from large ones to single crystals, each counted as one particle."""
    height, width = scene.owner.shape
    side = min(height, width)
    primary = side * np.exp(random.uniform(np.log(0.01), np.log(0.025)))
    count = int(random.integers(8, MAX_AGGLOMERATES))
    diameters = primary * np.exp(random.exponential(random.uniform(0.6, 1.3), count))
    habit = str(random.choice(PRIMARIES))
    heap = Heap(tones=(float(random.uniform(1.5, 4.0)),), spread=random.uniform(0.02, 0.15))
    for diameter in np.sort(diameters.clip(4.5, 0.4 * side))[::-1]:
        x, y = random.uniform(0, width), random.uniform(0, height)
        large = diameter > 3 * primary
        solid = secondary(diameter, random, habit, primary) if large else any_grain(habit, diameter, random)
        heap.kinds.append("secondary" if large else habit)
        scene.drop(solid, x, y, len(heap.kinds), 0.8)
    return heap


def dusted(scene: Scene, random: np.random.Generator) -> Heap:
    """Large grains with dust and small particles beside and on them, each an instance that is large enough."""
    kind = str(random.choice(["polyhedron", "sphere", "rough", "secondary", "satellited", "plate"]))
    height, width = scene.owner.shape
    side = min(height, width)
    heap = Heap(tones=(float(random.uniform(1.3, 3.2)),), spread=random.uniform(0, 0.06))
    laid = []
    for _ in range(int(random.integers(1, 5))):
        diameter = side * np.exp(random.uniform(np.log(0.15), np.log(0.5)))
        x, y = random.uniform(0, width), random.uniform(0, height)
        heap.kinds.append(kind)
        laid.append((x, y, diameter))
        scene.drop(any_grain(kind, diameter, random), x, y, len(heap.kinds), max(0.006 * diameter, 0.8))
    for _ in range(int(random.integers(1, 3))):
        _dust(scene, heap, laid, random)
    return heap


def _dust(scene, heap, laid, random) -> None:
    """Small particles of one kind: on the large ones, close around them, or anywhere."""
    height, width = scene.owner.shape
    largest = max(diameter for _, _, diameter in laid)
    size = float(np.exp(random.uniform(np.log(4), np.log(max(largest / 7, 6)))))
    count = int(np.exp(random.uniform(np.log(12), np.log(200))))
    kind = str(random.choice(["polyhedron", "polyhedron", "sphere", "rod", "plate"]))
    chances = random.choice([(0.6, 0.3, 0.1), (0.1, 0.7, 0.2), (0.15, 0.15, 0.7)])
    for _ in range(count):
        where = random.random()
        x, y, diameter = laid[int(random.integers(len(laid)))]
        if where < chances[0] + chances[1]:
            reach = np.sqrt(random.uniform(0, 0.9)) if where < chances[0] else 1 + random.exponential(0.18)
            azimuth = random.uniform(0, 2 * np.pi)
            x, y = x + diameter / 2 * reach * np.cos(azimuth), y + diameter / 2 * reach * np.sin(azimuth)
        else:
            x, y = random.uniform(0, width), random.uniform(0, height)
        own = float(np.clip(size * random.lognormal(0, 0.4), 3, largest / 4))
        heap.kinds.append(kind)
        scene.drop(any_grain(kind, own, random), x, y, len(heap.kinds), 0.8)


def scattered(scene: Scene, magnification: str, random: np.random.Generator) -> Heap:
    """A few particles of a usual kind, apart or in heaps."""
    kinds = (str(random.choice(["polyhedron", "sphere", "rough", "rod", "plate", "secondary"])),)
    arrangement = str(random.choice(["dispersed", "agglomerated"]))
    return Heap(pour(scene, kinds, magnification, arrangement, None, MAX_POURED, random), spread=0.1)


def darker_below(scene: Scene, depth: float) -> np.ndarray:
    """How much light leaves from between the particles `[H, W]`, 0 to 1: less, the deeper it is below the top."""
    reach = max(int(1.5 * depth), 3)
    roof = ndimage.uniform_filter(ndimage.maximum_filter(scene.height[::2, ::2], reach // 2 + 1), reach // 2 + 1)
    roof = np.repeat(np.repeat(roof, 2, axis=0), 2, axis=1)[: scene.height.shape[0], : scene.height.shape[1]]
    return np.exp(-np.maximum(roof - scene.height, 0) / np.float32(depth))


def outlined_by_eye(owner: np.ndarray) -> np.ndarray:
    """The owners `[H, W]` without slivers that show between others: nobody outlines what is 2 px thin."""
    inner = np.ones(owner.shape, bool)
    for one, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        differs = owner[one] != owner[other]
        inner[one] &= ~differs
        inner[other] &= ~differs
    depth = ndimage.distance_transform_edt(inner).astype(np.float32)
    deepest = np.zeros(owner.max() + 1, np.float32)
    np.maximum.at(deepest, owner.ravel(), depth.ravel())
    areas = np.bincount(owner.ravel(), minlength=len(deepest))
    usual = np.median(areas[1:][areas[1:] >= 12]) if (areas[1:] >= 12).any() else 0
    sliver = (deepest < THINNEST) | ((deepest < 3 * THINNEST) & (areas < LEAST_SHOWN * usual))
    return np.where(sliver[owner], 0, owner)


def lit_enough(owner: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """The owners `[H, W]` without particles that are too deep in the dark to be outlined."""
    areas = np.maximum(np.bincount(owner.ravel()), 1)
    mean = np.bincount(owner.ravel(), weights=shade.ravel()) / areas
    return np.where(mean[owner] < UNLIT, 0, owner)
