"""Micrographs as files that every microscopist's program opens."""

from pathlib import Path

import numpy as np
import tifffile

from sempre.files import ORIGIN, whole_or_absent


def write_micrograph(path: str | Path, pixels: np.ndarray, pixel_size_nm: float | None = None) -> None:
    """Write a micrograph as a TIFF with ImageJ's metadata. Whole or absent.

    Pixels are uint8, uint16 or float32 `[H, W]`, or red, green and blue in uint8 `[H, W, 3]`.
    """
    scale = {}
    if pixel_size_nm is not None:
        scale = {"resolution": (1 / pixel_size_nm, 1 / pixel_size_nm), "metadata": {"unit": "nm"}}
    if pixels.ndim == 3:
        scale["photometric"] = "rgb"
    with whole_or_absent(path) as partial:
        tifffile.imwrite(partial, pixels, imagej=True, **scale)


def write_channels(path: str | Path, channels: np.ndarray, pixel_size_nm: float | None = None) -> None:
    """Write channels uint8 or float32 `[C, H, W]` as a TIFF that ImageJ and napari open as such. Whole or absent."""
    scale = {} if pixel_size_nm is None else {"resolution": (1 / pixel_size_nm, 1 / pixel_size_nm)}
    metadata = {"axes": "CYX"} | ({} if pixel_size_nm is None else {"unit": "nm"})
    with whole_or_absent(path) as partial:
        tifffile.imwrite(
            partial, channels, imagej=True, metadata=metadata, compression="zlib", software=ORIGIN, **scale
        )
