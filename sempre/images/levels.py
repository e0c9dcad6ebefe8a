"""Stored pixels as levels of grey or colour, where brighter is larger: inverted scales, palettes, colour models."""

import numpy as np
import tifffile
from PIL import Image

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
COLOURS = {"RGB": 3, "SEPARATED": 4, "CIELAB": 3, "ICCLAB": 3, "YCBCR": 3}  # samples of a colour; others have one
CMYK_INKS = 1  # InkSet: cyan, magenta, yellow and black
ALPHA = (1, 2)  # ExtraSamples: associated and unassociated alpha
INK_SET, DOT_RANGE, INK_NAMES = 332, 336, 333


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """`[H, W]` of `[H, W]` or `[H, W, C]` with C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.

    Raises:
        ValueError: for another shape, and for complex numbers.
    """
    if pixels.ndim == 2:
        grey = pixels
    elif pixels.ndim == 3 and pixels.shape[-1] in (1, 2):
        grey = pixels[..., 0]
    elif pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
        colours = pixels[..., :3]
        if (colours == colours[..., :1]).all():
            grey = colours[..., 0]
        else:
            luminance = colours @ LUMINANCE
            grey = np.rint(luminance).astype(pixels.dtype) if pixels.dtype.kind in "ui" else luminance
    else:
        raise ValueError(f"its pixels have the shape {pixels.shape}, which is no picture")
    return _plain(grey)


def to_colour(pixels: np.ndarray) -> np.ndarray:
    """`[H, W, 3]` of what `to_grey` takes: red, green and blue, three times the same for grey."""
    if pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
        return _plain(pixels[..., :3])
    return np.repeat(to_grey(pixels)[..., None], 3, axis=-1)


def _plain(pixels: np.ndarray) -> np.ndarray:
    """Integers of this machine's byte order, or float32."""
    refuse_complex(pixels.dtype)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    dtype = pixels.dtype.newbyteorder("=") if pixels.dtype.kind in "ui" else np.dtype(np.float32)
    return np.ascontiguousarray(pixels.astype(dtype, copy=False))


def refuse_complex(dtype: np.dtype) -> None:
    """Raise ValueError for complex numbers: a Fourier transform or a wave, which their real part does not show."""
    if dtype.kind == "c":
        raise ValueError("its pixels are complex numbers, which are no micrograph: export the image or its amplitude")


def samples_of_colour(page: tifffile.TiffPage) -> int:
    """How many of a page's samples make one colour: 3 of RGB, 4 of CMYK, 1 of grey and of palettes."""
    name = tifffile.PHOTOMETRIC(page.photometric).name
    if name == "LINEAR_RAW":
        return 3 if page.samplesperpixel >= 3 else 1
    return COLOURS.get(name, 1)


def page_levels(page: tifffile.TiffPage, pixels: np.ndarray) -> np.ndarray:
    """Levels `[H, W]` of grey or `[H, W, 3]` of red, green and blue of a page's stored samples `[H, W]` or `[H, W, S]`.

    Raises:
        ValueError: for complex numbers, and for a colour model that is not known.
    """
    refuse_complex(pixels.dtype)
    name = tifffile.PHOTOMETRIC(page.photometric).name
    colours = samples_of_colour(page)
    if colours > 1 and (pixels.ndim != 3 or pixels.shape[-1] < colours):
        if name in ("CIELAB", "ICCLAB"):
            return pixels if pixels.ndim == 2 else pixels[..., 0]  # lightness alone
        raise ValueError(f"its colours are {name}, but it has too few samples for that: save it as grey or RGB")
    stored = pixels[..., :colours] if colours > 1 else pixels if pixels.ndim == 2 else pixels[..., 0]
    match name:
        case "MINISBLACK" | "RGB" | "LINEAR_RAW":
            return stored
        case "MINISWHITE":
            return _inverted(stored, int(page.bitspersample))
        case "PALETTE" if page.colormap is not None:
            return _of_palette(stored, page.colormap)
        case "SEPARATED":
            _check_inks(page)
            return _of_inks(stored)
        case "YCBCR" if page.compression == tifffile.COMPRESSION.JPEG:
            return stored  # the decoder has made RGB of it
        case "CIELAB" | "ICCLAB":
            return _of_lab(stored, signed=name == "CIELAB")
    raise ValueError(f"its colours are {name}, which is not read: save it as grey or RGB")


def _inverted(pixels: np.ndarray, bits: int) -> np.ndarray:
    if pixels.dtype.kind == "u" and bits < 8 * pixels.dtype.itemsize:
        return ((1 << bits) - 1 - pixels).astype(pixels.dtype)
    return -pixels if pixels.dtype.kind == "f" else ~pixels  # of bools and integers: 0 becomes the largest


def _of_palette(indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Red, green and blue of the indices `[H, W]` by a palette `[3, N]`, of 8 bits where those hold all of it."""
    if indices.max(initial=0) >= palette.shape[1]:
        raise ValueError(f"its pixels refer to colour {indices.max()} of a palette of {palette.shape[1]}")
    if palette.max() < 256:  # some writers forget that palettes have 16 bits
        palette = palette.astype(np.uint8)
    elif not (palette & 0xFF).any() or not (palette % 257).any():
        palette = (palette >> 8).astype(np.uint8)
    return np.moveaxis(palette[:, indices], 0, -1)


def _check_inks(page: tifffile.TiffPage) -> None:
    """Raise ValueError for inks other than cyan, magenta, yellow and black, and for a scale that is turned round."""
    ink_set, dots = (page.tags.valueof(code, None) for code in (INK_SET, DOT_RANGE))
    if ink_set not in (None, CMYK_INKS):
        names = " ".join(str(page.tags.valueof(INK_NAMES, "")).replace("\0", ", ").split())
        raise ValueError(f"its colours are inks other than CMYK ({names or 'without names'}): save it as grey or RGB")
    if isinstance(dots, tuple | bytes) and len(dots) >= 2 and dots[0] > dots[1]:
        raise ValueError(f"its inks are turned round (DotRange {dots[0]} to {dots[1]}): save it as grey or RGB")


def _of_inks(inks: np.ndarray) -> np.ndarray:
    """Red, green and blue of cyan, magenta, yellow and black `[H, W, 4]`, as Pillow and ImageMagick mix them."""
    if inks.dtype.kind == "f":
        return (1 - inks[..., :3]) * (1 - inks[..., 3:])
    if inks.dtype.kind != "u" or inks.dtype.itemsize > 2:
        raise ValueError(f"its inks are {inks.dtype}: save it as grey or RGB")
    most = np.uint32(np.iinfo(inks.dtype).max)
    paper = most - inks[..., 3]
    colours = np.empty((*inks.shape[:2], 3), inks.dtype)
    for ink in range(3):
        colours[..., ink] = ((most - inks[..., ink]) * paper + most // 2) // most
    return colours


def _of_lab(lab: np.ndarray, signed: bool) -> np.ndarray:
    """Red, green and blue `[H, W, 3]`, 8 bits, of CIE L*a*b* by LittleCMS; a and b may be signed or lie about 128."""
    if lab.dtype.itemsize == 2:
        lab = (lab >> 8).astype(np.uint8)
    if lab.dtype.itemsize != 1:
        raise ValueError(f"its colours are CIE L*a*b* of {lab.dtype}: save it as grey or RGB")
    lab = lab.astype(np.uint8)
    if not signed:
        lab[..., 1:] ^= 0x80  # Pillow takes them signed
    size = (lab.shape[1], lab.shape[0])
    return np.asarray(Image.frombytes("LAB", size, np.ascontiguousarray(lab).tobytes(), "raw", "LAB").convert("RGB"))
