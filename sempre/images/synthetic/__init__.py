"""Electron micrographs of particles with their instances, rendered from a seed."""

from sempre.images.synthetic.detector import Microscope
from sempre.images.synthetic.field import Field, FieldOptions, render_field
from sempre.images.synthetic.scene import ARRANGEMENTS, DIAMETERS
from sempre.images.synthetic.solids import KINDS
from sempre.images.synthetic.substrate import SUBSTRATES

__all__ = [
    "ARRANGEMENTS",
    "DIAMETERS",
    "KINDS",
    "SUBSTRATES",
    "Field",
    "FieldOptions",
    "Microscope",
    "render_field",
]
