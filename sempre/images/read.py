"""Micrographs from the formats of electron microscopes, read safely: sizes are checked before memory is taken."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np
import tifffile
from PIL import Image

from sempre.errors import InputError, one_input_error
from sempre.files import files_below
from sempre.images.claims import MAX_PIXELS, check_packing, check_png, check_size, open_by_pillow
from sempre.images.label_names import labels_beside, labels_in_folders
from sempre.images.levels import to_colour, to_grey
from sempre.images.pixel_size import (
    PixelSize,
    as_pixel_size,
    phenom_pixel_size_nm,
    picture_pixel_aspect,
    tiff_pixel_aspect,
    tiff_pixel_size_nm,
)
from sempre.images.rosettasciio import PLUGINS, open_by_rosettasciio
from sempre.images.sidecar import sidecar_pixel_size_nm
from sempre.images.stacks import Stack, find_page
from sempre.images.tiff import picture_levels, tiff_pictures

# Raised whenever files are read as other pixels or sizes: earlier results are done again.
READER_VERSION = 2
TIFF_SUFFIXES = {".tif", ".tiff"}
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp"}
HDF5_SUFFIXES = {".h5", ".hdf5"}
STACK_SUFFIXES = {*HDF5_SUFFIXES, ".ims", ".mrc", *PLUGINS}
MICROGRAPH_SUFFIXES = frozenset({*TIFF_SUFFIXES, *PICTURE_SUFFIXES, *STACK_SUFFIXES})
NARROW = 5  # px: a picture with a smaller side is no micrograph
TRAILER = 1 << 16  # bytes behind the picture in a JPEG that are searched
Levels = Callable[[np.ndarray], np.ndarray]  # to_grey or to_colour


@dataclass(frozen=True)
class Micrograph:
    """A grey image `[H, W]`, or a coloured one `[H, W, 3]` where that was asked for, in the file's integers or float32.

    `pixel_size_nm` is along x, the width of a pixel, `pixel_size_y_nm` along y; both are None if the file and the one
    that the microscope wrote beside it are silent. Else `pixel_size_source` is "metadata" or "sidecar" and that file's
    name. `pixel_aspect` is the height over the width of a pixel by the resolution for prints, which tells no size.
    `page`, counted from 1, is the one that was read of the file's `pages` pictures.
    """

    pixels: np.ndarray
    pixel_size_nm: float | None = None
    metadata: dict = field(default_factory=dict)
    pixel_size_source: str = ""
    pixel_size_y_nm: float | None = None
    pixel_aspect: float = 1.0
    page: int = 1
    pages: int = 1

    @property
    def pixel_size(self) -> PixelSize | None:
        """nm per px along x and y; one number where they differ by 1 % at most, or the file says one."""
        if self.pixel_size_nm is None:
            return None
        return as_pixel_size((self.pixel_size_nm, self.pixel_size_y_nm or self.pixel_size_nm))

    @property
    def square_pixel_size_nm(self) -> float | None:
        """nm per px in every direction; None where it is unknown or pixels are not square."""
        size = self.pixel_size
        return size.x if size is not None and size.is_square else None

    def sized(self, size: PixelSize | None, source: str = "metadata") -> "Micrograph":
        """With this pixel size; as it is where that is None."""
        if size is None:
            return self
        return replace(self, pixel_size_nm=size.x, pixel_size_y_nm=size.y, pixel_size_source=source)


def read_micrograph(
    path: str | Path, max_pixels: int = MAX_PIXELS, colour: bool = False, page: int | None = None
) -> Micrograph:
    """Read one micrograph; colour becomes luminance, a stack gives its first page, an Imaris volume its middle slice.

    With `colour` it stays red, green and blue, and a grey micrograph has three equal channels. `page`, counted from 1,
    takes another of the file's pictures. What is read of each format, and what is refused, is listed in
    docs/formats.md. Where the file says no pixel size, a JEOL, Hitachi or TESCAN sidecar beside it may.

    Raises:
        InputError: for a missing, empty, truncated or unknown file, for one whose header claims more than `max_pixels`
            pixels, before any are allocated, for one without a picture, and for a page that it does not have.
    """
    path = Path(path)
    with one_error(path):
        micrograph = _reader(path)(path, max_pixels, to_colour if colour else to_grey, page)
    if micrograph.pixels.size == 0:
        raise InputError(f"{path} holds no pixels")
    height, width = micrograph.pixels.shape[:2]
    if min(height, width) < NARROW:
        raise InputError(f"{path} is {height}x{width} px, which is no micrograph: a side is below {NARROW} px")
    if micrograph.pixel_size_nm is not None:
        return micrograph
    sidecar = sidecar_pixel_size_nm(path, micrograph.pixels.shape[1])
    return micrograph.sized(sidecar[0], f"sidecar {sidecar[1]}") if sidecar is not None else micrograph


def count_pages(path: str | Path) -> int:
    """The pictures of a file that `read_micrograph` takes as pages.

    Raises:
        InputError: for a file whose header cannot be read, and for one without a picture.
    """
    path = Path(path)
    with one_error(path):
        suffix = path.suffix.lower()
        if suffix in TIFF_SUFFIXES:
            with tifffile.TiffFile(path) as file:
                return len(tiff_pictures(path, file)[0])
        if suffix in STACK_SUFFIXES:
            with open_stacks(path) as stacks:
                return sum(stack.pages for stack in stacks)
    return 1


@contextmanager
def one_error(path: Path) -> Iterator[None]:
    """Whatever goes wrong in the block with the file at `path` is one `InputError`, as is a missing or empty file."""
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)")
    with one_input_error(lambda reason: f"{path} cannot be read: {reason}"):
        yield


def find_micrographs(folder: str | Path) -> list[Path]:
    """Every micrograph below `folder`, as `files_below` finds them.

    Labels are passed over: the files in a folder `labels`, `segmaps`, `masks` or `instances` beside `images`, `samples`
    or the micrographs themselves, and those that are labels by their name beside a micrograph, as `a_cp_masks.tif` and
    `a_instances.png` are beside `a.tif` (`sempre.images.label_names`). Where the folder given is itself one of
    labels, they are what is meant.

    Raises:
        InputError: for a folder that is missing or holds none.
    """
    return find_micrographs_and_labels(folder)[0]


def find_micrographs_and_labels(folder: str | Path) -> tuple[list[Path], list[Path]]:
    """The micrographs as `find_micrographs` finds them, and the files that were passed over as labels by their names.

    Raises:
        InputError: for a folder that is missing or holds no micrographs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    found = [path for path in files_below(folder) if path.suffix.lower() in MICROGRAPH_SUFFIXES and path.is_file()]
    in_folders = labels_in_folders(found, folder)
    found = [path for path in found if path not in in_folders]
    labels = labels_beside(found)
    if not found:
        raise InputError(f"{folder} holds no micrographs ({', '.join(sorted(MICROGRAPH_SUFFIXES))})")
    return [path for path in found if path not in labels], list(labels)


def _reader(path: Path) -> Callable[[Path, int, Levels, int | None], Micrograph]:
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return _read_tiff
    if suffix in PICTURE_SUFFIXES:
        return _read_picture
    if suffix in STACK_SUFFIXES:
        return _read_stack
    raise InputError(f"{path} has the unknown suffix '{suffix}': known are {', '.join(sorted(MICROGRAPH_SUFFIXES))}")


def _index(path: Path, page: int | None, pages: int, default: int = 0) -> int:
    """The index of a page that was asked for, counted from 1.

    Raises:
        InputError: for one that is not there.
    """
    if page is None:
        return default
    if not 1 <= page <= pages:
        raise InputError(f"{path} has no page {page}: it has {pages} page{'s' * (pages > 1)}, counted from 1")
    return page - 1


def _read_tiff(path: Path, max_pixels: int, levels: Levels, page: int | None) -> Micrograph:
    with tifffile.TiffFile(path) as file:
        pictures, default = tiff_pictures(path, file)
        index = _index(path, page, len(pictures), default)
        pixels = levels(picture_levels(path, pictures[index], max_pixels))
        metadata = {"format": "TIFF", "pages": len(file.pages), **(file.fei_metadata or {})}
        micrograph = Micrograph(
            pixels,
            metadata=metadata,
            pixel_aspect=tiff_pixel_aspect(pictures[index].page),
            page=index + 1,
            pages=len(pictures),
        )
        return micrograph.sized(tiff_pixel_size_nm(file, pictures[index].page))


def _read_picture(path: Path, max_pixels: int, levels: Levels, page: int | None) -> Micrograph:
    _index(path, page, pages=1)
    with open_picture(path, max_pixels) as image:
        size = _behind_the_picture(path) if image.format == "JPEG" else None
        metadata = {"format": image.format or path.suffix[1:].upper()}
        aspect = picture_pixel_aspect(image.info)
        if image.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "1"):
            image = image.convert("RGB" if image.mode != "1" else "L")
        return Micrograph(levels(np.asarray(image)), metadata=metadata, pixel_aspect=aspect).sized(size)


@contextmanager
def open_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """A picture whose size has been checked, its pixels not read yet.

    Raises:
        InputError: for more than `max_pixels` px.
    """
    with open_by_pillow(path) as image:
        check_size(path, (image.height, image.width), max_pixels)
        check_packing(path, image.height * image.width * len(image.getbands()))
        check_png(path)
        yield image


def _behind_the_picture(path: Path) -> PixelSize | None:
    """Pixel size by what Phenom's microscopes write at the end of a JPEG."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - TRAILER, 0))
        return phenom_pixel_size_nm(file.read().decode("latin-1"))


def _read_stack(path: Path, max_pixels: int, levels: Levels, page: int | None) -> Micrograph:
    if h5py.is_hdf5(path):
        from sempre.images.hdf5_guard import look_through  # here, for most micrographs are pictures

        look_through(path)
    with open_stacks(path) as stacks:
        pages = sum(stack.pages for stack in stacks)
        middle = stacks[0].pages // 2 if path.suffix.lower() == ".ims" else 0
        index = _index(path, page, pages, middle)
        stack, at = find_page(path, stacks, index, max_pixels)
        pixels = levels(stack.read(at))
        return Micrograph(pixels, metadata=stack.metadata, page=index + 1, pages=pages).sized(stack.pixel_size)


def open_stacks(path: Path, labels: bool = False) -> AbstractContextManager[list[Stack]]:
    """The pictures of an HDF5, Imaris or MRC file, or of one that RosettaSciIO reads.

    With `labels` those of an HDF5 file that holds both are its labels, by their names, not its micrograph.
    """
    suffix = path.suffix.lower()
    if suffix == ".mrc":
        from sempre.images.mrc import open_mrc  # here, for most micrographs are pictures

        return nullcontext([open_mrc(path)])
    if suffix not in {*HDF5_SUFFIXES, ".ims", ".emd"}:
        return open_by_rosettasciio(path)
    from sempre.images.hdf5 import is_velox, open_hdf5, open_ims, open_velox

    if suffix in HDF5_SUFFIXES:
        return open_hdf5(path, labels)
    if suffix == ".ims":
        return open_ims(path)
    return open_velox(path) if is_velox(path) else open_by_rosettasciio(path)
