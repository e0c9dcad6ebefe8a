"""Which dataset of an HDF5 file is the micrograph, and along which axes; Imaris' and Velox' files."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sempre.errors import InputError
from sempre.images.claims import check_inside, check_no_way_out, check_within
from sempre.images.pixel_size import NM, PixelSize, axes_pixel_size_nm, ims_pixel_size_nm, possible
from sempre.images.stacks import (
    LEAST_SIDE,
    PATTERN,
    Stack,
    as_stack_order,
    kind_of_unit,
    without_patterns,
)
from sempre.images.stacks import OTHER as OVER_OTHERS
from sempre.locks import open_hdf5_file

IMS_CHANNELS = "DataSet/ResolutionLevel 0/TimePoint 0"
IMS_DATA = f"{IMS_CHANNELS}/Channel {{}}/Data"
IMS_INFORMATION = "DataSetInfo/Image"
VELOX_IMAGES = "Data/Image"
VELOX_METADATA = 1 << 24  # bytes of a Velox image's description at the most
# Names, whole or a part of them between other signs, of datasets beside a micrograph that are no micrograph.
BESIDE = re.compile(
    r"(?<![a-z])(thumbnails?|thumbs?|previews?|icon|dark|flat|gain|background|errors?|uncertainty|weights?|variance"
    r"|calibrations?|affine|probabilit(y|ies)|predictions?|distances?)(?![a-z])"
)
LABELS = re.compile(
    r"(?<![a-z])(masks?|labels?|segmentations?|seg|segmaps?|instances|annotations?|ground_?truth|gt)(?![a-z])"
)
AXIS_WORDS = {
    "x": {"x", "width", "column", "columns", "col", "cols"},
    "y": {"y", "height", "row", "rows", "line", "lines"},
    "c": {"c", "channel", "channels", "color", "colour", "rgb", "rgba", "band", "bands"},
}
COLOUR_SAMPLES = (3, 4)
INTERLACED = {"INTERLACE_PIXEL": "yxc", "INTERLACE_LINE": "ycx", "INTERLACE_PLANE": "cyx"}  # of HDF5's Image class
DEFAULT_SIGNAL, SIGNAL, OTHER = 0, 1, 2  # ranks of NeXus' datasets
SMALL = 16  # times smaller than the largest: a picture of two dimensions is then no reason to pass over a stack


@contextmanager
def open_hdf5(path: Path, labels: bool = False) -> Iterator[list[Stack]]:
    """The picture, or the stack of pictures, of an HDF5 file.

    It is the signal of its NeXus data, else the dataset that names its axes, else the largest of two dimensions. One
    whose name is that of a preview or of labels is taken only where there is nothing else; with `labels` the latter
    come first.

    Raises:
        InputError: for a file without one, and when its values lie in other files.
    """
    with open_hdf5_file(path) as file:
        datasets: dict[str, h5py.Dataset] = {}
        file.visititems(lambda name, item: datasets.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        axes = {name: order for name, dataset in datasets.items() if (order := _axes(dataset)) is not None}
        if not axes:
            raise InputError(f"{path} holds no dataset that is an image{_largest(datasets)}")
        signals = _nexus_signals(file)
        largest = max(_area(datasets[name], order) for name, order in axes.items())

        def rank(name: str) -> tuple:
            dataset, order = datasets[name], axes[name]
            return (
                labels and not LABELS.search(name.lower()),
                signals.get(name, OTHER),
                BESIDE.search(name.lower()) is not None or (not labels and LABELS.search(name.lower()) is not None),
                dataset.dtype.kind == "b",
                _named_axes(dataset) is None and _attribute(dataset, "CLASS") != "IMAGE",
                SMALL * _area(dataset, order) < largest,
                Stack(dataset, order).pages > 1,
                -_area(dataset, order),
            )

        name = min(axes, key=rank)
        dataset = datasets[name]
        check_inside(dataset)
        inverted = dataset.dtype.kind in "ui" and _attribute(dataset, "IMAGE_WHITE_IS_ZERO") in (1, "1")
        unpack = np.invert if inverted else None
        metadata = {"format": "HDF5", "dataset": name}
        yield [Stack(dataset, axes[name], _element_size(dataset, axes[name]), unpack, metadata)]


@contextmanager
def open_ims(path: Path) -> Iterator[list[Stack]]:
    """The slices of an Imaris file's first channel at full resolution and the first time."""
    with open_hdf5_file(path) as file:
        depth, height, width = ims_shape(file)
        dataset = ims_channel(file, 0)
        size = ims_pixel_size_nm(file[IMS_INFORMATION].attrs, height, width)
        voxels = _Cropped(dataset, (depth, height, width))
        yield [Stack(voxels, "pyx", size, None, {"format": "Imaris", "slices": depth})]


class _Cropped:
    """A dataset `[Z, Y, X]` without the padding behind its true shape."""

    def __init__(self, dataset: h5py.Dataset, shape: tuple[int, int, int]):
        self.dataset, self.shape, self.dtype = dataset, shape, dataset.dtype

    def __getitem__(self, at: tuple[int, slice, slice]) -> np.ndarray:
        return self.dataset[at[0], : self.shape[1], : self.shape[2]]


@contextmanager
def open_velox(path: Path) -> Iterator[list[Stack]]:
    """The images of a Velox file, without its spectra and Fourier transforms: those of lengths first.

    RosettaSciIO needs a further library for a file with a spectrum image, and decodes that.

    Raises:
        InputError: for a file without an image of real numbers.
    """
    with open_hdf5_file(path) as file:
        check_no_way_out(file)
        images = file[VELOX_IMAGES]
        found = [stack for name in images if (stack := _velox_stack(images[name], name)) is not None]
        if not found:
            raise InputError(f"{path} holds no image of real numbers: export the image from Velox")
        yield without_patterns(found)


def is_velox(path: Path) -> bool:
    """Whether a file is one of Velox, with images."""
    with open_hdf5_file(path) as file:
        return "Version" in file and isinstance(file.get(VELOX_IMAGES), h5py.Group)


def _velox_stack(group: h5py.Group, name: str) -> Stack | None:
    """The frames of an image `[H, W, frames]`; None for complex numbers (of two fields) and for other things."""
    dataset: Any = group.get("Data") if isinstance(group, h5py.Group) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 3 or dataset.dtype.kind not in "uif":
        return None
    description = {}
    with suppress(KeyError, ValueError, AttributeError, IndexError):
        stored = group["Metadata"]
        if stored.shape[0] <= VELOX_METADATA:
            description = json.loads(bytes(np.asarray(stored[:, 0])).split(b"\0", 1)[0])
    result = description.get("BinaryResult", {}) if isinstance(description, dict) else {}
    unit = str(result.get("PixelUnitX", ""))
    units = [unit, str(result.get("PixelUnitY") or unit)]
    kinds = set(map(kind_of_unit, units))
    if OVER_OTHERS in kinds:
        return None
    sizes = result.get("PixelSize", {})
    sides = [sizes.get("width", 0), sizes.get("height") or sizes.get("width", 0)]
    x, y = ({"scale": side, "units": unit} for side, unit in zip(sides, units, strict=True))
    detector = description.get("Detectors", {}).get(f"Detector-{result.get('DetectorIndex')}", {})
    is_map = detector.get("DetectorType") == "AnalyticalDetector"  # of an element
    metadata = {"format": "Velox", "image": name, "detector": str(result.get("Detector", "")), "map": is_map}
    metadata["pattern"] = PATTERN in kinds
    return Stack(dataset, "yxp", axes_pixel_size_nm(x, y), None, metadata)


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


def _axes(dataset: h5py.Dataset) -> str | None:
    """A letter for each axis, see `Stack`; None for what is no image."""
    if dataset.ndim < 2 or dataset.dtype.kind not in "uifb" or dataset.size == 0:
        return None
    if _attribute(dataset, "interpretation") in ("spectrum", "scalar", "scaler", "vertex"):
        return None
    named = _named_axes(dataset)
    if named is None and "MATLAB_class" in dataset.attrs:  # MATLAB's arrays begin with the rows, its files end so
        order = as_stack_order(dataset.shape[::-1])
        return order[::-1] if order else None
    if named is None:
        return as_stack_order(dataset.shape)
    if min(size for size, axis in zip(dataset.shape, named, strict=True) if axis in "yx") < LEAST_SIDE:
        return None
    return "".join(
        "p" if axis == "c" and size not in COLOUR_SAMPLES else axis
        for size, axis in zip(dataset.shape, named, strict=True)
    )


def _named_axes(dataset: h5py.Dataset) -> str | None:
    """The axes that the dataset names itself: vigra's axistags, HDF5's dimension labels, the names of its dimension
    scales (netCDF), the interlace of HDF5's Image class, NeXus' axes."""
    interlaced = INTERLACED.get(str(_attribute(dataset, "INTERLACE_MODE")), "")
    for find in (_axistags, _dimension_labels, _dimension_scales, lambda _: interlaced, _nexus_axes):
        names = find(dataset)
        letters = "".join(map(_axis_letter, names))
        if len(letters) == dataset.ndim and letters.count("x") == letters.count("y") == 1 and letters.count("c") <= 1:
            return letters
    return None


def _axis_letter(name: str) -> str:
    words = set(re.findall(r"[a-z]+", name.lower()))
    return next((letter for letter, known in AXIS_WORDS.items() if words & known), "p")


def _axistags(dataset: h5py.Dataset) -> list[str]:
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        return [str(axis["key"]) for axis in json.loads(str(_attribute(dataset, "axistags")))["axes"]]
    return []


def _dimension_labels(dataset: h5py.Dataset) -> list[str]:
    with suppress(Exception):  # damaged lists break h5py in several ways
        if "DIMENSION_LABELS" in dataset.attrs:
            return [_text(label) for label in dataset.attrs["DIMENSION_LABELS"]]
    return []


def _dimension_scales(dataset: h5py.Dataset) -> list[str]:
    """The last part of the name of each dimension's scale, "" for a dimension without one."""
    with suppress(Exception):  # damaged lists break h5py in several ways
        if "DIMENSION_LIST" in dataset.attrs:
            scales = [dimension[0].name if len(dimension) else "" for dimension in dataset.dims]
            return [_text(name or "").rpartition("/")[2] for name in scales]
    return []


def _element_size(dataset: h5py.Dataset, axes: str) -> PixelSize | None:
    """Pixel size by `element_size_um`, z, y and x in µm, which ImageJ's HDF5 plugins and ilastik write."""
    with suppress(Exception):  # damaged attributes break h5py in several ways
        if "element_size_um" in dataset.attrs and axes.index("y") < axes.index("x"):
            *_, y, x = (float(side) * NM["um"] for side in np.ravel(dataset.attrs["element_size_um"]))
            return possible((x, y))
    return None


def _nexus_axes(dataset: h5py.Dataset) -> list[str]:
    """The axes of NeXus' data: an attribute of the group, or of the dataset as it was once, as in "y:x"."""
    with suppress(Exception):
        for owner in (dataset, dataset.parent):
            if "axes" in owner.attrs:
                value = owner.attrs["axes"]
                return re.split(r"[:,]", _text(value)) if np.ndim(value) == 0 else [_text(name) for name in value]
    return []


def _nexus_signals(file: h5py.File) -> dict[str, int]:
    """The names of datasets that are signals of NeXus data, and their rank."""
    signals: dict[str, int] = {}
    default = _default_group(file)

    def look(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(item, h5py.Group) or _attribute(item, "NX_class") != "NXdata":
            return
        rank = DEFAULT_SIGNAL if f"/{name}" == default else SIGNAL
        signal = _attribute(item, "signal")
        with_mark = [child for child in item if _marked_as_signal(item, child)]
        for child in [str(signal)] if signal else with_mark:
            target = _target(item, child)
            if target:
                signals[target] = min(rank, signals.get(target, rank))

    file.visititems(look)
    return signals


def _default_group(file: h5py.File) -> str:
    """Where the attributes `default` lead from the root, "" where nowhere."""
    at: h5py.Group = file
    for _ in range(8):
        name = _attribute(at, "default")
        if not name or not isinstance(at.get(str(name), getlink=True), h5py.HardLink):
            break
        inner = at[str(name)]
        if not isinstance(inner, h5py.Group):
            break
        at = inner
    return str(at.name) if at.name != "/" else ""


def _marked_as_signal(group: h5py.Group, child: str) -> bool:
    if not isinstance(group.get(child, getlink=True), h5py.HardLink):
        return False
    return _attribute(group[child], "signal") in (1, "1")


def _target(group: h5py.Group, child: str) -> str:
    """The name from the root of a group's child, or of what its link within the file names; "" for anything else."""
    link = group.get(child, getlink=True)
    if isinstance(link, h5py.HardLink):
        return f"{group.name}/{child}".strip("/")
    if isinstance(link, h5py.SoftLink):
        return (link.path if link.path.startswith("/") else f"{group.name}/{link.path}").strip("/")
    return ""


def _area(dataset: h5py.Dataset, axes: str) -> int:
    return int(dataset.shape[axes.index("y")]) * int(dataset.shape[axes.index("x")])


def _largest(datasets: dict[str, h5py.Dataset]) -> str:
    """What a file holds instead of an image, for the message."""
    arrays = [dataset for dataset in datasets.values() if dataset.ndim >= 1]
    if not arrays:
        return ": it holds no arrays at all"
    largest = max(arrays, key=lambda dataset: dataset.size)
    return f": the largest, {largest.name}, is {largest.dtype} {'x'.join(map(str, largest.shape))}"


def _attribute(item: h5py.Group | h5py.Dataset, name: str) -> str | int | None:
    """An attribute's text or number; None where there is none, or one of another kind."""
    with suppress(Exception):  # damaged attributes break h5py in several ways
        if name in item.attrs:
            value = item.attrs[name]
            value = value if np.ndim(value) == 0 else np.ravel(value)[0]
            return int(value) if isinstance(value, int | np.integer) else _text(value)
    return None


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
