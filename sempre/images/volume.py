"""Volumes, read slice by slice: one slice at a time is in memory, however many there are."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from sempre.errors import InputError
from sempre.images.claims import check_packing, check_size, plane_bytes
from sempre.images.hdf5 import IMS_CHANNELS, IMS_INFORMATION, ims_channel, ims_shape
from sempre.images.hdf5_guard import look_through
from sempre.images.levels import to_grey
from sempre.images.mrc import read_mrc_header
from sempre.images.pixel_size import (
    PixelSize,
    ims_pixel_size_nm,
    ims_slice_distance_nm,
    tiff_pixel_size_nm,
    tiff_slice_distance_nm,
)
from sempre.images.read import STACK_SUFFIXES, TIFF_SUFFIXES, one_error, open_stacks, read_micrograph
from sempre.images.tiff import check_few_copies, check_tiff_page, is_marked, stored_levels
from sempre.locks import open_hdf5_file


@dataclass(frozen=True)
class Volume:
    """What a volume's header says. `read` opens the file anew each time, so processes may share a volume.

    `shape` is a slice's height and width in px; `pixel_size_nm`, along x, `pixel_size_y_nm` and `slice_distance_nm`,
    from slice to slice, are None when the file is silent.
    """

    path: Path
    slices: int
    channels: int
    shape: tuple[int, int]
    pixel_size_nm: float | None
    slice_distance_nm: float | None = None
    pixel_size_y_nm: float | None = None

    def read(self, slice: int, channel: int = 0) -> np.ndarray:
        """Grey values `[H, W]` of one slice of one channel, both counted from 0, in the file's integers or float32.

        A negative channel counts from the last, -1, for the volumes of one study may differ in how many they have.

        Raises:
            InputError: for a slice or a channel that the volume does not have, and for a damaged file.
        """
        self._check("slice", slice, self.slices)
        channel = self.check_channel(channel)
        suffix = self.path.suffix.lower()
        with one_error(self.path):
            if suffix == ".ims":
                height, width = self.shape
                with open_hdf5_file(self.path) as file:
                    dataset = ims_channel(file, channel)
                    check_packing(self.path, plane_bytes(dataset))
                    return to_grey(dataset[slice, :height, :width])
            if suffix in TIFF_SUFFIXES:
                with tifffile.TiffFile(self.path) as file:
                    return _read_tiff_slice(self.path, _first_series(file), slice, channel)
        return read_micrograph(self.path, page=slice + 1).pixels

    def check_channel(self, channel: int) -> int:
        """The channel counted from 0, of one that may count from the last, -1.

        Raises:
            InputError: for a channel that the volume does not have.
        """
        from_first = channel + self.channels if channel < 0 else channel
        self._check("channel", channel if from_first < 0 else from_first, self.channels)
        return from_first

    def _check(self, name: str, wanted: int, there: int) -> None:
        if not 0 <= wanted < there:
            have = f"{there} {name}{'s' * (there > 1)}, counted from 0"
            raise InputError(f"{self.path} has no {name} {wanted}: it has {have}")


def open_volume(path: str | Path) -> Volume:
    """A volume: Imaris `.ims` (full resolution, first time point), OME-TIFF, ImageJ's and any multi-page TIFF.

    A TIFF's slices run along its Z axis, or along its first axis that is not C, Y or X where it has no Z; of further
    axes the first position is taken. Colours are no channels: they become luminance. The pages of an HDF5, MRC, DM,
    SER or EMD file are slices, of one channel; of several stacks in a file, those of the first. A file of any other
    format that `read_micrograph` reads is a volume of one slice.

    Raises:
        InputError: for a missing, damaged or unknown file, and for slices too large to read.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    with one_error(path):
        if suffix == ".ims":
            look_through(path)
            return _open_ims_volume(path)
        if suffix in TIFF_SUFFIXES:
            with tifffile.TiffFile(path) as file:
                series = _first_series(file)
                lengths = _stack_axes(series)
                slices, channels = lengths.get(_slice_axis(lengths), 1), lengths.get("C", 1)
                height, width = (series.keyframe.axes.index(axis) for axis in "YX")
                height, width = series.keyframe.shape[height], series.keyframe.shape[width]
                size, distance = tiff_pixel_size_nm(file), tiff_slice_distance_nm(file)
        else:
            micrograph = read_micrograph(path, page=1)
            slices, channels, size, distance = 1, 1, micrograph.pixel_size, None
            height, width = micrograph.pixels.shape
            if suffix in STACK_SUFFIXES:
                with open_stacks(path) as stacks:
                    slices = stacks[0].pages
                if suffix == ".mrc":
                    distance = read_mrc_header(path).section_distance_nm
        check_size(path, (height, width))
    return _volume(path, slices, channels, (height, width), size, distance)


def _volume(
    path: Path, slices: int, channels: int, shape: tuple[int, int], size: PixelSize | None, distance: float | None
) -> Volume:
    x, y = size or (None, None)
    return Volume(path, slices, channels, shape, x, distance, y)


def _open_ims_volume(path: Path) -> Volume:
    with open_hdf5_file(path) as file:
        slices, height, width = ims_shape(file)
        channels = sum(name.startswith("Channel ") for name in file[IMS_CHANNELS])
        size = ims_pixel_size_nm(file[IMS_INFORMATION].attrs, height, width)
        distance = ims_slice_distance_nm(file[IMS_INFORMATION].attrs, slices)
        check_size(path, (height, width))
        return _volume(path, slices, channels, (height, width), size, distance)


def look_at(path: Path) -> None:
    """Do with an HDF5 file all that reading it or its volume does but for the pixels; whatever goes wrong is passed
    over, for it will go wrong again."""
    with suppress(Exception), open_stacks(path):
        pass
    if path.suffix.lower() != ".ims":
        return
    with suppress(Exception):
        channels = _open_ims_volume(path).channels
        with open_hdf5_file(path) as file:
            for channel in range(1, channels):  # the first is the plane's
                with suppress(Exception):
                    ims_channel(file, channel)


def evenly_spaced(slices: int, count: int) -> list[int]:
    """`count` of `slices` positions, in the middles of equal parts: the outermost slices, often damaged, are avoided.

    Raises:
        InputError: for a count below 1, or above the number of slices.
    """
    if count < 1:
        raise InputError(f"slices={count} is too few: take at least 1")
    if count > slices:
        there = "is one slice" if slices == 1 else f"are {slices} slices"
        raise InputError(f"slices={count} are more than there are: there {there}, take slices={slices} or less")
    return [(2 * part + 1) * slices // (2 * count) for part in range(count)]


def _first_series(file: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """The first series of pages that are no thumbnails or smaller copies."""
    check_few_copies(file.pages.first)
    len(file.pages)  # walks the chain of pages at once: a ring, walked page by page, is not found to be one
    series = file.series
    return next((one for one in series if not is_marked(one.keyframe)), series[0])


def _stack_axes(series: tifffile.TiffPageSeries) -> dict[str, int]:
    """Length of each axis that runs over the pages of a series, outermost first."""
    planes = len(series.axes) - len(series.keyframe.axes)
    if series.axes[planes:] != series.keyframe.axes or not {"Y", "X"} <= set(series.keyframe.axes) <= set("YXS"):
        raise ValueError(f"its pages hold {series.keyframe.axes}, which are no pictures: save it with one slice a page")
    return dict(zip(series.axes[:planes], series.shape[:planes], strict=True))


def _slice_axis(lengths: dict[str, int]) -> str:
    return "Z" if "Z" in lengths else next((axis for axis in lengths if axis != "C"), "")


def _read_tiff_slice(path: Path, series: tifffile.TiffPageSeries, slice: int, channel: int) -> np.ndarray:
    lengths = _stack_axes(series)
    at = {_slice_axis(lengths): slice, "C": channel}
    position = tuple(at.get(axis, 0) for axis in lengths)
    page = series.keyframe
    if series.is_truncated:  # ImageJ describes stacks of more than 4 GB by their first page alone
        check_size(path, page.shape)
        return to_grey(stored_levels(page, np.array(tifffile.memmap(path, mode="r")[position])))
    index = int(np.ravel_multi_index(position, tuple(lengths.values()))) if lengths else 0
    stored = series.pages[index]
    if stored is None:
        raise ValueError(f"slice {slice} is in a file of this OME-TIFF that is not there")
    check_tiff_page(Path(stored.parent.filehandle.path), stored)
    return to_grey(stored_levels(page, stored.asarray()))
