"""What can be written of each segmented micrograph, and the suffixes of its files."""

import hashlib
import os
from pathlib import Path

from sempre.errors import InputError
from sempre.files import LONGEST_NAME

SUFFIXES = {
    "tif": "_instances.tif",
    "png": "_instances.png",
    "csv": "_particles.csv",
    "overlay": "_overlay.png",
    "rois": "_rois.zip",
}
USUAL = ("tif", "csv", "overlay")
PAGES = "_pages.csv"  # no longer than the longest of the suffixes
SIZE_PLOT = "size_distribution.png"
PICTURES = (SUFFIXES["tif"], SUFFIXES["png"], SUFFIXES["overlay"], SIZE_PLOT)  # what could be taken for a micrograph


def parse_formats(text: str) -> tuple[str, ...]:
    """The formats of a list as in "tif,csv".

    Raises:
        InputError: for one that is unknown.
    """
    formats = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    for name in formats:
        if name not in SUFFIXES:
            raise InputError(f"--format {text} has the unknown '{name}': give some of {','.join(SUFFIXES)}")
    return formats


def result_paths(base: Path, formats: tuple[str, ...]) -> list[Path]:
    """The files in `formats` whose path begins with `base`, which is cut where a name would be too long for a file.

    What is cut is told apart by eight digits of the hash of the whole name.
    """
    name = base.name
    longest = LONGEST_NAME - max(map(len, SUFFIXES.values()))
    if len(os.fsencode(name)) > longest:
        digits = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
        while len(os.fsencode(name)) > longest - len(digits) - 1:
            name = name[:-1]
        name = f"{name}~{digits}"
    return [base.with_name(name + SUFFIXES[format]) for format in formats]


def pages_path(base: Path) -> Path:
    """The table over the pages of a file whose results' names begin with `base`; cut as in `result_paths`."""
    (table,) = result_paths(base, ("csv",))
    return table.with_name(table.name.removesuffix(SUFFIXES["csv"]) + PAGES)
