"""Many micrographs on one picture, in order, each with a word below."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

TILE, GAP, TEXT = 168, 8, 30  # px


def contact_sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 6) -> np.ndarray:
    """Grey micrographs uint8 `[H, W]` of any sizes, each as large as its tile, as one picture uint8 `[h, w, 3]`."""
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (TILE + GAP) + GAP, rows * (TILE + TEXT + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for position, (pixels, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = GAP + position % columns * (TILE + GAP), GAP + position // columns * (TILE + TEXT + GAP)
        image = ImageOps.contain(Image.fromarray(pixels), (TILE, TILE))
        sheet.paste(image, (x + (TILE - image.width) // 2, y + (TILE - image.height) // 2))
        for line, text in enumerate(caption.splitlines()[:2]):
            draw.text((x, y + TILE + 2 + 13 * line), _fitting(text, font), fill="black", font=font)
    return np.asarray(sheet)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, its beginning cut away where it is wider than a tile: names differ at their ends."""
    while font.getlength(text) > TILE and len(text) > 2:
        text = f"…{text[2:]}"
    return text
