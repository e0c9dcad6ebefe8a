"""What is written of each segmented micrograph, and the suffixes of its files."""

from pathlib import Path

import numpy as np

from sempre.deploy.overlay import write_overlay
from sempre.deploy.particles import write_csv
from sempre.deploy.rois import write_rois
from sempre.deploy.segmenter import Segmentation
from sempre.errors import InputError
from sempre.images import write_label_png, write_labels

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


def write_results(base: Path, formats: tuple[str, ...], pixels: np.ndarray, segmentation: Segmentation) -> None:
    """Write a micrograph's results, each whole or absent, into the folder of `base`, which is made.

    Args:
        base: the path that their names begin with.
        pixels: the micrograph, `[H, W]` as the segmentation's labels.

    Raises:
        InputError: for a label image that a format cannot hold.
        OSError: for a file that cannot be written.
    """
    base.parent.mkdir(parents=True, exist_ok=True)
    labels, pixel_size_nm = segmentation.labels, segmentation.pixel_size_nm
    for name, path in zip(formats, result_paths(base, formats), strict=True):
        match name:
            case "tif":
                write_labels(path, labels)
            case "png":
                write_label_png(path, labels)
            case "csv":
                write_csv(path, segmentation.particles, pixel_size_nm)
            case "overlay":
                write_overlay(path, pixels, labels, pixel_size_nm)
            case "rois":
                write_rois(path, labels)
