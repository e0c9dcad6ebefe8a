"""Write what was found in a micrograph, in the formats that were asked for."""

from pathlib import Path

import numpy as np

from sempre.deploy.batches.formats import result_paths
from sempre.deploy.networks.segmenter import Segmentation
from sempre.deploy.results.overlay import write_overlay
from sempre.deploy.results.particles import write_csv
from sempre.deploy.results.rois import write_rois
from sempre.images import write_label_png, write_labels


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
    labels, pixel_size_nm = segmentation.labels, segmentation.pixel_size_nm  # along x, as a scale bar lies
    for name, path in zip(formats, result_paths(base, formats), strict=True):
        match name:
            case "tif":
                write_labels(path, labels)
            case "png":
                write_label_png(path, labels)
            case "csv":
                write_csv(path, segmentation.particles, segmentation.pixel_size)
            case "overlay":
                write_overlay(path, pixels, labels, pixel_size_nm)
            case "rois":
                write_rois(path, labels)
