"""What a file claims of itself, checked before anything is allocated or followed: sizes, links to other files."""

import math
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import h5py
from PIL import Image, UnidentifiedImageError

from sempre.errors import InputError
from sempre.locks import open_hdf5_file

MAX_PIXELS = 1 << 29
# A picture may take so many times the bytes of its file: deflate packs to 1/1032 at most, LZW to 1/2700, and Zstandard
# an empty label image, strip by strip, to about 1/15,000. Up to `SMALL` bytes need no such reason.
PACKED, SMALL = 1 << 14, 1 << 24
PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
SER_WIDE, SER_SPECTRA, SER_BYTES = 528, 0x4120, {1: 1, 2: 2, 3: 4, 4: 1, 5: 2, 6: 4, 7: 4, 8: 8, 9: 8, 10: 16}
SER_BIG_ENDIAN = b"MM"
SER_DIMENSION = 28  # bytes that a dimension takes at least


def check_size(path: Path, shape: tuple[int, ...], max_pixels: int = MAX_PIXELS) -> None:
    """Check a size in px (height and width first) before it is allocated.

    Raises:
        InputError: for more than `max_pixels` px.
    """
    height, width = shape[:2]
    if height * width > max_pixels:
        raise InputError(f"{path} claims {height}x{width} px, more than the {max_pixels:,} allowed: cut it into parts")


def check_packing(path: Path, claimed: int) -> None:
    """Refuse a file that claims far more bytes of pixels than can be packed into its own: a decompression bomb.

    Raises:
        InputError: for more than `SMALL` bytes and more than `PACKED` times those of the file.
    """
    held = path.stat().st_size
    if claimed > max(SMALL, PACKED * held):
        raise InputError(
            f"{path} claims {claimed:,} bytes of pixels in a file of {held:,}: it is damaged, copy it again"
        )


def open_by_pillow(path: Path) -> Image.Image:
    """A picture of any format that Pillow knows, of any size: the caller checks the size before reading the pixels.

    `Image.open` has a limit of its own, a global of the whole process that other threads read meanwhile. Here the
    formats are asked as it asks them.

    Raises:
        UnidentifiedImageError: for a file of no format.
    """
    with path.open("rb") as file:
        begins = file.read(16)
    for load_formats in (Image.preinit, Image.init):
        load_formats()
        for name in list(Image.ID):
            factory, accept = Image.OPEN[name]
            accepted = accept is None or accept(begins)
            if not accepted or isinstance(accepted, str):  # a text says why it is not read
                continue
            try:
                return cast(Image.Image, factory(cast(Any, path), ""))
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue  # not this format's, after all
    raise UnidentifiedImageError(f"cannot identify image file {path}")


def check_png(path: Path) -> None:
    """Refuse a PNG with a chunk that reaches past the end of its file: Pillow takes memory for all that one claims.

    Raises:
        InputError: for such a chunk. What is no PNG passes.
    """
    held, at = path.stat().st_size, len(PNG_BEGINS)
    with path.open("rb") as file:
        if file.read(at) != PNG_BEGINS:
            return
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            at += 12 + length  # with its length, name and checksum
            if at > held:
                raise InputError(
                    f"{path} is truncated: its chunk {name.decode('latin-1')!r} ends at byte {at}, the file at {held}"
                )
            if name == b"IEND":
                return
            file.seek(at)


def check_within(file: h5py.File, name: str) -> None:
    """Refuse an object of an HDF5 file whose name is not its own place: links may lead to any other file.

    Raises:
        InputError: when any part of `name` is a soft or an external link.
    """
    at = ""
    for part in name.split("/"):
        at = f"{at}/{part}"
        if isinstance(file.get(at, getlink=True), h5py.SoftLink | h5py.ExternalLink):
            raise InputError(f"{file.filename} has a link at {at}: copy the data to the place itself")


def check_no_way_out(file: h5py.File) -> None:
    """Refuse an HDF5 file of which any part lies in another file.

    Raises:
        InputError: for an external link, a virtual dataset, and one of external storage.
    """

    def check(name: str, link: object) -> str | None:
        if isinstance(link, h5py.ExternalLink):
            return f"{file.filename} has a link to another file at {name}: copy the data into this one"
        try:
            if isinstance(link, h5py.HardLink) and isinstance(file[name], h5py.Dataset):
                check_inside(file[name])
        except InputError as error:  # h5py loses what is raised in here
            return str(error)  # not the error itself, whose frames would keep the file open
        return None

    if sentence := file.visititems_links(check):
        raise InputError(sentence)


def look_at_own(path: Path) -> None:
    """Do with a store or embeddings all that reading them does but for pixels and cells; whatever goes wrong is passed
    over, for it will go wrong again."""
    with suppress(Exception), open_hdf5_file(path) as file:
        with suppress(Exception):
            dict(file.attrs)
        with suppress(Exception):
            check_no_way_out(file)
            file.visititems(lambda _, item: _look_at_column(path, item))


def _look_at_column(path: Path, item: h5py.Group | h5py.Dataset) -> None:
    with suppress(Exception):
        if isinstance(item, h5py.Dataset) and item.ndim == 1:
            check_packing(path, item.nbytes)
            item[:]


def check_inside(dataset: h5py.Dataset) -> None:
    """Refuse a dataset whose values lie in other files, or in chunks that cannot be: HDF5 crashes over empty ones,
    and writes past its memory over unpacked ones that are too long.

    Raises:
        InputError: for a virtual dataset, for one of external storage, and for a chunk of no bytes, of bytes behind the
            file's end, of filters that the dataset does not have, or of another size than it has without any.
    """
    name = dataset.file.filename
    if dataset.is_virtual or dataset.external:
        raise InputError(f"{name} keeps {dataset.name} in other files: copy the data into this one")
    if dataset.chunks and hasattr(dataset.id, "chunk_iter"):  # HDF5 before 1.12.3 cannot list them
        held, filters = Path(name).stat().st_size, dataset.id.get_create_plist().get_nfilters()
        unpacked = math.prod(dataset.chunks) * _stored_bytes(dataset)
        unfiltered = (1 << filters) - 1  # the mask of a chunk that no filter has been at

        def cannot_be(chunk: h5py.h5d.StoreInfo) -> bool | None:
            return (
                chunk.size == 0
                or chunk.byte_offset + chunk.size > held
                or chunk.filter_mask > unfiltered
                or (chunk.filter_mask == unfiltered and chunk.size != unpacked > 0)
                or None
            )

        if dataset.id.chunk_iter(cannot_be):
            raise InputError(f"{name} is damaged: a part of {dataset.name} has no place in the file, copy it again")


def _stored_bytes(dataset: h5py.Dataset) -> int:
    """The bytes of a dataset's value as it lies in the file; 0 where that cannot be told."""
    if not dataset.dtype.hasobject:
        return dataset.id.get_type().get_size()
    if h5py.check_string_dtype(dataset.dtype) or h5py.check_vlen_dtype(dataset.dtype):
        return 4 + dataset.file.id.get_create_plist().get_sizes()[0] + 4  # a length, a heap's place, a number in it
    return 0


def plane_bytes(array: h5py.Dataset, axes: int = 2) -> int:
    """The bytes of an array's last `axes` axes."""
    return math.prod(map(int, array.shape[-axes:])) * array.dtype.itemsize


def check_ser(path: Path) -> None:
    """Refuse a SER file that is big-endian, or whose elements, each as large as the first, or dimensions are more than
    it holds.

    Raises:
        InputError: for such a file, one of spectra, and one that is cut off.
    """
    held = path.stat().st_size
    try:
        with path.open("rb") as file:
            if file.read(2) == SER_BIG_ENDIAN:
                raise InputError(f"{path} is big-endian, which no SER file of TIA is: export the image as TIFF")
            file.seek(0)
            version, kind, _, _, count = struct.unpack("<4x1H4I", file.read(22))
            place = "<I" if version <= SER_WIDE else "<Q"  # later versions have 64-bit places
            (at,) = struct.unpack(place, file.read(struct.calcsize(place)))
            (dimensions,) = struct.unpack("<I", file.read(4))
            if kind == SER_SPECTRA:
                raise InputError(f"{path} holds spectra: export the image that belongs to them")
            file.seek(at)
            (first,) = struct.unpack(place, file.read(struct.calcsize(place)))
            file.seek(first + 40)
            pixel, width, height = struct.unpack("<H2I", file.read(10))
    except (struct.error, OSError, OverflowError) as error:
        raise InputError(f"{path} is truncated: it ends within its header") from error
    claimed = count * (width * height * SER_BYTES.get(pixel, 1) + struct.calcsize(place)) + dimensions * SER_DIMENSION
    if claimed > held:
        raise InputError(f"{path} is truncated: it claims {claimed:,} bytes in a file of {held:,}")
