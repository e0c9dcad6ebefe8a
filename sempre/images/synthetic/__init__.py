"""Micrographs with the instances in them, rendered from a seed: of particles by electrons, of a fungus by light."""

from sempre.images.synthetic.annotations import information_bar
from sempre.images.synthetic.composites import COMPOSITES
from sempre.images.synthetic.detector import Microscope
from sempre.images.synthetic.field import Field, render_field
from sempre.images.synthetic.grains import WIDE_KINDS
from sempre.images.synthetic.grounds.backdrops import WIDE_SUBSTRATES
from sempre.images.synthetic.grounds.structured import STRUCTURED
from sempre.images.synthetic.grounds.substrate import SUBSTRATES
from sempre.images.synthetic.grounds.supports import SUPPORTS
from sempre.images.synthetic.options import MODALITIES, VARIETIES, FieldOptions
from sempre.images.synthetic.samples.fungus import render_fungus
from sempre.images.synthetic.scene import ARRANGEMENTS, DIAMETERS, WIDE_ARRANGEMENTS
from sempre.images.synthetic.solids import KINDS
from sempre.images.synthetic.specimens.specimen import SPECIMENS

__all__ = [
    "ARRANGEMENTS",
    "COMPOSITES",
    "DIAMETERS",
    "KINDS",
    "MODALITIES",
    "SPECIMENS",
    "STRUCTURED",
    "SUBSTRATES",
    "SUPPORTS",
    "VARIETIES",
    "WIDE_ARRANGEMENTS",
    "WIDE_KINDS",
    "WIDE_SUBSTRATES",
    "Field",
    "FieldOptions",
    "Microscope",
    "information_bar",
    "render_field",
    "render_fungus",
]
