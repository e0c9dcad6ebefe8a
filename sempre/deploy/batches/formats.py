"""What can be written of each segmented micrograph, and the suffixes of its files."""

from pathlib import Path

from sempre.errors import InputError

SUFFIXES = {
    "tif": "_instances.tif",
    "png": "_instances.png",
    "csv": "_particles.csv",
    "overlay": "_overlay.png",
    "rois": "_rois.zip",
}
USUAL = ("tif", "csv", "overlay")
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
    """The files in `formats` whose path begins with `base`."""
    return [base.with_name(base.name + SUFFIXES[name]) for name in formats]
