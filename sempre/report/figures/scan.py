"""A planned scan as a picture: the preview, its priorities in colour, the fields and the path."""

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from sempre.deploy.results.overlay import draw_scale_bar, text_font
from sempre.report.palette import BLACK, BLUISH_GREEN, ORANGE
from sempre.scan.act.fields import Fields

STRENGTH = 0.65  # of the colour where the priority is 1


def draw_scan(
    pixels: np.ndarray, priority_map: np.ndarray, fields: Fields, pixel_size_nm: float | None = None
) -> np.ndarray:
    """A picture uint8 `[H, W, 3]` of a preview uint8 `[H, W]`: priorities `[H, W]` as a veil of colour (cividis, which
    the colour-blind read too), fields as squares, numbered where they fit, and the path between them."""
    strength = STRENGTH * np.clip(priority_map, 0, 1)[..., None]
    colour = 255 * matplotlib.colormaps["cividis"](np.clip(priority_map, 0, 1))[..., :3]
    picture = Image.fromarray(np.rint((1 - strength) * pixels[..., None] + strength * colour).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    width = max(1, round(max(pixels.shape) / 500))
    middles = [(float(x), float(y)) for y, x in fields.centres]
    if len(middles) > 1:
        draw.line(middles, fill=BLUISH_GREEN, width=width)
    font = text_font(max(9, round(min(fields.side / 4, max(pixels.shape) / 60))))
    half = fields.side / 2
    for number, (x, y) in enumerate(middles, start=1):
        draw.rectangle((x - half, y - half, x + half, y + half), outline=ORANGE, width=width)
        draw.text(
            (x - half + width + 1, y - half + width),
            str(number),
            font=font,
            fill=ORANGE,
            stroke_width=2,
            stroke_fill=BLACK,
        )
    if pixel_size_nm is None:
        return np.asarray(picture)
    return draw_scale_bar(np.asarray(picture), pixel_size_nm)
