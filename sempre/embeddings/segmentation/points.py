"""Points that say what is sought and what is not: clicked by a person, or sampled from the truth."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from sempre.errors import InputError
from sempre.files import read_json

SIDES = ("positive", "negative")
FARTHEST = 1e9  # px; no micrograph is as wide


@dataclass(frozen=True)
class Clicks:
    """Points `positive` `[P, 2]` on what is sought and `negative` `[Q, 2]` on what is not: y and x in px, float64."""

    positive: np.ndarray
    negative: np.ndarray


NO_CLICKS = Clicks(np.zeros((0, 2)), np.zeros((0, 2)))


def read_clicks(path: str | Path, need_negative: bool = True) -> dict[str, Clicks]:
    """The clicks on each micrograph, by its name, of a JSON file:

        {"steel_03.tif": {"positive": [[y, x], ...], "negative": [[y, x], ...]}, ...}

    y and x are px from the upper left corner. Not every micrograph needs clicks of both sorts, but the file does.

    Raises:
        InputError: for a file that is not of this form, has no positive clicks, or no negative ones where they are
            needed.
    """
    path = Path(path)
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: give the JSON file of clicks") from None
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}): save the clicks again") from error
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise InputError(f'{path} holds no clicks: it must be {{"<file name>": {{"positive": [[y, x], ...]}}, ...}}')
    clicks = {}
    for name, entry in content.items():
        if unknown := set(entry) - set(SIDES):
            raise InputError(f"{path} has '{min(unknown)}' clicks on {name}: they are positive or negative")
        clicks[name] = Clicks(*(_points(entry.get(side, []), f"{path}: a {side} click on {name}") for side in SIDES))
    if not any(len(entry.positive) for entry in clicks.values()):
        raise InputError(f"{path} has no positive clicks: click at least once on what is sought")
    if need_negative and not any(len(entry.negative) for entry in clicks.values()):
        raise InputError(
            f"{path} has positive clicks only: click at least once on the background, "
            "or take weight=0 and a threshold other than clicks"
        )
    return clicks


def clicked_positions(clicks: Mapping[str, Clicks], names: Sequence[str], file: str | Path) -> dict[int, Clicks]:
    """The clicks by the position in `names` of their micrograph, which they name by its path or its file name.

    Raises:
        InputError: when it is none of these; `file` is where the clicks are from.
    """
    position = {Path(name).name: index for index, name in enumerate(names)}
    position |= {name: index for index, name in enumerate(names)}
    for name in clicks:
        if name not in position:
            known = f"{names[0]} … {names[-1]}" if len(names) > 1 else names[0]
            raise InputError(f"{file} names {name}, which is not among the micrographs: there is {known}")
    return {position[name]: points for name, points in clicks.items()}


def sample_points(mask: np.ndarray, count: int, margin: float, seed: int | Sequence[int]) -> Clicks:
    """Points as a careful person would click them: `count` well inside a mask `[H, W]`, `count` well outside it.

    Points keep more than `margin` px from the mask's boundary, which is an erosion and a dilation by a disc of that
    radius. Where nothing is left the margin is halved, at last to none. Fewer px than `count` give one point each; an
    empty mask has no positive points, a full one no negative ones. The first n points are those that count=n gives.
    """
    random = np.random.default_rng(seed)
    sides = []
    for side in (mask, ~mask):
        # A mask that fills the micrograph has no boundary to keep from.
        depth = ndimage.distance_transform_edt(side) if not side.all() else np.full(side.shape, np.inf)
        kept = margin
        while kept > 0 and not (depth > kept).any():
            kept = kept / 2 if kept > 0.5 else 0
        inside = np.flatnonzero(depth > kept)
        chosen = random.permutation(inside)[:count]
        sides.append(np.stack(np.unravel_index(chosen, mask.shape), axis=1).astype(np.float64))
    return Clicks(*sides)


def _points(points: object, where: str) -> np.ndarray:
    """Points `[P, 2]` of a list of pairs."""
    if not isinstance(points, list):
        raise InputError(f"{where} is {json.dumps(points)}: give a list of [y, x]")
    for point in points:
        numbers = isinstance(point, list) and len(point) == 2 and all(type(value) in (int, float) for value in point)
        # Compared, not converted, for a whole number may be too large for any float; NaN is not below anything.
        if not numbers or not all(abs(value) <= FARTHEST for value in point):
            raise InputError(f"{where} is {json.dumps(point)}: give [y, x] in px")
    return np.array(points, np.float64).reshape(-1, 2)
