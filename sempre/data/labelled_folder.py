"""Micrographs and their corrected labels saved as a labelled set: `images/` and `labels/`, which fine-tuning reads."""

from pathlib import Path

import numpy as np

from sempre.errors import InputError
from sempre.images import read_micrograph, write_labels
from sempre.images.label_images import find_pieces
from sempre.images.write import write_micrograph

WRITABLE = (np.uint8, np.uint16, np.float32)  # pixels that ImageJ's TIFF holds


def save_labelled(
    folder: str | Path,
    name: str,
    pixels: np.ndarray,
    labels: np.ndarray,
    pixel_size_nm: float | tuple[float, float] | None = None,
) -> None:
    """Add a micrograph `[H, W]` and its label image `[H, W]` to a labelled set, which is made where there is none.

    The same micrograph saved again under its name gets the new labels.

    Raises:
        InputError: for labels of another size, without a particle or with one number for all, a name that is no file's,
            or one that another micrograph of the set has.
    """
    if labels.shape != pixels.shape:
        raise InputError(f"the labels' shape {labels.shape} is not the micrograph's {pixels.shape}: choose its own")
    if not labels.any():
        raise InputError(f"the labels of {name} hold no particle: paint some first")
    _, pieces = find_pieces(labels)
    if len(pieces) == 1 and max(pieces.values()) > 1:
        raise InputError(
            f"all {max(pieces.values())} particles of {name} have one number: give each its own (in napari the key M "
            "takes a new one)"
        )
    if not name.strip() or name.startswith(".") or set(name) & set('/\\:*?"<>|'):
        raise InputError(f"'{name}' cannot be a file's name: rename it")
    if pixels.dtype not in WRITABLE:
        pixels = pixels.astype(np.uint8 if pixels.dtype == bool else np.float32)
    image, label_image = (Path(folder) / kind / f"{name}.tif" for kind in ("images", "labels"))
    for path in (image, label_image):
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.iterdir():
            if other.stem == name and other != path:
                raise InputError(f"{other} has the name {name} already: give this micrograph another one")
    if not image.exists():
        write_micrograph(image, pixels, pixel_size_nm)
    elif not np.array_equal(read_micrograph(image).pixels, pixels):
        raise InputError(f"{image} is another micrograph: give this one another name than {name}")
    write_labels(label_image, labels)
