"""Groups of micrographs that are scored apart, and the rule that gives a micrograph its label."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np

from sempre.data.splits import sample_of
from sempre.errors import InputError
from sempre.images import read_micrograph
from sempre.ranges import OneOf

LOW_FIELD_UM = 50.0  # a wider field of view is of low magnification, as Rettenberger et al. (2024, 2025) divide them
UNKNOWN = "unknown"


def read_groups(by: str, images: Mapping[str, Path]) -> dict[str, str]:
    """The group of each micrograph, by its name.

    Args:
        by: "magnification" ("low" where the field of view is wider than 50 um, else "high"; "unknown" where the file
            does not say its pixel size), "folder" (the name of the folder that the micrograph lies in), or a CSV file
            whose first column holds stems or file names and whose second the groups; `FILE.csv:COLUMN` takes the
            column of that heading. A row may name a sample (`sempre.data.splits`), as a volume is of its
            slices, and then stands for those of its micrographs that have no row of their own. "" makes no groups.
        images: the micrographs' paths by name. "magnification" reads them all.

    Raises:
        InputError: for a table that is missing, cannot be read, or lacks one of the micrographs or the column.
    """
    if not by:
        return {}
    if by == "folder":
        return {name: image.parent.name for name, image in images.items()}
    if by == "magnification":
        return {name: _magnification(image) for name, image in images.items()}
    table = _read_table(by)
    groups = {
        name: table.get(name) or table.get(image.name) or table.get(sample_of(name), "")
        for name, image in images.items()
    }
    if lacking := [name for name, group in groups.items() if not group]:
        raise InputError(f"{by} has no group for {lacking[0]}: add a row {lacking[0]},GROUP")
    return groups


def _magnification(image: Path) -> str:
    micrograph = read_micrograph(image)
    if micrograph.pixel_size_nm is None:
        return UNKNOWN
    return "low" if micrograph.pixels.shape[1] * micrograph.pixel_size_nm / 1000 > LOW_FIELD_UM else "high"


def _read_table(by: str) -> dict[str, str]:
    path, column = (f"{by.rpartition('.csv:')[0]}.csv", by.rpartition(".csv:")[2]) if ".csv:" in by else (by, "")
    if not Path(path).is_file():
        raise InputError(f"groups={by} is no table: choose magnification, folder, or a CSV file of rows name,group")
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
        position = rows[0].index(column) if column else 1
        return {row[0]: row[position] for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error, IndexError, ValueError) as error:
        named = f"a column '{column}'" if column else "two columns"
        raise InputError(f"{path} is no table of groups: every row must have a name and {named}") from error


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
