"""What gives a micrograph its label: its name, its folder or a table."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np

from sempre.errors import InputError
from sempre.ranges import OneOf

LabelRule = Callable[[str], str | None]  # from a path relative to the folder


RULES = ("none", "prefix", "folder", "csv")
RuleName = Annotated[str, OneOf(*RULES)]
RuleOrAuto = Annotated[str, OneOf("auto", *RULES)]


def label_rule(labels_from: str, labels_csv: str = "") -> LabelRule:
    """The rule called `none`, `prefix` (of the file's name, up to its first "_"), `folder` (its name) or `csv`.

    Args:
        labels_csv: file of rows file,label; files by their paths relative to the folder, or by their names.

    Raises:
        InputError: for an unknown rule, or a CSV file that cannot be read.
    """
    if labels_from == "none":
        return lambda path: None
    if labels_from == "prefix":
        return lambda path: Path(path).stem.split("_")[0] if "_" in Path(path).stem else None
    if labels_from == "folder":
        return lambda path: Path(path).parent.name or None
    if labels_from != "csv":
        raise InputError(f"labels_from={labels_from} is unknown: choose none, prefix, folder or csv")
    try:
        with Path(labels_csv).open(newline="", encoding="utf-8") as file:
            labels = {name.strip(): label.strip() for name, label in (row for row in csv.reader(file) if row)}
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"labels_csv={labels_csv} is no file of rows file,label: {error}") from error
    return lambda path: labels.get(path, labels.get(Path(path).name))


def as_codes(labels: Sequence[str | None]) -> tuple[np.ndarray, list[str]]:
    """Labels as positions `[N]` in the sorted names, -1 for none, and the names."""
    names = sorted({label for label in labels if label is not None})
    position = {name: code for code, name in enumerate(names)}
    return np.array([-1 if label is None else position[label] for label in labels], np.int32), names
