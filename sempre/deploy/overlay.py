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
SMALLEST_NUMBER, SIDE_PER_NUMBER = 10, 110  # px high is an instance's number, and of the picture's side for each
SCALE_BAR_SHARE = 0.2  # of the picture's width, at most
GOLDEN_RATIO = (1 + 5**0.5) / 2


def write_overlay(
    path: str | Path,
    pixels: np.ndarray,
    labels: np.ndarray,
    pixel_size_nm: float | None = None,
    full_size: bool = False,
) -> None:
    """Write `draw_overlay`, with the particles' numbers, as a PNG. Whole or absent."""
    origin = PngInfo()
    origin.add_text("Software", ORIGIN)
    picture = draw_overlay(pixels, labels, pixel_size_nm, numbered=True, full_size=full_size)
    with whole_or_absent(path) as partial:
        Image.fromarray(picture).save(partial, format="PNG", pnginfo=origin)


def draw_overlay(
    pixels: np.ndarray,
    labels: np.ndarray,
    pixel_size_nm: float | None = None,
    numbered: bool = False,
    full_size: bool = False,
) -> np.ndarray:
    """A picture uint8 `[h, w, 3]` of a micrograph and its instances, both `[H, W]`.

    Outlines lie on the instances' own border pixels, in colours that differ between neighbouring ids. The picture has
    the micrograph's size, doubled if that is small and divided by a whole number if it is very large, unless it is to
    have its `full_size`. If it is `numbered`, the ids are written into the instances or beside them, where there is
    room.
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
    elif longest > LARGE_SIDE and not full_size:
        factor = -(-longest // LARGE_SIDE)
        scale = 1 / factor
        grey = np.asarray(Image.fromarray(grey).reduce(factor))
        labels = labels[::factor, ::factor]
    picture = np.repeat(grey[..., None], 3, axis=2)
    lines = outlines(labels, width=max(1, round(max(grey.shape) / SIDE_PER_LINE_WIDTH)))
    picture[lines] = colours(int(labels.max(initial=0)))[labels[lines]]
    if numbered:
        picture = write_numbers(picture, labels)
    if pixel_size_nm is None:
        return picture
    return draw_scale_bar(picture, pixel_size_nm / scale)


def write_numbers(picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A copy of a picture uint8 `[h, w, 3]` with the ids of the instances of labels `[h, w]` where there is room.

    A number stands in the middle of its instance if it fits, else right, left, above or below of it on ground where no
    other number stands. One that has no room is left out.
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font = text_font(max(SMALLEST_NUMBER, round(max(labels.shape) / SIDE_PER_NUMBER)))
    taken = labels > 0
    for index, box in enumerate(ndimage.find_objects(labels)):
        if box is None:
            continue
        text = str(index + 1)
        left, top, right, bottom = (round(side) for side in draw.textbbox((0, 0), text, font=font, stroke_width=1))
        height, width = bottom - top, right - left
        corner = _room_inside(labels[box] == index + 1, height, width)
        if corner is not None:
            y, x = corner[0] + box[0].start, corner[1] + box[1].start
        else:
            place = _room_beside(taken, box, height, width)
            if place is None:
                continue
            y, x = place
            taken[y : y + height, x : x + width] = True
        draw.text((x - left, y - top), text, font=font, fill="white", stroke_width=1, stroke_fill="black")
    return np.asarray(image)


def _room_inside(mask: np.ndarray, height: int, width: int) -> tuple[int, int] | None:
    """The upper left corner (y, x) of a box of px in the middle of a mask `[h, w]`, if it fits."""
    if mask.shape[0] < height or mask.shape[1] < width:
        return None
    y, x = np.nonzero(mask)
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))
    assert isinstance(depth, np.ndarray)
    deepest = np.unravel_index(depth.argmax(), depth.shape)
    for middle in ((y.mean(), x.mean()), (deepest[0] - 1, deepest[1] - 1)):
        top, left = (round(float(at) - side / 2 + 0.5) for at, side in zip(middle, (height, width), strict=True))
        if top >= 0 and left >= 0 and mask[top : top + height, left : left + width].sum() == height * width:
            return top, left
    return None


def _room_beside(taken: np.ndarray, box: tuple[slice, ...], height: int, width: int) -> tuple[int, int] | None:
    """The upper left corner (y, x) of a box of px beside another one, on pixels that are not `taken` `[h, w]`."""
    rows, columns = box
    y, x = (rows.start + rows.stop - height) // 2, (columns.start + columns.stop - width) // 2
    after, before = columns.stop + 1, columns.start - width - 1
    for top, left in ((y, after), (y, before), (rows.start - height - 1, x), (rows.stop + 1, x)):
        inside = top >= 0 and left >= 0 and top + height <= taken.shape[0] and left + width <= taken.shape[1]
        if inside and not taken[top : top + height, left : left + width].any():
            return top, left
    return None


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
