"""A rendered sample whose defects are known: what a search for rare things is measured by."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sempre.errors import InputError
from sempre.images.synthetic.samples.cracked_film import render_cracked_film
from sempre.images.synthetic.samples.defects import Defects
from sempre.images.synthetic.samples.perovskite import render_perovskite
from sempre.images.synthetic.samples.rare_particles import render_rare_particles

SAMPLES: dict[str, Callable[[int, tuple[int, int]], tuple[np.ndarray, Defects, float]]] = {
    "perovskite": render_perovskite,
    "particles": render_rare_particles,
    "film": render_cracked_film,
}


@dataclass(frozen=True)
class Sample:
    """A micrograph uint8 `[H, W]`, its defects, and the size of a pixel in nm."""

    pixels: np.ndarray
    defects: Defects
    pixel_size_nm: float


def render_sample(name: str, seed: int, size: tuple[int, int] = (1024, 1024)) -> Sample:
    """Render the sample of `seed`, `size` (height, width) px large; the same seed gives the same bytes.

    `perovskite` is a lattice as a dark-field STEM shows it, with vacancies and substitutions; `particles` are spheres
    with a few of other kinds among them; `film` is a grainy film with cracks and pores.

    Raises:
        InputError: for an unknown name, a seed outside 0 to 2^63 - 1, or a side shorter than 256 px.
    """
    if name not in SAMPLES:
        raise InputError(f"sample {name} is unknown: choose {', '.join(SAMPLES)}")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed {seed} is out of range: give an integer from 0 to 2^63 - 1")
    if min(size) < 256:
        raise InputError(f"a sample of {size[1]}x{size[0]} px is too small: give at least 256x256")
    return Sample(*SAMPLES[name](seed, size))
