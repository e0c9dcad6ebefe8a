"""When the pages of a time series were recorded, where a TIFF says so."""

import math
from datetime import datetime
from pathlib import Path

import numpy as np
import tifffile

from sempre.errors import InputError
from sempre.images.ome_xml import ome_elements
from sempre.images.read import TIFF_SUFFIXES, one_error
from sempre.images.tiff import TiffPicture, tiff_pictures

SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "µs": 1e-6, "μs": 1e-6, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
DATE = "%Y:%m:%d %H:%M:%S"  # of TIFF's tag DateTime


def page_times(path: str | Path) -> list[float | None]:
    """Seconds since the first page of each page that `read_micrograph` takes; None where the file does not say.

    Read of an OME-TIFF (`DeltaT` of its planes, else its `TimeIncrement`), of ImageJ (`finterval`), and of other TIFFs
    by the tag `DateTime` of each page. Other formats, and files that cannot be read, give an empty list.
    """
    path = Path(path)
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return []
    try:
        with one_error(path), tifffile.TiffFile(path) as file:
            pictures, _ = tiff_pictures(path, file)
            return next((times for times in _readings(file, pictures) if times is not None), [None] * len(pictures))
    except InputError:
        return []


def _readings(file: tifffile.TiffFile, pictures: list[TiffPicture]):
    # Each reading is tried only if those before it gave nothing.
    yield _by_ome(file, len(pictures))
    yield _by_imagej(file, len(pictures))
    yield _by_dates(pictures)


def _by_ome(file: tifffile.TiffFile, pages: int) -> list[float | None] | None:
    elements = ome_elements(file.ome_metadata or "", ("Pixels", "Plane"))
    images = [attributes for name, attributes in elements if name == "Pixels"]
    if len(images) != 1:  # several images in one file have no common clock
        return None
    pixels = images[0]
    lengths = [_whole(pixels.get(f"Size{axis}", "")) for axis in "ZCT"]
    if math.prod(lengths) != pages:
        return None
    # OME names the fastest axis first, as in XYZCT.
    order = [axis for axis in pixels.get("DimensionOrder", "XYZCT") if axis in "ZCT"]
    if sorted(order) != sorted("ZCT"):
        return None
    sizes = dict(zip("ZCT", lengths, strict=True))
    places = np.indices([sizes[axis] for axis in order[::-1]]).reshape(3, -1)[::-1].T
    positions = [dict(zip(order, map(int, place), strict=True)) for place in places]
    planes = {
        tuple(_whole(plane.get(f"The{axis}", ""), -1) for axis in "ZCT"): _seconds(plane, "DeltaT")
        for name, plane in elements
        if name == "Plane"
    }
    times = [planes.get(tuple(position[axis] for axis in "ZCT")) for position in positions]
    if any(time is not None for time in times):
        return _since_the_first(times)
    step = _seconds(pixels, "TimeIncrement")
    return None if step is None or sizes["T"] < 2 else [position["T"] * step for position in positions]


def _by_imagej(file: tifffile.TiffFile, pages: int) -> list[float | None] | None:
    metadata = file.imagej_metadata or {}
    frames, step = _whole(str(metadata.get("frames", 1))), metadata.get("finterval")
    if not isinstance(step, int | float) or not 0 < step < math.inf or frames < 2 or pages % frames:
        return None
    step *= SECONDS.get(str(metadata.get("tunit", "s")).strip().lower(), math.nan)
    return None if math.isnan(step) else [page // (pages // frames) * step for page in range(pages)]


def _by_dates(pictures: list[TiffPicture]) -> list[float | None] | None:
    dates: list[datetime | None] = []
    for picture in pictures:
        text = str(picture.page.tags.valueof("DateTime", "")).strip("\0 ")
        try:
            dates.append(datetime.strptime(text, DATE))
        except ValueError:
            dates.append(None)
    known = [date for date in dates if date is not None]
    if len(set(known)) < 2:  # the date of the file, not of its pages
        return None
    return _since_the_first([None if date is None else (date - known[0]).total_seconds() for date in dates])


def _since_the_first(times: list[float | None]) -> list[float | None]:
    first = next(time for time in times if time is not None)
    return [None if time is None else time - first for time in times]


def _whole(text: str, otherwise: int = 0) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else otherwise


def _seconds(attributes: dict[str, str], name: str) -> float | None:
    unit = SECONDS.get(attributes.get(f"{name}Unit", "s").strip())  # OME's default unit
    try:
        value = float(attributes[name])
    except (KeyError, ValueError):
        return None
    return value * unit if unit and math.isfinite(value) else None
