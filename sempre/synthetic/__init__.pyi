from .annotations import information_bar
from .composites import COMPOSITES
from .field import Field, render_field
from .fungus import render_fungus
from .grounds import STRUCTURED, WIDE_SUBSTRATES
from .microscope import Microscope
from .options import MODALITIES, VARIETIES, FieldOptions
from .scene import ARRANGEMENTS, DIAMETERS, WIDE_ARRANGEMENTS
from .solids import KINDS, WIDE_KINDS
from .specimens import SPECIMENS
from .supports import SUBSTRATES, SUPPORTS

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
