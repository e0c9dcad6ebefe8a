"""Files as Imaris writes them."""

from pathlib import Path

import h5py
import numpy as np


def write_ims(path: Path, stack: np.ndarray, pixel_size_um: float = 0.05, slice_distance_um: float = 0.2) -> None:
    """An Imaris file of a stack `[Z, C, Y, X]`, padded to more than its size as Imaris pads to whole chunks."""
    slices, channels, height, width = stack.shape
    with h5py.File(path, "w") as file:
        for channel in range(channels):
            padded = np.pad(stack[:, channel], ((0, 3), (0, 8), (0, 7)))
            file[f"DataSet/ResolutionLevel 0/TimePoint 0/Channel {channel}/Data"] = padded
        information = file.create_group("DataSetInfo/Image").attrs
        extents = {"X": width, "Y": height, "Z": slices, "ExtMin0": 0.0, "ExtMax0": width * pixel_size_um}
        extents |= {"ExtMin2": 1.0, "ExtMax2": 1.0 + slices * slice_distance_um}
        for name, value in extents.items():
            information[name] = np.frombuffer(str(value).encode(), "S1")
