"""Micrographs as files that every microscopist's program opens."""

from pathlib import Path

import numpy as np
import tifffile

from sempre.files import whole_or_absent


def write_micrograph(path: str | Path, pixels: np.ndarray, pixel_size_nm: float | None = None) -> None:
    """Write pixels uint8, uint16 or float32 `[H, W]` as a TIFF with ImageJ's metadata. Whole or absent."""
    scale = {}
    if pixel_size_nm is not None:
        scale = {"resolution": (1 / pixel_size_nm, 1 / pixel_size_nm), "metadata": {"unit": "nm"}}
    with whole_or_absent(path) as partial:
        tifffile.imwrite(partial, pixels, imagej=True, **scale)
