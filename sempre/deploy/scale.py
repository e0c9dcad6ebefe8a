"""The size of a micrograph's pixels, and at how many times its size the network sees it.

A dense segmenter of several scales tries them all and takes the one that supports its particles best: it was trained on
crops magnified until their particles were of a width that it knows, so nm per px say nothing about what it can see.
Every other model was trained at one magnification, where a particle's width in px carries meaning: a micrograph of
another pixel size is brought to that of its training micrographs, if both are known. A scale given by hand wins.
"""

from sempre.deploy.bundle import Bundle, DenseBundle
from sempre.errors import InputError
from sempre.images import Micrograph, PixelSize, as_pixel_size
from sempre.images.scale_bar import read_scale_bar
from sempre.images.scale_bar_text import Reader

LARGEST = 16.0  # as in a bundle's own scales
MOST = 8.0  # a micrograph is reduced or enlarged by this much at most; beyond, little of its particles is left to see


def find_pixel_size(
    micrograph: Micrograph, by_hand: float | tuple[float, float] | None, reader: Reader | None
) -> tuple[PixelSize | None, str]:
    """Pixel size and where it is from: given by hand, the file's, its sidecar's, or the scale bar's.

    A scale bar tells the size along x alone: it is not read where the file says that its pixels are not square.
    """
    if by_hand is not None:
        return as_pixel_size(by_hand), "option"
    if micrograph.pixel_size is not None:
        return micrograph.pixel_size, micrograph.pixel_size_source
    if reader is None or not has_square_pixels(micrograph):
        return None, ""
    bar = read_scale_bar(micrograph.pixels, reader)
    if bar is None:
        return None, ""
    return as_pixel_size(bar.pixel_size_nm), f"scale bar, {bar.length_nm:g} nm on {bar.length_px:.1f} px"


def has_square_pixels(micrograph: Micrograph) -> bool:
    """Whether nothing in the file, be it a resolution for prints, says that its pixels are not square."""
    size = micrograph.pixel_size or PixelSize(1.0, micrograph.pixel_aspect)
    return size.is_square


def square_warning(
    micrograph: Micrograph, size: PixelSize | None, by_hand: float | tuple[float, float] | None
) -> str | None:
    """One sentence about pixels that are not square; None of square ones."""
    if size is not None and not size.is_square:
        return (
            f"its pixels are {size.x:.4g} nm wide and {size.y:.4g} nm high: sizes in nm are measured with both, but"
            " lengths in px and ImageJ's outlines take every pixel for a square"
        )
    if has_square_pixels(micrograph):
        return None
    if by_hand is not None:
        return "its file says that its pixels are not square, the pixel size given says that they are"
    return "its file says that its pixels are not square, so no scale bar is read: give their --pixel-size, as 2.5x5nm"


def check_scale(scale: float | None) -> None:
    """Refuse a scale by hand that cannot be.

    Raises:
        InputError: for one that is not above 0 and at most 16.
    """
    if scale is not None and not 0 < scale <= LARGEST:
        raise InputError(f"the scale {scale:g} cannot be: give how many times its size, above 0 and up to {LARGEST:g}")


def seen_scales(bundle: Bundle, pixel_size_nm: float | None, by_hand: float | None = None) -> tuple[float, ...]:
    """The scales at which a micrograph of `pixel_size_nm` nm per px, None if unknown, is shown to the network."""
    if by_hand is not None:
        return (by_hand,)
    own = bundle.scales if isinstance(bundle, DenseBundle) else (bundle.scale,)
    ratio = pixel_size_ratio(bundle, pixel_size_nm)
    return (own[0] * ratio,) if ratio is not None and 1 / MOST <= ratio <= MOST else own


def pixel_size_ratio(bundle: Bundle, pixel_size_nm: float | None) -> float | None:
    """A micrograph's nm per px over the bundle's; None if one is unknown, or if the bundle chooses among scales."""
    chooses = isinstance(bundle, DenseBundle) and len(bundle.scales) > 1
    if chooses or pixel_size_nm is None or bundle.pixel_size_nm is None:
        return None
    return pixel_size_nm / bundle.pixel_size_nm


def scale_warning(bundle: Bundle, pixel_size_nm: float | None, by_hand: float | None = None) -> str | None:
    """One sentence about a micrograph whose pixel size is too far from the bundle's to rescale; None if it is not."""
    ratio = pixel_size_ratio(bundle, pixel_size_nm)
    if by_hand is not None or ratio is None or 1 / MOST <= ratio <= MOST:
        return None
    return (
        f"its {pixel_size_nm:g} nm per px are too far from the model's {bundle.pixel_size_nm:g} to rescale, so it is"
        " seen as it is: give --scale, or another --pixel-size if this one is wrong"
    )
