"""What napari's layers hold, as micrographs and labels; and particles as a layer."""

from pathlib import Path

import numpy as np
import pandas as pd
from napari.layers import Image, Labels

from sempre.deploy.segmenter import Segmentation
from sempre.errors import InputError
from sempre.images import PixelSize, as_pixel_size, read_micrograph
from sempre.images.levels import to_grey
from sempre.segmentation.particles import particle_row

PIXEL = "pixel"  # napari's unit where nobody gave one


def micrograph_pixels(layer: Image) -> np.ndarray:
    """The grey micrograph `[H, W]` that an image layer shows.

    Raises:
        InputError: for a stack or a volume.
    """
    pixels = np.asarray(layer.data[0] if layer.multiscale else layer.data)
    if pixels.ndim != (3 if layer.rgb else 2):
        raise InputError(
            f"the layer {layer.name} has the shape {pixels.shape}: choose a single micrograph, or split the stack first"
        )
    return to_grey(pixels)


def layer_pixel_size(layer: Image) -> PixelSize | None:
    """nm per px along x and y by the layer's own units, else by the file that it was read from; None where neither
    says."""
    if all(str(unit) != PIXEL for unit in layer.units[-2:]):
        y, x = (
            float(abs(scale) * (1 * unit).to("nm").magnitude)
            for scale, unit in zip(layer.scale[-2:], layer.units[-2:], strict=True)
        )
        return as_pixel_size((x, y))
    path = layer.source.path
    try:
        return read_micrograph(path).pixel_size if path and Path(path).is_file() else None
    except InputError:  # a format that napari reads and we do not
        return None


def particle_table(segmentation: Segmentation) -> pd.DataFrame:
    """The rows of the particles' CSV, as numbers, and `index`, by which napari finds a label's row."""
    rows = [particle_row(particle, segmentation.pixel_size) for particle in segmentation.particles]
    table = pd.DataFrame(rows).apply(pd.to_numeric)
    return table.assign(index=[particle.id for particle in segmentation.particles])


def labels_layer(segmentation: Segmentation, image: Image) -> Labels:
    """The particles as a layer that lies on the image's, with their table as its features."""
    return Labels(
        segmentation.labels,
        name=f"{image.name} particles",
        features=particle_table(segmentation),
        scale=image.scale[-2:],
        translate=image.translate[-2:],
        units=image.units[-2:],
    )
