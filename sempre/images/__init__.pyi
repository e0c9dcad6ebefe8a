from .information_bar import crop_information_bar, field_rows, find_information_bar
from .instances import (
    decode_rle,
    draw_ellipses,
    encode_rle,
    encode_rle_of_crop,
    instance_boxes,
    paint_instances,
)
from .label_images import read_labels, write_label_png, write_labels, write_mask_png
from .normalise import (
    is_blank,
    percentile_normalise,
    percentile_normalise_to_uint8,
    percentile_range,
    to_uint8,
)
from .pixel_size import PixelSize, as_pixel_size
from .read import MICROGRAPH_SUFFIXES, Micrograph, find_micrographs, read_micrograph

__all__ = [
    "MICROGRAPH_SUFFIXES",
    "Micrograph",
    "PixelSize",
    "as_pixel_size",
    "crop_information_bar",
    "decode_rle",
    "draw_ellipses",
    "encode_rle",
    "encode_rle_of_crop",
    "field_rows",
    "find_information_bar",
    "find_micrographs",
    "instance_boxes",
    "is_blank",
    "paint_instances",
    "percentile_normalise",
    "percentile_normalise_to_uint8",
    "percentile_range",
    "read_labels",
    "read_micrograph",
    "to_uint8",
    "write_label_png",
    "write_labels",
    "write_mask_png",
]
