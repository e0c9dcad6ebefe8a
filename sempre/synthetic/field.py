"""A field of view of an electron microscope, rendered with the instances in it."""

import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy import ndimage

from sempre.synthetic.annotations import annotate
from sempre.synthetic.grounds import render_backdrop
from sempre.synthetic.microscope import Projection, emitted, material, record, transmitted
from sempre.synthetic.options import DECIDED, FieldOptions, check, chosen
from sempre.synthetic.scene import MAX_PARTICLES, Scene, pour
from sempre.synthetic.specimens import drawn_specimen, render_specimen
from sempre.synthetic.supports import render_support


def drifted(pixels: np.ndarray, owner: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sheared and wavy scan lines: pixels uint8 `[H, W]` and owners int32 `[H, W]`, moved alike.

    Lines move by up to a few px; what enters at the sides is mirrored.
    """
    height, width = pixels.shape
    shift = random.uniform(-0.05, 0.05) * np.arange(height)
    wave = ndimage.gaussian_filter1d(random.standard_normal(height), random.uniform(2, 20), mode="nearest")
    shift += random.uniform(0, 1.2) * wave / max(wave.std(), 1e-6)
    columns = np.arange(width)[None] + shift[:, None]
    columns = np.abs((width - 1) - np.abs((width - 1) - columns) % (2 * width - 2)) % width
    left = columns.astype(np.intp)
    part = columns - left
    right = np.minimum(left + 1, width - 1)
    rows = np.arange(height)[:, None]
    moved = pixels[rows, left] * (1 - part) + pixels[rows, right] * part
    return np.rint(moved).astype(np.uint8), owner[rows, np.where(part < 0.5, left, right)]


def developed(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another hand at the contrast: clipped, flat, gamma, inverted, noisier; uint8 `[H, W]`."""
    grey = pixels.astype(np.float32)
    if random.random() < 0.3:
        dark, bright = 12 * random.uniform(0, 1, 2) ** 2  # per cent clipped: mostly little
        low, high = np.percentile(grey[::2, ::2], [dark, 100 - bright])
        grey = (grey - low) * (255 / max(high - low, 20))
    elif random.random() < 0.3:
        grey = random.uniform(0, 130) + grey * random.uniform(0.25, 0.6)
    if random.random() < 0.25:
        grey = 255 * (grey.clip(0, 255) / 255) ** np.float32(np.exp(random.normal(0, 0.4)))
    if random.random() < 0.04:
        grey = 255 - grey
    if random.random() < 0.2:
        noise = random.standard_normal(grey.shape, dtype=np.float32)
        grey += random.uniform(4, 28) * ndimage.gaussian_filter(noise, random.choice([0, 0, 0.6]))
    return np.rint(grey.clip(0, 255)).astype(np.uint8)


def resampled(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shrunk and enlarged again, which blurs it, as pictures in papers often are; uint8 `[H, W]`."""
    height, width = pixels.shape
    factor = random.uniform(1.2, 2.5)
    image = Image.fromarray(pixels)
    filters = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS]
    small = image.resize((int(width / factor), int(height / factor)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), filters[random.integers(3)]))


def compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    """With the blocks and ringing of JPEG of a `quality` of 1 to 95; uint8 `[H, W]`."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
    return np.asarray(Image.open(file))


PIXEL_SIZE_NM = {"low": (25.0, 200.0), "medium": (6.0, 40.0), "high": (1.0, 8.0)}
FINER = {"sem": 1.0, "tem": 0.05, "stem": 0.05}  # a transmission microscope's pixels over a scanning one's
FEATURES = {"low": 14.0, "medium": 35.0, "high": 90.0}  # size of the substrate's features, px
MIN_AREA = 12  # px of an instance that are seen; smaller ones are no instances
# The second word of a generator's key: what is drawn, so that fixing one thing leaves the others as they are.
CHOICES, SUBSTRATE, PARTICLES, MATERIAL, RECORDING, CONTRAST, PUBLISHING, SPECIMEN = range(8)


@dataclass(frozen=True)
class Field:
    """A micrograph uint8 `[H, W]`, in colour `[H, W, 3]`; its instances int32 `[H, W]`, 0 is background, ids 1 to N;
    the kind of each of the N instances; the size of a pixel in nm."""

    pixels: np.ndarray
    labels: np.ndarray
    kinds: tuple[str, ...]
    pixel_size_nm: float


def render_field(seed: int, size: tuple[int, int] = (640, 640), options: FieldOptions | None = None) -> Field:
    """Render the field of `seed`, `size` (height, width) px large; the same seed gives the same bytes.

    Secondary electrons: solids are dropped onto a relief one after the other, and what lies highest is seen and owns
    the label. Electrons leave tilted faces and edges in greater number, are caught in crevices, and are counted one by
    one. Transmitted electrons: what the solids scatter adds up, and the last to be dropped owns the label; in
    aggregates, whose spheres shine through each other, the one that is nearer to its middle there.

    Raises:
        InputError: for a seed outside 0 to 2^64 - 1, a side shorter than 64 px or an unknown name in the options.
    """
    check(seed, size, options)
    given = options or FieldOptions()
    specimen = _specimen(seed, given)
    options = chosen(replace(given, modality="sem") if specimen else given, _generator(seed, CHOICES))
    assert options.microscope and options.magnification and options.modality  # drawn, where they were not given
    if specimen:
        random = _generator(seed, SPECIMEN, 1)
        empty = given.count == 0
        pixels, owner, kinds = render_specimen(specimen, size, options.magnification, options.microscope, empty, random)
    else:
        draw = _scanned if options.modality == "sem" else _projected
        light, owner, kinds = draw(seed, size, options)
        pixels = record(light, options.microscope, _generator(seed, RECORDING))
    low, high = PIXEL_SIZE_NM[options.magnification]
    pixel_size_nm = float(np.exp(_generator(seed, CHOICES, 1).uniform(np.log(low), np.log(high))))
    pixel_size_nm *= FINER[options.modality]
    if options.variety == "wide":
        pixels, owner = _published(pixels, owner, pixel_size_nm, _generator(seed, PUBLISHING))
    labels, shown = _instances(owner, len(kinds))
    return Field(pixels, labels, tuple(kinds[number - 1] for number in shown), pixel_size_nm)


def _specimen(seed, given: FieldOptions) -> str | None:
    """The specimen asked for, or one drawn where nothing is asked for that it would decide."""
    decided = any(getattr(given, name) is not None for name in (*DECIDED, "modality")) or given.count
    if given.specimen or given.variety != "wide" or decided:
        return given.specimen
    return drawn_specimen(given.count == 0, _generator(seed, SPECIMEN))


def _scanned(seed, size, options) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Secondary electrons that reach the detector `[H, W]`, owners `[H, W]` and the particles' kinds."""
    magnification = options.magnification
    features = FEATURES[magnification]
    relief, brightness = render_backdrop(options.substrate, size, features, _generator(seed, SUBSTRATE))
    scene = Scene.of_relief(relief)
    kinds = _poured(scene, seed, options)
    brightness, roughness = material(scene, brightness, len(kinds), magnification, _generator(seed, MATERIAL))
    if options.variety == "wide":
        brightness = _contrasted(brightness, scene.owner > 0, _generator(seed, CONTRAST))
    return emitted(scene, brightness, roughness, options.microscope), scene.owner, kinds


def _projected(seed, size, options) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Transmitted electrons that reach the detector `[H, W]`, owners `[H, W]` and the particles' kinds."""
    support = render_support(options.substrate, size, FEATURES[options.magnification], _generator(seed, SUBSTRATE))
    random = _generator(seed, MATERIAL)
    aggregates = options.arrangement == "aggregates"
    amorphous = aggregates or options.kinds == ("hollow",)
    crystalline = 0.0 if amorphous or options.modality == "stem" else float(random.choice([0, 0.4, 1.0]))
    projection = Projection(size, crystalline, random, parted=aggregates)
    kinds = _poured(projection, seed, options)
    return transmitted(projection, support, options.modality, _generator(seed, CONTRAST)), projection.owner, kinds


def _poured(scene, seed, options) -> list[str]:
    limit = MAX_PARTICLES[options.variety]
    return pour(
        scene,
        options.kinds,
        options.magnification,
        options.arrangement,
        options.count,
        limit,
        _generator(seed, PARTICLES),
    )


def _contrasted(brightness: np.ndarray, particle: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Yields `[H, W]` of other materials: a dark ground, particles darker than theirs, specks of dust over all."""
    ground = random.choice([1.0, 1.0, 0.5, 0.2, 0.05])
    if random.random() < 0.1:
        brightness = np.where(particle, brightness * random.uniform(0.1, 0.35), brightness)
    else:
        brightness = np.where(particle, brightness, brightness * np.float32(ground))
    dust = (random.random(brightness.shape, dtype=np.float32) < random.choice([0, 0, 2e-4, 1e-3])).astype(np.float32)
    if dust.any():
        size = random.uniform(0.6, 1.3)
        brightness = brightness + random.uniform(2, 8) * ndimage.gaussian_filter(dust, size, truncate=3)
    return brightness.astype(np.float32)


def _published(pixels, owner, pixel_size_nm, random) -> tuple[np.ndarray, np.ndarray]:
    """Pixels `[H, W]` and owners `[H, W]` after what befalls a picture on its way into a paper."""
    if random.random() < 0.15:
        pixels, owner = drifted(pixels, owner, random)
    pixels = developed(pixels, random)
    annotated = random.random() < 0.55
    before = random.random() < 0.5
    if annotated and before:
        pixels, owner = annotate(pixels, owner, pixel_size_nm, random)
    if random.random() < 0.25:
        pixels = resampled(pixels, random)
    if annotated and not before:
        pixels, owner = annotate(pixels, owner, pixel_size_nm, random)
    if random.random() < 0.5:
        pixels = compressed(pixels, int(random.integers(20, 92)))
    return pixels, owner


def _instances(owner: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels `[H, W]` with ids 1 to N of the particles that show at least MIN_AREA px, and their numbers `[N]`."""
    areas = np.bincount(owner.ravel(), minlength=count + 1)
    shown = np.flatnonzero(areas >= MIN_AREA)
    shown = shown[shown > 0]
    ids = np.zeros(count + 1, np.int32)
    ids[shown] = np.arange(1, len(shown) + 1)
    return ids[owner], shown


def _generator(seed: int, *purpose: int) -> np.random.Generator:
    """Philox (Salmon et al., SC 2011) keyed by the seed and what is drawn: streams that never meet."""
    counter = np.array([0, 0, *(purpose[1:] or (0,)), 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([seed, purpose[0]], np.uint64), counter=counter))
