"""The quick micrograph of low magnification that a scan is planned on, and where its pixels are on the stage."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.exposure import equalize_adapthist

from sempre.data.sources import lazy_property
from sempre.errors import InputError
from sempre.images import (
    PixelSize,
    as_pixel_size,
    crop_information_bar,
    is_blank,
    percentile_normalise,
    read_micrograph,
    to_uint8,
)
from sempre.images.read import check_size
from sempre.images.resize import resize_to


@dataclass(frozen=True)
class Calibration:
    """How the preview lies on the stage.

    Args:
        shape: height and width of the preview, px.
        pixel_size_nm: nm per px.
        centre_um: the stage's x and y in um when the preview's middle is under the beam.
        rotation_deg: from the image's x axis to the stage's, counted from x to y.
        mirrored: whether the stage's y grows upwards in the image, as most do; px count downwards.

    Raises:
        InputError: for an unknown pixel size or numbers that are none.
    """

    shape: tuple[int, int]
    pixel_size_nm: float | None
    centre_um: tuple[float, float] = (0.0, 0.0)
    rotation_deg: float = 0.0
    mirrored: bool = True

    def __post_init__(self):
        if self.pixel_size_nm is None:
            raise InputError("the preview does not say its pixel size: give pixel_size_nm=NUMBER")
        if not 0 < self.pixel_size_nm < np.inf or not np.isfinite([*self.centre_um, self.rotation_deg]).all():
            raise InputError(f"{self} is no calibration: give finite numbers and a pixel size above 0")

    @property
    def nm_per_px(self) -> float:
        assert self.pixel_size_nm is not None  # or it would not have been made
        return self.pixel_size_nm

    @property
    def um_per_px(self) -> float:
        return self.nm_per_px / 1e3

    def to_stage(self, points: np.ndarray) -> np.ndarray:
        """Stage positions (x, y in um) `[N, 2]` of points (y, x in px) `[N, 2]`, px centres at halves."""
        points = np.asarray(points, np.float64).reshape(-1, 2)
        offset = (points - np.array(self.shape) / 2)[:, ::-1] * self.um_per_px
        return (offset * self._signs) @ self._turn.T + self.centre_um

    def to_px(self, positions: np.ndarray) -> np.ndarray:
        """Points (y, x in px) `[N, 2]` of stage positions (x, y in um) `[N, 2]`: the inverse of `to_stage`."""
        positions = np.asarray(positions, np.float64).reshape(-1, 2)
        offset = ((positions - self.centre_um) @ self._turn) * self._signs / self.um_per_px
        return offset[:, ::-1] + np.array(self.shape) / 2

    @property
    def _signs(self) -> np.ndarray:
        return np.array([1.0, -1.0 if self.mirrored else 1.0])

    @property
    def _turn(self) -> np.ndarray:
        angle = np.deg2rad(self.rotation_deg)
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


SMALLEST_SIDE = 64  # px
PERCENTILES = 1.0, 99.0  # of the grey values, which become black and white


@dataclass(frozen=True)
class Preview:
    """Prepared grey values uint8 `[H, W]`, and nm per px, None when unknown. Its pixels are square: `enlarged` says how
    many times as many rows and columns it has as its file, whose pixels may not be.

    It is a source of one micrograph, as `sempre.data.sources.FolderSource` is of many:
    `sempre.frozen.extract` embeds it, and keeps it by its content.
    """

    pixels: np.ndarray
    pixel_size_nm: float | None
    name: str = "preview"
    enlarged: tuple[float, float] = (1.0, 1.0)

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

    @lazy_property
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


def read_preview(
    path: str | Path,
    pixel_size_nm: float = 0.0,
    denoise: float = 0.0,
    clahe: float = 0.0,
    pixel_size_y_nm: float = 0.0,
) -> Preview:
    """The preview in a file, without its information bar; `pixel_size_nm` above 0 wins over the file's own.

    Pixels that are not square, by the file or by `pixel_size_y_nm`, are made so: rows or columns are added.

    Raises:
        InputError: for a file that cannot be read, or `prepare` would refuse.
    """
    if pixel_size_y_nm and not pixel_size_nm:
        raise InputError(f"pixel_size_y_nm={pixel_size_y_nm} is the height of a pixel alone: give pixel_size_nm= too")
    micrograph = read_micrograph(path)
    by_hand = as_pixel_size((pixel_size_nm, pixel_size_y_nm or pixel_size_nm)) if pixel_size_nm else None
    size = by_hand or micrograph.pixel_size
    pixels = crop_information_bar(micrograph.pixels)
    preview = prepare(square_pixels(pixels, size), min(size) if size else None, denoise, clahe, Path(path).name)
    return replace(preview, enlarged=enlargement(size))


def square_pixels(pixels: np.ndarray, size: PixelSize | None) -> np.ndarray:
    """Grey values `[H, W]` of pixels of `size`, with as many more rows or columns as make the pixels squares."""
    times = enlargement(size)
    if times == (1.0, 1.0):
        return pixels
    height, width = (round(side * more) for side, more in zip(pixels.shape, times, strict=True))
    check_size(Path("the preview"), (height, width))
    return resize_to(pixels.astype(np.float32), (height, width))


def enlargement(size: PixelSize | None) -> tuple[float, float]:
    """How many times as many rows and columns an image of pixels of `size` needs for square ones."""
    return (1.0, 1.0) if size is None else (size.y / min(size), size.x / min(size))
