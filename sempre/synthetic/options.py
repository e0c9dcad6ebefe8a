"""What a field is to show: options, the names they take, and what is drawn for those that are not given."""

from dataclasses import dataclass, fields, replace

import numpy as np

from sempre.errors import InputError
from sempre.synthetic.composites import COMPOSITES
from sempre.synthetic.grounds import STRUCTURED, WIDE_SUBSTRATES
from sempre.synthetic.microscope import Microscope
from sempre.synthetic.scene import ARRANGEMENTS, DIAMETERS, WIDE_ARRANGEMENTS
from sempre.synthetic.solids import KINDS, WIDE_KINDS
from sempre.synthetic.specimens import SPECIMENS
from sempre.synthetic.supports import SUBSTRATES, SUPPORTS

MODALITIES = ("sem", "tem", "stem")
VARIETIES = ("plain", "wide")
DECIDED = ("kinds", "arrangement", "substrate")  # what a specimen decides itself
# Probabilities of WIDE_ARRANGEMENTS: dispersed, agglomerated, packed, aggregates, bimodal, crowded, lattice.
ARRANGEMENT_ODDS = {
    "sem": (0.24, 0.22, 0.12, 0.10, 0.16, 0.10, 0.06),
    "tem": (0.22, 0.17, 0.03, 0.37, 0.07, 0.10, 0.04),
    "stem": (0.36, 0.22, 0.02, 0.12, 0.10, 0.16, 0.02),
}


@dataclass(frozen=True)
class FieldOptions:
    """What to render; None is drawn from the seed.

    Args:
        magnification: low, medium or high: particles of 5 to 45, 14 to 130 or 60 to 400 px.
        kinds: particles to choose from, of WIDE_KINDS and COMPOSITES.
        count: particles to pour, 0 for an empty field; not all of them stay visible.
        arrangement: one of WIDE_ARRANGEMENTS.
        substrate: one of WIDE_SUBSTRATES or STRUCTURED, with modality tem or stem one of SUPPORTS.
        microscope: how the field is recorded.
        modality: sem, tem (dark on bright) or stem (dark field, bright on dark).
        variety: "plain" draws secondary electron micrographs as a microscope saves them, of KINDS in ARRANGEMENTS on
            SUBSTRATES; "wide" draws from everything above and SPECIMENS, and pictures as papers print them: annotated,
            drifted, clipped, compressed.
        specimen: one of SPECIMENS, a scene that decides itself about kinds, count, arrangement, substrate and modality.
            Where it is None, a share of the wide fields that leave these open shows one that is drawn.
    """

    magnification: str | None = None
    kinds: tuple[str, ...] | None = None
    count: int | None = None
    arrangement: str | None = None
    substrate: str | None = None
    microscope: Microscope | None = None
    modality: str | None = None
    variety: str = "plain"
    specimen: str | None = None


def chosen(options: FieldOptions, random: np.random.Generator) -> FieldOptions:
    """The options with every None drawn; all are drawn always, so that giving one leaves the others as they were."""
    modality = options.modality or ("tem" if options.substrate in SUPPORTS else None)
    if options.variety == "wide":
        drawn = _wide(replace(options, modality=modality), random)
    else:
        drawn = _plain(modality or "sem", random)
    given = {item.name: getattr(options, item.name) for item in fields(options)}
    drawn = replace(drawn, **{name: value for name, value in given.items() if value is not None})
    if drawn.modality == "sem" or drawn.microscope is None:
        return drawn
    return replace(drawn, microscope=replace(drawn.microscope, charging=0))  # a thin film carries charge away


def _plain(modality: str, random) -> FieldOptions:
    some = [kind for kind in KINDS if random.random() < 0.35] or [KINDS[int(random.integers(len(KINDS)))]]
    return FieldOptions(
        magnification=str(random.choice(list(DIAMETERS), p=[0.35, 0.35, 0.3])),
        kinds=tuple(some),
        count=0 if random.random() < 0.06 else None,
        arrangement=str(random.choice(ARRANGEMENTS, p=[0.4, 0.4, 0.2])),
        substrate=_drawn_ground(modality, random.choice(SUBSTRATES, p=[0.65, 0.25, 0.1])),
        microscope=Microscope.draw(random),
        modality=modality,
    )


def _drawn_ground(modality, substrate) -> str:
    """The substrate drawn, or what stands for it in transmission."""
    return str(substrate) if modality == "sem" else SUPPORTS[0]


def _wide(options: FieldOptions, random) -> FieldOptions:
    modality = str(random.choice(MODALITIES, p=[0.65, 0.25, 0.1]))
    modality = options.modality or modality
    arrangement = str(random.choice(WIDE_ARRANGEMENTS, p=ARRANGEMENT_ODDS[modality]))
    grounds = {
        "sem": random.choice(WIDE_SUBSTRATES, p=[0.3, 0.16, 0.06, 0.13, 0.1, 0.1, 0.15]),
        "tem": random.choice(SUPPORTS, p=[0.36, 0.14, 0.12, 0.18, 0.2]),
        "stem": random.choice(SUPPORTS, p=[0.15, 0.1, 0.1, 0.15, 0.5]),
    }
    microscope = Microscope.draw(random)
    return FieldOptions(
        magnification=str(random.choice(list(DIAMETERS), p=[0.35, 0.35, 0.3])),
        kinds=_wide_kinds(options.arrangement or arrangement, random),
        count=0 if random.random() < 0.05 else None,
        arrangement=arrangement,
        substrate=str(grounds[modality]),
        microscope=replace(microscope, dose=microscope.dose * random.choice([0.3, 1, 1, 2])),
        modality=modality,
    )


def _wide_kinds(arrangement, random) -> tuple[str, ...]:
    """One to a few kinds: spheres of one sort where many touch in order, or as soot does."""
    some = tuple(kind for kind in WIDE_KINDS if random.random() < 0.18)
    one = str(random.choice(WIDE_KINDS, p=[0.26, 0.36, 0.1, 0.05, 0.07, 0.1, 0.06]))
    if arrangement == "aggregates":
        return ("sphere",)
    if arrangement == "lattice":
        return (str(random.choice(["sphere", "sphere", "sphere", "rough", "hollow", "polyhedron"])),)
    return some if some and random.random() < 0.35 else (one,)


def check(seed: int, size: tuple[int, int], options: FieldOptions | None) -> None:
    """Raises: InputError for a seed, a size or an option out of range."""
    if not 0 <= seed < 2**64:
        raise InputError(f"seed {seed} is out of range: give an integer from 0 to 2^64 - 1")
    if min(size) < 64:
        raise InputError(f"a field of {size[1]}x{size[0]} px is too small: give at least 64x64")
    if options is None:
        return
    if options.count is not None and options.count < 0:
        raise InputError(f"count {options.count} is negative: give 0 for an empty field")
    decided = [name for name in DECIDED if getattr(options, name) is not None]
    if options.specimen and (decided or options.count or options.modality not in (None, "sem")):
        raise InputError(
            f"specimen {options.specimen} decides about kinds, arrangement, substrate, modality and count itself: "
            "leave them away (count=0 shows its ground alone)"
        )
    scanned = (*WIDE_SUBSTRATES, *STRUCTURED)
    grounds = {None: (*scanned, *SUPPORTS), "sem": scanned}.get(options.modality, SUPPORTS)
    known = {
        "magnification": tuple(DIAMETERS),
        "arrangement": WIDE_ARRANGEMENTS,
        "modality": MODALITIES,
        "variety": VARIETIES,
        "substrate": grounds,
        "specimen": SPECIMENS,
    }
    given = [(name, getattr(options, name), names) for name, names in known.items()]
    for name, value, names in given + [("kind", kind, (*WIDE_KINDS, *COMPOSITES)) for kind in options.kinds or ()]:
        if value is not None and value not in names:
            raise InputError(f"{name} '{value}' is unknown: choose {', '.join(names)}")
