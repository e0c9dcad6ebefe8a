"""Which particles of a sample count, and for how many: what borders cut, and what is too small to measure.

A large particle is cut by a border more often than a small one. If cut particles are left out, large ones are too rare;
if they are counted with the size of their visible part, large ones look too small. R. E. Miles ("On the elimination of
edge effects in planar sampling", 1974) and C. Lantuéjoul (1978) weight every particle that is whole by the inverse of
the probability that a particle of its box lies whole in the field.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Rule = Literal["weighted", "all"]
RULES: tuple[Rule, ...] = ("weighted", "all")
WIDE = 0.5  # of the frame: a particle with a larger box has a weight that rests on few others


@dataclass(frozen=True)
class Field:
    """What one micrograph shows. All lengths have the unit of the sample, arrays are `[N]`, an entry a particle.

    `width` and `height` are those of the frame in which a particle can lie without being cut (`frame_of_field`).
    """

    name: str
    width: float
    height: float
    pixel: float  # width of a pixel
    diameter: np.ndarray  # of the circle of equal area
    feret_min: np.ndarray
    box_width: np.ndarray
    box_height: np.ndarray
    cut: np.ndarray  # bool: a border or an information bar cuts the particle
    low: np.ndarray | None = None  # limits of the diameter's interval, from the outline's uncertainty
    high: np.ndarray | None = None
    calibration: str = ""  # where the pixel size comes from


@dataclass(frozen=True)
class Sample:
    """Micrographs of one material. `unit` is "nm", or "px" where no micrograph has a pixel size."""

    name: str
    unit: str
    fields: Sequence[Field]
    without_scale: Sequence[str] = ()  # micrographs that are left out, because others have a pixel size and they do not
    failed: Sequence[str] = ()  # micrographs that could not be segmented


@dataclass(frozen=True)
class Counted:
    """The particles of a sample that count, arrays `[N]`, and how many do not."""

    diameter: np.ndarray
    feret_min: np.ndarray
    weight: np.ndarray
    field: np.ndarray  # the number of its micrograph
    fields: int
    found: int
    cut: int  # that a border cuts, whether they count or not
    small: int  # below the lower limit; they do not count
    wide: int = 0  # that count and have a box above `WIDE` of the frame
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.diameter)


def frame_of_field(columns: int, rows: int, bar_rows: int = 0) -> tuple[int, int]:
    """Width and height, in px, of the frame of a field of `columns` by `rows` px.

    A particle with a pixel in the outermost row or column is cut. So one of a px can lie whole at `columns - 1 - a`
    places. `bar_rows` rows beside an information bar cut particles, too.
    """
    return max(columns - 1, 1), max(rows - 1 - bar_rows, 1)


def whole_probability(box_width: np.ndarray, box_height: np.ndarray, width: float, height: float) -> np.ndarray:
    """The probability `[N]` that a particle of a box `[N]` that lies in a frame does so whole.

    p = (W - a) (H - b) / (W H), with the frame's sides W, H and the box's a, b (Miles 1974, Lantuéjoul 1978).
    """
    return np.clip(width - box_width, 0, None) * np.clip(height - box_height, 0, None) / (width * height)


def count(sample: Sample, rule: Rule = "weighted", smallest_px: float = 0.0) -> Counted:
    """The particles of a sample that count under a rule.

    "weighted" leaves out cut particles and gives the others the weight 1 / p; "all" counts every particle for one, with
    the size that is visible. Particles whose equivalent diameter is below `smallest_px` px never count.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("diameter", "feret_min", "weight", "field")}
    limits: dict[str, list[np.ndarray]] = {"low": [], "high": []}
    found = cut = small = wide = 0
    for number, field_ in enumerate(sample.fields):
        large = field_.diameter >= smallest_px * field_.pixel
        found, cut = found + len(large), cut + int(field_.cut.sum())
        small += int((~large).sum())
        p = whole_probability(field_.box_width, field_.box_height, field_.width, field_.height)
        keep = large & ~field_.cut & (p > 0) if rule == "weighted" else large
        wide += int(
            np.sum(keep & ((field_.box_width > WIDE * field_.width) | (field_.box_height > WIDE * field_.height)))
        )
        parts["diameter"].append(field_.diameter[keep])
        parts["feret_min"].append(field_.feret_min[keep])
        parts["weight"].append(1 / p[keep] if rule == "weighted" else np.ones(int(keep.sum())))
        parts["field"].append(np.full(int(keep.sum()), number))
        if limits and field_.low is not None and field_.high is not None:
            limits["low"].append(field_.low[keep])
            limits["high"].append(field_.high[keep])
        else:
            limits = {}
    joined = {name: np.concatenate(arrays) if arrays else np.empty(0) for name, arrays in parts.items()}
    joined |= {name: np.concatenate(arrays) for name, arrays in limits.items() if arrays}
    joined["field"] = joined["field"].astype(np.int64)
    return Counted(**joined, fields=len(sample.fields), found=found, cut=cut, small=small, wide=wide)
