"""The sides of a labelled set: what is fitted to, what choices are made on, and what is scored."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sempre.errors import InputError
from sempre.files import read_json

SIDES = ("train", "validation", "test")
WANTED = "it must be JSON with train and validation, or with train, validation and test, or rows name,side"


@dataclass(frozen=True)
class Sides:
    """Positions in a labelled set, sorted, each `[N]`.

    Weights are fitted to `training`, epochs and thresholds chosen on `choosing`, and `held_out` is scored, once, with
    what was chosen. A set of two sides has no `choosing`: choices are then made on a part of `training`.
    """

    training: np.ndarray
    choosing: np.ndarray
    held_out: np.ndarray


def make_sides(positions: Mapping[str, Iterable[int]]) -> Sides:
    """Sides from the positions of "train", "validation" and "test": validation is scored where there is no test."""
    train, validation, test = (np.array(sorted(positions.get(side, ())), dtype=int) for side in SIDES)
    return Sides(train, validation, test) if len(test) else Sides(train, test, validation)


def read_split_file(path: str | Path) -> dict[str, list[str]]:
    """The names of each side, of `SIDES`.

    JSON `{"train": [names], "validation": [names], "test": [names]}` without validation or test, or CSV rows
    `name,side`.

    Raises:
        InputError: for a file that is neither, or names another side.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".json":
            content = read_json(path)
            sides = {side: [str(name) for name in content[side]] for side in SIDES if side in content}
        else:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = [(name.strip(), side.strip()) for name, side in (row for row in csv.reader(file) if row)]
            if rows and rows[0][1] not in SIDES:
                rows = rows[1:]  # the columns' names
            sides = {
                side: [name for name, of_row in rows if of_row == side] for side in {*SIDES, *(s for _, s in rows)}
            }
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no split: {WANTED}") from error
    if "train" not in sides or len(sides) < 2:
        raise InputError(f"{path} is no split: {WANTED}")
    if other := sorted(set(sides) - set(SIDES)):
        raise InputError(f"{path} has the side '{other[0]}': sides are {', '.join(SIDES)}")
    if not any(sides.values()):
        raise InputError(f"{path} has no rows name,train or name,validation")
    return sides
