"""A field of view of a scanning electron microscope, rendered with the instances in it."""

from dataclasses import dataclass, fields, replace

import numpy as np

from sempre.errors import InputError
from sempre.images.synthetic.detector import Microscope, emitted, record, surface_texture
from sempre.images.synthetic.scene import ARRANGEMENTS, DIAMETERS, Scene, pour
from sempre.images.synthetic.solids import KINDS
from sempre.images.synthetic.substrate import SUBSTRATES, render_substrate

PIXEL_SIZE_NM = {"low": (25.0, 200.0), "medium": (6.0, 40.0), "high": (1.0, 8.0)}
FEATURES = {"low": 14.0, "medium": 35.0, "high": 90.0}  # size of the substrate's features, px
MIN_AREA = 12  # px of an instance that are seen; smaller ones are no instances
# The second word of a generator's key: what is drawn, so that fixing one thing leaves the others as they are.
CHOICES, SUBSTRATE, PARTICLES, MATERIAL, RECORDING = range(5)


@dataclass(frozen=True)
class FieldOptions:
    """What to render; None is drawn from the seed.

    Args:
        magnification: low, medium or high: particles of 5 to 45, 14 to 130 or 60 to 400 px.
        kinds: particles to choose from, of polyhedron, sphere and rod.
        count: particles to pour, 0 for an empty field; not all of them stay visible.
        arrangement: dispersed, agglomerated or packed.
        substrate: tape, wafer or membrane.
        microscope: how the field is recorded.
    """

    magnification: str | None = None
    kinds: tuple[str, ...] | None = None
    count: int | None = None
    arrangement: str | None = None
    substrate: str | None = None
    microscope: Microscope | None = None


@dataclass(frozen=True)
class Field:
    """A micrograph uint8 `[H, W]`; its instances int32 `[H, W]`, 0 is background, ids 1 to N; the kind of each of the
    N instances; the size of a pixel in nm."""

    pixels: np.ndarray
    labels: np.ndarray
    kinds: tuple[str, ...]
    pixel_size_nm: float


def render_field(seed: int, size: tuple[int, int] = (640, 640), options: FieldOptions | None = None) -> Field:
    """Render the field of `seed`, `size` (height, width) px large; the same seed gives the same bytes.

    Solids are dropped onto a relief one after the other, and what lies highest is seen and owns the label. Secondary
    electrons leave tilted faces and edges in greater number, are caught in crevices, and are counted one by one.

    Raises:
        InputError: for a seed outside 0 to 2^64 - 1, a side shorter than 64 px or an unknown name in the options.
    """
    _check(seed, size, options)
    options = _choose(options or FieldOptions(), _generator(seed, CHOICES))
    magnification = options.magnification
    pixel_size_nm = float(np.exp(_generator(seed, CHOICES, 1).uniform(*np.log(PIXEL_SIZE_NM[magnification]))))
    relief, brightness = render_substrate(options.substrate, size, FEATURES[magnification], _generator(seed, SUBSTRATE))
    scene = Scene.of_relief(relief)
    kinds = pour(scene, options.kinds, magnification, options.arrangement, options.count, _generator(seed, PARTICLES))
    brightness, roughness = _material(scene, brightness, len(kinds), magnification, _generator(seed, MATERIAL))
    light = emitted(scene, brightness, roughness, options.microscope)
    pixels = record(light, options.microscope, _generator(seed, RECORDING))
    labels, shown = _instances(scene.owner, len(kinds))
    return Field(pixels, labels, tuple(kinds[number - 1] for number in shown), pixel_size_nm)


def _material(scene, substrate, count, magnification, random) -> tuple[np.ndarray, np.ndarray]:
    """Yield `[H, W]` and slopes of the fine texture `[2, H, W]` of substrate and particles."""
    phases = random.uniform(1.3, 3.4) * random.lognormal(0, 0.18, int(random.integers(1, 4)))
    yields = phases[random.integers(len(phases), size=count)] * random.lognormal(0, 0.06, count)
    yields = np.concatenate([[1.0], yields]).astype(np.float32)
    grain = {"low": 2.0, "medium": 3.5, "high": 7.0}[magnification] * random.uniform(0.7, 1.6)
    texture = surface_texture(substrate.shape, grain, random)
    rough = np.concatenate([[0.0], random.choice([0.02, 0.06, 0.14]) * random.lognormal(0, 0.4, count)])
    # Each particle shows its own part of the texture.
    height, width = substrate.shape
    shift_y, shift_x = random.integers(0, (height, width), (count + 1, 2)).T
    rows = (np.arange(height)[:, None] + shift_y[scene.owner]) % height
    columns = (np.arange(width)[None] + shift_x[scene.owner]) % width
    roughness = texture[:, rows, columns] * rough.astype(np.float32)[scene.owner]
    particle = scene.owner > 0
    return np.where(particle, yields[scene.owner], substrate), roughness


def _instances(owner: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels `[H, W]` with ids 1 to N of the particles that show at least MIN_AREA px, and their numbers `[N]`."""
    areas = np.bincount(owner.ravel(), minlength=count + 1)
    shown = np.flatnonzero(areas >= MIN_AREA)
    shown = shown[shown > 0]
    ids = np.zeros(count + 1, np.int32)
    ids[shown] = np.arange(1, len(shown) + 1)
    return ids[owner], shown


def _choose(options: FieldOptions, random: np.random.Generator) -> FieldOptions:
    """The options with every None drawn; all are drawn always, so that giving one leaves the others as they were."""
    some = [kind for kind in KINDS if random.random() < 0.35] or [KINDS[int(random.integers(len(KINDS)))]]
    drawn = FieldOptions(
        magnification=str(random.choice(list(DIAMETERS), p=[0.35, 0.35, 0.3])),
        kinds=tuple(some),
        count=0 if random.random() < 0.06 else None,
        arrangement=str(random.choice(ARRANGEMENTS, p=[0.4, 0.4, 0.2])),
        substrate=str(random.choice(SUBSTRATES, p=[0.65, 0.25, 0.1])),
        microscope=Microscope.draw(random),
    )
    given = {item.name: getattr(options, item.name) for item in fields(options)}
    return replace(drawn, **{name: value for name, value in given.items() if value is not None})


def _generator(seed: int, *purpose: int) -> np.random.Generator:
    """Philox (Salmon et al., SC 2011) keyed by the seed and what is drawn: streams that never meet."""
    counter = np.array([0, 0, *(purpose[1:] or (0,)), 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([seed, purpose[0]], np.uint64), counter=counter))


def _check(seed: int, size: tuple[int, int], options: FieldOptions | None) -> None:
    if not 0 <= seed < 2**64:
        raise InputError(f"seed {seed} is out of range: give an integer from 0 to 2^64 - 1")
    if min(size) < 64:
        raise InputError(f"a field of {size[1]}x{size[0]} px is too small: give at least 64x64")
    if options is None:
        return
    if options.count is not None and options.count < 0:
        raise InputError(f"count {options.count} is negative: give 0 for an empty field")
    known = {"magnification": DIAMETERS, "arrangement": ARRANGEMENTS, "substrate": SUBSTRATES}
    given = [(name, getattr(options, name), tuple(known[name])) for name in known]
    for name, value, names in given + [("kind", kind, KINDS) for kind in options.kinds or ()]:
        if value is not None and value not in names:
            raise InputError(f"{name} '{value}' is unknown: choose {', '.join(names)}")
