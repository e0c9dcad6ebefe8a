"""MRC files by their header: byte order, signed or unsigned bytes and 4-bit pixels, as MRC2014 and IMOD define them.

RosettaSciIO takes signed bytes for unsigned ones and every file for little-endian; mrcfile knows no IMOD flags.
Formats: https://www.ccpem.ac.uk/mrc-format/mrc2014/ and https://bio3d.colorado.edu/imod/doc/mrc_format.txt.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sempre.errors import InputError
from sempre.images.pixel_size import NM, PixelSize, possible
from sempre.images.stacks import Stack

HEADER = 1024  # bytes
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", 16: "u1", 101: "u1"}
COMPLEX = (3, 4)
COLOUR, FOUR_BITS = 16, 101
IMOD, IMOD_SIGNED, IMOD_FOUR_BITS = 1146047817, 1, 16  # IMOD's stamp, and bits of its flags
ORDERS = {b"\x44\x44": "<", b"\x44\x41": "<", b"\x11\x11": ">"}  # the machine stamp
MOST = 1 << 20  # px of a side, by which the byte order of a file without a stamp is told


@dataclass(frozen=True)
class MrcHeader:
    """Sizes in px, the mode by MRC2014, the type of the stored numbers, where they begin, the size of a pixel, and the
    distance of two sections, None where the header is silent."""

    columns: int
    rows: int
    sections: int
    mode: int
    dtype: np.dtype
    begins: int
    pixel_size: PixelSize | None
    section_distance_nm: float | None = None

    @property
    def row_bytes(self) -> int:
        if self.mode == FOUR_BITS:
            return (self.columns + 1) // 2
        return self.columns * self.dtype.itemsize * (3 if self.mode == COLOUR else 1)


def read_mrc_header(path: Path) -> MrcHeader:
    """The header of an MRC file.

    Raises:
        InputError: for one that is cut off, claims more than the file holds, or holds what is no micrograph.
    """
    with path.open("rb") as file:
        header = file.read(HEADER)
    if len(header) < HEADER:
        raise InputError(f"{path} is truncated: it ends within its header")
    order = _byte_order(path, header)
    columns, rows, sections, mode = struct.unpack_from(f"{order}4i", header)
    if mode in COMPLEX:
        raise InputError(
            f"{path} holds complex numbers (mode {mode}), which are no micrograph: export the image or its amplitude"
        )
    if mode not in MODES:
        raise InputError(f"{path} has the mode {mode}, which is unknown: known are {', '.join(map(str, MODES))}")
    if min(columns, rows, sections) < 1:
        raise InputError(f"{path} is damaged: its header claims {columns}x{rows}x{sections} px, copy it again")
    (extended,) = struct.unpack_from(f"{order}i", header, 92)
    kind = _kind_of_bytes(path, order, header) if mode == 0 else MODES[mode]
    begins, sizes = HEADER + max(extended, 0), (_pixel_size(order, header), _section_distance(order, header))
    found = MrcHeader(columns, rows, sections, mode, np.dtype(order + kind), begins, *sizes)
    end = found.begins + found.row_bytes * rows * sections
    if end > path.stat().st_size:
        raise InputError(f"{path} is truncated: its pixels end at byte {end}, the file at {path.stat().st_size}")
    return found


def open_mrc(path: Path) -> Stack:
    """The sections of an MRC file, in the order that they are stored in. Raises: InputError, see `read_mrc_header`."""
    header = read_mrc_header(path)
    size, metadata = header.pixel_size, {"format": "MRC", "mode": header.mode}
    shape = (header.sections, header.rows, header.row_bytes if header.mode == FOUR_BITS else header.columns)
    if header.mode == COLOUR:
        shape = (*shape, 3)
    array = np.memmap(path, header.dtype, "r", header.begins, shape)
    if header.mode != FOUR_BITS:
        return Stack(array, "pyxc" if header.mode == COLOUR else "pyx", size, None, metadata)

    def unpack(stored: np.ndarray) -> np.ndarray:
        pixels = np.stack([stored & 0xF, stored >> 4], axis=-1)  # the first pixel lies in the lower bits
        return pixels.reshape(header.rows, -1)[:, : header.columns]

    return Stack(array, "pyx", size, unpack, metadata, packed=2)


def _byte_order(path: Path, header: bytes) -> str:
    """ "<" or ">" by the machine stamp, or by what the sizes and the mode can be in files without one.

    Raises:
        InputError: where neither order gives a header that can be.
    """
    stamped = ORDERS.get(header[212:214])
    orders = ([stamped] if stamped else []) + [order for order in "<>" if order != stamped]
    for order in orders:
        *sizes, mode = struct.unpack_from(f"{order}4i", header)
        if (mode in MODES or mode in COMPLEX) and all(0 < size < MOST for size in sizes):
            return order
    if stamped:
        return stamped  # what is wrong is said of the sizes and the mode
    raise InputError(f"{path} is no MRC file that can be read: its header makes sense in neither byte order")


def _kind_of_bytes(path: Path, order: str, header: bytes) -> str:
    """Signed bytes by MRC2014; unsigned where IMOD wrote them so, or where the header's own extremes say it."""
    stamp, flags = struct.unpack_from(f"{order}2i", header, 152)
    if stamp == IMOD:
        if flags & IMOD_FOUR_BITS:
            raise InputError(f"{path} holds two pixels in a byte of mode 0: convert it by IMOD's newstack -mode 1")
        return "i1" if flags & IMOD_SIGNED else "u1"
    least, most = struct.unpack_from(f"{order}2f", header, 76)
    return "u1" if least >= 0 and 127 < most <= 255 else "i1"


def _pixel_size(order: str, header: bytes) -> PixelSize | None:
    """The cell's lengths in Å over its numbers of px."""
    steps, lengths = struct.unpack_from(f"{order}2i", header, 28), struct.unpack_from(f"{order}2f", header, 40)
    if min(steps) <= 0:
        return None
    return possible((lengths[0] / steps[0] * NM["angstrom"], lengths[1] / steps[1] * NM["angstrom"]))


def _section_distance(order: str, header: bytes) -> float | None:
    """The cell's height in Å over its number of sections, in nm."""
    (steps,), (length,) = struct.unpack_from(f"{order}i", header, 36), struct.unpack_from(f"{order}f", header, 48)
    return length / steps * NM["angstrom"] if steps > 0 and 0 < length < math.inf else None
