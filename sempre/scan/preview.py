"""Ingestion: the quick micrograph of low magnification that a scan is planned on."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.exposure import equalize_adapthist

from sempre.data.feeding.sources import Source
from sempre.errors import InputError
from sempre.images import crop_information_bar, is_blank, percentile_normalise, read_micrograph, to_uint8

SMALLEST_SIDE = 64  # px
PERCENTILES = 1.0, 99.0  # of the grey values, which become black and white


@dataclass(frozen=True)
class Preview(Source):
    """Prepared grey values uint8 `[H, W]`, and nm per px, None when unknown.

    It is a source of one micrograph, as `sempre.data.feeding.sources.FolderSource` is of many:
    `sempre.embeddings.encoding.extract` embeds it, and keeps it by its content.
    """

    pixels: np.ndarray
    pixel_size_nm: float | None
    name: str = "preview"

    def __len__(self) -> int:
        return 1

    @property
    def path(self) -> Path:
        return Path(self.name)

    @property
    def names(self) -> list[str]:
        return [self.name]

    @property
    def preparation(self) -> dict:
        return {"prepared": True, "percentiles": PERCENTILES}  # the checksum is of the prepared pixels

    @cached_property
    def sha256s(self) -> list[str]:
        return [hashlib.sha256(repr(self.pixels.shape).encode() + self.pixels.tobytes()).hexdigest()]

    def read(self, index: int) -> tuple[np.ndarray, float | None]:
        """The pixels and their size, as of any source; `index` is 0."""
        return self.pixels, self.pixel_size_nm


def prepare(
    pixels: np.ndarray,
    pixel_size_nm: float | None = None,
    denoise: float = 0.0,
    clahe: float = 0.0,
    name: str = "preview",
) -> Preview:
    """The preview of raw grey values `[H, W]` of any real type: percentiles 1 and 99 become black and white.

    Args:
        denoise: side in px of a median filter over the raw values, rounded up to an odd number; 0 for none.
        clahe: clip limit, 0 to 1, of an adaptive histogram equalisation (Zuiderveld, "Contrast limited adaptive
            histogram equalization", Graphics Gems IV, 1994); 0 for none, 0.01 is a common one.

    Raises:
        InputError: for pixels that are no grey image, too small or of one grey value, and options out of range.
    """
    if pixels.ndim != 2 or min(pixels.shape) < SMALLEST_SIDE:
        raise InputError(f"{name} of shape {pixels.shape} is no preview: give a grey image of 64x64 px or more")
    if is_blank(pixels):
        raise InputError(f"{name} shows a single grey value: there is nothing to plan on")
    if pixel_size_nm is not None and not 0 < pixel_size_nm < np.inf:
        raise InputError(f"pixel_size_nm={pixel_size_nm} is no size: give nm per px, above 0")
    if not 0 <= denoise <= 15 or not 0 <= clahe <= 1:
        raise InputError(f"denoise={denoise} or clahe={clahe} is out of range: take 0 to 15 px and 0 to 1")
    if denoise:
        pixels = ndimage.median_filter(pixels, size=int(np.ceil(denoise)) // 2 * 2 + 1)
    grey = percentile_normalise(pixels, *PERCENTILES)
    if clahe:
        grey = equalize_adapthist(grey, clip_limit=clahe).astype(np.float32)
    return Preview(to_uint8(grey), pixel_size_nm, name)


def read_preview(path: str | Path, pixel_size_nm: float = 0.0, denoise: float = 0.0, clahe: float = 0.0) -> Preview:
    """The preview in a file, without its information bar; `pixel_size_nm` above 0 wins over the file's own.

    Raises:
        InputError: for a file that cannot be read, or `prepare` would refuse.
    """
    micrograph = read_micrograph(path)
    pixels = crop_information_bar(micrograph.pixels)
    return prepare(pixels, pixel_size_nm or micrograph.pixel_size_nm, denoise, clahe, Path(path).name)
