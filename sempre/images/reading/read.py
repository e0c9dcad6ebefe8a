"""Micrographs from the formats of electron microscopes, read safely: sizes are checked before memory is taken."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
from PIL import Image

from sempre.errors import InputError, how_to_install, one_input_error
from sempre.files import files_below
from sempre.images.reading.claims import (
    check_inside,
    check_mrc,
    check_no_way_out,
    check_packing,
    check_png,
    check_ser,
    check_within,
    plane_bytes,
)
from sempre.images.reading.guard import look_through
from sempre.images.reading.pixel_size import (
    PixelSize,
    as_pixel_size,
    axes_pixel_size_nm,
    ims_pixel_size_nm,
    phenom_pixel_size_nm,
    picture_pixel_aspect,
    tiff_pixel_aspect,
    tiff_pixel_size_nm,
)
from sempre.images.reading.sidecar import sidecar_pixel_size_nm

MAX_PIXELS = 1 << 29
TIFF_SUFFIXES = {".tif", ".tiff"}
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp"}
HDF5_SUFFIXES = {".h5", ".hdf5"}
ROSETTASCIIO_PLUGINS = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".emd": "emd",
    ".mrc": "mrc",
    ".ser": "tia",
}
MICROGRAPH_SUFFIXES = frozenset({*TIFF_SUFFIXES, *PICTURE_SUFFIXES, *HDF5_SUFFIXES, ".ims", *ROSETTASCIIO_PLUGINS})
IMAGE_FOLDERS = ("images", "samples")  # of a labelled set
LABEL_FOLDERS = ("labels", "segmaps")
TRAILER = 1 << 16  # bytes behind the picture in a JPEG that are searched
IMS_CHANNELS = "DataSet/ResolutionLevel 0/TimePoint 0"
IMS_DATA = f"{IMS_CHANNELS}/Channel {{}}/Data"
IMS_INFORMATION = "DataSetInfo/Image"
Levels = Callable[[np.ndarray], np.ndarray]  # to_grey or to_colour
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Micrograph:
    """A grey image `[H, W]`, or a coloured one `[H, W, 3]` where that was asked for, in the file's integers or float32.

    `pixel_size_nm` is along x, the width of a pixel, `pixel_size_y_nm` along y; both are None if the file and the one
    that the microscope wrote beside it are silent. Else `pixel_size_source` is "metadata" or "sidecar" and that file's
    name. `pixel_aspect` is the height over the width of a pixel by the resolution for prints, which tells no size.
    """

    pixels: np.ndarray
    pixel_size_nm: float | None = None
    metadata: dict = field(default_factory=dict)
    pixel_size_source: str = ""
    pixel_size_y_nm: float | None = None
    pixel_aspect: float = 1.0

    @property
    def pixel_size(self) -> PixelSize | None:
        """nm per px along x and y; one number where they differ by 1 % at most, or the file says one."""
        if self.pixel_size_nm is None:
            return None
        return as_pixel_size((self.pixel_size_nm, self.pixel_size_y_nm or self.pixel_size_nm))

    def sized(self, size: PixelSize | None, source: str = "metadata") -> "Micrograph":
        """With this pixel size; as it is where that is None."""
        if size is None:
            return self
        return replace(self, pixel_size_nm=size.x, pixel_size_y_nm=size.y, pixel_size_source=source)


@dataclass(frozen=True)
class Plane:
    """A picture in a file that is open: `array[at]` is its pixels, which are not read yet."""

    array: Any  # h5py's dataset or dask's array
    at: tuple[int | slice, ...]
    pixel_size: PixelSize | None
    metadata: dict


def read_micrograph(path: str | Path, max_pixels: int = MAX_PIXELS, colour: bool = False) -> Micrograph:
    """Read one micrograph; colour becomes luminance, a stack gives its first page, a volume its middle slice.

    With `colour` it stays red, green and blue, and a grey micrograph has three equal channels.

    TIFF (8 to 32 bit, float, OME, ImageJ, FEI/Thermo, Zeiss, TESCAN and Phenom tags), PNG, JPEG, BMP, HDF5 (the first
    dataset of two or more dimensions), Imaris `.ims` (full resolution, first channel); DM3/4, EMD, MRC and SER through
    RosettaSciIO. Where the file says no pixel size, a JEOL, Hitachi or TESCAN sidecar beside it may.

    Raises:
        InputError: for a missing, empty, truncated or unknown file, and for one whose header claims more than
            `max_pixels` pixels, before any are allocated.
    """
    path = Path(path)
    with one_error(path):
        micrograph = _reader(path.suffix.lower(), path)(path, max_pixels, to_colour if colour else to_grey)
    if micrograph.pixels.size == 0:
        raise InputError(f"{path} holds no pixels")
    if micrograph.pixel_size_nm is not None:
        return micrograph
    sidecar = sidecar_pixel_size_nm(path, micrograph.pixels.shape[1])
    return micrograph.sized(sidecar[0], f"sidecar {sidecar[1]}") if sidecar is not None else micrograph


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

    Label images of labelled sets are passed over: a folder `labels` or `segmaps` beside `images` or `samples`. Where
    the folder given is itself one of labels, they are what is meant.

    Raises:
        InputError: for a folder that is missing or holds none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    found = [path for path in files_below(folder) if path.suffix.lower() in MICROGRAPH_SUFFIXES and path.is_file()]
    labels = {at for at in {path.parent for path in found} if _holds_labels(at, folder)}
    found = [path for path in found if path.parent not in labels]
    if not found:
        raise InputError(f"{folder} holds no micrographs ({', '.join(sorted(MICROGRAPH_SUFFIXES))})")
    return found


def _holds_labels(folder: Path, top: Path) -> bool:
    """Whether a folder below `top` is, or lies in, the labels of a labelled set."""
    below = [at for at in (folder, *folder.parents) if top in at.parents]
    return any(
        at.name in LABEL_FOLDERS and any((at.parent / images).is_dir() for images in IMAGE_FOLDERS) for at in below
    )


def _reader(suffix: str, path: Path) -> Callable[[Path, int, Levels], Micrograph]:
    if suffix in TIFF_SUFFIXES:
        return _read_tiff
    if suffix in PICTURE_SUFFIXES:
        return _read_picture
    if suffix in HDF5_SUFFIXES or suffix == ".ims" or suffix in ROSETTASCIIO_PLUGINS:
        return _read_plane
    raise InputError(f"{path} has the unknown suffix '{suffix}': known are {', '.join(sorted(MICROGRAPH_SUFFIXES))}")


def _read_tiff(path: Path, max_pixels: int, levels: Levels) -> Micrograph:
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        check_tiff_page(path, page, max_pixels)
        pixels = levels(stored_levels(page, page.asarray()))
        metadata = {"format": "TIFF", "pages": len(file.pages), **(file.fei_metadata or {})}
        micrograph = Micrograph(pixels, metadata=metadata, pixel_aspect=tiff_pixel_aspect(file))
        return micrograph.sized(tiff_pixel_size_nm(file))


def check_tiff_page(path: Path, page: tifffile.TiffPage | tifffile.TiffFrame, max_pixels: int = MAX_PIXELS) -> None:
    """Check the header of a page before its pixels are read.

    Raises:
        InputError: for a page of more than `max_pixels` px, one that claims more than the file can hold, and one with a
            list of numbers in the place of a size.
    """
    header = page.keyframe
    assert header is not None  # tifffile sets it when it reads the page
    sizes = (header.imagelength, header.imagewidth, header.tilelength, header.tilewidth, header.samplesperpixel)
    if not all(isinstance(size, int) for size in sizes):
        raise InputError(f"{path} is damaged: its header has a list of numbers in the place of a size, copy it again")
    check_size(path, sizes[:2], max_pixels)
    tile = math.prod(sizes[2:]) * (header.dtype.itemsize if header.dtype else 1)
    check_packing(path, max(header.nbytes, tile))  # a tile is unpacked whole, whatever the page's size
    # Uncompressed strips that reach past the end of the file would be read as short arrays or zeros.
    end = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
    if end > path.stat().st_size:
        raise InputError(f"{path} is truncated: its pixels end at byte {end}, the file at {path.stat().st_size}")


def stored_levels(page: tifffile.TiffPage, pixels: np.ndarray) -> np.ndarray:
    """Levels `[H, W]` or `[H, W, C]`, brighter is larger, of a stored page: palettes, planes, inverted scales."""
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = np.iinfo(pixels.dtype).max - pixels if pixels.dtype.kind == "u" else -pixels
    elif page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        pixels = np.moveaxis(page.colormap[:, pixels], 0, -1)
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    return pixels


def _read_picture(path: Path, max_pixels: int, levels: Levels) -> Micrograph:
    with open_picture(path, max_pixels) as image:
        size = _behind_the_picture(path) if image.format == "JPEG" else None
        metadata = {"format": image.format or path.suffix[1:].upper()}
        aspect = picture_pixel_aspect(image.info)
        if image.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV", "1"):
            image = image.convert("RGB" if image.mode != "1" else "L")
        return Micrograph(levels(np.asarray(image)), metadata=metadata, pixel_aspect=aspect).sized(size)


@contextmanager
def open_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """A picture whose size has been checked, its pixels not read yet.

    Raises:
        InputError: for more than `max_pixels` px.
    """
    # Pillow's own bomb check only warns; ours is made on the header, before `load`.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as image:
            check_size(path, (image.height, image.width), max_pixels)
            check_packing(path, image.height * image.width * len(image.getbands()))
            check_png(path)
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _behind_the_picture(path: Path) -> PixelSize | None:
    """Pixel size by what Phenom's microscopes write at the end of a JPEG."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - TRAILER, 0))
        return phenom_pixel_size_nm(file.read().decode("latin-1"))


def _read_plane(path: Path, max_pixels: int, levels: Levels) -> Micrograph:
    if h5py.is_hdf5(path):
        look_through(path)
    with open_plane(path, max_pixels) as plane:
        pixels = levels(np.asarray(plane.array[plane.at]))
        return Micrograph(pixels, metadata=plane.metadata).sized(plane.pixel_size)


def open_plane(path: Path, max_pixels: int) -> AbstractContextManager[Plane]:
    """The picture of an HDF5 or Imaris file, or of one that RosettaSciIO reads."""
    suffix = path.suffix.lower()
    if suffix in HDF5_SUFFIXES:
        return _open_hdf5(path, max_pixels)
    return _open_ims(path, max_pixels) if suffix == ".ims" else _open_rosettasciio(path, max_pixels)


@contextmanager
def _open_hdf5(path: Path, max_pixels: int) -> Iterator[Plane]:
    with h5py.File(path) as file:
        names = []
        file.visititems(
            lambda name, item: (
                names.append(name)
                if isinstance(item, h5py.Dataset) and item.ndim >= 2 and item.dtype.kind in "uif"
                else None
            )
        )
        if not names:
            raise InputError(f"{path} holds no dataset of two or more dimensions")
        dataset = file[names[0]]
        colour = dataset.ndim >= 3 and dataset.shape[-1] in (3, 4)
        planes = dataset.ndim - (3 if colour else 2)
        check_size(path, dataset.shape[planes:], max_pixels)
        check_packing(path, plane_bytes(dataset, axes=dataset.ndim - planes))
        check_inside(dataset)
        yield Plane(dataset, (0,) * planes, None, {"format": "HDF5", "dataset": names[0]})


@contextmanager
def _open_ims(path: Path, max_pixels: int) -> Iterator[Plane]:
    with h5py.File(path) as file:
        depth, height, width = ims_shape(file)
        check_size(path, (height, width), max_pixels)
        dataset = ims_channel(file, 0)
        check_packing(path, plane_bytes(dataset))
        size = ims_pixel_size_nm(file[IMS_INFORMATION].attrs, height, width)
        at = (depth // 2, slice(height), slice(width))
        yield Plane(dataset, at, size, {"format": "Imaris", "slices": depth})


def ims_shape(file: h5py.File) -> tuple[int, int, int]:
    """Slices, height and width in px of an Imaris file.

    Imaris pads the volume to whole chunks: the true size stands in the image's attributes.
    """
    name = IMS_DATA.format(0)
    for place in (IMS_INFORMATION, name):
        check_within(file, place)
    padded, information = file[name].shape, file[IMS_INFORMATION].attrs
    slices, height, width = (_ims_number(information, axis, size) for axis, size in zip("ZYX", padded, strict=True))
    return slices, height, width


def ims_channel(file: h5py.File, channel: int) -> h5py.Dataset:
    """The voxels `[Z, Y, X]` of a channel of an Imaris file.

    Raises:
        InputError: when they lie in another file.
    """
    name = IMS_DATA.format(channel)
    check_within(file, name)
    check_inside(file[name])
    return file[name]


def _ims_number(attributes: h5py.AttributeManager, axis: str, size: int) -> int:
    if axis not in attributes:
        return size
    return min(size, int(b"".join(np.asarray(attributes[axis]).ravel().tolist())))


@contextmanager
def _open_rosettasciio(path: Path, max_pixels: int) -> Iterator[Plane]:
    plugin = ROSETTASCIIO_PLUGINS[path.suffix.lower()]
    try:
        reader = import_module(f"rsciio.{plugin}")
    except ImportError:
        raise InputError(f"{path} needs RosettaSciIO: {how_to_install('formats')}") from None
    if plugin == "mrc":
        check_mrc(path)
    if plugin == "tia":
        check_ser(path)
    if h5py.is_hdf5(path):  # an EMD
        with h5py.File(path) as file:
            check_no_way_out(file)
    signals = reader.file_reader(str(path), lazy=True)
    signal = next((signal for signal in signals if signal["data"].ndim >= 2), None)
    if signal is None:
        raise InputError(f"{path} holds no image")
    data = signal["data"]
    check_size(path, data.shape[-2:], max_pixels)
    check_packing(path, plane_bytes(data))
    y, x = signal["axes"][-2:]
    yield Plane(data, (0,) * (data.ndim - 2), axes_pixel_size_nm(x, y), {"format": plugin})


def check_size(path: Path, shape: tuple[int, ...], max_pixels: int = MAX_PIXELS) -> None:
    """Check a size in px (height and width first) before it is allocated.

    Raises:
        InputError: for more than `max_pixels` px.
    """
    height, width = shape[:2]
    if height * width > max_pixels:
        raise InputError(f"{path} claims {height}x{width} px, more than the {max_pixels:,} allowed: cut it into parts")


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """`[H, W]` of `[H, W]` or `[H, W, C]` with C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    if pixels.ndim == 2:
        grey = pixels
    elif pixels.ndim == 3 and pixels.shape[-1] in (1, 2):
        grey = pixels[..., 0]
    elif pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
        colours = pixels[..., :3]
        if (colours == colours[..., :1]).all():
            grey = colours[..., 0]
        else:
            luminance = colours @ LUMINANCE
            grey = np.rint(luminance).astype(pixels.dtype) if pixels.dtype.kind in "ui" else luminance
    else:
        raise ValueError(f"its pixels have the shape {pixels.shape}, which is no picture")
    if grey.dtype == bool:
        grey = grey.astype(np.uint8)
    return np.ascontiguousarray(grey if grey.dtype.kind in "ui" else grey.astype(np.float32))


def to_colour(pixels: np.ndarray) -> np.ndarray:
    """`[H, W, 3]` of what `to_grey` takes: red, green and blue, three times the same for grey."""
    if pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
        colours = pixels[..., :3]
        return np.ascontiguousarray(colours if colours.dtype.kind in "ui" else colours.astype(np.float32))
    return np.repeat(to_grey(pixels)[..., None], 3, axis=-1)
