"""Pixel sizes along x and y, from the places where microscopes write them."""

import html
import math
import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple, cast

import numpy as np
import tifffile

from sempre.errors import InputError

SQUARE = 0.01  # sides of a pixel that differ by a smaller share are equal


class PixelSize(NamedTuple):
    """nm per px along x, the width of a pixel, and along y, its height."""

    x: float
    y: float

    @property
    def is_square(self) -> bool:
        """Whether the two differ by 1 % at most."""
        return abs(self.y - self.x) <= SQUARE * min(self.x, self.y)

    @property
    def mean(self) -> float:
        """The side in nm of a square of a pixel's area."""
        return self.x if self.is_square else math.sqrt(self.x * self.y)


def as_pixel_size(size: float | tuple[float, float] | None) -> PixelSize | None:
    """A pixel size given as one number of nm, or as a pair: x (width of a pixel) first, then y (its height).

    Sides that differ by 1 % at most are both the first.

    Raises:
        InputError: for numbers that are not above 0 and finite.
    """
    if size is None:
        return None
    sides: Any = size if hasattr(size, "__len__") else (size, size)
    if len(sides) != 2 or not all(0 < side < math.inf for side in sides):
        raise InputError(f"{size} is no pixel size: give nm per pixel, above 0, or a pair of them, x and y")
    both = PixelSize(float(sides[0]), float(sides[1]))
    return PixelSize(both.x, both.x) if both.is_square else both


TESCAN = 50431  # TIFF tags that no library names yet
PHENOM = 34683
FEI, ZEISS, OLYMPUS = (34680, 34682), 34118, 33560  # that tifffile reads as dictionaries
GATAN_UNITS, GATAN_SIZES = (65003, 65004), (65009, 65010)  # of x and y, as DigitalMicrograph exports them
LARGEST = 1e5  # nm per px: a larger pixel is that of a print or a screen, not of an electron micrograph
# Dots per inch that programs write into pictures when nobody calibrated them.
PRINT_DPI = (72, 75, 90, 96, 100, 120, 144, 150, 180, 200, 220, 240, 250, 300, 350, 360, 400, 450, 480, 500, 600, 720)
PRINT_DPI += (800, 900, 1000, 1200, 1440, 2400, 3600, 4800)
SAME_DPI = 0.001  # share by which a resolution in dpi may differ from a round one: cm are written with few digits
FINEST_PRINT = 5e3  # nm per px: no printer is finer, and no micrograph of larger pixels is calibrated in inches or cm
INCH = 2.54e7  # nm
CALIBRATING = re.compile(r"\bSerialEM\b|\bIMOD\b")  # programs that write true sizes as a TIFF's resolution in cm

NUMBER = r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?"
PREFIXES = {"": 1e9, "deci": 1e8, "centi": 1e7, "milli": 1e6, "micro": 1e3, "mikro": 1e3, "nano": 1.0, "pico": 1e-3}
SYMBOLS = {"m": 1e9, "dm": 1e8, "cm": 1e7, "mm": 1e6, "um": 1e3, "μm": 1e3, "μ": 1e3, "nm": 1.0, "pm": 1e-3, "a": 0.1}
SYMBOLS |= {"?m": 1e3, "\ufffdm": 1e3, "in": INCH, '"': INCH}  # the first two are a µm whose µ was lost
NAMES = {"micron": 1e3, "mikron": 1e3, "ang": 0.1, "angstrom": 0.1, "angstroem": 0.1, "inch": INCH, "inche": INCH}
NM = SYMBOLS | NAMES | {prefix + metre: nm for prefix, nm in PREFIXES.items() for metre in ("meter", "metre", "metro")}
# The µ of Japanese, Chinese and DOS text, read as Western text of 8 bits.
MISREAD_MICRO = {"\x83\xca": "μ", "ƒÊ": "μ", "¦Ì": "μ", "æm": "μm"}


def nm_per_unit(unit: object) -> float | None:
    """How many nm a unit of length is, as programs spell it; None for what is no unit of length.

    A µ may be either of Unicode's two, `u`, an escape (`\\u00B5`), an entity of XML, or UTF-8 read as 8 bits (`Âµ`).
    """
    text = str(unit).strip()
    if len(text) > 64:
        return None
    for _ in range(2):  # an entity may be escaped once more
        text = html.unescape(text)
    text = re.sub(r"\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))", lambda code: chr(int(code[1] or code[2], 16)), text)
    for _ in range(2):
        text = _utf8_read_as_8_bits(text)
    for misread, meant in MISREAD_MICRO.items():
        text = text.replace(misread, meant)
    letters = unicodedata.normalize("NFKD", text)
    text = "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()
    text = re.sub(r"\s*(?:/|per)\s*(?:px|pix|pixels?)$", "", text)
    text = re.sub(r"[\s_\[\](){}.\0]", "", text)
    text = re.sub("^[uμ](?=met)", "micro", text)
    return NM.get(text.removesuffix("s") if len(text) > len("ms") else text)  # "ms" is a time


def _utf8_read_as_8_bits(text: str) -> str:
    for codec in ("cp1252", "latin-1"):
        with suppress(UnicodeError):
            return text.encode(codec).decode("utf-8")
    return text


def length_nm(text: object) -> float | None:
    """The length in nm of a number and its unit, as in "2.5 nm", "0,01µm" or "3.2 Å"; None for anything else."""
    found = re.fullmatch(rf"\s*({NUMBER})\s*(\D.*)", str(text))
    nm = nm_per_unit(found[2]) if found else None
    if not found or not nm or re.fullmatch(r"[1-9]\d*,\d{3}", found[1]):  # which may be thousands
        return None
    return float(found[1].replace(",", ".")) * nm


def tiff_pixel_size_nm(file: tifffile.TiffFile, page: tifffile.TiffPage | None = None) -> PixelSize | None:
    """Pixel size of a TIFF by FEI, Zeiss, TESCAN, Phenom, Gatan, Olympus, OME, ImageJ or SerialEM metadata.

    The resolution of a print says nothing.

    Args:
        page: the page that is read, the first by default. What stands on the first page holds for another one only
            where both have the same width and height: of a thumbnail it would be the thumbnail's.
    """
    first = cast(tifffile.TiffPage, file.pages.first)
    page = page or first
    size = _page_size_nm(file, page)
    if size is None and page is not first and _shape(page) == _shape(first):
        size = _page_size_nm(file, first)
    return size


def _page_size_nm(file: tifffile.TiffFile, page: tifffile.TiffPage) -> PixelSize | None:
    for find in (_fei, _zeiss, _tescan, _phenom, _gatan, _olympus):
        size = possible(find(page))
        if size is not None:
            return size
    for size in (possible(_ome(file, page)), possible(_imagej(file, page)), possible(_calibrated_cm(page))):
        if size is not None and not is_print_resolution(size):
            return size
    return None


def _shape(page: tifffile.TiffPage) -> tuple[int, int]:
    return page.imagewidth, page.imagelength


def _tag_values(page: tifffile.TiffPage, *codes: int) -> dict:
    """What the tags of a page hold together, where they are those that tifffile reads as dictionaries."""
    values = [tag.value for code in codes if (tag := page.tags.get(code)) is not None]
    return {name: value for each in values if isinstance(each, dict) for name, value in each.items()}


def possible(size: tuple[float, float] | None) -> PixelSize | None:
    """A size that a pixel of an electron micrograph may have; None for one above 0.1 mm, 0, or no number."""
    if size is None or not all(math.isfinite(side) and 0 < side < LARGEST * (1 - SAME_DPI) for side in size):
        return None
    return as_pixel_size(size)


def is_print_resolution(size: PixelSize) -> bool:
    """Whether a pixel size is that of a usual number of dots per inch, as programs turn it into a length."""
    return any(abs(INCH / size.x / dpi - 1) < SAME_DPI for dpi in PRINT_DPI)


def tiff_pixel_aspect(page: tifffile.TiffPage) -> float:
    """Height over width of a pixel by the resolution of a TIFF's page, in any unit; 1 where the file does not say."""
    x, y = _resolution(page)
    return x / y if x and y else 1.0


def picture_pixel_aspect(information: Mapping) -> float:
    """Height over width of a pixel by what Pillow tells of a PNG, a JPEG or a BMP; 1 where the file does not say."""
    for name in ("dpi", "aspect", "jfif_density"):
        with suppress(TypeError, ValueError, ZeroDivisionError, OverflowError):
            x, y = map(float, information[name]) if name in information else (0.0, 0.0)
            if x > 0 and y > 0 and math.isfinite(x / y):
                return x / y
    return 1.0


def ims_pixel_size_nm(information: Mapping, height: int, width: int) -> PixelSize | None:
    """Pixel size of an Imaris file: its extents along x and y over its width and height (px)."""
    x, y = _ims_extent_nm(information, 0, width), _ims_extent_nm(information, 1, height)
    return possible((x, y or x)) if x is not None else None


def ims_slice_distance_nm(information: Mapping, slices: int) -> float | None:
    """Distance in nm of an Imaris file's slices: its extent along z over their number."""
    return _ims_extent_nm(information, 2, slices)


def axes_pixel_size_nm(x: Mapping, y: Mapping) -> PixelSize | None:
    """Pixel size by the `scale` and `units` of RosettaSciIO's axes; None where one of the units is no length."""
    sides = []
    for axis in (x, y):
        nm = nm_per_unit(axis.get("units") or "")
        sides.append(abs(float(axis["scale"])) * nm if nm else math.nan)
    return possible((sides[0], sides[1]))


def tiff_slice_distance_nm(file: tifffile.TiffFile) -> float | None:
    """Distance in nm of the slices of an OME-TIFF or ImageJ's stack."""
    for find in (_ome_z, _imagej_z):
        distance = find(file)
        if distance is not None and np.isfinite(distance) and distance > 0:
            return distance
    return None


def ini_pixel_size_nm(text: str) -> PixelSize | None:
    """Pixel size of TESCAN's lines of names and values, in the tag of a TIFF or in the `.hdr` beside an image."""
    x, y = (_named_number(text, f"PixelSize{axis}") for axis in "XY")
    return _in_units(x, y, NM["m"])


def phenom_pixel_size_nm(text: str) -> PixelSize | None:
    """Pixel size of Phenom's XML, in the tag of a TIFF or behind the picture in a JPEG."""
    x, y = (_phenom_length_nm(text, name) for name in ("pixelWidth", "pixelHeight"))
    return _in_units(x, y, 1.0)


def _phenom_length_nm(text: str, name: str) -> float | None:
    found = re.search(rf"<{name}(?:\s+unit\s*=\s*[\"']([^\"']*)[\"'])?\s*>\s*({NUMBER})\s*</{name}>", text)
    if not found:
        return None
    nm = nm_per_unit(found[1] or "m")
    return float(found[2].replace(",", ".")) * nm if nm else math.nan


def _named_number(text: str, name: str) -> float | None:
    found = re.search(rf"^\s*{name}\s*=\s*({NUMBER})", text, re.MULTILINE)
    return float(found[1].replace(",", ".")) if found else None


def _in_units(x: float | None, y: float | None, nm: float) -> PixelSize | None:
    """The size of x and y units of `nm` nm; y is x where a file states x alone."""
    return possible((x * nm, (x if y is None else y) * nm)) if x is not None else None


def _fei(page: tifffile.TiffPage) -> PixelSize | None:
    metadata = _tag_values(page, *FEI)
    for section in ("Scan", "EScan", "IScan", "EBeam"):
        values = metadata.get(section)
        if not isinstance(values, dict):
            continue
        x, y = values.get("PixelWidth"), values.get("PixelHeight")
        if isinstance(x, int | float):
            return _in_units(x, y if isinstance(y, int | float) and y > 0 else None, NM["m"])
    return None


def _zeiss(page: tifffile.TiffPage) -> PixelSize | None:
    metadata = _tag_values(page, ZEISS)
    for name in ("ap_image_pixel_size", "ap_pixel_size"):
        _, *value = metadata.get(name) or ("",)
        nm = length_nm(" ".join(map(str, value)))
        if nm:
            return possible((nm, nm))
    unnamed = metadata.get("") or ()  # the fourth line of the tag is the size in m
    if len(unnamed) > 3 and isinstance(unnamed[3], int | float):
        return _in_units(float(unnamed[3]), None, NM["m"])
    return None


def _tescan(page: tifffile.TiffPage) -> PixelSize | None:
    return ini_pixel_size_nm(_tag_text(page, TESCAN))


def _phenom(page: tifffile.TiffPage) -> PixelSize | None:
    return phenom_pixel_size_nm(_tag_text(page, PHENOM))


def _gatan(page: tifffile.TiffPage) -> PixelSize | None:
    x, y = (_gatan_side_nm(page, *tags) for tags in zip(GATAN_UNITS, GATAN_SIZES, strict=True))
    return _in_units(x, y, 1.0)


def _gatan_side_nm(page: tifffile.TiffPage, unit: int, size: int) -> float | None:
    nm, tag = nm_per_unit(_tag_text(page, unit).strip()), page.tags.get(size)
    return float(tag.value) * nm if nm and tag is not None and isinstance(tag.value, int | float) else None


def _olympus(page: tifffile.TiffPage) -> PixelSize | None:
    metadata = _tag_values(page, OLYMPUS)
    x, y = metadata.get("pixelsizex"), metadata.get("pixelsizey")
    return _in_units(float(x), float(y) if y else None, NM["m"]) if x else None


def _tag_text(page: tifffile.TiffPage, code: int) -> str:
    """A tag's text, "" where there is none. TESCAN's begins with a picture, so that its lines follow other bytes."""
    tag = page.tags.get(code)
    value = tag.value if tag is not None else ""
    text = value.decode("latin-1") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    return re.sub(r"[\r\0]+", "\n", text)


def _ims_extent_nm(information: Mapping, axis: int, steps: int) -> float | None:
    """Length in nm of one of `steps` steps along an axis, of which 0 is x, 1 is y and 2 is z."""
    try:
        low, high = (float(_ims_text(information, f"{name}{axis}")) for name in ("ExtMin", "ExtMax"))
        nm = nm_per_unit(_ims_text(information, "Unit")) if "Unit" in information else NM["um"]
    except (KeyError, ValueError, TypeError):
        return None
    return (high - low) / steps * nm if high > low and nm else None


def _ims_text(information: Mapping, name: str) -> str:
    """An attribute of an Imaris file, whose letters are stored one by one."""
    return b"".join(np.asarray(information[name]).ravel().tolist()).decode("latin-1")


def _ome_attributes(file: tifffile.TiffFile, page: tifffile.TiffPage) -> dict[str, str]:
    """Of the `Pixels` of an OME-TIFF's page: PhysicalSizeX, PhysicalSizeXUnit and others; none elsewhere."""
    own_text = page.description if "<OME" in page.description[:2000] or ":OME" in page.description[:2000] else ""
    text = file.ome_metadata or own_text
    if not text:
        return {}
    from sempre.images.ome_xml import ome_pixels  # here, for few TIFFs are OME-TIFF

    images = ome_pixels(text)
    shape = tuple(map(str, _shape(page)))
    own = [image for image in images if (image.get("SizeX"), image.get("SizeY")) == shape]
    return next(iter(own or images), {})


def _ome_length_nm(attributes: Mapping[str, str], axis: str) -> float | None:
    """Size of a pixel along an axis; None where it is not stated, nan where that cannot be understood."""
    size = attributes.get(f"PhysicalSize{axis}")
    if size is None:
        return None
    nm = nm_per_unit(attributes.get(f"PhysicalSize{axis}Unit", "µm"))  # OME's default unit
    try:
        return float(size) * nm if nm else math.nan
    except ValueError:
        return math.nan


def _ome(file: tifffile.TiffFile, page: tifffile.TiffPage) -> PixelSize | None:
    attributes = _ome_attributes(file, page)
    x, y = (_ome_length_nm(attributes, axis) for axis in "XY")
    return _in_units(y if x is None else x, y, 1.0)


def _ome_z(file: tifffile.TiffFile) -> float | None:
    return _ome_length_nm(_ome_attributes(file, cast(tifffile.TiffPage, file.pages.first)), "Z")


def _imagej(file: tifffile.TiffFile, page: tifffile.TiffPage) -> PixelSize | None:
    metadata = file.imagej_metadata or {} if page is file.pages.first else {}
    if not metadata and page.description.startswith("ImageJ="):
        metadata = tifffile.tifffile.imagej_description_metadata(page.description)
    nm = nm_per_unit(metadata.get("unit", ""))
    nm_y = nm_per_unit(metadata["yunit"]) if "yunit" in metadata else nm
    x, y = _resolution(page)
    if not nm or not nm_y or not x:
        return None
    size = possible((nm / x, nm_y / (y or x)))
    # ImageJ takes a resolution in inches or cm that it finds in a picture for its calibration.
    return None if nm in (INCH, NM["cm"]) and size is not None and size.x >= FINEST_PRINT else size


def _imagej_z(file: tifffile.TiffFile) -> float | None:
    metadata = file.imagej_metadata or {}
    nm = nm_per_unit(metadata.get("zunit", metadata.get("unit", "")))
    try:
        return float(metadata["spacing"]) * nm if nm and "spacing" in metadata else None
    except (TypeError, ValueError):
        return None


def _calibrated_cm(page: tifffile.TiffPage) -> PixelSize | None:
    """The size by a resolution in cm, where a program has written it that calibrates."""
    unit = page.tags.get("ResolutionUnit")
    if unit is None or unit.value != 3 or not CALIBRATING.search(f"{page.software} {page.description}"):
        return None
    x, y = _resolution(page)
    return _in_units(1 / x, 1 / y if y else None, NM["cm"]) if x else None


def _resolution(page: tifffile.TiffPage) -> tuple[float, float]:
    """Pixels per unit along x and y by a TIFF's tags; 0 where there is none."""
    numbers = []
    for name in ("XResolution", "YResolution"):
        tag = page.tags.get(name)
        value = tag.value if tag is not None else 0
        with suppress(TypeError, ValueError, ZeroDivisionError, IndexError):
            value = value[0] / value[1] if isinstance(value, tuple) else float(value)
        numbers.append(value if isinstance(value, float) and 0 < value < math.inf else 0.0)
    return numbers[0], numbers[1]
