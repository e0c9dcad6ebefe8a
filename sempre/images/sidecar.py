"""Pixel sizes from the text files that microscopes write beside their micrographs."""

import codecs
import os
import re
from pathlib import Path

from sempre.files import longest_name
from sempre.images.pixel_size import NUMBER, PixelSize, ini_pixel_size_nm, nm_per_unit, possible

LARGEST = 1 << 20  # bytes: a larger file is no sidecar


def sidecar_pixel_size_nm(path: Path, width: int) -> tuple[PixelSize, str] | None:
    """Pixel size of the micrograph at `path` by the file beside it, and that file's name.

    JEOL (`.txt`: how many px the micron bar takes and what it stands for), Hitachi (`.txt`, in nm), TESCAN (`.hdr`,
    in m) and SerialEM (`.mdoc`, in Å). One that was written for an image of another width is passed over: the
    micrograph was resized since.

    Args:
        path: of the micrograph.
        width: of the micrograph in px.
    """
    for sidecar in find_sidecars(path):
        text = _text(sidecar)
        if sidecar.suffix == ".hdr":
            size = ini_pixel_size_nm(text)
        else:
            side = _serialem(text, width) if sidecar.suffix == ".mdoc" else _jeol_or_hitachi(text, width)
            size = possible((side, side)) if side is not None else None
        if size is not None:
            return size, sidecar.name
    return None


def find_sidecars(path: Path) -> list[Path]:
    """The files beside the micrograph at `path` that may tell its pixel size, in the order they are asked."""
    names = (f"{path.stem}.txt", f"{path.stem}.TXT", f"{path.stem}.hdr", f"{path.stem}-{path.suffix[1:]}.hdr")
    sidecars = map(path.with_name, (*names, f"{path.name}.mdoc", f"{path.stem}.mdoc"))
    # The longest names leave no place for a suffix, and asking for such a file raises an error.
    sidecars = [sidecar for sidecar in sidecars if len(os.fsencode(sidecar.name)) <= longest_name(path.parent)]
    return [sidecar for sidecar in sidecars if sidecar.is_file() and sidecar.stat().st_size <= LARGEST]


def _text(path: Path) -> str:
    """A vendor's text: UTF-16 with its mark, UTF-8, or the 8 bits of an older Windows."""
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _jeol_or_hitachi(text: str, width: int) -> float | None:
    if "[SemImageFile]" in text or "[TemImageFile]" in text:
        size = _number(r"^PixelSize\s*=", text)
        return size if _is_as_wide(r"^DataSize\s*=\s*(\d+)", text, width) else None
    long = _number(r"^\$\$SM_MICRON_BAR\s", text)
    marker = re.search(rf"^\$\$SM_MICRON_MARKER\s+({NUMBER})\s*(\S+)", text, re.MULTILINE | re.IGNORECASE)
    if not long or marker is None or not _is_as_wide(r"^\$CM_FULL_SIZE\s+(\d+)", text, width):
        return None
    nm = nm_per_unit(marker[2])
    return float(marker[1].replace(",", ".")) * nm / long if nm else None


def _serialem(text: str, width: int) -> float | None:
    """Pixel size in nm of SerialEM's metadata, which give Å."""
    size = _number(r"^PixelSpacing\s*=", text)
    return size / 10 if size and _is_as_wide(r"^ImageSize\s*=\s*(\d+)", text, width) else None


def _number(name: str, text: str) -> float | None:
    found = re.search(rf"{name}\s*({NUMBER})", text, re.MULTILINE)
    return float(found[1].replace(",", ".")) if found else None


def _is_as_wide(name: str, text: str, width: int) -> bool:
    """Whether the sidecar's image is as wide as the micrograph, or it does not say."""
    found = re.search(name, text, re.MULTILINE)
    return found is None or int(found[1]) == width
