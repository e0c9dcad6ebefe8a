"""Micrographs and label volumes as files that every microscopist's program opens."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tifffile

from sempre.files import ORIGIN, whole_or_absent
from sempre.images.pixel_size import as_pixel_size


def write_micrograph(
    path: str | Path, pixels: np.ndarray, pixel_size_nm: float | tuple[float, float] | None = None
) -> None:
    """Write a micrograph as a TIFF with ImageJ's metadata. Whole or absent.

    Pixels are uint8, uint16 or float32 `[H, W]`, or red, green and blue in uint8 `[H, W, 3]`. Their size is one number,
    or a pair, x and y.
    """
    scale, size = {}, as_pixel_size(pixel_size_nm)
    if size is not None:
        scale = {"resolution": (1 / size.x, 1 / size.y), "metadata": {"unit": "nm"}}
    if pixels.ndim == 3:
        scale["photometric"] = "rgb"
    with whole_or_absent(path) as partial:
        tifffile.imwrite(partial, pixels, imagej=True, **scale)


def write_channels(path: str | Path, channels: np.ndarray, pixel_size_nm: float | None = None) -> None:
    """Write channels uint8 or float32 `[C, H, W]` as a TIFF that ImageJ and napari open as such. Whole or absent."""
    resolution = None if pixel_size_nm is None else (1 / pixel_size_nm, 1 / pixel_size_nm)
    metadata = {"axes": "CYX"} | ({} if pixel_size_nm is None else {"unit": "nm"})
    with whole_or_absent(path) as partial:
        tifffile.imwrite(
            partial,
            channels,
            imagej=True,
            metadata=metadata,
            compression="zlib",
            software=ORIGIN,
            resolution=resolution,
        )


def write_label_volume(
    path: str | Path,
    slices: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    largest: int,
    pixel_size_nm: float | tuple[float, float] | None = None,
    slice_distance_nm: float | None = None,
) -> None:
    """Write a label volume `[Z, H, W]` of `shape` as a compressed OME-TIFF, slice by slice. Whole or absent.

    Args:
        slices: its label images `[H, W]`, from the first to the last; one is in memory at a time.
        largest: the highest id: uint16 holds up to 65,535, uint32 more.
    """
    dtype = np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32
    metadata = {"axes": "ZYX", "Creator": ORIGIN}
    x, y = as_pixel_size(pixel_size_nm) or (None, None)
    for axis, size in (("X", x), ("Y", y), ("Z", slice_distance_nm)):
        if size is not None:
            metadata |= {f"PhysicalSize{axis}": size / 1e3, f"PhysicalSize{axis}Unit": "µm"}
    pages = (labels.astype(dtype) for labels in slices)
    with whole_or_absent(path) as partial:
        tifffile.imwrite(
            partial,
            pages,
            shape=shape,
            dtype=dtype,
            ome=True,
            bigtiff=int(np.prod(shape, dtype=np.int64)) * dtype().itemsize > 1 << 31,
            photometric="minisblack",
            compression="zlib",
            metadata=metadata,
        )
