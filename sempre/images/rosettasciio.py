"""The images of the files that RosettaSciIO reads: DM3, DM4, SER and Berkeley's EMD."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sempre.errors import InputError, how_to_install
from sempre.images.claims import check_no_way_out, check_ser
from sempre.images.pixel_size import axes_pixel_size_nm, nm_per_unit
from sempre.images.stacks import LEAST_SIDE, OTHER, PATTERN, Stack, kind_of_unit, without_patterns
from sempre.locks import lacks_locks, open_hdf5_file

PLUGINS = {".dm3": "digitalmicrograph", ".dm4": "digitalmicrograph", ".emd": "emd", ".ser": "tia"}
RGB = ("R", "G", "B")  # the fields of RosettaSciIO's colours


@contextmanager
def open_by_rosettasciio(path: Path) -> Iterator[list[Stack]]:
    """The images of a file: those over lengths first, then those without units.

    Spectra and complex numbers (Fourier transforms, waves) are none; images over frequencies or angles (diffraction
    patterns) are only where there are no others.

    Raises:
        InputError: for a file without an image, and where RosettaSciIO is not installed.
    """
    plugin = PLUGINS[path.suffix.lower()]
    try:
        reader = import_module(f"rsciio.{plugin}")
    except ImportError:
        raise InputError(f"{path} needs RosettaSciIO: {how_to_install('formats')}") from None
    if plugin == "tia":
        check_ser(path)
    if h5py.is_hdf5(path):  # an EMD
        with open_hdf5_file(path) as file:
            check_no_way_out(file)
    signals = _signals(reader, path)
    big_endian = plugin == "digitalmicrograph" and _is_big_endian_dm(path)
    stacks = [stack for signal in signals if (stack := _stack(signal, plugin, big_endian)) is not None]
    if not stacks:
        raise InputError(f"{path} holds no image{_instead(signals)}: export the image")
    yield without_patterns(stacks)


def _signals(reader: Any, path: Path) -> list[dict]:
    try:
        return reader.file_reader(str(path), lazy=True)
    except ValueError as error:
        if "RGBA" not in str(error):  # colours are not read lazily
            raise
        return reader.file_reader(str(path))
    except OSError as error:
        if not lacks_locks(error):
            raise
        raise InputError(
            f"{path} lies on a file system without locks, where RosettaSciIO cannot open an EMD file: start again with "
            "HDF5_USE_FILE_LOCKING=FALSE in the environment, or copy it to another disk"
        ) from error


def _is_big_endian_dm(path: Path) -> bool:
    """Whether a DM3 or DM4 file says that its numbers are big-endian: RosettaSciIO takes pixels for this machine's."""
    with path.open("rb") as file:
        head = file.read(16)
    version = int.from_bytes(head[:4], "big")
    return head[8:12] == bytes(4) if version == 3 else head[12:16] == bytes(4)


def _stack(signal: dict, plugin: str, big_endian: bool = False) -> Stack | None:
    """A signal's images, whose axes are its last two; None where they are no image over lengths."""
    data, axes = signal["data"], signal["axes"]
    if data.ndim < 2 or len(axes) != data.ndim or min(data.shape[-2:]) < LEAST_SIDE:
        return None
    if any(axis.get("navigate", False) for axis in axes[-2:]) and not all(axis.get("navigate", False) for axis in axes):
        return None  # a spectrum at each place
    kinds = {kind_of_unit(_unit(axis)) for axis in axes[-2:]}
    if OTHER in kinds:
        return None
    unpack = None
    if data.dtype.names:
        if not set(RGB) <= set(data.dtype.names):
            return None
        unpack = _rgb
    elif data.dtype.kind not in "uifb":
        return None
    elif big_endian and data.dtype.isnative:
        unpack = _as_big_endian
    order = "p" * (data.ndim - 2) + "yx"
    y, x = axes[-2:]
    size = axes_pixel_size_nm(x, y) if "scale" in x and "scale" in y else None
    return Stack(data, order, size, unpack, {"format": plugin, "pattern": PATTERN in kinds})


def _unit(axis: dict) -> str:
    return str(axis.get("units") or "")


def _as_big_endian(stored: np.ndarray) -> np.ndarray:
    return stored.view(stored.dtype.newbyteorder(">"))


def _rgb(stored: np.ndarray) -> np.ndarray:
    return np.stack([stored[name] for name in RGB], axis=-1)


def _instead(signals: list[dict]) -> str:
    """What a file holds instead of an image, for the message."""
    for signal in signals:
        if signal["data"].dtype.kind == "c":
            return ", only complex numbers (a Fourier transform or a wave)"
    units = [_unit(axis) for signal in signals for axis in signal["axes"][-2:]]
    others = sorted({unit for unit in units if unit and nm_per_unit(unit) is None})
    return f" over lengths (its axes are in {', '.join(others)})" if others else " of two dimensions"
