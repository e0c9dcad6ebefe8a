"""Pixel sizes from the places where microscopes write them."""

import re
from collections.abc import Mapping

import numpy as np
import tifffile

TESCAN = 50431  # TIFF tags that no library names yet
PHENOM = 34683
NM = {"m": 1e9, "cm": 1e7, "mm": 1e6, "um": 1e3, "µm": 1e3, "μm": 1e3, "micron": 1e3, "nm": 1.0, "pm": 1e-3, "Å": 0.1}


def tiff_pixel_size_nm(file: tifffile.TiffFile) -> float | None:
    """Pixel size in nm of a TIFF by FEI, Zeiss, TESCAN, Phenom, OME or ImageJ metadata; plain DPI says nothing."""
    for find in (_fei, _zeiss, _tescan, _phenom, _ome, _imagej):
        size = find(file)
        if size is not None and np.isfinite(size) and size > 0:
            return size
    return None


def ims_pixel_size_nm(information: Mapping, width: int) -> float | None:
    """Pixel size in nm of an Imaris file: its extent along x (µm) over its width (px)."""
    return _ims_extent_nm(information, 0, width)


def ims_slice_distance_nm(information: Mapping, slices: int) -> float | None:
    """Distance in nm of an Imaris file's slices: its extent along z (µm) over their number."""
    return _ims_extent_nm(information, 2, slices)


def tiff_slice_distance_nm(file: tifffile.TiffFile) -> float | None:
    """Distance in nm of the slices of an OME-TIFF or ImageJ's stack."""
    for find in (_ome_z, _imagej_z):
        distance = find(file)
        if distance is not None and np.isfinite(distance) and distance > 0:
            return distance
    return None


def ini_pixel_size_nm(text: str) -> float | None:
    """Pixel size in nm of TESCAN's lines of names and values, in the tag of a TIFF or in the `.hdr` beside an image."""
    found = re.search(r"^PixelSizeX\s*=\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)", text, re.MULTILINE)
    return float(found[1]) * NM["m"] if found else None


def phenom_pixel_size_nm(text: str) -> float | None:
    """Pixel size in nm of Phenom's XML, in the tag of a TIFF or behind the picture in a JPEG."""
    found = re.search(r'<pixelWidth(?:\s+unit="([^"]*)")?>\s*([\d.eE+-]+)\s*</pixelWidth>', text)
    if not found:
        return None
    factor = NM.get(found[1] or "m")
    try:
        return float(found[2]) * factor if factor else None
    except ValueError:
        return None


def _fei(file: tifffile.TiffFile) -> float | None:
    metadata = file.fei_metadata or {}
    for section in ("Scan", "EScan", "IScan", "EBeam"):
        width = metadata.get(section, {}).get("PixelWidth") if isinstance(metadata.get(section), dict) else None
        if isinstance(width, int | float):
            return width * NM["m"]
    return None


def _zeiss(file: tifffile.TiffFile) -> float | None:
    value = (file.sem_metadata or {}).get("ap_image_pixel_size") or (file.sem_metadata or {}).get("ap_pixel_size")
    if value is None or len(value) < 3:
        return None
    return float(value[1]) * NM[value[2]] if value[2] in NM else None


def _tescan(file: tifffile.TiffFile) -> float | None:
    return ini_pixel_size_nm(_tag_text(file, TESCAN))


def _phenom(file: tifffile.TiffFile) -> float | None:
    return phenom_pixel_size_nm(_tag_text(file, PHENOM))


def _tag_text(file: tifffile.TiffFile, code: int) -> str:
    """A tag's text, "" where there is none. TESCAN's begins with a picture, so that its lines follow other bytes."""
    tag = file.pages.first.tags.get(code)
    value = tag.value if tag is not None else ""
    text = value if isinstance(value, str) else bytes(value).decode("latin-1")
    return re.sub(r"[\r\0]+", "\n", text)


def _ims_extent_nm(information: Mapping, axis: int, steps: int) -> float | None:
    """Length in nm of one of `steps` steps along an axis, of which 0 is x and 2 is z."""
    try:
        low, high = (
            float(b"".join(np.asarray(information[f"{name}{axis}"]).ravel().tolist())) for name in ("ExtMin", "ExtMax")
        )
    except (KeyError, ValueError):
        return None
    return (high - low) / steps * 1e3 if high > low else None


def _ome(file: tifffile.TiffFile, axis: str = "X") -> float | None:
    text = file.ome_metadata or ""
    found = re.search(rf'PhysicalSize{axis}="([^"]+)"', text)
    if not found:
        return None
    unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', text)
    factor = NM.get(unit.group(1) if unit else "µm")  # OME's default unit
    return float(found.group(1)) * factor if factor else None


def _ome_z(file: tifffile.TiffFile) -> float | None:
    return _ome(file, "Z")


def _imagej(file: tifffile.TiffFile) -> float | None:
    unit = (file.imagej_metadata or {}).get("unit", "").replace("\\u00B5", "µ")
    resolution = file.pages.first.tags.get("XResolution")
    if unit not in NM or resolution is None or not resolution.value[0]:
        return None
    return resolution.value[1] / resolution.value[0] * NM[unit]


def _imagej_z(file: tifffile.TiffFile) -> float | None:
    metadata = file.imagej_metadata or {}
    factor = NM.get(str(metadata.get("unit", "")).replace("\\u00B5", "µ"))
    return float(metadata["spacing"]) * factor if factor and "spacing" in metadata else None
