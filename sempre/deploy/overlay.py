"""The picture to check a segmentation by: thin coloured outlines on the grey micrograph, with a scale bar."""

import colorsys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage

from sempre.files import ORIGIN, whole_or_absent
from sempre.images import percentile_normalise_to_uint8, to_uint8

SMALL_SIDE = 1000  # px; a micrograph below this is shown at twice its size, so that an outline hides half a pixel
LARGE_SIDE = 4096  # px; one above this is shown smaller, so that every viewer opens it
SIDE_PER_LINE_WIDTH = 1200  # px of the picture's longer side for each px of an outline's width
THICK_FROM = 12  # line widths; smaller particles are outlined by a single px
SCALE_BAR_SHARE = 0.2  # of the picture's width, at most
GOLDEN_RATIO = (1 + 5**0.5) / 2


def write_overlay(path: str | Path, pixels: np.ndarray, labels: np.ndarray, pixel_size_nm: float | None = None) -> None:
    """Write `draw_overlay` as a PNG. Whole or absent."""
    origin = PngInfo()
    origin.add_text("Software", ORIGIN)
    with whole_or_absent(path) as partial:
        Image.fromarray(draw_overlay(pixels, labels, pixel_size_nm)).save(partial, format="PNG", pnginfo=origin)


def draw_overlay(pixels: np.ndarray, labels: np.ndarray, pixel_size_nm: float | None = None) -> np.ndarray:
    """A picture uint8 `[h, w, 3]` of a micrograph and its instances, both `[H, W]`.

    Outlines lie on the instances' own border pixels, in colours that differ between neighbouring ids. The picture has
    the micrograph's size, doubled if that is small and divided by a whole number if it is very large.
    """
    grey = percentile_normalise_to_uint8(pixels)
    longest = max(grey.shape)
    scale = 1.0
    if longest < SMALL_SIDE:
        scale = 2.0
        grey = np.asarray(
            Image.fromarray(grey).resize((2 * grey.shape[1], 2 * grey.shape[0]), Image.Resampling.BICUBIC)
        )
        labels = labels.repeat(2, axis=0).repeat(2, axis=1)
    elif longest > LARGE_SIDE:
        factor = -(-longest // LARGE_SIDE)
        scale = 1 / factor
        grey = np.asarray(Image.fromarray(grey).reduce(factor))
        labels = labels[::factor, ::factor]
    picture = np.repeat(grey[..., None], 3, axis=2)
    lines = outlines(labels, width=max(1, round(max(grey.shape) / SIDE_PER_LINE_WIDTH)))
    picture[lines] = colours(int(labels.max(initial=0)))[labels[lines]]
    if pixel_size_nm is None:
        return picture
    return draw_scale_bar(picture, pixel_size_nm / scale)


def outlines(labels: np.ndarray, width: int) -> np.ndarray:
    """The border pixels, bool `[H, W]`, `width` px inwards; of small instances only the outermost."""
    lines = _borders(labels, 1)
    if width > 1:
        diameters = np.sqrt(4 / np.pi * np.bincount(labels.ravel()))
        lines |= _borders(labels, width) & (diameters >= THICK_FROM * width)[labels]
    return lines


def _borders(labels: np.ndarray, width: int) -> np.ndarray:
    size = 2 * width + 1
    return (labels > 0) & (ndimage.minimum_filter(labels, size) != ndimage.maximum_filter(labels, size))


def colours(count: int) -> np.ndarray:
    """Bright colours uint8 `[count + 1, 3]`, black for 0; hues a golden ratio apart, so that close ids differ most."""
    hues = np.arange(count) / GOLDEN_RATIO % 1
    bright = [colorsys.hsv_to_rgb(hue, 0.85, 1.0) for hue in hues]
    return to_uint8(np.array([(0.0, 0.0, 0.0), *bright]))


def scale_bar_length(width_nm: float) -> float:
    """The longest of 1, 2, 5, 10 … nm that takes at most `SCALE_BAR_SHARE` of a picture `width_nm` wide."""
    longest = SCALE_BAR_SHARE * width_nm
    decade = 10.0 ** np.floor(np.log10(longest))
    return float(max(step * decade for step in (1, 2, 5) if step * decade <= longest))


def scale_bar_text(length_nm: float) -> str:
    """As in "500 nm" or "2 µm"."""
    for factor, unit in ((1e6, "mm"), (1e3, "µm"), (1.0, "nm")):
        if length_nm >= factor:
            return f"{length_nm / factor:g} {unit}"
    return f"{length_nm * 1e3:g} pm"


def text_font(size: int) -> ImageFont.FreeTypeFont:
    """Letters `size` px high of a font that is wherever we are installed, and has the µ."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def draw_scale_bar(picture: np.ndarray, pixel_size_nm: float) -> np.ndarray:
    """A copy of a picture uint8 `[h, w, 3]` with a white bar on a dark ground in the lower left corner.

    A picture of a few px, whose bar would be shorter than one, gets none.
    """
    height, width = picture.shape[:2]
    length_nm = scale_bar_length(width * pixel_size_nm)
    length = length_nm / pixel_size_nm
    if length < 1:
        return picture.copy()
    font_size = max(10, round(width / 45))
    font = text_font(font_size)
    text = scale_bar_text(length_nm)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image, "RGBA")
    text_width = draw.textlength(text, font=font)
    margin, bar = font_size // 2, max(2, font_size // 4)
    ground = max(length, text_width) + 2 * margin, font_size + bar + 2.5 * margin
    left, top = margin, height - margin - ground[1]
    draw.rectangle((left, top, left + ground[0], top + ground[1]), fill=(0, 0, 0, 150))
    centre = left + ground[0] / 2
    draw.text((centre, top + margin / 2), text, font=font, fill="white", anchor="ma")
    bar_top = top + font_size + 1.5 * margin
    draw.rectangle((centre - length / 2, bar_top, centre + length / 2 - 1, bar_top + bar - 1), fill="white")
    return np.asarray(image)
