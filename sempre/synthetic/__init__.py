"""Micrographs with the instances in them, rendered from a seed: of particles by electrons, of a fungus by light."""

from sempre.synthetic.annotations import information_bar
from sempre.synthetic.composites import COMPOSITES
from sempre.synthetic.field import Field, render_field
from sempre.synthetic.fungus import render_fungus
from sempre.synthetic.grounds import STRUCTURED, WIDE_SUBSTRATES
from sempre.synthetic.microscope import Microscope
from sempre.synthetic.options import MODALITIES, VARIETIES, FieldOptions
from sempre.synthetic.scene import ARRANGEMENTS, DIAMETERS, WIDE_ARRANGEMENTS
from sempre.synthetic.solids import KINDS, WIDE_KINDS
from sempre.synthetic.specimens import SPECIMENS
from sempre.synthetic.supports import SUBSTRATES, SUPPORTS

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
