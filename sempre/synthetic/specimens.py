"""Which specimen a field of variety "wide" shows, and how it is rendered."""

from dataclasses import replace

import numpy as np

from sempre.synthetic import alloys, heaps
from sempre.synthetic.grounds import STRUCTURED, WIDE_SUBSTRATES, render_backdrop, render_structure
from sempre.synthetic.microscope import Microscope, charged, emitted, material, overexposed, record
from sempre.synthetic.scene import Scene

# Specimens and how often each is drawn, in units of one.
ODDS = {
    "facets": 4.0,
    "sintered": 2.5,
    "secondary": 3.5,
    "droplets": 2.5,
    "dusted": 3.0,
    "powder": 3.0,
    "insulators": 2.0,
    "cuboids": 1.5,
    "precipitates": 1.5,
    "islands": 1.0,
    "structure": 4.0,
}
SPECIMENS = tuple(ODDS)
DARK = 0.06  # of the specimens have particles darker than their ground
SHARE = 0.4  # of the fields of variety "wide" show one of SPECIMENS
FEATURES = {"low": 18.0, "medium": 40.0, "high": 90.0}  # size of features of grounds and sections, px
FLAT = {"cuboids": alloys.cuboids, "precipitates": alloys.precipitates, "islands": alloys.islands}


def drawn_specimen(empty: bool, random: np.random.Generator) -> str | None:
    """The specimen of a field of variety "wide", None where it shows none; an `empty` field may show bare structure."""
    drawn = str(random.choice(SPECIMENS, p=np.array(list(ODDS.values())) / sum(ODDS.values())))
    if random.random() >= SHARE:
        return None
    return "structure" if empty else drawn


def render_specimen(
    name: str,
    size: tuple[int, int],
    magnification: str,
    microscope: Microscope,
    empty: bool,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Pixels uint8 `[H, W]`, owners `[H, W]` and kinds, by number from 1, of a specimen of SPECIMENS.

    An `empty` one shows its ground alone.
    """
    if name in FLAT:
        if empty:
            _, light = render_structure("etched", size, FEATURES[magnification], random)
            owner = np.zeros(size, np.int32)
        else:
            light, owner = FLAT[name](size, FEATURES[magnification], random)
        kind = "island" if name == "islands" else "precipitate"
        microscope = replace(microscope, dose=3 * microscope.dose)  # sections are scanned slowly
        return record(light, microscope, random), owner, [kind] * int(owner.max())
    relief, brightness = _ground(name, size, magnification, random)
    scene = Scene.of_relief(relief)
    heap = heaps.Heap() if empty else _laid(name, scene, magnification, random)
    if name in ("facets", "sintered"):
        microscope = heaps.one_tone(microscope, magnification, random)
    darkened, inverted = random.choice([1.0, 0.6, 0.25, 0.08]), random.random() < DARK
    ground = darkened if heap.kinds and name != "powder" and not inverted else 1.0
    tones = tuple(tone * (0.15 if inverted else 1) for tone in heap.tones or (2.0,))
    brightness, roughness = material(
        scene,
        np.float32(ground) * brightness,
        len(heap.kinds),
        magnification,
        random,
        tones=tones,
        spread=heap.spread,
    )
    light = emitted(scene, brightness, roughness, microscope)
    owner = scene.owner
    if heap.depth:
        shade = heaps.darker_below(scene, heap.depth)
        light = light * (0.04 + 0.96 * shade)
        owner = heaps.lit_enough(owner, shade)
    if name in ("facets", "sintered", "powder"):
        owner = heaps.outlined_by_eye(owner)
    if name == "insulators" or (heap.kinds and random.random() < 0.15):
        light = charged(light, owner, random)
    pixels = record(light, microscope, random)
    if name in ("facets", "sintered", "secondary", "insulators") and random.random() < 0.35:
        pixels = overexposed(pixels, owner, random)
    return pixels, owner, heap.kinds


def _ground(name, size, magnification, random) -> tuple[np.ndarray, np.ndarray]:
    """Relief and brightness `[H, W]` of what the specimen lies on: bare structure at times, else a usual substrate."""
    structure, substrate = str(random.choice(STRUCTURED)), str(random.choice(WIDE_SUBSTRATES))
    if name == "powder":  # what is seen of the deepest particles
        relief, brightness = render_structure("dimples", size, FEATURES[magnification] / 2, random)
        return relief, np.float32(random.uniform(0.05, 0.3)) * brightness
    if name == "structure" or random.random() < 0.2:
        return render_structure(structure, size, FEATURES[magnification], random)
    return render_backdrop(substrate, size, FEATURES[magnification], random)


def _laid(name, scene, magnification, random) -> heaps.Heap:
    if name == "facets":
        return heaps.facets(scene, magnification, random)
    if name == "sintered":
        return heaps.sintered(scene, magnification, random)
    if name == "secondary":
        return heaps.agglomerates(scene, random) if random.random() < 0.3 else heaps.grains(scene, "secondary", random)
    if name == "droplets":
        return heaps.grains(scene, "satellited", random)
    if name == "dusted":
        return heaps.dusted(scene, random)
    if name == "powder":
        return heaps.powder(scene, magnification, random)
    if name == "structure" and random.random() < 0.75:
        return heaps.Heap()
    return heaps.scattered(scene, magnification, random)
